"""Reward functions of the user's own in whole runs: what is paid and logged can be seen, and what raises is heard."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kintsugi.run.reading import read_metrics

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
OWN = """
async def right(completions, answer, log_extra, trainer_state, **columns):
    said = [text.rpartition("####")[2].strip() for text in completions]
    log_extra("said", said)
    log_extra("steps_made", [trainer_state.global_step] * len(said))
    if said == [""]:
        raise ValueError("nothing said")
    return [float(s == a) for s, a in zip(said, answer)]

def length(completions, completion_ids, **columns):
    return [-0.01 * len(ids) for ids in completion_ids]

def broken(completions, **columns):
    raise OSError("no network")

def wants(completions, level):
    return [0.0 for _ in completions]
"""


def command(*words: str) -> subprocess.CompletedProcess[str]:
    done = [sys.executable, "-m", "kintsugi.cli", *words]
    return subprocess.run(done, capture_output=True, text=True, timeout=400, cwd=ROOT)


def trained(place: Path, verifier: str, *more: str) -> subprocess.CompletedProcess[str]:
    (place / "own.py").write_text(OWN)
    small = ["sampling.problems=4", "eval.problems=4", "eval.samples=1", "steps=2", f"output_dir={place}/run"]
    return command("train", "recipes/quickstart.yaml", *small, f"verifier={verifier}", *more)


def test_what_is_paid_and_logged_is_seen(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    done = trained(tmp_path, f"[{{name: '{own}:right'}}, {{name: '{own}:length', weight: 0.2}}]")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("note: length paid -") == 1  # once for all negative rewards
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    before, first, second, after = lines
    for line in (first, second):
        assert line["reward/right"] == pytest.approx(line["accuracy"])
        assert line["reward/length"] == pytest.approx(-0.01 * line["length/rollout"])
        assert line["reward"] == pytest.approx(line["reward/right"] + 0.2 * line["reward/length"])
    assert [line["logged/steps_made"] for line in (first, second)] == [0, 1]
    assert [line["eval/logged/steps_made"] for line in (before, after)] == [0, 2]
    shown = command("show", str(tmp_path / "run"), "--all").stdout
    assert "rewards     right 0 + length -0" in shown and "logged      said: " in shown


def test_a_verifier_that_always_raises_ends_the_run_at_step_0(tmp_path: Path) -> None:
    done = trained(tmp_path, f"{tmp_path}/own.py:broken")
    line = 2 + OWN.split("\n").index("def broken(completions, **columns):")
    told = f"OSError in line {line} of own.py: no network"
    assert done.returncode == 2
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith(
            f"kintsugi: the evaluation at step 0: the verifier gave nothing but errors, such as {told}; mend it"
        )
    )
    assert done.stdout.count("warning: the verifier failed on problem dag/") == 1 and told in done.stdout


def test_a_parameter_that_nothing_fills_ends_it_before_a_model_is_loaded(tmp_path: Path) -> None:
    done = trained(tmp_path, f"{tmp_path}/own.py:wants", "model=/nowhere/at/all")
    assert done.returncode == 2 and "nothing fills its parameter 'level'" in done.stderr
