"""The one loop: `train` and `sft` differ in what a step trains on (`Lessons`), and in nothing else.

1. The lessons make a batch of rows, by sampling or from examples.
2. The learner turns rows into optimizer steps.
3. Everything is written down before the next step starts, so that a run killed at any moment goes on as if it had not
   been.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kintsugi.assembly import Parts, assemble
from kintsugi.config import Recipe
from kintsugi.files import read_json, writing
from kintsugi.learning.learner import LocalLearner
from kintsugi.learning.objective import Objective
from kintsugi.models.loading import quiet
from kintsugi.records import Episode, KintsugiError, Row
from kintsugi.run import checkpoint
from kintsugi.run.card import write_card
from kintsugi.run.checkpoint import Progress
from kintsugi.run.console import Reporter
from kintsugi.run.directory import RunLog
from kintsugi.run.metrics import step_metrics
from kintsugi.run.session import (
    Stop,
    TrainResult,
    accuracy,
    due,
    evaluate_run,
    evaluation_due,
    expected_evaluations,
    expected_steps,
    finished,
    impatient,
    interruptible,
    share_done,
)
from kintsugi.sampling.mismatch import MismatchWatch
from kintsugi.sampling.play import Meter
from kintsugi.trackers import load_trackers, tracking

PATIENCE = 3
"""Steps in a row without a possible update after which a run ends."""
DECIDES = {
    "made by": "the command has",
    "data": "the training problems have",
    "verifier": "the verifier's file has",
    "algorithm": "the algorithm's file has",
}
"""The keys in versions.json of what decides a run beside its recipe, and the words by which an error names it."""
MAY_CHANGE = {
    "steps",
    "budget",
    "save_every",
    "eval",
    "engine",
    "device",
    "dtype",
    "threads",
    "output_dir",
    "trackers",
    "keep_last",
}


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows that a step trains on, and the episodes that they came of (none where nothing was sampled)."""

    rows: Sequence[Row]
    episodes: Sequence[Episode] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """A finished step: its line of metrics.jsonl, the episodes that were sampled, and the rows made of them."""

    metrics: Mapping[str, Any]
    episodes: Sequence[Episode]
    rows: Sequence[Row]


OnStep = Callable[[Step], object]
"""Called after each step. Where it returns something true the run ends, as it would after its last step."""


class Lessons(ABC):
    """The source of a run's batches. `made_by` names the command; it is kept with the versions."""

    made_by: str

    @abstractmethod
    def objective(self, recipe: Recipe) -> Objective:
        """The objective by which its rows come to a loss."""

    @abstractmethod
    def temperature(self, recipe: Recipe) -> float:
        """The temperature at which log-probabilities are taken."""

    def prepare(self, parts: Parts, out: Reporter, run: Path | None, done: int) -> None:
        """Prepares what must be ready before the run directory is opened. `run`: the directory of a run that goes on
        after `done` steps. By default there is nothing to do."""
        return

    def keep(self, run: Path) -> None:
        """Writes what `prepare` needs when this run goes on."""
        return

    @abstractmethod
    def batch(self, parts: Parts, learner: LocalLearner, progress: Progress, meter: Meter) -> Batch:
        """The batch that step number `progress.step + 1` trains on."""


