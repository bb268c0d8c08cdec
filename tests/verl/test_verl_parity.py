"""verl fed the completions of the local trainer's step comes to its rows, its loss and its gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from inside import Queue, Workers, configuration, played, step, trainer, worker
from omegaconf import DictConfig
from scene import LONGEST, Scene, credit, freeze, objective_loss
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu

from kintsugi.algorithms import load_algorithm
from kintsugi.bridges.verl_rows import NOTE, Note, jagged, row_of, token_sum
from kintsugi.learning.objective import flattened

SAME = 1e-5


def chosen(folder: Path, algorithm: Any, **own: object) -> DictConfig:
    options = algorithm if isinstance(algorithm, dict) else {"name": algorithm}
    spec = {
        f"{'' if key == 'name' else '+'}kintsugi.algorithm.{key}": value for key, value in options.items()
    }
    return configuration(folder, **spec, **own)


def assert_same(scene: Scene, config: DictConfig, metrics: dict[str, Any], workers: Workers) -> None:
    (gradient,) = workers.gradients
    apart = {name: float((g - scene.gradient[name]).abs().max()) for name, g in gradient.items()}
    print(
        f"{config.kintsugi.algorithm}: loss {scene.loss:.8f} and {metrics['actor/loss']:.8f}, "
        f"gradient norm {scene.grad_norm:.8f} and {metrics['actor/grad_norm']:.8f}, "
        f"largest difference of a gradient {max(apart.values()):.1e}"
    )
    assert metrics["actor/loss"] == pytest.approx(scene.loss, abs=SAME)
    assert metrics["actor/grad_norm"] == pytest.approx(scene.grad_norm, rel=SAME)
    assert apart.keys() == scene.gradient.keys() and max(apart.values()) < SAME * scene.grad_norm


ALGORITHMS: list[Any] = [
    "kintsugi", "iop", "grpo", "gspo", "dr_grpo", "dapo", "raft", "rloo", "mgrpo",
    {"name": "iop", "k": 1, "check": "graft"},
]  # fmt: skip


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_rows_loss_and_gradient_are_the_local_trainers(algorithm: Any, tmp_path: Path) -> None:
    scene = freeze(algorithm)
    config = chosen(tmp_path, algorithm)
    groups = played(config, scene)
    assert scene.tape.used_up
    outputs = [output for group in groups for output in group]
    rows = [
        row_of(o.prompt_ids, o.response_ids, o.response_mask, o.advantages, Note.unpacked(o.extra_fields[NOTE]))
        for o in outputs
    ]  # fmt: skip
    assert credit(rows) == credit(scene.rows)
    with worker(config, tmp_path) as made:
        workers = Workers(made, Queue())
        bridge = trainer(config)
        made.set_loss_fn(bridge.loss())
        # 7 does not divide the rows: verl pads them, and what is padded counts for nothing.
        metrics = step(bridge, workers, groups, multiple=7)
        assert len(workers.queue.rows) % 7 == 0
        assert_same(scene, config, metrics, workers)


def test_several_updates_of_a_batch_share_it_out(tmp_path: Path) -> None:
    # train_batch_size / ppo_mini_batch_size = 4 / 1: four optimizer steps, however many rows there are. Each sees a
    # quarter of them and counts them fourfold, so that the mean of the four is the batch's loss. The learning rate
    # leaves every ratio at 1.
    scene = freeze("kintsugi")
    small = {"actor_rollout_ref.actor.ppo_mini_batch_size": 1, "actor_rollout_ref.actor.optim.lr": 1e-9}
    config = chosen(tmp_path, "kintsugi", **small)
    with worker(config, tmp_path) as made:
        workers, bridge = Workers(made, Queue()), trainer(config)
        made.set_loss_fn(bridge.loss())
        metrics = step(bridge, workers, played(config, scene), bridge._get_required_batch_multiple(dp_size=1))
    assert len(workers.gradients) == bridge.plan.updates == 4
    assert metrics["actor/loss"] == pytest.approx(scene.loss, abs=SAME)
    for name, gradient in scene.gradient.items():
        mean = sum(g[name] for g in workers.gradients) / 4
        assert float((mean - gradient).abs().max()) < SAME * scene.grad_norm


@pytest.mark.parametrize("algorithm", ["kintsugi", "gspo", "iop"])
def test_ratios_and_clips_are_the_objectives_once_the_policy_has_moved(algorithm: str) -> None:
    scene = freeze(algorithm)
    objective = load_algorithm(algorithm).objective(LONGEST)
    noise = torch.Generator().manual_seed(1)
    rows = [row for row in scene.rows if row.active]
    old = [[-0.5] * len(row.mask) for row in rows]
    now = [[-0.5 + 0.2 * float(torch.randn((), generator=noise)) for _ in row.mask] for row in rows]
    expected, clipped = objective_loss(rows, old, now, objective)
    folded = [row.advantages for row in flattened(rows, objective)]
    columns = {
        "prompts": [row.prompt_ids for row in rows], "responses": [row.completion_ids for row in rows],
        "response_mask": [row.mask for row in rows], "old_log_probs": old, "advantages": folded,
    }  # fmt: skip
    data = TensorDict({name: jagged(values) for name, values in columns.items()}, batch_size=len(rows))
    tu.assign_non_tensor(data, dp_size=2)
    # verl's output has a value for each token of prompt and completion, that of the next token: shifted by one.
    shifted = [
        [0.0] * (len(row.prompt_ids) - 1) + after + [0.0] for row, after in zip(rows, now, strict=True)
    ]
    loss, metrics = token_sum({"log_probs": jagged(shifted)}, data, objective=objective, on_policy=False)
    assert any(clipped)
    # Two workers, each with these rows: verl averages their gradients, so each counts its own twice.
    assert float(loss) / 2 == pytest.approx(expected, abs=SAME)
    assert metrics["actor/pg_clipfrac"].aggregate() > 0
