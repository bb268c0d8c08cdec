"""Runs a comparison: tuning, then the runs that count, side by side, each a process of its own.

1. Runs that the results file holds are not made again; a run that was cut short goes on from its checkpoint.
2. The settings of every algorithm are chosen from its tuning runs alone (kintsugi.compare.tuning).
3. A run that fails leaves a row that says why, and the others go on. The next call tries it again.

    kintsugi compare benchmarks/comparisons/fair.yaml
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from kintsugi.compare import child
from kintsugi.compare.plan import Plan, PlannedRun, recipe_fingerprint
from kintsugi.compare.results import (
    Curve,
    ResultRow,
    append_rows,
    latest_runs,
    read_rows,
    rows_of_log,
)
from kintsugi.compare.tuning import Tuned, choose, point_words, short_key
from kintsugi.config import Recipe
from kintsugi.files import locked, numbered
from kintsugi.plugins import spec_name
from kintsugi.records import KintsugiError
from kintsugi.run.reading import read_metrics

POLL = 0.1
BULKY = ("rollouts", "seams", "rows", "checkpoints")
Say = Callable[[str], None]


@dataclass(slots=True)
class RunProcess:
    """A run's process. `resumed`: it goes on from a checkpoint."""

    run: PlannedRun
    process: ForkServerProcess
    resumed: bool
    started: float


@dataclass(slots=True)
class Clock:
    """Tokens and seconds of the runs finished so far, for the time left."""

    expected: int
    tokens: int = 0
    seconds: float = 0.0
    done: int = 0

    def eta(self, jobs: int) -> str:
        if not self.tokens:
            return ""
        seconds = self.seconds / self.tokens * self.expected / jobs
        return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"


def compare(plan: Plan, say: Say = print) -> list[ResultRow]:
    """Makes every run that is still missing and returns all rows of this comparison. Ctrl-C: KeyboardInterrupt.

    Runs are processes made by multiprocessing: a script that calls this does so under `if __name__ == "__main__"`.
    """
    c = plan.comparison
    clock = Clock(0)
    commit = commit_of(Path(__file__).parents[1])
    choices = tune(plan, clock, commit, say)
    for label, choice in choices.items():
        scores = "  ".join(f"{point_words(point)}: {score:.3f}" for point, score in choice.scores.items())
        edges = "".join(f", {short_key(key)} the {side} of its grid" for key, side in choice.edges().items())
        say(f"tuned {label}: {point_words(choice.point)}{edges}  [{scores}]")
    for entry in plan.entries:
        if entry.grid and entry.label not in choices:
            say(f"{entry.label}: no tuning run has finished, so it is left out")
    work(
        plan, plan.main_runs({label: found.point for label, found in choices.items()}), 0, clock, commit, say
    )
    return [r for r in read_rows(Path(c.results)) if (r.comparison, r.task) == (c.name, plan.task)]


def tune(plan: Plan, clock: Clock, commit: str, say: Say) -> dict[str, Tuned]:
    """The point of each tuned entry, by label: the grid first, then beyond its edges, then between its points.

    All of that on the first tuning seed; the others decide between the best points.
    """
    tuning, done = plan.comparison.tuning, []
    if tuning is None:
        return {}

    def ask(runs: list[PlannedRun]) -> dict[str, Tuned]:
        work(plan, runs, len(plan.entries) * len(plan.comparison.seeds), clock, commit, say)
        done.extend(runs)
        return choices_of(plan, done)

    choices = ask(plan.tuning_runs())
    for _ in range(tuning.extend):
        choices = ask(plan.tuning_runs({label: list(found.beyond()) for label, found in choices.items()}))
    for _ in range(tuning.refine):
        choices = ask(plan.tuning_runs({label: list(found.between()) for label, found in choices.items()}))
    finalists = {label: found.finalists() for label, found in choices.items()}
    return ask(plan.tuning_runs(finalists, tuning.seeds[1:])) if tuning.seeds[1:] else choices


