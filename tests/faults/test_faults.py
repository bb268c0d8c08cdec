"""Faults that happen for real: what a run says, what it leaves, and whether it can go on."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from processes import SMALL, metrics, recipe, result, start, train

LONG = {"steps": 10_000, "save_every": 0}


def until(path: Path, process: object, seconds: float = 120) -> None:
    """Waits for a file that a run writes."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("kind", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_the_run_with_a_checkpoint(kind: signal.Signals, code: int, tmp_path: Path) -> None:
    path = recipe(tmp_path, **LONG)
    with start(path) as process:
        until(tmp_path / "run" / "rows" / "step-000002.parquet", process)
        process.send_signal(kind)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "writing a checkpoint (once more stops at once)" in out  # at once, where it is just evaluating
    step = metrics(tmp_path / "run")[-1]["step"]
    assert (tmp_path / "run" / "checkpoints" / f"step-{step:06d}" / "checksums.json").is_file()
    assert train(path, "--resume", f"steps={step + 1}").returncode == 0


def test_two_runs_in_one_directory_are_kept_apart(tmp_path: Path) -> None:
    path = recipe(tmp_path, **LONG)
    with start(path) as first:
        until(tmp_path / "run" / "rows" / "step-000001.parquet", first)
        for words in (["--resume"], ["--overwrite"]):
            second = train(path, *words)
            assert second.returncode == 2
            assert f"another run is writing there (process {first.pid})" in second.stderr
        first.kill()
        first.communicate()
    # The lock dies with its process.
    assert train(path, "--resume", "steps=1", "save_every=1").returncode == 0


@pytest.mark.parametrize("name", ["metrics.jsonl", "rows/step-000002.parquet"])
def test_a_full_disk_is_one_line_and_the_run_can_go_on(name: str, tmp_path: Path) -> None:
    """/dev/full answers every write as a full disk does."""
    path = recipe(tmp_path)
    assert train(path, "steps=1").returncode == 0
    target = tmp_path / "run" / name
    held = target.read_bytes() if target.exists() else b""
    # A table is written beside and renamed: the disk is full where it is begun.
    begun = target.with_name(f".{target.name}.partial") if name.endswith(".parquet") else target
    full = (
        "import kintsugi.run.directory as m, os\nfrom pathlib import Path\nrewind = m.RunLog.rewind\n"
        "def filled(self, step, lines):\n    last = rewind(self, step, lines)\n"
        f"    p = Path({str(begun)!r})\n    p.unlink(missing_ok=True)\n    os.symlink('/dev/full', p)\n"
        "    return last\nm.RunLog.rewind = filled\n"
    )
    done = train(path, "--resume", code=full)
    assert done.returncode == 2, done.stdout
    assert "cannot be written (No space left on device)" in done.stderr and done.stderr.count("\n") == 1
    begun.unlink(missing_ok=True)
    if held:
        target.write_bytes(held)
    whole = tmp_path / "whole"
    whole.mkdir()
    assert train(path, "--resume").returncode == 0
    assert train(recipe(whole)).returncode == 0
    assert result(tmp_path / "run") == result(whole / "run")


def test_a_checkpoint_that_finds_the_disk_full_leaves_the_one_before(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    # The kernel refuses files beyond a size, as a quota does; optimizer.safetensors is the largest.
    limit = (
        "import kintsugi.run.checkpoint as m, resource, signal\nsave = m.save_file\ncount = 0\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "def saving(*a, **k):\n    global count\n    count += 1\n"
        "    if count == 2: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))\n"
        "    return save(*a, **k)\nm.save_file = saving\n"
    )
    done = train(path, code=limit)
    assert done.returncode == 2, done.stdout
    assert "cannot be written" in done.stderr and done.stderr.count("\n") == 1
    assert [p.name for p in (tmp_path / "run" / "checkpoints").glob("step-*")] == ["step-000001"]
    assert train(path, "--resume").returncode == 0


def test_an_unwritable_directory_is_told_before_anything_is_sampled(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "run", Path("/proc/kintsugi")):
        done = train(recipe(tmp_path, output_dir=str(place)))
        assert done.returncode == 2
        assert "cannot be written" in done.stderr and done.stderr.count("\n") == 1
        assert "step    0" not in done.stdout


ENDLESS = """
from kintsugi.algorithms.base import Algorithm, rollout_rows, run_rollouts
def rows(episode):
    return [row.add("huge", 1e39) for row in rollout_rows(episode)]
MINE = Algorithm("mine", run_rollouts, rows, level="token", clip_low=0.2, clip_high=0.2)
"""


def test_a_loss_that_is_not_finite_is_skipped_counted_and_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ENDLESS)
    done = train(recipe(tmp_path, algorithm=f"{tmp_path / 'mine.py'}:MINE", steps=10))
    assert done.returncode == 2, done.stdout
    assert "no update could be made in 3 steps in a row" in done.stderr
    assert "last in step 3" in done.stderr
    steps = [m for m in metrics(tmp_path / "run") if "accuracy" in m]
    assert [(m["updates"], m["updates/skipped"]) for m in steps] == [(0, 2)] * 3
    assert (tmp_path / "run" / "rows" / "step-000003.parquet").is_file()


