"""Copies the model of a finished run into the package as the nano base: `python -m kintsugi.models.ship RUN`.

Refuses a model that is not fit to learn from: base pass@1 must lie between 20 and 40%, no constant
answer may reach 15%, and the weights may take at most 4 MB.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from pathlib import Path

from kintsugi.assembly import assemble
from kintsugi.checkpoint import STATE_FILE, latest
from kintsugi.config import Recipe
from kintsugi.evaluation import evaluate, table
from kintsugi.models.loading import NANO_DIR
from kintsugi.records import KintsugiError

LARGEST = 4_000_000


def ship(run: Path) -> str:
    """Checks the newest checkpoint of `run` on the quickstart's task and ships it; returns the evaluation."""
    source = latest(run)
    recipe = Recipe.load("recipes/quickstart.yaml", [f"model={source}", "eval.problems=400"])
    parts = assemble(recipe)
    result = evaluate(parts)
    answers = Counter(problem.answer for problem in parts.eval_problems)
    constant = max(answers.values()) / answers.total()
    size = (source / "model.safetensors").stat().st_size
    if not 0.20 <= result.pass_at_1.value <= 0.40 or constant > 0.15 or size > LARGEST:
        raise KintsugiError(
            f"{source}: expected pass@1 in [0.20, 0.40], constant answer <= 0.15 and {LARGEST:,} bytes at most; "
            f"got {result.pass_at_1}, {constant:.3f} and {size:,}"
        )
    shutil.rmtree(NANO_DIR, ignore_errors=True)
    shutil.copytree(source, NANO_DIR, ignore=shutil.ignore_patterns(STATE_FILE))
    card = {"recipe": "recipes/nano_base.yaml", "constant_answer": constant, **result.summary()}
    (NANO_DIR / "built.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return table(str(source), result)


if __name__ == "__main__":
    try:
        print(ship(Path(sys.argv[1])))
    except KintsugiError as error:
        sys.exit(f"kintsugi: {error}")
