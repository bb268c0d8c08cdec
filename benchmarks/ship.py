"""Copies the model of a finished run to where the recipe that is to start from it looks for it.

    python benchmarks/ship.py RUN                                    # into the package as nano, for the quickstart
    python benchmarks/ship.py RUN recipes/learning/chain.yaml        # to benchmarks/models/nano_chain

Refuses a model that is not fit to learn from: base pass@1 must lie between 10 and 45% (20 and 40% for the
quickstart), no constant answer may reach 15%, and the weights may take at most 4 MB.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from pathlib import Path

from kintsugi.assembly import assemble
from kintsugi.config import Recipe
from kintsugi.models.loading import NANO_DIR
from kintsugi.plugins import spec_name
from kintsugi.records import KintsugiError
from kintsugi.run.evaluation import evaluate, table
from kintsugi.run.export import OWN, checkpoint
from kintsugi.run.reading import Run

LARGEST = 4_000_000
QUICKSTART = "recipes/quickstart.yaml"


def ship(run: Path, learning: str = QUICKSTART) -> str:
    """Checks the newest checkpoint of `run` on the recipe it is to learn from, and copies it to the model named there.

    Returns the evaluation's table.
    """
    _, source = checkpoint(Run.open(run), None)
    name = spec_name(Recipe.load(learning).model)
    low, high = (0.20, 0.40) if name == "nano" else (0.10, 0.45)
    parts = assemble(Recipe.load(learning, [f"model={source}", "eval.problems=400"]))
    result = evaluate(parts)
    answers = Counter(problem.answer for problem in parts.eval_problems)
    constant = max(answers.values()) / answers.total()
    size = (source / "model.safetensors").stat().st_size
    if not low <= result.pass_at_1.value <= high or constant > 0.15 or size > LARGEST:
        raise KintsugiError(
            f"{source}: expected pass@1 in [{low:.2f}, {high:.2f}], constant answer <= 0.15 and {LARGEST:,} bytes "
            f"at most; got {result.pass_at_1}, {constant:.3f} and {size:,}"
        )
    folder = NANO_DIR if name == "nano" else Path(name)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(*OWN))
    built = f"recipes/{run.name}.yaml" if name == "nano" else f"benchmarks/bases/{Path(learning).name}"
    card = {"recipe": built, "constant_answer": constant, **result.summary()}
    (folder / "built.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return table(str(source), result)


if __name__ == "__main__":
    try:
        print(ship(Path(sys.argv[1]), *sys.argv[2:]))
    except KintsugiError as error:
        sys.exit(f"kintsugi: {error}")
