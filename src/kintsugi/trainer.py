"""The trainer: wiring only. How a step differs from GRPO's is said in algorithms/iop.py and kintsugi.py.

1. Every problem of the batch plays the algorithm's run; what they ask for shares batches.
2. Credit turns episodes into rows; the learner turns rows into optimizer steps.
3. Everything is written down before the next step starts.

    kintsugi train recipes/quickstart.yaml
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from kintsugi import checkpoint
from kintsugi.algorithms import Algorithm, load_algorithm
from kintsugi.algorithms.base import believed
from kintsugi.assembly import Parts, assemble
from kintsugi.card import write_card
from kintsugi.checkpoint import Progress
from kintsugi.config import Recipe
from kintsugi.console import Reporter
from kintsugi.engines.base import derive_seed
from kintsugi.engines.mismatch import MismatchWatch
from kintsugi.engines.play import Meter, play
from kintsugi.files import read_json, writing
from kintsugi.internalize.context import Context
from kintsugi.learner import LocalLearner
from kintsugi.metrics import step_metrics
from kintsugi.records import Episode, KintsugiError, Problem
from kintsugi.runlog import RunLog
from kintsugi.session import (
    Stop,
    TrainResult,
    accuracy,
    due,
    evaluation_due,
    expected_steps,
    finished,
    interruptible,
    measure,
    share_done,
)
from kintsugi.trackers import load_trackers, tracking

PATIENCE = 3
"""Steps in a row without a possible update after which a run ends."""
MADE = {"made by": "train"}
DECIDES = {
    "data": "the training problems have",
    "verifier": "the verifier's file has",
    "algorithm": "the algorithm's file has",
}
"""What decides a run beside its recipe: the key in versions.json, and how an error names it."""
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


def train(
    recipe: Recipe, *, resume: bool = False, overwrite: bool = False, reporter: Reporter | None = None
) -> TrainResult:
    """Trains as the recipe says and returns the held-out result. Raises KintsugiError for what a user can mend."""
    algorithm = check_algorithm(recipe)
    trackers = load_trackers(recipe.trackers)
    directory = RunLog.check(recipe, resume=resume, overwrite=overwrite)
    again = resume and RunLog.is_run(directory)
    start_from, notes = checkpoint.latest(directory) if again else (None, [])
    if again:
        same_run(Recipe.load(directory / "recipe.yaml"), recipe)
    learner: LocalLearner | None = None
    parts = assemble(
        recipe,
        version=lambda: learner.version if learner else 0,
        model=str(start_from) if start_from else None,
    )
    learner = build_learner(parts, algorithm)
    if again:
        same_data(directory, parts.machine)
    elif resume:
        notes.append(f"{directory} holds no run yet: beginning one")
    watch = MismatchWatch(parts.machine["dtype"].removeprefix("torch."), recipe.sampling.top_p)
    progress = Progress() if start_from is None else checkpoint.load_state(start_from, learner)
    with (
        RunLog.open(recipe, resume=again, overwrite=overwrite, machine=parts.machine | MADE) as log,
        reporter or Reporter(recipe.steps, progress.step) as out,
        interruptible(out) as stop,
        tracking(trackers, log, recipe, progress.step, out.say),
    ):
        with writing(directory):  # a report shows tokens before there is any checkpoint
            parts.loaded.tokenizer.save_pretrained(directory / "tokenizer")
        last = log.rewind(progress.step, progress.lines)
        if last > progress.step:
            notes.append(f"going on after step {progress.step}: what was written of later steps, up to {last}, "
                         "is discarded and made again")  # fmt: skip
        for note in (*notes, *parts.notes):
            out.say(f"note: {note}")
        if progress.before is None:
            progress.before = measure(parts, log, out, progress, stop)
        elif evaluation_due(recipe, progress):  # a shorter run ended here, or was stopped as it was evaluated
            measure(parts, log, out, progress, stop)
        loop(parts, algorithm, learner, watch, progress, log, out, stop)
        saved = save(log, parts, learner, progress)
        out.say(f"checkpoint: {saved}")
        after = accuracy(measure(parts, log, out, progress, stop))
        with writing(saved):
            write_card(directory, saved)  # again: now it knows what came of it
    before = accuracy(progress.before)
    return TrainResult(before, after, progress.step, progress.seconds, directory, stop[0] if stop else 0)


def loop(
    parts: Parts,
    algorithm: Algorithm,
    learner: LocalLearner,
    watch: MismatchWatch,
    progress: Progress,
    log: RunLog,
    out: Reporter,
    stop: Stop,
) -> None:
    """Step after step to the run's end, or until a signal comes. Whatever else ends it, the steps made are kept."""
    recipe = parts.recipe
    kept, whole, started = progress.step, learner.version, time.perf_counter()
    try:
        while not finished(recipe, progress) and not stop:
            one_step(parts, algorithm, learner, watch, progress, log, out)
            whole = learner.version
            if evaluation_due(recipe, progress):
                measure(parts, log, out, progress, stop)
            if due(recipe.save_every, progress.step, recipe.steps):
                save(log, parts, learner, progress)
                kept = progress.step
    except Exception:
        # Between steps, that is: half an update is no state to go on from, nor is one that cannot be updated.
        if progress.step > kept and learner.version == whole and not progress.stuck:
            with suppress(Exception):  # what ended the run may be the disk: its own words matter
                out.say(f"checkpoint: {save(log, parts, learner, progress)}")
        raise
    finally:
        progress.seconds += time.perf_counter() - started