def test_out_of_memory_halves_the_micro_batch_and_goes_on(tmp_path: Path) -> None:
    """The kernel refuses the memory: address space is limited while the learner works."""
    sampling = {"problems": 48, "group_size": 8, "max_new_tokens": 80}
    free = recipe(tmp_path, steps=1, sampling=sampling, algorithm="grpo", output_dir=str(tmp_path / "free"))
    assert train(free).returncode == 0
    limit = (
        "import kintsugi.learning.learner as m, resource\nstep = m.LocalLearner._gradients\n"
        "def size():\n    return 4096 * int(open('/proc/self/statm').read().split()[0])\n"
        "def limited(*a, **k):\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (size() + 4_000_000, resource.RLIM_INFINITY))\n"
        "    try: return step(*a, **k)\n"
        "    finally: resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)\n"
        "m.LocalLearner._gradients = limited\n"
    )
    done = train(recipe(tmp_path, steps=1, sampling=sampling, algorithm="grpo"), code=limit)
    assert done.returncode == 0, done.stderr
    assert "out of memory: going on with optim.token_budget=" in done.stderr
    losses = [next(m["loss"] for m in metrics(tmp_path / run) if "accuracy" in m) for run in ("free", "run")]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_a_run_can_be_repeated_and_a_change_is_found(tmp_path: Path) -> None:
    import subprocess
    import sys

    from processes import ROOT

    path = recipe(tmp_path, steps=2)
    assert train(path).returncode == 0

    def again(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kintsugi.cli", "repeat", str(tmp_path / "run"), *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=200)

    done = again()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "identical 4 lines of metrics, weights of step-000002" in done.stdout
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    changed = json.loads(lines[1]) | {"loss": 7.0}
    (tmp_path / "run" / "metrics.jsonl").write_text(
        "\n".join([lines[0], json.dumps(changed), *lines[2:]]) + "\n"
    )
    done = again("--overwrite")
    assert done.returncode == 1
    assert "differs   line 2 of metrics.jsonl: step 1: loss is 7.0 and then " in done.stdout
    assert SMALL["steps"] == 4


REWARDS = """
import os, time, ctypes
def good(completions, answer, **columns):
    return [float(a in c) for a, c in zip(answer, completions)]
def hangs(completions, **columns):
    time.sleep(3600)
def hangs_in_c(completions, **columns):
    return 9**9**9**9
def exits(completions, **columns):
    os._exit(0)
def crashes(completions, **columns):
    ctypes.string_at(0)
def eats(completions, **columns):
    return [len(bytearray(64 * 2**30))]
def nan(completions, **columns):
    return [float("nan")] * len(completions)
def few(completions, **columns):
    return [1.0]
"""
SAID = {
    "hangs": "took longer than 2 s", "hangs_in_c": "took longer than 2 s", "exits": "its process died",
    "crashes": "its process died", "eats": "MemoryError", "nan": "finite", "few": "1 rewards for",
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_a_verifier_that_breaks_costs_verdicts_and_not_the_run(name: str, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    (tmp_path / "rewards.py").write_text(REWARDS)
    verifier = {
        "name": f"{tmp_path / 'rewards.py'}:{name}",
        "timeout": 2,
        "memory": 8,
        "on_error": "continue",
    }
    small = {"problems": 1, "group_size": 4, "max_new_tokens": 80}
    done = train(
        recipe(tmp_path, verifier=verifier, steps=1, sampling=small, eval={"problems": 1, "samples": 1})
    )
    assert done.returncode == 0, done.stderr
    (step,) = [m for m in metrics(tmp_path / "run") if "accuracy" in m]
    assert (step["verdict/error"], step["updates"]) == (4, 0)
    texts = pq.read_table(tmp_path / "run" / "rollouts").to_pylist()
    assert all(SAID[name] in text["message"] for text in texts), texts[0]["message"]
