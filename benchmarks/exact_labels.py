"""The upper bound: exact process labels, on a task that has them. No other method may use them.

In every rollout each token before the first wrong one gets +1, the first wrong one -1, the rest nothing.
If this does not lift the nano model above 90%, curves on this model mean nothing; and where it does not beat
every outcome-only method, the task is too easy to tell methods apart.

    python benchmarks/exact_labels.py recipes/quickstart.yaml steps=150 output_dir=runs/exact_labels
"""

from __future__ import annotations

import sys
from pathlib import Path

from kintsugi import Recipe, train
from kintsugi.algorithms import ALGORITHMS, Algorithm, plain
from kintsugi.algorithms.base import run_rollouts
from kintsugi.models.loading import load_model
from kintsugi.records import Episode, KintsugiError, Row
from kintsugi.tasks import load_task
from kintsugi.tasks.labels import Decode, Labelled, wrong_tokens


def exact_labels(task: Labelled, decode: Decode) -> Algorithm:
    """The algorithm that knows the labels of `task`, for token ids that `decode` turns into text."""

    def rows(episode: Episode) -> list[Row]:
        return [exact_row(task, decode, episode, index) for index in range(len(episode.rollouts))]

    return Algorithm("exact_labels", run_rollouts, rows, level="token", clip_low=0.2, clip_high=0.2)


def exact_row(task: Labelled, decode: Decode, episode: Episode, index: int) -> Row:
    """Rollout number `index`: +1 on every token before the first wrong one, -1 on that one, 0 after it."""
    rollout, name = episode.rollouts[index], episode.problem.id
    ids = rollout.completion.token_ids
    found = wrong_tokens(task, episode.problem.prompt, ids, decode, ended=not rollout.truncated)
    wrong = found[0] if found else len(ids)
    credit = tuple(1.0 if t < wrong else -1.0 if t == wrong else 0.0 for t in range(len(ids)))
    gate = tuple(int(c != 0) for c in credit)
    return Row(rollout.prompt_ids, ids, gate, credit, rollout.completion.logprobs, "policy", name, name)


def register(recipe: Recipe) -> None:
    """Makes `exact_labels` an algorithm for runs of this recipe's task and model."""
    task = load_task(recipe.task)
    if not isinstance(task, Labelled):
        raise KintsugiError(f"task {recipe.task!r} has no exact labels (tasks.labels.Labelled)")
    decode = load_model(recipe.model, device="cpu").codec.decode
    ALGORITHMS["exact_labels"] = plain(exact_labels(task, decode))


if __name__ == "__main__":
    path, *overrides = sys.argv[1:]
    recipe = Recipe.load(path, [*overrides, "algorithm=exact_labels"])
    register(recipe)
    result = train(recipe, overwrite=True)
    print(result.summary(f"exact_labels on {Path(path).stem}"))
