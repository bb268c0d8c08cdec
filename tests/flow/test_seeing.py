"""What a run leaves to be seen: real runs with a fault of their own, and the commands around them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def command(*words: str) -> subprocess.CompletedProcess[str]:
    done = [sys.executable, "-m", "kintsugi.cli", *words]
    return subprocess.run(done, capture_output=True, text=True, timeout=400, cwd=ROOT)


def trained(directory: Path, *overrides: str, steps: int = 6) -> Path:
    small = [
        "sampling.problems=4",
        "eval.problems=4",
        "eval.samples=1",
        f"steps={steps}",
        f"output_dir={directory}",
    ]
    done = command("train", "recipes/quickstart.yaml", *small, *overrides)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {directory}/report.html"
    return directory


@pytest.mark.parametrize(
    ("cause", "overrides"),
    [
        ("the verifier breaks down", ["verifier={broken}"]),
        ("rollouts are cut off", ["sampling.max_new_tokens=30"]),
        ("every group fails", ["verifier={never}"]),
    ],
)
def test_a_real_run_with_a_fault_is_diagnosed(cause: str, overrides: list[str], tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "def broken(prompts, completions, **columns):\n    raise OSError('no network')\n"
        "def never(prompts, completions, **columns):\n    return [0.0 for _ in completions]\n"
    )
    run = trained(
        tmp_path / "run", *(o.format(broken=f"{own}:broken", never=f"{own}:never") for o in overrides)
    )
    done = command("diagnose", str(run), "--json")
    assert done.returncode == 1
    causes = [f["cause"] for f in json.loads(done.stdout)["findings"]]
    assert causes and causes[0].startswith(cause), causes


def test_a_real_run_is_shown_and_reported_on(tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    done = command("show", str(run), "--step", "1", "--limit", "1")
    assert done.returncode == 0 and "[-" in done.stdout and "{+" in done.stdout and "-10.00" in done.stdout
    assert (run / "report.html").stat().st_size > 50_000
    done = command("diagnose", str(run))
    assert done.returncode == 0 and done.stdout.startswith("healthy"), done.stdout


def test_a_folder_that_holds_nothing_is_one_line(tmp_path: Path) -> None:
    for name in ("report", "diagnose", "show"):
        done = command(name, str(tmp_path))
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


def test_the_doctor_finds_the_quickstart_well_and_leaves_nothing_behind(tmp_path: Path) -> None:
    small = ["sampling.problems=4", f"output_dir={tmp_path / 'run'}", "threads=1"]
    done = command("doctor", "recipes/quickstart.yaml", *small, "--json")
    checks = {c["name"]: c for c in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, done.stdout
    assert {"gold answers", "prompt", "groups at the start", "sampler and learner", "disk"} <= set(checks)
    assert "mended" in checks["repairs at the start"]["seen"]
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_fails_a_recipe_that_cannot_learn(tmp_path: Path) -> None:
    small = ["sampling.problems=4", "threads=1", "model=nano-random", f"output_dir={tmp_path / 'run'}"]
    done = command("doctor", "recipes/quickstart.yaml", *small)
    assert done.returncode == 1
    assert "fail  groups at the start  0 mixed, 0 all pass, 4 all fail" in done.stdout