@quiet()
def run_lessons(
    recipe: Recipe,
    lessons: Lessons,
    *,
    on_step: OnStep | None,
    resume: bool,
    overwrite: bool,
    reporter: Reporter | None,
) -> TrainResult:
    """Trains as the recipe says and returns the held-out result. Raises KintsugiError for what a user can mend."""
    trackers = load_trackers(recipe.trackers)
    directory = RunLog.check(recipe, resume=resume, overwrite=overwrite)
    again = resume and RunLog.is_run(directory)
    start_from, notes = checkpoint.latest_checkpoint(directory) if again else (None, [])
    if again:
        same_run(Recipe.load(directory / "recipe.yaml"), recipe)
    learner: LocalLearner | None = None
    out = reporter or Reporter(recipe.steps)
    parts = assemble(
        recipe,
        version=lambda: learner.version if learner else 0,
        model=str(start_from) if start_from else None,
        say=out.say,
        pulse=out.pulse,
    )
    learner = build_learner(parts, lessons)
    machine = parts.machine | {"made by": lessons.made_by}
    if again:
        same_data(directory, machine)
    elif resume:
        notes.append(f"{directory} holds no run yet: beginning one")
    watch = MismatchWatch(parts.machine["dtype"].removeprefix("torch."), recipe.sampling.top_p)
    progress = Progress() if start_from is None else checkpoint.load_state(start_from, learner)
    with ExitStack() as stack:
        out.done = progress.step
        stack.enter_context(out)
        for note in (*notes, *parts.notes):
            out.say(f"note: {note}")
        lessons.prepare(parts, out, directory if again else None, progress.step)
        log = stack.enter_context(RunLog.open(recipe, resume=again, overwrite=overwrite, machine=machine))
        stop = stack.enter_context(interruptible(out))  # only now: before it there is nothing to be saved
        stack.enter_context(tracking(trackers, log, recipe, progress.step, out.say))
        with writing(directory):  # a report shows tokens before there is any checkpoint
            parts.loaded.tokenizer.save_pretrained(directory / "tokenizer")
            lessons.keep(directory)
        rewind(log, progress, out)
        if progress.before is None:
            progress.before = evaluate_run(parts, log, out, progress, stop)
        elif evaluation_due(recipe, progress):  # a shorter run ended here, or was stopped as it was evaluated
            evaluate_run(parts, log, out, progress, stop)
        loop(parts, lessons, learner, watch, progress, log, out, stop, on_step)
        saved = save_checkpoint(log, parts, learner, progress)
        out.say(f"checkpoint: {saved}")
        after = accuracy(evaluate_run(parts, log, out, progress, stop))
        with writing(saved):
            write_card(directory, saved)  # again: now it knows what came of it
    before = accuracy(progress.before)
    return TrainResult(before, after, progress.step, progress.seconds, directory, stop[0] if stop else 0)


def rewind(log: RunLog, progress: Progress, out: Reporter) -> None:
    """Takes the directory back to the step that the run goes on from, and says what that costs."""
    last = log.rewind(progress.step, progress.lines)
    if last > progress.step:
        later = (
            f"going on after step {progress.step}: what was written of later steps, up to {last}, is discarded "
            "and made again"
        )
        out.say(f"note: {later}")


def build_learner(parts: Parts, lessons: Lessons) -> LocalLearner:
    """The learner of these lessons."""
    return LocalLearner(
        parts.loaded.model,
        parts.recipe.optim,
        lessons.objective(parts.recipe),
        pad_id=parts.loaded.tokenizer.pad_token_id,
        temperature=lessons.temperature(parts.recipe),
        autocast=parts.autocast,
        sampler_exact=getattr(parts.sampler, "exact", False) and parts.recipe.sampling.top_p == 1,
    )


def loop(
    parts: Parts,
    lessons: Lessons,
    learner: LocalLearner,
    watch: MismatchWatch,
    progress: Progress,
    log: RunLog,
    out: Reporter,
    stop: Stop,
    on_step: OnStep | None = None,
) -> None:
    """Step after step to the run's end, or until a signal comes or `on_step` wants no more. Whatever else ends it, the
    steps made are kept."""
    recipe = parts.recipe
    kept, whole, started = progress.step, learner.version, time.perf_counter()
    try:
        while not finished(recipe, progress) and not stop:
            step = one_step(parts, lessons, learner, watch, progress, log, out)
            whole = learner.version
            if on_step is not None and on_step(step):
                out.say(f"on_step ends the run after step {progress.step}")
                break
            best = False
            if evaluation_due(recipe, progress):
                best = evaluate_run(parts, log, out, progress, stop) is not None and progress.worse == 0
            if due(recipe.save_every, progress.step, recipe.steps) or (best and recipe.eval.patience):
                save_checkpoint(log, parts, learner, progress)
                kept = progress.step
    except Exception:
        # Between steps, that is: half an update is no state to go on from, nor is one that cannot be updated.
        if progress.step > kept and learner.version == whole and not progress.stuck:
            with suppress(Exception):  # what ended the run may be the disk: its own words matter
                out.say(f"checkpoint: {save_checkpoint(log, parts, learner, progress)}")
        raise
    finally:
        progress.seconds += time.perf_counter() - started
    if impatient(recipe, progress):
        out.say(
            f"training ends: {progress.worse} evaluations in a row were no better than pass@1 {progress.best:.3f} "
            "(eval.patience; kintsugi export --best takes the best checkpoint)"
        )


