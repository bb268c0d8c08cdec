"""How well the gates of a finished run find the truly wrong tokens, on a task with exact labels.

Of every failure that a repair's seam blamed, or, where an algorithm repairs nothing, of every rollout it blamed:
precision, the share of blamed tokens (those of negative credit) that are wrong; recall, the share of wrong tokens
that are blamed; first, the share of failures whose first wrong token is blamed. `kintsugi` blames failures that it
could not mend as GRPO does, whole; these are left out, and `seams` is the share of blamed rollouts that are in.
Three parts of the run: before training has moved it far, half way, and at its end. `TASK=RUN` also adds the figures
to the file that `make results` makes the credit table from.

    python benchmarks/gates.py runs/quickstart
    python benchmarks/gates.py brackets=runs/learning_brackets
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kintsugi import Recipe
from kintsugi.models.codec import HFCodec
from kintsugi.models.loading import load_model
from kintsugi.plugins import split_spec
from kintsugi.records import KintsugiError
from kintsugi.run.reading import Run
from kintsugi.tasks import load_task
from kintsugi.tasks.labels import GateScore, Labelled, score_gates, wrong_tokens

Blame = tuple[tuple[int, ...], tuple[int, ...]]
PARTS = ("early", "middle", "late")
RESULTS = Path(__file__).parent / "results" / "credit.jsonl"


def blamed(credit: Mapping[str, Sequence[float]]) -> tuple[str, tuple[int, ...]]:
    """("seam", 1 where a seam blames) or, where none does, ("group", 1 where the sum of all reasons blames)."""
    seam = credit.get("seam", ())
    if any(a < 0 for a in seam):
        return "seam", tuple(int(a < 0) for a in seam)
    return "group", tuple(int(sum(values) < 0) for values in zip(*credit.values(), strict=True))


def blames(directory: Path, task: Labelled, codec: HFCodec) -> Iterator[tuple[int, str, Blame]]:
    """(step, for what, (blame mask, wrong tokens)) of every rollout that is blamed: by its "seam", or as a "group"."""
    run = Run.open(directory)
    for step in run.written:
        for problem in run.problems(step):
            for i, rollout in enumerate(problem.episode.rollouts):
                by, mask = blamed(problem.credit("rollout", i))
                if any(mask):
                    ids = rollout.completion.token_ids
                    question, ended = problem.episode.problem.prompt, ids[-1] in codec.stop_ids
                    yield step, by, (mask, wrong_tokens(task, question, ids, codec.decode, ended=ended))


def measure(directory: Path) -> dict[str, tuple[float, GateScore]]:
    """(share of blamed rollouts that are scored, their score) of each part of the run that blamed anything."""
    recipe = Recipe.load(directory / "recipe.yaml")
    task = load_task(recipe.task)
    if not isinstance(task, Labelled):
        raise KintsugiError(f"task {recipe.task!r} has no exact labels (tasks.labels.Labelled)")
    found = list(blames(directory, task, load_model(recipe.model, device="cpu").codec))
    steps = max((step for step, _, _ in found), default=1)
    scored = "seam" if any(by == "seam" for _, by, _ in found) else "group"
    parts: defaultdict[str, list[tuple[str, Blame]]] = defaultdict(list)
    for step, by, blame in found:
        parts[PARTS[(step - 1) * len(PARTS) // steps]].append((by, blame))
    kept = {part: [blame for by, blame in parts[part] if by == scored] for part in PARTS}
    return {part: (len(mine) / len(parts[part]), score_gates(mine)) for part, mine in kept.items() if mine}


def report(name: str) -> Iterator[str]:
    """A line per part of the run `RUN` or `TASK=RUN`; the second is also added to RESULTS."""
    task, _, place = name.rpartition("=")
    scores = measure(Path(place))
    if task:
        recipe = Recipe.load(Path(place) / "recipe.yaml")
        line: dict[str, object] = {"task": task, "algorithm": split_spec(recipe.algorithm, "algorithm")[0]}
        line |= {"seed": recipe.seed}
        for part, (share, score) in scores.items():
            line |= {
                f"{part}_seams": share,
                f"{part}_precision": score.precision,
                f"{part}_recall": score.recall,
                f"{part}_first": score.first,
            }
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    for part, (share, score) in scores.items():
        yield (
            f"{part:<6}  seams {share:.3f}  "
            f"precision {score.precision:.3f}  recall {score.recall:.3f}  first {score.first:.3f}  "
            f"({score.failures} failures)"
        )


if __name__ == "__main__":
    try:
        for run in sys.argv[1:]:
            print(run, *report(run), sep="\n")
    except KintsugiError as error:
        sys.exit(f"kintsugi: {error}")
