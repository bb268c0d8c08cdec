"""The bench of mending steps: its models at larger sizes, and its script for a GPU on a CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.engine.models import Size, widened
from benchmarks.engine.results import read

from kintsugi.models.loading import load_model

ROOT = Path(__file__).resolve().parents[3]


def test_a_widened_model_says_what_the_small_one_says() -> None:
    """Hidden size 96 to 160 and 3 layers to 5: what was added writes zeros, so logits are the same up to rounding."""
    small = load_model("nano", device="cpu").model
    wide = widened(small, Size(160, 5))
    ids = torch.arange(40).view(2, 20)
    with torch.no_grad():
        found, expected = wide(ids).logits, small(ids).logits
    assert float((found - expected).abs().max()) < 1e-3
    assert wide.num_parameters() > 2 * small.num_parameters()


@pytest.mark.long
def test_the_script_for_a_gpu_measures_on_a_cpu_too(tmp_path: Path) -> None:
    results = tmp_path / "engine.jsonl"
    asked = {"DEVICE": "cpu", "SIZES": "nano", "PAIRS": "1", "STEPS": "kintsugi-equal", "SKIP_REST": "1"}
    done = subprocess.run(
        ["sh", "benchmarks/gpu.sh"],
        cwd=ROOT,
        env=os.environ | asked | {"PYTHON": sys.executable, "RESULTS": str(results)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    (row,) = read(results)
    assert (row["bench"], row["algorithm"], row["workload"], row["size"]) == (
        "mending",
        "kintsugi",
        "equal",
        "nano",
    )
    assert row["ratio"] > 0 and row["pairs"] == 1
    assert f"1 rows in {results}" in done.stdout
