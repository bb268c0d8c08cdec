"""The same run twice, killed at any moment, with a damaged checkpoint: the same bytes in the end."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

import pytest
from processes import SMALL, metrics, recipe, result, start, train

KILLS = 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float]:
    """(result of an uninterrupted run, the seconds it took)."""
    folder = tmp_path_factory.mktemp("whole")
    began = time.monotonic()
    done = train(recipe(folder))
    assert done.returncode == 0, done.stderr
    return result(folder / "run"), time.monotonic() - began


def test_the_same_recipe_gives_the_same_bytes(whole: tuple[dict[str, str], float], tmp_path: Path) -> None:
    assert train(recipe(tmp_path)).returncode == 0
    assert result(tmp_path / "run") == whole[0]
    other = train(recipe(tmp_path / "..", seed=1, output_dir=str(tmp_path / "other")))
    assert other.returncode == 0
    assert result(tmp_path / "other") != whole[0]


@pytest.mark.parametrize("number", range(KILLS))
def test_killed_at_a_random_moment_it_ends_the_same(
    number: int, whole: tuple[dict[str, str], float], tmp_path: Path
) -> None:
    """kill -9 between the first import and the last byte; twice in a row for every fourth."""
    expected, seconds = whole
    draw = random.Random(number)
    path = recipe(tmp_path)
    for _ in range(1 + (number % 4 == 0)):
        with start(path, "--resume") as process:
            time.sleep(seconds * draw.uniform(0.3, 1.0))
            process.send_signal(signal.SIGKILL)
            process.communicate()
    done = train(path, "--resume")
    assert done.returncode == 0, done.stderr
    assert result(tmp_path / "run") == expected


AT = """
import os, signal
{imports}
count = 0
def killing(original):
    def call(*arguments, **named):
        global count
        count += 1
        if count == {when}:
            {before}
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **named)
    return call
{patch}
"""
PHASES = {
    "sampling": (
        "import kintsugi.sampling.slots as m",
        "m.Slots.put = killing(m.Slots.put)",
        30,
    ),
    "repair": ("import kintsugi.mending.repair as m", "m.repair_one = killing(m.repair_one)", 4),
    "update": ("import torch", "torch.optim.AdamW.step = killing(torch.optim.AdamW.step)", 4),
    "writing tables": ("import pyarrow.parquet as m", "m.write_table = killing(m.write_table)", 5),
    "writing metrics": ("import json", "json.dumps = killing(json.dumps)", 30),
    "saving weights": ("import kintsugi.run.checkpoint as m", "m.save_file = killing(m.save_file)", 2),
    "sealing": ("import kintsugi.run.checkpoint as m", "m.seal = killing(m.seal)", 2),
    "after renaming": ("import kintsugi.run.checkpoint as m", "m.write_card = killing(m.write_card)", 2),
    "evaluating": ("import kintsugi.run.evaluation as m", "m.judge_one = killing(m.judge_one)", 6),
}


@pytest.mark.parametrize("phase", PHASES)
def test_killed_in_every_phase_it_ends_the_same(
    phase: str, whole: tuple[dict[str, str], float], tmp_path: Path
) -> None:
    imports, patch, when = PHASES[phase]
    path = recipe(tmp_path)
    killed = train(path, code=AT.format(imports=imports, patch=patch, when=when, before="pass"))
    assert killed.returncode == -signal.SIGKILL, (phase, killed.stdout, killed.stderr)
    done = train(path, "--resume")
    assert done.returncode == 0, done.stderr
    assert result(tmp_path / "run") == whole[0]


def test_a_line_cut_in_the_middle_is_made_again(whole: tuple[dict[str, str], float], tmp_path: Path) -> None:
    path = recipe(tmp_path)
    train(path, "steps=2")
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "accu')
    assert train(path, "--resume").returncode == 0
    assert result(tmp_path / "run") == whole[0]


@pytest.mark.parametrize(
    "file", ["model.safetensors", "optimizer.safetensors", "trainer.json", "checksums.json"]
)
@pytest.mark.parametrize("how", ["cut", "flipped", "gone"])
def test_a_damaged_checkpoint_is_passed_over_aloud(
    file: str, how: str, whole: tuple[dict[str, str], float], tmp_path: Path
) -> None:
    path = recipe(tmp_path)
    train(path, "steps=2")
    target = tmp_path / "run" / "checkpoints" / "step-000002" / file
    content = bytearray(target.read_bytes())
    if how == "gone":
        target.unlink()
    else:
        content[len(content) // 2] ^= 1
        target.write_bytes(bytes(content[: len(content) // 2] if how == "cut" else content))
    done = train(path, "--resume")
    assert done.returncode == 0, done.stderr
    assert "step-000002 is damaged (" in done.stdout and "going on from the one before" in done.stdout
    assert result(tmp_path / "run") == whole[0]


def test_with_no_checkpoint_intact_nothing_is_thrown_away(tmp_path: Path) -> None:
    path = recipe(tmp_path, steps=1)
    train(path)
    (tmp_path / "run" / "checkpoints" / "step-000001" / "trainer.json").write_text("{")
    done = train(path, "--resume", "steps=2")
    assert done.returncode == 2
    assert "no checkpoint is intact" in done.stderr and done.stderr.count("\n") == 1
    assert len(metrics(tmp_path / "run")) == 3


def test_resume_where_there_is_no_run_begins_one(whole: tuple[dict[str, str], float], tmp_path: Path) -> None:
    done = train(recipe(tmp_path), "--resume")
    assert done.returncode == 0, done.stderr
    assert "holds no run yet: beginning one" in done.stdout
    assert result(tmp_path / "run") == whole[0]


def test_the_newest_and_the_best_checkpoints_are_kept(tmp_path: Path) -> None:
    done = train(recipe(tmp_path, keep_last=1, steps=5, eval={"problems": 4, "samples": 2, "every": 1}))
    assert done.returncode == 0, done.stderr
    left = {int(p.name[-6:]) for p in (tmp_path / "run" / "checkpoints").glob("step-*")}
    score = {
        m["step"]: m["eval/pass@1"] for m in metrics(tmp_path / "run") if "eval/pass@1" in m and m["step"]
    }
    judged = {
        step: value for step, value in score.items() if step < 5
    }  # the last is judged after it was saved
    best = min(step for step, value in judged.items() if value == max(judged.values()))
    assert left == {best, 5}


def test_a_checkpoint_holds_no_pickle(tmp_path: Path) -> None:
    train(recipe(tmp_path, steps=1))
    saved = tmp_path / "run" / "checkpoints" / "step-000001"
    for file in saved.rglob("*"):
        head = file.read_bytes()[:2]
        assert head not in (b"PK", b"\x80\x02", b"\x80\x04"), file.name  # zip (torch.save), pickle 2 and 4
    state = json.loads((saved / "trainer.json").read_text())
    assert state["progress"]["step"] == 1 and SMALL["steps"] == 4