def save(log: RunLog, parts: Parts, learner: LocalLearner, progress: Progress) -> Path:
    """A checkpoint of the run as it stands; what is written after it is made again when the run is resumed."""
    progress.lines = log.lines
    return checkpoint.save(log.directory, parts.loaded, learner, progress, parts.recipe.keep_last)


def one_step(
    parts: Parts,
    algorithm: Algorithm,
    learner: LocalLearner,
    watch: MismatchWatch,
    progress: Progress,
    log: RunLog,
    out: Reporter,
) -> None:
    """Sample, verify, mend, give credit, update, write down."""
    step = progress.step + 1
    meter = Meter()
    problems = batch(parts.train_problems, parts.recipe, step)
    episodes = run_all(parts, algorithm, learner, problems, step, progress, meter)
    rows = [row for episode in episodes for row in algorithm.rows(episode)]
    stats = learner.step(rows, share_done(parts.recipe, progress))
    metrics = step_metrics(step, episodes, rows, stats, meter.seconds)
    progress.step = step
    progress.tokens_before = progress.tokens
    progress.tokens += metrics["tokens/generated"]
    remember(progress.memory, episodes)
    log.write(step, episodes, rows, stats.rows)
    log.metrics(metrics | {"tokens/total": progress.tokens})
    progress.stuck = progress.stuck + 1 if stats.skipped and not stats.updates else 0
    if progress.stuck == PATIENCE:
        raise KintsugiError(
            f"{log.directory}: no update could be made in {PATIENCE} steps in a row: loss or gradient is not finite; "
            f"rows/step-{step:06d}.parquet holds the batch. Go on from an earlier checkpoint with a lower optim.lr, "
            "or dtype=float32"
        )
    out.steps = expected_steps(parts.recipe, progress)
    out.step(metrics)
    if warning := watch.check(rows, stats):
        out.say(f"warning: {warning}")


def run_all(
    parts: Parts,
    algorithm: Algorithm,
    learner: LocalLearner,
    problems: Sequence[Problem],
    step: int,
    progress: Progress,
    meter: Meter,
) -> list[Episode]:
    """Every problem's episode; they are played together and share the sampler's batches."""
    ctx = Context(
        codec=parts.loaded.codec,
        verifier=parts.verifier,
        prompts=parts.prompts,
        recipe=parts.recipe,
        step=step,
        memory=progress.memory,
        meter=meter,
        max_prompt=parts.max_prompt,
    )
    return play([algorithm.run(problem, ctx) for problem in problems], parts.sampler, meter, learner.logprobs)


def batch(problems: Sequence[Problem], recipe: Recipe, step: int) -> list[Problem]:
    """The problems of step number `step` (from 1): epoch after epoch, each in a shuffle of its own.

    A function of seed and step alone, so a resumed run sees the problems it would have seen. No problem
    comes twice in a step: what does not fill a step at an epoch's end is left to the next epoch.
    """
    size = min(recipe.sampling.problems, len(problems))
    epoch, place = divmod(step - 1, len(problems) // size)
    order = np.random.default_rng(derive_seed(recipe.seed, "epoch", epoch)).permutation(len(problems))
    return [problems[i] for i in order[place * size : (place + 1) * size]]


def remember(memory: dict[str, str], episodes: Sequence[Episode]) -> None:
    """Keeps one passing solution per problem, the shortest of the latest group, as a later anchor."""
    for episode in episodes:
        passing = [r.text for r in episode.rollouts if r.verdict.passed and not r.truncated]
        if passing:
            memory[episode.problem.id] = min(passing, key=len)


def check_algorithm(recipe: Recipe) -> Algorithm:
    """The recipe's algorithm; KintsugiError where the recipe does not suit it."""
    algorithm = believed(load_algorithm(recipe.algorithm), recipe.sampling.witnesses)
    if recipe.sampling.group_size < 2:
        raise KintsugiError(
            f"sampling.group_size: {algorithm.name} compares the rollouts of a group, expected at least 2, "
            f"got {recipe.sampling.group_size}"
        )
    return algorithm


def same_run(before: Recipe, now: Recipe) -> None:
    """KintsugiError when a resumed run would go on as another one; its length and pauses may change."""
    old, new = (r.model_dump(exclude=MAY_CHANGE) for r in (before, now))
    changed = [f"{key} ({old[key]!r} -> {new[key]!r})" for key in old if old[key] != new[key]]
    if changed:
        raise KintsugiError(f"--resume: the recipe has changed: {', '.join(changed)}; use another output_dir")


def same_data(directory: Path, machine: Mapping[str, str]) -> None:
    """KintsugiError when the training problems or the user's own code are not those that the run began with."""
    try:
        before = read_json(directory / "versions.json")
    except (OSError, ValueError) as error:
        raise KintsugiError(f"{directory}: cannot be read ({' '.join(str(error).split())})") from None
    for key, what in DECIDES.items():
        old, new = before.get(key), machine.get(key)
        if old is not None and new is not None and old != new:
            raise KintsugiError(f"--resume: {what} changed ({old} -> {new}); use another output_dir")


def build_learner(parts: Parts, algorithm: Algorithm) -> LocalLearner:
    """The learner with the algorithm's objective; clip ranges of the recipe override the algorithm's own."""
    optim, sampling = parts.recipe.optim, parts.recipe.sampling
    return LocalLearner(
        parts.loaded.model,
        optim,
        algorithm.objective(sampling.max_new_tokens, optim.clip_low, optim.clip_high),
        pad_id=parts.loaded.tokenizer.pad_token_id,
        temperature=sampling.temperature,
        autocast=parts.autocast,
    )
