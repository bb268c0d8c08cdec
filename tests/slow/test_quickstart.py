"""The claims of the README, at full length: minutes, so run by `make test-slow`."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from kintsugi import Recipe, train
from kintsugi.tasks import load_task

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", [0, 1])
def test_the_quickstart_gains_at_least_15_points(seed: int, tmp_path: Path) -> None:
    recipe = Recipe.load(ROOT / "recipes" / "quickstart.yaml", [f"seed={seed}", f"output_dir={tmp_path}/run"])
    result = train(recipe)
    assert 0.20 <= result.before <= 0.40
    assert result.after - result.before >= 0.15


def test_exact_process_labels_lift_the_nano_model_above_90_percent(tmp_path: Path) -> None:
    labels = ROOT / "benchmarks" / "exact_labels.py"
    settings = [
        f"algorithm={labels}:EXACT_LABELS",
        "steps=120",
        "eval.every=20",
        f"output_dir={tmp_path}/run",
    ]
    train(Recipe.load(ROOT / "recipes" / "quickstart.yaml", settings))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert max(json.loads(line).get("eval/pass@1", 0.0) for line in lines) > 0.9


@pytest.mark.skipif(
    "KINTSUGI_GSM8K" not in os.environ, reason="set KINTSUGI_GSM8K to a folder with train.jsonl"
)
def test_gsm8k_loads_with_plain_numbers_as_answers() -> None:
    folder = Path(os.environ["KINTSUGI_GSM8K"])
    task = load_task(
        {
            "name": "table",
            "path": str(folder / "train.jsonl"),
            "eval_path": str(folder / "test.jsonl"),
            "prompt": "question",
        }
    )
    assert (len(task.train()), len(task.evaluation())) == (7473, 1319)
    answers = [p.answer for p in [*task.train(), *task.evaluation()]]
    assert [a for a in answers if not re.fullmatch(r"-?\d+(\.\d+)?", a)] == []