def choices_of(plan: Plan, runs: Sequence[PlannedRun]) -> dict[str, Tuned]:
    """The point of each tuned entry, from those of `runs` that have finished."""
    curves = finished_runs(plan)
    found = {}
    for entry in plan.entries:
        mine = [curves[key] for run in runs if run.label == entry.label and (key := identity(run)) in curves]
        if choice := choose(mine):
            found[entry.label] = choice
    return found


def identity(run: PlannedRun) -> tuple[str, str, str, str]:
    return run.comparison, run.stage, run.label, run.fingerprint


def finished_runs(plan: Plan) -> dict[tuple[str, str, str, str], Curve]:
    """The finished runs in the results file."""
    curves, _ = latest_runs(read_rows(Path(plan.comparison.results)))
    return {(c.head.comparison, c.head.stage, c.head.algorithm, c.head.recipe): c for c in curves}


def work(plan: Plan, runs: Sequence[PlannedRun], later: int, clock: Clock, commit: str, say: Say) -> None:
    """Makes those of `runs` that are missing, `jobs` at a time; `later` more runs will follow them."""
    c = plan.comparison
    waiting = deque(run for run in runs if not already_held(plan, run))
    if skipped := len(runs) - len(waiting):
        say(f"{runs[0].stage}: {skipped} of {len(runs)} runs are in {c.results} already")
    active: list[RunProcess] = []
    busy: set[str] = set()
    with stoppable():
        try:
            while waiting or active:
                for run in free(waiting, c.jobs - len(active), busy, say):
                    waiting.remove(run)
                    active.append(launch(run))
                for worker in [w for w in active if w.process.exitcode is not None]:
                    active.remove(worker)
                    if worker.process.exitcode == child.BUSY:
                        waiting.append(worker.run)
                        continue
                    if worker.process.exitcode and worker.resumed:
                        say(f"{worker.run.label}: could not go on from its checkpoint, starts anew")
                        active.append(launch(worker.run, afresh=True))
                        continue
                    rows = finish(worker, commit, keep=c.keep)
                    append_rows(Path(c.results), rows)
                    clock.tokens += worker.run.budget
                    clock.seconds += time.monotonic() - worker.started
                    clock.expected = sum(w.run.budget for w in active) + sum(r.budget for r in waiting)
                    clock.expected += later * c.budget
                    say(
                        f"{ended_line(rows, worker)}  ({len(waiting) + len(active)} to go, {clock.eta(c.jobs)})"
                    )
                time.sleep(POLL)
        except BaseException:
            stop(active, say)
            raise


def free(waiting: Sequence[PlannedRun], most: int, told: set[str], say: Say) -> list[PlannedRun]:
    """The first of the runs whose directories no other process is writing in; the others are said, once each."""
    found: list[PlannedRun] = []
    for run in waiting:
        if len(found) >= most:
            break
        place = run.recipe.output_dir
        if not locked(Path(place)):
            found.append(run)
        elif place not in told:
            told.add(place)
            say(f"{run.label}: another process is still writing in {place}; it is waited for")
    return found


def already_held(plan: Plan, run: PlannedRun) -> bool:
    """True if the results file holds the run, or the same one under another name, whose rows are then copied."""
    curves = finished_runs(plan)
    if identity(run) in curves:
        return True
    for curve in curves.values():
        if curve.head.recipe == run.fingerprint and curve.head.task == run.task:
            rows = [
                replace(
                    row,
                    comparison=run.comparison,
                    stage=run.stage,
                    algorithm=run.label,
                    outcome_only=run.outcome_only,
                    reference=run.reference,
                    settings=dict(run.point),
                )
                for row in curve.rows
            ]
            append_rows(Path(plan.comparison.results), rows)
            return True
    return False


def launch(run: PlannedRun, *, afresh: bool = False) -> RunProcess:
    """Starts the run's process, from its last checkpoint where it has one."""
    place = Path(run.recipe.output_dir)
    resume = not afresh and can_resume(run, place)
    place.parent.mkdir(parents=True, exist_ok=True)
    recipe = place.with_name(f"{place.name}.yaml")
    recipe.write_text(run.recipe.to_yaml(), encoding="utf-8")
    return RunProcess(run, child.start_run(recipe, log_of(run), resume=resume), resume, time.monotonic())


