"""TRL fed the completions of the local trainer's step comes to its rows, its loss and its gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Replayed, Telling, replayed
from scene import LONGEST, Scene, credit, freeze, objective_loss

from kintsugi.algorithms import load_algorithm
from kintsugi.config import Optim
from kintsugi.learning.learner import LocalLearner
from kintsugi.sampling.base import Score

SAME = 1e-5
"""What fp32 sums in another order may differ by; measured 4e-7 at most."""

ALGORITHMS: list[Any] = [
    "kintsugi",
    {"name": "kintsugi", "source": "rewrite"},
    {"name": "kintsugi", "source": "sibling"},
    "iop",
    {"name": "iop", "k": 1, "check": "graft"},
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


def assert_same(trainer: Replayed, scene: Scene) -> None:
    """Rows, gradient norm and every parameter's gradient."""
    assert scene.tape.used_up
    for ours, theirs in zip(credit(trainer.rows[0]), credit(scene.rows), strict=True):
        assert ours[:4] == theirs[:4] and ours[5] == theirs[5]
        # A teacher's credit is the difference of two log-probabilities, each of them the same up to rounding.
        assert ours[4] == pytest.approx(theirs[4], abs=2 * SAME)
    assert trainer.logged("grad_norm")[0] == pytest.approx(scene.grad_norm, rel=SAME)
    assert trainer.gradient.keys() == scene.gradient.keys()
    for name, gradient in scene.gradient.items():
        assert float((trainer.gradient[name] - gradient).abs().max()) < SAME * scene.grad_norm


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=str)
def test_rows_loss_and_gradient_are_the_local_trainers(algorithm: Any, tmp_path: Path) -> None:
    scene = freeze(algorithm)
    trainer = replayed(scene, algorithm, tmp_path)
    assert scene.grad_norm > 0.01
    assert_same(trainer, scene)
    assert trainer.losses[0] == pytest.approx(scene.loss, abs=SAME)
    norm = trainer.logged("grad_norm")[0]
    apart = max(float((trainer.gradient[n] - g).abs().max()) for n, g in scene.gradient.items())
    print(
        f"{algorithm}: losses differ by {abs(trainer.losses[0] - scene.loss):.1e}, gradient norms by "
        f"{abs(norm / scene.grad_norm - 1):.1e} of theirs, a gradient by {apart / scene.grad_norm:.1e} of the norm"
    )


def test_log_probabilities_that_the_sampler_tells_are_the_rows(tmp_path: Path) -> None:
    # As vLLM tells them within TRL.
    algorithm = {"name": "kintsugi", "source": "rewrite"}
    scene = freeze(algorithm)
    trainer = replayed(scene, algorithm, tmp_path, kind=Telling)
    assert_same(trainer, scene)
    told = [row.sampling_logprobs for row in trainer.rows[0]]
    for ours, row in zip(told, scene.rows, strict=True):
        assert ours == (None if row.sampling_logprobs is None else pytest.approx(row.sampling_logprobs))
    assert sum(t is not None for t in told) >= 32


def test_reinforce_has_the_local_trainers_gradient(tmp_path: Path) -> None:
    # rloo's loss is -A log pi; TRL's is -w A with w = 1, which is another number of the same gradient.
    scene = freeze("rloo")
    assert_same(replayed(scene, "rloo", tmp_path), scene)


@pytest.mark.parametrize("algorithm", ["kintsugi", "iop"])
def test_gradient_accumulation_changes_nothing(algorithm: str, tmp_path: Path) -> None:
    scene = freeze(algorithm)
    trainer = replayed(
        scene, algorithm, tmp_path, per_device_train_batch_size=8, gradient_accumulation_steps=4
    )
    assert_same(trainer, scene)
    assert len(trainer.losses) == 4
    assert sum(trainer.losses) == pytest.approx(scene.loss, abs=SAME)


@pytest.mark.parametrize("algorithm", ["kintsugi", "gspo"])
def test_several_updates_of_a_batch_share_it_out(algorithm: str, tmp_path: Path) -> None:
    # Four updates, each a quarter of the rows: as with the local learner's minibatches each counts fourfold, so that
    # their mean is the batch's loss. The learning rate of 1e-9 leaves every ratio at 1.
    scene = freeze(algorithm)
    settings = {"per_device_train_batch_size": 8, "steps_per_generation": 4, "max_steps": 4}
    trainer = replayed(scene, algorithm, tmp_path, **settings)
    assert sum(trainer.losses) / 4 == pytest.approx(scene.loss, abs=SAME)
    assert "old_per_token_logps" in trainer.batches[0]


@pytest.mark.parametrize("algorithm", ["kintsugi", "gspo"])
def test_ratios_and_clips_are_the_objectives_once_the_policy_has_moved(
    algorithm: str, tmp_path: Path
) -> None:
    scene = freeze(algorithm)
    trainer = replayed(scene, algorithm, tmp_path, num_iterations=2)
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in trainer.model.parameters():
            p.add_(torch.randn(p.shape, generator=noise), alpha=0.02)
        theirs = float(trainer._compute_loss(trainer.model, trainer.batches[0]))
    # The objective's own losses, from log-probabilities of the local learner before and after.
    objective = load_algorithm(algorithm).objective(LONGEST)
    rows = scene.rows
    scores = [Score(row.prompt_ids, row.completion_ids) for row in rows]
    old, now = (
        LocalLearner(model, Optim(lr=1e-9), objective, pad_id=0).logprobs(scores)
        for model in (scene.loaded.model, trainer.model)
    )
    total, clipped = objective_loss(rows, old, now, objective)
    assert sum(clipped) > 1
    assert abs(total - scene.loss) > 1e-3  # it is another number than that of the policy that sampled
    assert theirs == pytest.approx(total, abs=SAME)
