"""The upper bound: exact process labels on the built-in task, which no other method may use.

In every rollout the result digit of each right step gets +1 and that of the first wrong step -1.
If this does not lift the nano model above 90%, curves on this model mean nothing.

    python benchmarks/exact_labels.py recipes/quickstart.yaml steps=150 output_dir=runs/exact_labels
"""

from __future__ import annotations

import sys
from pathlib import Path

from kintsugi import Recipe, train
from kintsugi.algorithms import ALGORITHMS, Algorithm
from kintsugi.algorithms.base import run_rollouts
from kintsugi.records import Episode, Row
from kintsugi.tasks.dag import first_error

STEP_TOKENS, RESULT = 8, 6  # "b=1-3=8\n" is eight one-byte tokens, the result is the seventh


def exact_rows(episode: Episode, recipe: Recipe) -> list[Row]:
    """One row per rollout: credit on result digits only, up to and including the first wrong step."""
    del recipe
    rows = []
    for rollout in episode.rollouts:
        ids = rollout.completion.token_ids
        wrong = first_error(episode.problem.prompt, rollout.text)
        credit = [0.0] * len(ids)
        steps = (len(ids) - 3) // STEP_TOKENS
        for step in range(steps if wrong is None else min(wrong + 1, steps)):
            credit[step * STEP_TOKENS + RESULT] = -1.0 if step == wrong else 1.0
        gate = tuple(int(c != 0) for c in credit)
        name = episode.problem.id
        logprobs = rollout.completion.logprobs
        rows.append(Row(rollout.prompt_ids, ids, gate, tuple(credit), logprobs, "policy", name, name))
    return [row for row in rows if row.active]


ALGORITHMS["exact_labels"] = Algorithm(
    "exact_labels", run_rollouts, exact_rows, level="token", clip_low=0.2, clip_high=0.2
)

if __name__ == "__main__":
    path, *overrides = sys.argv[1:]
    result = train(Recipe.load(path, [*overrides, "algorithm=exact_labels"]), overwrite=True)
    print(result.summary(f"exact_labels on {Path(path).stem}"))
