"""What a script says of TRL's loss is followed: beside TRL's own trainer on the same completions, where its loss is the
algorithm's, and beside the local learner's objective elsewhere."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Grab, config, correct, data, replayed
from scene import LONGEST, Scene, freeze
from trl import GRPOTrainer

from kintsugi.algorithms import load_algorithm
from kintsugi.config import Optim
from kintsugi.learning.learner import LocalLearner
from kintsugi.models.loading import load_model
from kintsugi.run.reading import Run

SAME = 1e-5


class Plain(GRPOTrainer):
    """TRL's own trainer, fed the tape."""

    tape: Any

    def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> Any:
        return [list(self.tape.take(ids).token_ids) for ids in prompt_ids], None


def own_gradient(scene: Scene, directory: Path, **settings: Any) -> dict[str, torch.Tensor]:
    """The gradient of TRL's own trainer."""
    scene.tape.rewind()
    quiet = {"learning_rate": 1e-9, "max_grad_norm": 1e9, "shuffle_dataset": False}
    trainer = Plain(
        model=load_model("nano", device="cpu").model,
        reward_funcs=correct,
        args=config(directory, **quiet, **settings),
        train_dataset=data(scene.problems),
        processing_class=scene.loaded.tokenizer,
    )
    trainer.tape = scene.tape
    gradient: dict[str, torch.Tensor] = {}
    trainer.add_callback(Grab(gradient))
    trainer.train()
    return gradient


def cut_off(scene: Scene) -> Scene:
    """The scene in which every third rollout lacks its end."""
    for found in scene.tape.recorded.values():
        found[::3] = [replace(c, token_ids=c.token_ids[:-9], logprobs=c.logprobs[:-9]) for c in found[::3]]
    return scene


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    norm = float(torch.stack([g.norm() for g in theirs.values()]).norm())
    assert norm > 1e-3 and ours.keys() == theirs.keys()
    assert max(float((ours[name] - g).abs().max()) for name, g in theirs.items()) < SAME * norm


@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dr_grpo"])
def test_it_is_trls_own_loss_where_that_is_the_algorithms(
    loss_type: str, masked: bool, tmp_path: Path
) -> None:
    # GRPO without a standard deviation is one formula here and in TRL, whose deviation is the sample's, plus 1e-4.
    settings = {"loss_type": loss_type, "scale_rewards": False, "mask_truncated_completions": masked}
    scene = cut_off(freeze("grpo"))
    theirs = own_gradient(scene, tmp_path / "own", **settings)
    trainer = replayed(scene, "grpo", tmp_path / "ours", **settings)
    assert sum(not row.active for row in trainer.rows[0]) == (12 if masked else 0)  # 3 of each of 4 groups
    assert_equal(trainer.gradient, theirs)


@pytest.mark.parametrize(
    ("loss_type", "reduction"), [("grpo", "row"), ("bnpo", "token"), ("dr_grpo", "constant")]
)
def test_rows_of_seams_come_to_the_loss_that_is_named(loss_type: str, reduction: Any, tmp_path: Path) -> None:
    scene = freeze("kintsugi")
    trainer = replayed(scene, "kintsugi", tmp_path, loss_type=loss_type)
    objective = replace(load_algorithm("kintsugi").objective(LONGEST), reduction=reduction)
    optim = Optim(lr=1e-9, warmup=0, grad_clip=1e9)
    learner = LocalLearner(copy.deepcopy(scene.loaded.model), optim, objective, pad_id=0)
    stats = learner.step(scene.rows)
    assert trainer.losses[0] == pytest.approx(stats.loss, abs=SAME)
    assert_equal(
        trainer.gradient, {n: p.grad for n, p in learner.model.named_parameters() if p.grad is not None}
    )


def test_group_credit_that_is_not_scaled_says_so(tmp_path: Path) -> None:
    scene = freeze("kintsugi")
    replayed(scene, "kintsugi", tmp_path, scale_rewards=False)
    found = 0
    for problem in Run.open(tmp_path).problems(1):
        rewards = [r.verdict.reward for r in problem.episode.rollouts]
        mean = sum(rewards) / len(rewards)
        for row in problem.rows:
            assert "group" not in row.credit  # seams and prefixes are what they were
            if "group, unscaled" in row.credit:
                found += 1
                expected = problem.episode.rollouts[row.index].verdict.reward - mean
                assert row.credit["group, unscaled"] == pytest.approx([expected] * len(row.mask))
    assert found > 8
