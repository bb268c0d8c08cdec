"""The upper bound: exact process labels, on a task that has them. No other method may use them.

In every rollout each token before the first wrong one gets +1, the first wrong one -1, the rest nothing; with
`EXACT_MIXED` only in groups in which some pass and some fail, which is where outcomes have something to say.
If this does not lift the nano model above 90%, curves on this model mean nothing; and where it does not beat
every outcome-only method, the task is too easy to tell methods apart.

    kintsugi train recipes/quickstart.yaml algorithm=benchmarks/exact_labels.py:EXACT_LABELS steps=120
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kintsugi.algorithms import Algorithm
from kintsugi.algorithms.base import row
from kintsugi.records import Episode, KintsugiError, Problem, Row
from kintsugi.sampling.context import Context
from kintsugi.sampling.play import Asking
from kintsugi.tasks import load_task
from kintsugi.tasks.labels import Decode, Labelled, wrong_tokens


@dataclass(frozen=True, slots=True)
class LabelledEpisode(Episode):
    """An episode with the labels of its rollouts: rows as they are to be trained on."""

    labelled: tuple[Row, ...] = ()


def run(problem: Problem, ctx: Context) -> Asking[Episode]:
    """Rollouts and their exact labels."""
    task = load_labelled(ctx.recipe.task)
    rollouts = yield from ctx.group(problem)
    episode = Episode(problem, rollouts)
    labelled = (exact_row(task, ctx.codec.decode, episode, i) for i in range(len(rollouts)))
    return LabelledEpisode(problem, rollouts, labelled=tuple(labelled))


def rows(episode: Episode) -> list[Row]:
    assert isinstance(episode, LabelledEpisode)
    return list(episode.labelled)


def mixed_rows(episode: Episode) -> list[Row]:
    """The rows of a mixed group; those of another count in the mean, without credit."""
    if len({rollout.verdict.passed for rollout in episode.rollouts}) == 2:
        return rows(episode)
    return [row(episode, i) for i in range(len(episode.rollouts))]


def load_labelled(spec: Any) -> Labelled:
    """The task of this spec; KintsugiError where it has no exact labels."""
    task = load_task(spec)
    if not isinstance(task, Labelled):
        raise KintsugiError(f"task {spec!r} has no exact labels (tasks.labels.Labelled)")
    return task


def exact_row(task: Labelled, decode: Decode, episode: Episode, index: int) -> Row:
    """Rollout number `index`: +1 on every token before the first wrong one, -1 on that one, 0 after it."""
    rollout = episode.rollouts[index]
    ids = rollout.completion.token_ids
    found = wrong_tokens(task, episode.problem.prompt, ids, decode, ended=not rollout.truncated)
    wrong = found[0] if found else len(ids)
    credit = tuple(1.0 if t < wrong else -1.0 if t == wrong else 0.0 for t in range(len(ids)))
    return row(episode, index).add("label", credit).credited()


EXACT_MIXED = Algorithm("exact_mixed", run, mixed_rows, level="token", clip_low=0.2, clip_high=0.2)
EXACT_LABELS = Algorithm("exact_labels", run, rows, level="token", clip_low=0.2, clip_high=0.2)
