"""TRL's own trainer on a recipe (benchmarks/trl_grpo.py)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from in_torch import MISSING

from kintsugi.compare.results import read_rows

pytestmark = pytest.mark.skipif(MISSING, reason="this TRL needs Triton, in a process of its own too")
ROOT = Path(__file__).parents[2]


def test_a_recipe_trained_by_trl_leaves_rows_up_to_its_budget(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "benchmarks/trl_grpo.py", "recipes/quickstart.yaml", "budget=4000"),
            *("eval.every_tokens=2000", "eval.samples=8", "eval.problems=8", "device=cpu", "dtype=float32"),
            *("--task", "dag", "--results", str(tmp_path / "rows.jsonl")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = read_rows(tmp_path / "rows.jsonl")
    assert {(r.algorithm, r.task, r.budget, r.seed) for r in rows} == {("trl_grpo", "dag", 4000, 0)}
    tokens = [r.generated_tokens for r in rows]
    assert tokens == sorted(tokens) and tokens[0] == 0
    assert [n >= 4000 for n in tokens] == [False] * (len(tokens) - 1) + [
        True
    ]  # the budget is spent, nothing follows
    assert all(0 <= r.accuracy <= r.pass_at_8 <= 1 for r in rows)  # type: ignore[operator]
    assert rows[-1].wall_s > 0 and rows[-1].machine.endswith(", float32")
