"""verl fed the completions of the local trainer's step comes to its rows, its loss and its gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from inside import Queue, Workers, configuration, played, step, trainer, worker
from scene import Scene, credit, freeze

from kintsugi.bridges.verl_rows import NOTE, Note, row_of

SAME = 1e-5


def assert_same(scene: Scene, folder: Path, metrics: dict[str, Any], workers: Workers) -> None:
    (gradient,) = workers.gradients
    apart = {name: float((g - scene.gradient[name]).abs().max()) for name, g in gradient.items()}
    print(
        f"{folder.name}: loss {scene.loss:.8f} and {metrics['actor/loss']:.8f}, gradient norm {scene.grad_norm:.8f} "
        f"and {metrics['actor/grad_norm']:.8f}, largest difference of a gradient {max(apart.values()):.1e}"
    )
    assert metrics["actor/loss"] == pytest.approx(scene.loss, abs=SAME)
    assert metrics["actor/grad_norm"] == pytest.approx(scene.grad_norm, rel=SAME)
    assert apart.keys() == scene.gradient.keys() and max(apart.values()) < SAME * scene.grad_norm


@pytest.mark.parametrize("algorithm", ["kintsugi", "iop", "grpo"])
def test_rows_loss_and_gradient_are_the_local_trainers(algorithm: str, tmp_path: Path) -> None:
    scene = freeze(algorithm)
    config = configuration(tmp_path, **{"kintsugi.algorithm.name": algorithm})
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
        assert_same(scene, tmp_path, metrics, workers)
