"""Whole verl runs on this machine: Ray, FSDP2 over gloo, every phase of IOP, faults made to happen, and resume."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest
from runs import Run, start, write_data

PHASES = ("rollout", "repair", "check")


def say(name: str, run: Run, steps: list[int], seconds: float) -> None:
    """Losses and speed, for those who read the test's output (pytest -s)."""
    for line in run.metrics():
        if line["step"] in steps:
            made, sampling = line["kintsugi/tokens/generated"], line["timing_s/gen"]
            training = line["timing_s/old_log_prob"] + line["timing_s/update_actor"]
            print(
                f"{name} step {line['step']}: loss {line['actor/loss']:.1e}, gradient norm "
                f"{line['actor/grad_norm']:.4f}, accuracy {line['kintsugi/accuracy']:.2f}, {made:.0f} tokens, "
                f"generation {sampling:.1f} s ({made / sampling:.0f} tokens/s), training {training:.1f} s, "
                f"step {line['timing_s/step']:.1f} s"
            )
    print(f"{name}: {seconds:.0f} s in all")


def assert_steps(run: Run, steps: list[int]) -> None:
    lines = {line["step"]: line for line in run.metrics()}
    for step in steps:
        line = lines[step]
        assert (
            abs(line["actor/loss"]) < 1e-4
        )  # +1 and -1 of a pair, and s_rep is centred: 0 where ratios are 1
        assert line["actor/grad_norm"] > 0.01 and line["actor/ratio"] == 1
        assert all(line[f"kintsugi/tokens/{phase}"] > 0 for phase in PHASES)
        assert line["kintsugi/repair/success_per_failure"] > 0  # mended, so audited
        assert 0 < line["kintsugi/active_ratio"] < 1
        assert line["kintsugi/sampler_gap"] < 1e-3  # the servers sampled with the trainer's weights
        assert (
            0 <= line["kintsugi/accuracy"] <= 1 and line["training/off_policy/trajectory_staleness/max"] == 0
        )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    found = {workers: tmp_path_factory.mktemp(f"workers{workers}") for workers in (1, 2)}
    for folder in found.values():
        write_data(folder, problems=8)  # two steps an epoch: from the third on there are earlier passes
    return found


def test_one_worker_trains(folders: dict[int, Path]) -> None:
    began = time.monotonic()
    run = start(folders[1], "first", workers=1, steps=3)
    assert run.finish() == 0, run.text[-4000:]
    say("1 worker", run, [1, 2, 3], time.monotonic() - began)
    assert_steps(run, [1, 2, 3])
    assert run.saved() == 3
    assert run.metrics()[2]["kintsugi/memory/known"] > 0
    assert ("0.0.0.0" not in run.text and "ip=127.0.0.2" in run.text) or "ip=" not in run.text


def test_a_killed_trainer_costs_the_steps_since_the_last_checkpoint(folders: dict[int, Path]) -> None:
    began = time.monotonic()
    run = start(folders[2], "killed", workers=2, steps=3)
    run.wait_for(lambda: run.saved() >= 1)
    worker = int(re.findall(r"WorkerDict pid=(\d+)", run.text)[-1])
    os.kill(worker, signal.SIGKILL)
    assert run.finish() != 0
    saved = run.saved()
    assert re.search(rf"goes on from the last checkpoint \(step {saved}\) in {folders[2]}", run.text), (
        run.text[-4000:]
    )
    print(f"2 workers, one killed after step {saved}: {time.monotonic() - began:.0f} s in all")
    began = time.monotonic()
    again = start(folders[2], "again", workers=2, steps=3)
    assert again.finish() == 0, again.text[-4000:]
    say("2 workers", again, [1, 2, 3], time.monotonic() - began)
    assert_steps(again, [1, 2, 3])
    assert f"global_step_{saved}" in again.text and again.saved() == 3
    # The first step, from the same weights and seeds, is the one worker's: the same samples, the same gradient.
    (one,), (two,) = (
        [m for m in Run(run.process, f, run.log).metrics() if m["step"] == 1] for f in folders.values()
    )
    assert two["kintsugi/tokens/generated"] == one["kintsugi/tokens/generated"]
    assert two["actor/grad_norm"] == pytest.approx(one["actor/grad_norm"], rel=1e-4)


def test_a_killed_rollout_server_ends_the_run_with_a_word(folders: dict[int, Path]) -> None:
    began = time.monotonic()
    run = start(folders[1], "server", workers=1, steps=500)
    server = run.wait_for(lambda: re.search(r"rollout server 0: pid (\d+)", run.text))
    run.wait_for(lambda: run.saved() >= 4)  # it went on from step 3
    os.kill(int(server[1]), signal.SIGKILL)
    assert run.finish() != 0
    assert re.search(r"step \d+ could not be finished: a worker or a rollout server died", run.text), (
        run.text[-4000:]
    )
    assert f"goes on from the last checkpoint (step {run.saved()}) in {folders[1]}" in run.text
    assert min(line["step"] for line in run.metrics()[3:]) == 4
    print(f"1 worker, its server killed after step {run.saved()}: {time.monotonic() - began:.0f} s in all")
