"""TRL fed the completions of the local trainer's step comes to its rows, its loss and its gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from runs import replayed
from scene import credit, freeze

SAME = 1e-5
"""What fp32 sums in another order may differ by."""

ALGORITHMS: list[Any] = [
    "kintsugi",
    {"name": "kintsugi", "check": "continue", "form": "rewrite", "reduction": "row"},
    {"name": "kintsugi", "capped": True, "form": "rewrite"},
    "iop",
    {"name": "iop", "form": "patch", "soft": 0.3},
    "grpo",
    "gspo",
    "dr_grpo",
    "dapo",
    "raft",
    "extra_rollouts",
    "vineppo",
    "resets",
    "mgrpo",
    "sdpo",
]


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_rows_loss_and_gradient_are_the_local_trainers(algorithm: Any, tmp_path: Path) -> None:
    scene = freeze(algorithm)
    trainer = replayed(scene, algorithm, tmp_path)
    print(
        algorithm,
        abs(trainer.losses[0] - scene.loss),
        abs(trainer.logged("grad_norm")[0] / scene.grad_norm - 1),
        scene.loss,
        scene.grad_norm,
    )
    if not isinstance(algorithm, dict):
        assert credit(trainer.rows[0]) == credit(scene.rows)
    assert scene.tape.used_up
    assert trainer.losses[0] == pytest.approx(scene.loss, abs=SAME)
    assert trainer.logged("grad_norm")[0] == pytest.approx(scene.grad_norm, rel=SAME)
    assert trainer.gradient.keys() == scene.gradient.keys()
    worst = max(float((trainer.gradient[n] - g).abs().max()) for n, g in scene.gradient.items())
    print(worst)
    assert worst < SAME * scene.grad_norm