def can_resume(run: PlannedRun, place: Path) -> bool:
    """True if the same run was begun there and has left a checkpoint."""
    try:
        same = recipe_fingerprint(Recipe.load(place / "recipe.yaml")) == run.fingerprint
    except KintsugiError:
        return False
    return same and bool(numbered(place / "checkpoints"))


def log_of(run: PlannedRun) -> Path:
    place = Path(run.recipe.output_dir)
    return place.with_name(f"{place.name}.log")


def finish(worker: RunProcess, commit: str, *, keep: bool) -> list[ResultRow]:
    """The rows of a process that has ended: its evaluations, or one row with the error."""
    run, place = worker.run, Path(worker.run.recipe.output_dir)
    common: dict[str, Any] = {
        "comparison": run.comparison, "stage": run.stage, "task": run.task, "algorithm": run.label,
        "outcome_only": run.outcome_only, "reference": run.reference, "model": spec_name(run.recipe.model),
        "seed": run.recipe.seed, "lr": run.recipe.optim.lr, "budget": run.budget, "commit": commit,
        "recipe": run.fingerprint, "settings": dict(run.point),
    }  # fmt: skip
    if worker.process.exitcode:
        said = log_of(run).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        error = f"exit code {worker.process.exitcode}: {' '.join(said)[:300]}"
        nothing: dict[str, Any] = {
            "step": 0,
            "generated_tokens": 0,
            "wall_s": 0.0,
            "accuracy": None,
            "pass_at_8": None,
        }
        return [ResultRow(**common, **nothing, dynamics={}, error=error)]
    common["machine"] = machine_words(place)
    rows = rows_of_log(read_metrics(place / "metrics.jsonl"), common)
    if not keep:
        for table in BULKY:
            shutil.rmtree(place / table, ignore_errors=True)
    return rows


def machine_words(place: Path) -> str:
    """The hardware and the type that a run used: `NVIDIA H100 80GB HBM3, bfloat16`. "" where it kept no name."""
    told = json.loads((place / "versions.json").read_text(encoding="utf-8"))
    return f"{told['hardware']}, {told['dtype'].removeprefix('torch.')}" if "hardware" in told else ""


def ended_line(rows: Sequence[ResultRow], worker: RunProcess) -> str:
    """One line about a run that has ended."""
    row = rows[-1]
    settings = point_words(tuple(row.settings.items())) or f"lr {row.lr:g}"
    name = f"{row.stage} {row.algorithm}, {settings}, seed {row.seed}"
    if row.error is not None:
        return f"{name}: FAILED, {row.error}"
    took = time.monotonic() - worker.started
    return f"{name}: accuracy {row.accuracy:.3f} after {row.generated_tokens:,} tokens, {took:.0f} s"


def stop(active: Sequence[RunProcess], say: Say) -> None:
    """Asks every process for a checkpoint and waits for it; a second Ctrl-C ends them at once."""
    if not active:
        return
    say(f"stopping {len(active)} runs; each writes a checkpoint, and the same command goes on from there")
    for worker in active:
        if worker.process.pid and worker.process.is_alive():
            os.kill(worker.process.pid, signal.SIGINT)
    try:
        for worker in active:
            worker.process.join()
    finally:
        for worker in active:
            worker.process.kill()


@contextmanager
def stoppable() -> Iterator[None]:
    """Within it a polite kill (SIGTERM) is Ctrl-C, so that no process is left behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def commit_of(source: Path) -> str:
    """The commit of the code that runs, with `+` where it has been changed since; `unknown` outside of git."""

    def git(*arguments: str) -> str:
        found = subprocess.run(
            ["git", "-C", str(source), *arguments], capture_output=True, text=True, check=True
        )
        return found.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
