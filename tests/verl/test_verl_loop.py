"""verl's agent loop over a server that is a dictionary: what it asks, and what it returns. No Ray."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from inside import Queue, TapeServer, columns, configuration, loop, queued, trainer
from scene import GROUP, Scene, freeze
from verl.trainer.ppo.v1 import get_trainer_cls

from kintsugi.bridges.verl import KintsugiTrainer, token_credit
from kintsugi.bridges.verl_loop import RowOutput, ServerSampler, problem_name
from kintsugi.bridges.verl_rows import NOTE, Note
from kintsugi.bridges.verl_settings import ANCHOR, plan
from kintsugi.records import KintsugiError
from kintsugi.sampling.base import Score
from kintsugi.sampling.play import Meter


@pytest.fixture(scope="module")
def scene() -> Scene:
    return freeze("iop")


def run(config: Any, scene: Scene, server: TapeServer, **more: Any) -> list[RowOutput]:
    scene.tape.rewind()
    one = loop(config, scene.loaded.tokenizer, server)
    return asyncio.run(one.run({"top_k": -1}, **columns(scene.problems[0], **more)))


def test_one_call_draws_the_group_its_repairs_and_its_checks(scene: Scene, tmp_path: Path) -> None:
    server = TapeServer(scene.tape)
    outputs = run(configuration(tmp_path), scene, server)
    first = server.asked[:GROUP]
    question = first[0]["prompt_ids"]
    assert all(asked["prompt_ids"] == question for asked in first)
    assert len({asked["seed"] for asked in first}) == len({asked["request_id"] for asked in first}) == GROUP
    assert first[0] | {"seed": 0, "request_id": "", "prompt_ids": []} == {
        "request_id": "", "prompt_ids": [], "seed": 0, "temperature": 1.0, "top_p": 1, "top_k": -1, "max_tokens": 80,
        "stop_token_ids": list(scene.loaded.codec.stop_ids), "logprobs": True,
    }  # fmt: skip
    episode = Note.unpacked(outputs[0].extra_fields[NOTE]).episode
    assert episode is not None and len(episode.rollouts) == GROUP
    assert episode.repairs and len(server.asked) > GROUP + len(episode.repairs) - 1
    # The user's reward function judged, and the servers' policy is written down.
    assert [r.verdict.passed for r in episode.rollouts] == [
        r.text.endswith(f"#### {scene.problems[0].answer}") for r in episode.rollouts
    ]
    assert {o.extra_fields["min_global_steps"] for o in outputs} == {3}


def test_an_output_is_a_row_as_verl_carries_it(scene: Scene, tmp_path: Path) -> None:
    outputs = run(configuration(tmp_path), scene, TapeServer(scene.tape))
    seam = next(o for o in outputs if Note.unpacked(o.extra_fields[NOTE]).place["kind"] == "repair")  # type: ignore[index]
    found = seam.as_dict()
    assert found["responses"].tolist() == seam.response_ids
    assert found["response_mask"].tolist() == seam.response_mask and sum(seam.response_mask) > 0
    assert found["rm_scores"].tolist() == [float(m) for m in seam.response_mask]  # +1 on the gate
    assert not found["rollout_log_probs"].any()  # it was sampled under the repair prompt
    rewards = token_credit(token_level_rewards=found["rm_scores"], response_mask=found["response_mask"])
    assert all(r is found["rm_scores"] for r in rewards)


def test_a_group_without_rows_still_brings_its_episode(scene: Scene, tmp_path: Path) -> None:
    config = configuration(tmp_path)
    (tmp_path / "reward.py").write_text(
        "def compute_score(solution_str, ground_truth): raise OSError('gone')\n"
    )
    (output,) = run(config, scene, TapeServer(scene.tape))
    note = Note.unpacked(output.extra_fields[NOTE])
    assert note.place is None and sum(output.response_mask) == 0
    assert note.episode is not None and {r.verdict.state for r in note.episode.rollouts} == {"error"}


def test_an_earlier_pass_is_the_anchor_where_all_fail(scene: Scene, tmp_path: Path) -> None:
    config = configuration(tmp_path, **{"kintsugi.algorithm.name": "grpo"})
    problem = scene.problems[0]
    made = trainer(config)
    with pytest.MonkeyPatch.context() as patch:
        queue = Queue()
        patch.setattr("kintsugi.bridges.verl.tq", queue)
        metrics: dict[str, Any] = {}
        kept = made._folded(queued(queue, [run(config, scene, TapeServer(scene.tape))]), metrics)
    prompt = columns(problem)["raw_prompt"]
    assert list(made.memory) == [problem_name("dag", prompt)]
    passing = made.memory[problem_name("dag", prompt)]
    assert passing.endswith(f"#### {problem.answer}")
    assert metrics["kintsugi/accuracy"] == pytest.approx(
        sum(r.text.endswith(f"#### {problem.answer}") for r in episode_of(scene, config).rollouts) / GROUP
    )
    assert len(kept) == metrics["kintsugi/rows/live"] == GROUP
    # A function that rejects everything: the group fails, and the anchor of the other step is what repairs are shown.
    (tmp_path / "none.py").write_text("def compute_score(solution_str, ground_truth): return 0.0\n")
    server = TapeServer(scene.tape)
    config = configuration(tmp_path, **{"reward.custom_reward_function.path": str(tmp_path / "none.py")})
    with pytest.raises(IndexError):  # the tape has no answer to a prompt that no local step asked
        run(config, scene, server, **{ANCHOR: passing})
    asked = scene.loaded.codec.decode(server.asked[-1]["prompt_ids"])
    assert passing in asked and "mend:" in asked


def episode_of(scene: Scene, config: Any) -> Any:
    outputs = run(config, scene, TapeServer(scene.tape))
    return Note.unpacked(outputs[0].extra_fields[NOTE]).episode


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"kintsugi.algorithm.name": "sdpo"}, "algorithm sdpo: expected credit that needs no log-probabilities"),
        ({"actor_rollout_ref.rollout.n": 8}, "rollout.n: expected 1, got 8"),
        ({"actor_rollout_ref.actor.use_kl_loss": True}, "use_kl_loss: expected False, got True"),
        ({"algorithm.adv_estimator": "grpo"}, "adv_estimator: expected kintsugi, got grpo"),
        ({"actor_rollout_ref.actor.ppo_mini_batch_size": 3}, "expected a divisor of train_batch_size=4, got 3"),
        ({"kintsugi.group_size": 1}, "expected at least 2, got 1"),
        ({"kintsugi.algorithm.name": "grop"}, "did you mean 'grpo'?"),
    ],
)  # fmt: skip
def test_what_would_spoil_the_credit_is_refused(own: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(KintsugiError, match=told.replace("?", r"\?")):
        plan(configuration(tmp_path, **own))


def test_log_probabilities_that_verl_cannot_give_are_refused(scene: Scene, tmp_path: Path) -> None:
    sampler = ServerSampler(TapeServer(scene.tape), {}, True)
    with pytest.raises(KintsugiError, match="asks for log-probabilities of the trainer"):
        asyncio.run(sampler.answered(Score((1,), (2,)), Meter()))


def test_a_mistake_in_the_reward_function_is_told_before_anything_starts(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    (tmp_path / "reward.py").write_text("def compute_score(text): return 1.0\n")
    with pytest.raises(KintsugiError, match="expected a parameter `completions`"):
        KintsugiTrainer(config)
    assert get_trainer_cls("kintsugi") is KintsugiTrainer


def test_anchors_come_back_with_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

    config = configuration(tmp_path)
    monkeypatch.setattr(PPOTrainerSync, "_save_checkpoint", lambda self: None)
    monkeypatch.setattr(PPOTrainerSync, "_load_checkpoint", lambda self: setattr(self, "global_steps", 2))
    before, after = trainer(config), trainer(config)
    before.global_steps, before.memory = 2, {"dag/1": "#### 4"}
    before._save_checkpoint()
    assert (
        json.loads((tmp_path / "checkpoints/global_step_2/kintsugi_memory.json").read_text()) == before.memory
    )
    after._load_checkpoint()
    assert after.memory == before.memory
