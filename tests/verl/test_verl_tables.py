"""A run of verl's leaves the tables of a run of `kintsugi train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from inside import Queue, Workers, configuration, played, step, trainer, worker
from scene import Scene, freeze

from kintsugi.bridges.verl_loop import RowOutput
from kintsugi.bridges.verl_rows import NOTE, Note
from kintsugi.look.diagnose import diagnose
from kintsugi.look.report import write_report
from kintsugi.records import Row
from kintsugi.run.reading import Run

SAME = 1e-5
KINTSUGI = {"kintsugi.algorithm.name": "kintsugi", "kintsugi.verifier": "exact"}


@pytest.fixture(scope="module")
def scene() -> Scene:
    return freeze("kintsugi")


def facts(rows: list[Row]) -> list[tuple]:
    """A row, whatever its problem is called."""
    return [(r.kind, r.index, r.term, r.completion_ids, r.mask, r.credit, r.weight) for r in rows]


def test_a_step_is_written_as_the_local_trainer_writes_it(scene: Scene, tmp_path: Path) -> None:
    config = configuration(tmp_path, **KINTSUGI)
    with worker(config, tmp_path) as made:
        bridge = trainer(config)
        made.set_loss_fn(bridge.loss())
        bridge.diary.begin(scene.loaded.tokenizer, 3, 0)
        # The workers get rows in another order than they were made in, and 7 does not divide them.
        groups = played(config, scene)[::-1]
        step(bridge, Workers(made, Queue()), groups, multiple=7)
        bridge._val_metrics_update(["dag"] * 4, ["a", "a", "b", "b"], {"reward": [1.0, 0.0, 0.4, 1.0]}, [])
        bridge.diary.close()
    run = Run.open(tmp_path / "checkpoints")
    assert run.directory == tmp_path / "checkpoints" / "kintsugi"
    problems = run.problems(1)[::-1]
    assert facts([row for p in problems for row in p.rows]) == facts(list(scene.rows))
    (line,) = run.steps
    assert line["loss"] == pytest.approx(scene.loss, abs=SAME)
    assert line["grad_norm"] == pytest.approx(scene.grad_norm, rel=SAME)
    assert (line["lr"], line["updates"], line["ratio"]) == (pytest.approx(3e-5), 1, 1)
    assert line["tokens/total"] == line["tokens/generated"] > 0
    # Two seconds of sampling, shared among its phases.
    spent = sum(value for key, value in line.items() if key.startswith("seconds/") and key != "seconds/train")
    assert spent == pytest.approx(2.0, abs=1e-3) and line["seconds/train"] > 1
    for row, stats in ((r, s) for p in problems for r, s in zip(p.rows, p.stats, strict=True)):
        assert (stats is not None) == bool(row.active and any(row.advantages))
        if stats is not None and row.sampling_logprobs is not None:
            gated = [t for t, gate in enumerate(row.mask) if gate]
            assert [stats.old_logprobs[t] for t in gated] == pytest.approx(
                [row.sampling_logprobs[t] for t in gated], abs=1e-3
            )
    # Three of four rewards, counted from 0.5, would be two passes.
    assert [(e["step"], e["eval/pass@1"], e["eval/problems"]) for e in run.evals] == [(1, 0.5, 2)]
    assert run.recipe["model"] == config.actor_rollout_ref.model.path and run.recipe["verifier"] == "exact"
    assert (run.recipe["steps"], run.recipe["optim"]["lr"]) == (3, 3e-5)
    assert "Failures mended" in write_report(tmp_path / "checkpoints").read_text()
    assert diagnose(run).early


def test_what_one_update_of_several_came_to_is_not_made_up(scene: Scene, tmp_path: Path) -> None:
    small = {"actor_rollout_ref.actor.ppo_mini_batch_size": 1, "actor_rollout_ref.actor.optim.lr": 1e-9}
    config = configuration(tmp_path, **KINTSUGI, **small)
    with worker(config, tmp_path) as made:
        bridge = trainer(config)
        made.set_loss_fn(bridge.loss())
        bridge.diary.begin(scene.loaded.tokenizer, 3, 0)
        workers = Workers(made, Queue())
        step(bridge, workers, played(config, scene), bridge._get_required_batch_multiple(dp_size=1))
    run = Run.open(tmp_path / "checkpoints")
    assert run.steps[0]["updates"] == 4 and run.steps[0]["loss"] == pytest.approx(scene.loss, abs=SAME)
    assert {stats for p in run.problems(1) for stats in p.stats} == {None}


def test_a_step_that_trains_nothing_is_written_without_an_update(scene: Scene, tmp_path: Path) -> None:
    config = configuration(tmp_path, **KINTSUGI)

    def idle(outputs: list[RowOutput]) -> list[RowOutput]:
        note = Note.unpacked(outputs[0].extra_fields[NOTE])
        assert note.episode is not None
        failed = [r for r in note.episode.rollouts if not r.verdict.passed][:1] * 2
        episode = replace(note.episode, rollouts=tuple(failed), repairs=(), seams=())
        outputs[0].extra_fields[NOTE] = Note(None, 0, episode, {}).packed()
        return outputs[:1]

    with worker(config, tmp_path) as made:
        bridge = trainer(config)
        made.set_loss_fn(bridge.loss())
        bridge.diary.begin(scene.loaded.tokenizer, 3, 0)
        step(bridge, Workers(made, Queue()), [idle(group) for group in played(config, scene)])
    run = Run.open(tmp_path / "checkpoints")
    assert (run.steps[0]["updates"], run.steps[0]["accuracy"]) == (0, 0)
    assert len(run.problems(1)) == 4


def test_rows_that_are_equally_long_train_too(tmp_path: Path) -> None:
    scene = freeze("grpo")
    config = configuration(tmp_path, **{"kintsugi.algorithm.name": "grpo"})
    groups = [[o for o in group if len(o.response_ids) == 51] for group in played(config, scene)]
    assert sum(map(len, groups)) > 8
    with worker(config, tmp_path) as made:
        bridge = trainer(config)
        made.set_loss_fn(bridge.loss())
        metrics = step(bridge, Workers(made, Queue()), groups)
    assert metrics["actor/grad_norm"] > 0.01
