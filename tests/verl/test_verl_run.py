"""Whole verl runs on this machine: Ray, FSDP2 over gloo, every phase of IOP, faults made to happen, and resume."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from runs import Run, metrics_of, started, write_data

from kintsugi.run.reading import Run as Table

BATCH = {"data.train_batch_size": 16, "actor_rollout_ref.actor.ppo_mini_batch_size": 16}


def say(name: str, run: Run, seconds: float) -> None:
    """Losses and speed, for those who read the test's output (pytest -s)."""
    for line in run.metrics():
        made, sampling = line["kintsugi/tokens/generated"], line["timing_s/gen"]
        training = line["timing_s/old_log_prob"] + line["timing_s/update_actor"]
        print(
            f"{name}, step {line['step']}: loss {line['actor/loss']:.1e}, gradient norm {line['actor/grad_norm']:.4f}, "
            f"accuracy {line['kintsugi/accuracy']:.2f}, {made:.0f} tokens, generation {sampling:.1f} s "
            f"({made / sampling:.0f} tokens/s), training {training:.1f} s, step {line['timing_s/step']:.1f} s"
        )
    print(f"{name}: {seconds:.0f} s in all")


def assert_steps(run: Run, steps: Sequence[int]) -> None:
    assert [line["step"] for line in run.metrics()] == list(steps)
    for line in run.metrics():
        # +1 and -1 of each pair, and a centred s_rep: 0 while ratios are 1.
        assert abs(line["actor/loss"]) < 1e-4 and line["actor/ratio"] == 1
        assert line["actor/grad_norm"] > 0.01
        assert all(line[f"kintsugi/tokens/{phase}"] > 0 for phase in ("rollout", "repair", "check"))
        assert line["kintsugi/repair/success_per_failure"] > 0  # mended, so audited
        assert 0 < line["kintsugi/active_ratio"] < 1
        assert line["kintsugi/sampler_gap"] < 1e-3  # the servers sampled with the trainer's weights
        assert 0 <= line["kintsugi/accuracy"] <= 1
        assert line["training/off_policy/trajectory_staleness/max"] == 0


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    found = {workers: tmp_path_factory.mktemp(f"workers{workers}") for workers in (1, 2)}
    for folder in found.values():
        write_data(folder, problems=32)  # two steps an epoch: from the third on there are earlier passes
    return found


def test_one_worker_trains(folders: dict[int, Path]) -> None:
    began = time.monotonic()
    with started(folders[1], "first", workers=1, steps=3, **BATCH) as run:
        run.wait_for(lambda: run.saved() >= 1)
        assert run.listening() == {"127.0.0.1"}
        assert run.finish() == 0, run.text[-4000:]
    say("1 worker", run, time.monotonic() - began)
    assert_steps(run, [1, 2, 3])
    assert run.saved() == 3
    assert run.metrics()[2]["kintsugi/memory/known"] > 0


def test_a_killed_trainer_costs_the_steps_since_the_last_checkpoint(folders: dict[int, Path]) -> None:
    began = time.monotonic()
    with started(folders[2], "killed", workers=2, steps=3, **BATCH) as run:
        run.wait_for(lambda: run.saved() >= 1)
        os.kill(int(re.findall(r"WorkerDict pid=(\d+)", run.text)[-1]), signal.SIGKILL)
        assert run.finish() != 0
    saved = run.saved()
    assert f"goes on from the last checkpoint (step {saved}) in {folders[2]}" in run.text, run.text[-4000:]
    say("2 workers, one killed", run, time.monotonic() - began)
    began = time.monotonic()
    with started(folders[2], "again", workers=2, steps=3, **BATCH) as again:
        assert again.finish() == 0, again.text[-4000:]
    say("2 workers, resumed", again, time.monotonic() - began)
    assert_steps(again, range(saved + 1, 4))
    # The tables of both runs are one: those of steps after the checkpoint were made again.
    tables = Table.open(folders[2] / "checkpoints")
    assert tables.written == (1, 2, 3) and [line["step"] for line in tables.steps] == [1, 2, 3]
    assert tables.versions["made by"].startswith("verl ")
    # The same samples and gradients as in the run of one worker that nobody disturbed.
    undisturbed = {line["step"]: line for line in metrics_of(folders[1] / "first.jsonl")}
    for line in (*run.metrics(), *again.metrics()):
        other = undisturbed[line["step"]]
        assert line["kintsugi/tokens/generated"] == other["kintsugi/tokens/generated"]
        assert line["actor/grad_norm"] == pytest.approx(other["actor/grad_norm"], rel=1e-3)


def test_a_killed_rollout_server_ends_the_run_with_a_word(folders: dict[int, Path]) -> None:
    began = time.monotonic()
    with started(folders[1], "server", workers=1, steps=500, **BATCH) as run:
        server = run.wait_for(lambda: re.search(r"rollout server 0: pid (\d+)", run.text))
        # It went on from step 3. The line of a step is written after its checkpoint.
        run.wait_for(lambda: run.saved() >= 4 and run.metrics())
        os.kill(int(server[1]), signal.SIGKILL)
        assert run.finish() != 0
    said = re.search(r"step \d+ could not be finished: a worker or a rollout server died", run.text)
    assert said, run.text[-4000:]
    assert f"goes on from the last checkpoint (step {run.saved()}) in {folders[1]}" in run.text
    assert run.metrics()[0]["step"] == 4
    print(f"1 worker, its server killed after step {run.saved()}: {time.monotonic() - began:.0f} s in all")
