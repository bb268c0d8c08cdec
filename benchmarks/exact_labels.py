"""The upper bound: exact process labels on the built-in task, which no other method may use.

In every rollout each token before the first wrong one gets +1, the first wrong one -1, the rest nothing.
If this does not lift the nano model above 90%, curves on this model mean nothing.

    python benchmarks/exact_labels.py recipes/quickstart.yaml steps=150 output_dir=runs/exact_labels
"""

from __future__ import annotations

import sys
from pathlib import Path

from kintsugi import Recipe, train
from kintsugi.algorithms import ALGORITHMS, Algorithm, plain
from kintsugi.algorithms.base import run_rollouts
from kintsugi.records import Episode, Row
from kintsugi.tasks.dag import compute, first_error

STEP_TOKENS = 8  # "b=1-3=8\n": eight one-byte tokens; the answer line is "#### ", a digit and the end token


def exact_rows(episode: Episode) -> list[Row]:
    """One row per rollout: +1 on every token before the first wrong one, -1 on that one, 0 after it."""
    rows = []
    for rollout in episode.rollouts:
        ids = rollout.completion.token_ids
        wrong = first_wrong_token(episode.problem.prompt, rollout.text, len(ids))
        credit = tuple(1.0 if t < wrong else -1.0 if t == wrong else 0.0 for t in range(len(ids)))
        gate = tuple(int(c != 0) for c in credit)
        name = episode.problem.id
        logprobs = rollout.completion.logprobs
        rows.append(Row(rollout.prompt_ids, ids, gate, credit, logprobs, "policy", name, name))
    return rows


def first_wrong_token(problem: str, solution: str, length: int) -> int:
    """Index of the first wrong token of a solution; `length` when every step is right."""
    line = first_error(problem, solution)
    if line is None:
        return length
    written = solution.split("\n")[line] if line < solution.count("\n") + 1 else ""
    if written.startswith("####"):
        return line * STEP_TOKENS + 1
    values = {step[0]: step[-1] for step in solution.split("\n")[:line]} | {d: d for d in "0123456789"}
    body = dict(part.split("=") for part in problem.split(",")).get(written[:1], "???")
    left, right = values.get(body[0]), values.get(body[2])
    if left is None or right is None or written[:1] in values:
        return line * STEP_TOKENS  # no such step, or its operands are not known yet
    exact = f"{written[0]}={left}{body[1]}{right}={compute(int(left), body[1], int(right))}\n"
    same = next((i for i, (a, b) in enumerate(zip(written + "\n", exact, strict=False)) if a != b), 0)
    return line * STEP_TOKENS + same


ALGORITHMS["exact_labels"] = plain(
    Algorithm("exact_labels", run_rollouts, exact_rows, level="token", clip_low=0.2, clip_high=0.2)
)

if __name__ == "__main__":
    path, *overrides = sys.argv[1:]
    result = train(Recipe.load(path, [*overrides, "algorithm=exact_labels"]), overwrite=True)
    print(result.summary(f"exact_labels on {Path(path).stem}"))
