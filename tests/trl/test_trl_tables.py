"""A run of TRL's leaves the tables of a run of `kintsugi train`: what report, show and diagnose say of it."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from runs import Watched, correct, data, nano_trainer, replayed
from scene import Scene, freeze

from kintsugi.look.diagnose import diagnose
from kintsugi.look.report import write_report
from kintsugi.look.show import Selection, show
from kintsugi.records import KintsugiError
from kintsugi.run.reading import Run
from kintsugi.tasks.dag import DagTask

MENDING = {"name": "kintsugi", "source": "rewrite"}


def as_trained(scene: Scene, run: Run, step: int = 1) -> list[Any]:
    """Rows of a step, with nothing that depends on what a problem is called."""
    rows = [row for problem in run.problems(step) for row in problem.rows]
    return [(r.kind, r.index, r.term, r.completion_ids, r.mask, r.credit, r.weight) for r in rows]


@pytest.mark.parametrize(
    "settings", [{}, {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4}]
)
def test_a_step_is_written_as_the_local_trainer_writes_it(settings: dict[str, int], tmp_path: Path) -> None:
    scene = freeze(MENDING)
    trainer = replayed(scene, MENDING, tmp_path, **settings)
    run = Run.open(tmp_path)
    assert run.directory == tmp_path / "kintsugi" and run.written == (1,)
    assert as_trained(scene, run) == [
        (r.kind, r.index, r.term, r.completion_ids, r.mask, r.credit, r.weight) for r in scene.rows
    ]
    (line,) = run.steps
    assert line["loss"] == pytest.approx(scene.loss, abs=1e-5)
    assert line["grad_norm"] == pytest.approx(scene.grad_norm, rel=1e-5)
    assert (line["updates"], line["lr"], line["clip_fraction"], line["ratio"]) == (1, 1e-9, 0, 1)
    assert (
        line["tokens/total"]
        == line["tokens/generated"]
        == sum(len(c.token_ids) for found in scene.tape.recorded.values() for c in found)
    )
    assert line["accuracy"] == trainer.logged("kintsugi/accuracy")[0]
    # Every row that trains has its log-probabilities; the tape says those of the rollouts, which this policy sampled.
    problems = run.problems(1)
    for problem in problems:
        assert problem.episode.problem.answer  # for readers: the data set's column
        for row, stats in zip(problem.rows, problem.stats, strict=True):
            assert (stats is not None) == bool(row.active and any(row.advantages))
            if stats is not None and row.kind == "rollout":
                told = scene.tape.recorded[row.prompt_ids]
                sampled = next(c.logprobs for c in told if c.token_ids == row.completion_ids)
                gated = [(a, b) for a, b, g in zip(stats.old_logprobs, sampled, row.mask, strict=True) if g]
                assert all(a == pytest.approx(b, abs=1e-3) for a, b in gated)
    # The local learner's loss is the sum of the rows' own, each in its place.
    assert {m for p in problems for s in p.stats if s for m in (s.ratio, s.clipped)} == {0.0, 1.0}


def test_report_show_and_diagnose_read_it(tmp_path: Path) -> None:
    trainer = nano_trainer(
        tmp_path / "out",
        settings={"max_steps": 5, "learning_rate": 2e-4, "eval_strategy": "steps", "eval_steps": 2},
        eval_dataset=data(DagTask().evaluation()[:8]),
        algorithm=MENDING,
    )
    before = trainer.evaluate()["eval_reward"]
    trainer.train()
    run = Run.open(tmp_path / "out")
    assert run.versions["made by"].startswith("TRL ")
    assert [line["step"] for line in run.steps] == [1, 2, 3, 4, 5] and run.written == (1, 2, 3, 4, 5)
    # Evaluated before training, after steps 2 and 4, and at the end: a reward of 1 is a pass.
    assert [line["step"] for line in run.evals] == [0, 2, 4, 5]
    assert run.evals[0]["eval/pass@1"] == pytest.approx(before)
    assert run.evals[0]["eval/problems"] == 8
    low, high = run.evals[0]["eval/pass@1_ci"]
    assert 0 <= low < run.evals[0]["eval/pass@1"] < high <= 1
    recipe = run.recipe
    assert (recipe["optim"]["lr"], recipe["steps"], recipe["sampling"]["group_size"]) == (2e-4, 5, 8)
    assert "eval" not in recipe and "warmup" not in recipe["optim"]  # nothing is said that is not so
    page = write_report(tmp_path / "out").read_text()
    assert "Held-out accuracy" in page and "Failures mended" in page and "credit: seam" in page
    told = io.StringIO()
    step = next(line["step"] for line in run.steps if line["repair/success_per_failure"])
    show(run, Selection(step=step), Console(file=told, width=120, color_system=None))
    assert "gold answer" in told.getvalue() and "seam -" in told.getvalue() and "{+" in told.getvalue()
    assert not diagnose(run).early


def test_a_resumed_run_goes_on_in_the_same_tables(tmp_path: Path) -> None:
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    nano_trainer(tmp_path, settings=settings).train()
    whole = (tmp_path / "kintsugi" / "metrics.jsonl").read_text()
    nano_trainer(tmp_path, settings=settings).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert (tmp_path / "kintsugi" / "metrics.jsonl").read_text() == whole
    assert Run.open(tmp_path).written == (1, 2, 3, 4)
    # From the beginning, in the same place: as its checkpoints, the tables are the new run's.
    nano_trainer(tmp_path, settings={"max_steps": 1}).train()
    assert Run.open(tmp_path).written == (1,)


def test_batches_of_several_updates_are_written_once_they_are_used_up(tmp_path: Path) -> None:
    # 32 rollouts in two steps of 16, used twice: four updates, so the second batch begins with update 5.
    settings = {
        "per_device_train_batch_size": 16, "steps_per_generation": 2, "num_iterations": 2, "max_steps": 6,
        "learning_rate": 1e-3,
    }  # fmt: skip
    nano_trainer(tmp_path, settings=settings).train()
    run = Run.open(tmp_path)
    assert run.written == (4, 6) and [line["updates"] for line in run.steps] == [4, 2]
    assert run.recipe["optim"]["minibatches"] == 4
    assert run.steps[0]["ratio"] != 1 and all(math.isfinite(line["loss"]) for line in run.steps)


def test_two_batches_of_one_update_are_one_step(tmp_path: Path) -> None:
    settings = {
        "per_device_train_batch_size": 16, "steps_per_generation": 1, "gradient_accumulation_steps": 2, "max_steps": 2,
    }  # fmt: skip
    trainer: Watched = nano_trainer(tmp_path, settings=settings)
    trainer.train()
    run = Run.open(tmp_path)
    assert run.written == (1, 2)
    assert [len(p.rows) for p in run.problems(1)] == [
        sum(row.problem_id == p.episode.problem.id for rows in trainer.rows[:2] for row in rows)
        for p in run.problems(1)
    ]
    assert len(run.problems(1)) == 4 and [line["updates"] for line in run.steps] == [1, 1]


def test_a_directory_that_is_written_to_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kintsugi").mkdir()
    (tmp_path / "kintsugi" / "mine.txt").write_text("mine")
    with pytest.raises(KintsugiError, match="exists and is not a run directory"):
        nano_trainer(tmp_path).train()
    assert (tmp_path / "kintsugi" / "mine.txt").read_text() == "mine"


def falls(completions: list[Any], answer: list[str], **columns: Any) -> list[float]:
    if columns["trainer_state"].global_step == 2:
        raise RuntimeError("no more")
    return correct(completions, answer)


def test_a_run_that_fails_lets_go_of_its_tables(tmp_path: Path) -> None:
    trainer = nano_trainer(tmp_path, reward_funcs=falls, settings={"max_steps": 4})
    with pytest.raises(RuntimeError, match="no more"):
        trainer.train()
    assert Run.open(tmp_path).written == (1, 2)
    again = nano_trainer(tmp_path, settings={"max_steps": 1})
    again.train()
    assert Run.open(tmp_path).written == (1,)
