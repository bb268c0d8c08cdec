"""Copies the model of a finished run to where the recipe that is to start from it looks for it.

    python benchmarks/ship.py RUN                                    # into the package as nano, for the quickstart
    python benchmarks/ship.py RUN recipes/learning/chain.yaml        # to benchmarks/models/nano_chain
    python benchmarks/ship.py RUN recipes/learning/words.yaml benchmarks/models/words_3m      # another than it names

Refuses a model that is not fit to learn from: base pass@1 must lie between 10 and 45% (20 and 40% for the
quickstart), no constant answer may reach 15%, and the weights may take at most 7 MB. Those of more than 4 MB are
stored in half precision, and judged so; they are loaded as float32. Of a model with adapters (LoRA) these alone are
copied; they name SmolLM2, the one that such a run may start from, as a recipe does.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from kintsugi.assembly import assemble
from kintsugi.config import Recipe
from kintsugi.models.loading import NANO_DIR
from kintsugi.models.lora import ADAPTER
from kintsugi.models.smollm2 import SMOLLM2
from kintsugi.plugins import spec_name
from kintsugi.records import KintsugiError
from kintsugi.run.evaluation import evaluate, table
from kintsugi.run.export import OWN, checkpoint
from kintsugi.run.reading import Run

LARGEST, WHOLE = 7_000_000, 4_000_000
"""Bytes of weights at most, and at most in float32."""
MANY, FEW = 400, 64
"""Held-out problems that a model is judged on, and one with adapters, which answers more slowly."""
QUICKSTART = "recipes/quickstart.yaml"


def ship(run: Path, learning: str = QUICKSTART, model: str | None = None) -> str:
    """Checks the newest checkpoint of `run` on the recipe it is to learn from, and copies it to `model`, or else to
    the model named there.

    Returns the evaluation's table.
    """
    _, source = checkpoint(Run.open(run), None)
    name = model or spec_name(Recipe.load(learning).model)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(shutil.copytree(source, Path(scratch) / "model", ignore=shutil.ignore_patterns(*OWN)))
        if (copy / ADAPTER).is_file():
            only_adapters(copy)
        halve(next(copy.glob("*.safetensors")))
        card, told = judge(copy, learning, *((0.20, 0.40) if name == "nano" else (0.10, 0.45)))
        built = f"recipes/{run.name}.yaml" if name == "nano" else f"benchmarks/bases/{Path(learning).name}"
        (copy / "built.json").write_text(
            json.dumps({"recipe": built, **card}, indent=1) + "\n", encoding="utf-8"
        )
        folder = NANO_DIR if name == "nano" else Path(name)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(copy, folder)
    return f"{folder}\n{told}"


def only_adapters(copy: Path) -> None:
    """Leaves the adapters, and writes the name of their model in place of where it lies on this machine."""
    for path in copy.iterdir():
        if not path.name.startswith("adapter_"):
            path.unlink()
    settings = json.loads((copy / ADAPTER).read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = SMOLLM2
    (copy / ADAPTER).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def halve(weights: Path) -> None:
    """Stores the weights in half precision if they take more than WHOLE bytes."""
    if weights.stat().st_size > WHOLE:
        halves = {name: values.half() for name, values in load_file(weights).items()}
        save_file(halves, weights, {"format": "pt"})


def judge(model: Path, learning: str, low: float, high: float) -> tuple[dict[str, Any], str]:
    """(what is written down of a model, the evaluation's table); KintsugiError where it is not fit to learn from."""
    problems = FEW if (model / ADAPTER).is_file() else MANY
    parts = assemble(Recipe.load(learning, [f"model={model}", f"eval.problems={problems}"]))
    result = evaluate(parts)
    answers = Counter(problem.answer for problem in parts.eval_problems)
    constant = max(answers.values()) / answers.total()
    size = next(model.glob("*.safetensors")).stat().st_size
    if not low <= result.pass_at_1.value <= high or constant > 0.15 or size > LARGEST:
        raise KintsugiError(
            f"expected pass@1 in [{low:.2f}, {high:.2f}], constant answer <= 0.15 and {LARGEST:,} bytes at most; "
            f"got {result.pass_at_1}, {constant:.3f} and {size:,}"
        )
    return {"constant_answer": constant, **result.summary()}, table(model.name, result)


if __name__ == "__main__":
    try:
        print(ship(Path(sys.argv[1]), *sys.argv[2:]))
    except KintsugiError as error:
        sys.exit(f"kintsugi: {error}")