def save_checkpoint(log: RunLog, parts: Parts, learner: LocalLearner, progress: Progress) -> Path:
    """A checkpoint of the run as it stands; what is written after it is made again when the run is resumed."""
    progress.lines = log.lines
    return checkpoint.write_checkpoint(log.directory, parts.loaded, learner, progress, parts.recipe.keep_last)


def one_step(
    parts: Parts,
    lessons: Lessons,
    learner: LocalLearner,
    watch: MismatchWatch,
    progress: Progress,
    log: RunLog,
    out: Reporter,
) -> Step:
    """A batch, its update, and what is written down of both."""
    meter = Meter()
    with out.working(f"step {progress.step + 1}"):
        batch = lessons.batch(parts, learner, progress, meter)
        verdicts = (rollout.verdict for episode in batch.episodes for rollout in episode.rollouts)
        parts.verifier.require(verdicts, f"step {progress.step + 1}")
        stats = learner.step(batch.rows, share_done(parts.recipe, progress))
    progress.step += 1
    metrics = step_metrics(progress.step, batch.episodes, batch.rows, stats, meter.seconds)
    progress.tokens_before = progress.tokens
    progress.tokens += metrics.get("tokens/generated", stats.tokens)
    remember(progress.memory, batch.episodes)
    if batch.episodes:
        log.write(progress.step, batch.episodes, batch.rows, stats.rows)
    metrics["tokens/total"] = progress.tokens
    log.metrics(metrics)
    progress.stuck = progress.stuck + 1 if stats.skipped and not stats.updates else 0
    if progress.stuck == PATIENCE:
        raise KintsugiError(
            f"{log.directory}: no update could be made in {PATIENCE} steps in a row: loss or gradient is not finite, "
            f"last in step {progress.step}. Go on from an earlier checkpoint with a lower optim.lr, or dtype=float32"
        )
    out.steps = expected_steps(parts.recipe, progress)
    out.evaluations = expected_evaluations(parts.recipe, progress)
    out.step(metrics)
    if warning := watch.check(batch.rows, stats):
        out.say(f"warning: {warning}")
    return Step(metrics, batch.episodes, batch.rows)


def remember(memory: dict[str, str], episodes: Iterable[Episode]) -> None:
    """Keeps one passing solution per problem, the shortest of the latest group, as a later anchor."""
    for episode in episodes:
        passing = [r.text for r in episode.rollouts if r.solved]
        if passing:
            memory[episode.problem.id] = min(passing, key=len)


def same_run(before: Recipe, now: Recipe) -> None:
    """KintsugiError when a resumed run would go on as another one; its length and pauses may change."""
    old, new = (r.model_dump(exclude=MAY_CHANGE) for r in (before, now))
    changed = list(differences(old, new))
    if changed:
        raise KintsugiError(f"--resume: the recipe has changed: {', '.join(changed)}; use another output_dir")


def differences(old: Any, new: Any, key: str = "") -> Iterator[str]:
    """`key (old -> new)` of every single key in which two recipes differ. A spec may be a name or a mapping with it."""
    if old == new:
        return
    if not (isinstance(old, Mapping) or isinstance(new, Mapping)):
        yield f"{key} ({old!r} -> {new!r})"
        return
    one, other = (
        value if isinstance(value, Mapping) else {} if value is None else {"name": value}
        for value in (old, new)
    )
    for part in {**one, **other}:
        yield from differences(one.get(part), other.get(part), f"{key}.{part}" if key else part)


def same_data(directory: Path, machine: Mapping[str, str]) -> None:
    """KintsugiError when the command, the training problems or the user's own code are not those of the run."""
    try:
        before = read_json(directory / "versions.json")
    except (OSError, ValueError) as error:
        raise KintsugiError(f"{directory}: cannot be read ({' '.join(str(error).split())})") from None
    for key, what in DECIDES.items():
        old, new = before.get(key), machine.get(key)
        if old is not None and new is not None and old != new:
            raise KintsugiError(f"--resume: {what} changed ({old} -> {new}); use another output_dir")
