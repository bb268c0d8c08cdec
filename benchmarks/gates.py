"""How well the gates of a finished run find the truly wrong tokens, on a task with exact labels.

Of every rollout that a run blamed: precision, the share of blamed tokens (gate 1, negative credit) that are
wrong; recall, the share of wrong tokens that are blamed; first, the share of failures whose first wrong token
is blamed. Rollouts that passed by luck count as failures when they were blamed. One line per tenth of the run.

    python benchmarks/gates.py runs/quickstart
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow.parquet as pq

from kintsugi import Recipe
from kintsugi.models.loading import HFCodec, load_model
from kintsugi.records import KintsugiError
from kintsugi.tasks import load_task
from kintsugi.tasks.labels import Labelled, score_gates, wrong_tokens

Blame = tuple[tuple[int, ...], tuple[int, ...]]
PARTS = 10


def blames(directory: Path, task: Labelled, codec: HFCodec) -> Iterator[tuple[int, Blame]]:
    """(step, (blame mask, wrong tokens)) of every row that blames a rollout of the policy."""
    texts = pq.read_table(directory / "rollouts", columns=["problem_id", "question"]).to_pylist()
    questions: Mapping[str, str] = {line["problem_id"]: line["question"] for line in texts}
    columns = ["step", "role", "problem_id", "completion_ids", "mask", "advantages"]
    for row in pq.read_table(directory / "rows", columns=columns).to_pylist():
        mask = tuple(int(m and a < 0) for m, a in zip(row["mask"], row["advantages"], strict=True))
        if row["role"] in ("policy", "failed") and any(mask):
            ids = row["completion_ids"]
            ended = ids[-1] in codec.stop_ids
            yield (
                row["step"],
                (mask, wrong_tokens(task, questions[row["problem_id"]], ids, codec.decode, ended=ended)),
            )


def report(directory: Path) -> Iterator[str]:
    """A line per part of the run."""
    recipe = Recipe.load(directory / "recipe.yaml")
    task = load_task(recipe.task)
    if not isinstance(task, Labelled):
        raise KintsugiError(f"task {recipe.task!r} has no exact labels (tasks.labels.Labelled)")
    parts: defaultdict[int, list[Blame]] = defaultdict(list)
    for step, blame in blames(directory, task, load_model(recipe.model, device="cpu").codec):
        parts[(step - 1) * PARTS // recipe.steps].append(blame)
    for part, found in sorted(parts.items()):
        score = score_gates(found)
        yield (
            f"until step {(part + 1) * recipe.steps // PARTS:>4}  precision {score.precision:.3f}  "
            f"recall {score.recall:.3f}  first {score.first:.3f}  ({score.failures} failures)"
        )


if __name__ == "__main__":
    try:
        print("\n".join(report(Path(sys.argv[1]))))
    except KintsugiError as error:
        sys.exit(f"kintsugi: {error}")
