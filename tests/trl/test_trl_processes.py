"""Two processes with gloo: lockstep whatever there is to mend, equal rows, and the gradient of the whole batch."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from scene import LONGEST, credit

from kintsugi.algorithms import load_algorithm
from kintsugi.config import Optim
from kintsugi.learning.learner import LocalLearner
from kintsugi.models.loading import load_model
from kintsugi.run.reading import Run

WORKER = Path(__file__).with_name("worker.py")
SHARED = WORKER.parents[1] / "bridges"
SAME = 1e-5


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the worker's runs, made by two processes, wrote."""
    place = tmp_path_factory.mktemp("two")
    own = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SHARED)}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += ["--master_addr", "127.0.0.1", "--master_port", str(free_port()), str(WORKER), str(place)]
    done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr[-4000:]
    return place


@pytest.fixture(scope="module")
def both(place: Path) -> list[dict[str, Any]]:
    """What each of the two processes saw of these runs."""
    return [pickle.loads((place / f"seen-{rank}.pickle").read_bytes()) for rank in (0, 1)]


def test_the_gradient_is_that_of_all_rows_of_all_processes(both: list[dict[str, Any]]) -> None:
    one, other = (seen["one"] for seen in both)
    assert credit(one["rows"]) == credit(other["rows"])
    loaded, algorithm = load_model("nano", device="cpu"), load_algorithm("kintsugi")
    learner = LocalLearner(
        loaded.model, Optim(lr=1e-9, warmup=0, grad_clip=1e9), algorithm.objective(LONGEST), pad_id=0
    )
    stats = learner.step(one["rows"])
    assert stats.grad_norm > 0.01
    assert one["grad_norm"][0] == pytest.approx(stats.grad_norm, rel=SAME)
    # Each process's loss is twice its part of the sum, as the gradients of the two are averaged.
    assert (one["losses"][0] + other["losses"][0]) / 2 == pytest.approx(stats.loss, abs=SAME)
    for name, p in loaded.model.named_parameters():
        assert float((one["gradient"][name] - p.grad).abs().max()) < SAME * stats.grad_norm
    assert one["gates"][0] + other["gates"][0] == one["items"][0] == other["items"][0]


def test_a_process_with_nothing_to_mend_helps_the_other(both: list[dict[str, Any]]) -> None:
    one, other = (seen["one"] for seen in both)
    # The first generation is TRL's own. What the first process then asks for is shared out evenly: both generate as
    # often, and as many prompts each time.
    assert one["asked"] == other["asked"]
    assert one["asked"][0] == 12 and len(one["asked"]) > 1
    assert 2 * sum(one["asked"][1:]) - one["samples"][0] in (0, 1)
    owners = {row.problem_id for row in one["rows"] if row.term == "repair"}
    assert len(owners) in (1, 2)  # of the three groups, the second has no failure


@pytest.mark.parametrize("name", ["kintsugi", "iop", "sdpo", "dapo"])
def test_both_have_as_many_rows_and_end_with_the_same_weights(both: list[dict[str, Any]], name: str) -> None:
    one, other = (seen[name] for seen in both)
    assert one["sizes"] == other["sizes"] and len(one["sizes"]) == 2
    assert all(size % 3 == 0 for size in one["sizes"]) or name == "iop"
    assert one["memory"] == other["memory"] and one["memory"]
    assert all(torch.equal(t, other["weights"][n]) for n, t in one["weights"].items())
    start = load_model("nano", device="cpu").model.state_dict()
    assert any(not torch.equal(t, start[n]) for n, t in one["weights"].items())


@pytest.mark.parametrize("name", ["one", "kintsugi", "iop", "sdpo", "dapo"])
def test_one_process_writes_what_both_did(both: list[dict[str, Any]], place: Path, name: str) -> None:
    run, one = Run.open(place / name), both[0][name]
    problems = run.problems(run.written[0])
    rows = [row for problem in problems for row in problem.rows]
    assert credit(rows) == credit(one["rows"]) or name == "sdpo"  # a table keeps no teacher, but its credit
    stats = [found for problem in problems for found in problem.stats]
    # Each process computed half of the log-probabilities: all rows that train have theirs.
    assert [s is not None for s in stats] == [bool(r.active and any(r.advantages)) for r in rows]
    losses = [(a + b) / 2 for a, b in zip(one["losses"], both[1][name]["losses"], strict=True)]
    updates = len(losses) // len(run.steps)
    assert run.steps[0]["loss"] == pytest.approx(sum(losses[:updates]) / updates, abs=1e-6)
    assert run.steps[0]["updates"] == updates
