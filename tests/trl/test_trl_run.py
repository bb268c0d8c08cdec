"""The bridge at work: it learns, resumes, trains adapters, asks reward functions as TRL does, and refuses."""

from __future__ import annotations

import asyncio
import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from runs import Watched, correct, data, nano_trainer
from scene import LONGEST
from transformers import AutoModelForSequenceClassification
from trl.rewards import accuracy_reward

from kintsugi.bridges.journal import Journal
from kintsugi.models.loading import load_model
from kintsugi.records import KintsugiError
from kintsugi.run.reading import Run
from kintsugi.sampling.base import Request, SamplingParams, generate
from kintsugi.sampling.local import LocalSampler
from kintsugi.tasks.dag import DagTask


def greedy_accuracy(model: Any, problems: int = 100) -> float:
    """Share of held-out problems that greedy decoding solves."""
    loaded = load_model("nano", device="cpu")
    sampler = LocalSampler(model, pad_id=loaded.tokenizer.pad_token_id)
    params = SamplingParams(LONGEST, temperature=0.0, stop_ids=loaded.codec.stop_ids)
    asked = DagTask().evaluation()[:problems]

    answers = generate(sampler, [Request(loaded.codec.chat(p.prompt), params) for p in asked])
    texts = [loaded.codec.decode(found[0].token_ids) for found in answers]
    return sum(correct(texts, [p.answer for p in asked])) / problems


def test_it_learns(tmp_path: Path) -> None:
    settings = {
        "per_device_train_batch_size": 96,
        "max_steps": 25,
        "learning_rate": 2e-4,
        "adam_beta2": 0.99,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 5,
    }
    trainer = nano_trainer(tmp_path, settings=settings)
    before = greedy_accuracy(trainer.model)
    trainer.train()
    after = greedy_accuracy(trainer.model)
    print(f"held-out greedy accuracy {before:.2f} -> {after:.2f}")
    assert before < 0.25
    assert after > before + 0.4
    # What was mended, and how much of the tokens was trained on, stands among TRL's own numbers.
    assert max(trainer.logged("kintsugi/repair/success_per_failure")) > 0.5
    assert all(0 < share < 1 for share in trainer.logged("kintsugi/active_ratio"))
    assert trainer.logged("kintsugi/accuracy") == pytest.approx(trainer.logged("reward"), abs=1e-6)
    # 96 rollouts a step of at most 80 tokens, and fewer tokens of repairs.
    for rollout, repair in zip(
        trainer.logged("kintsugi/tokens/rollout"), trainer.logged("kintsugi/tokens/repair"), strict=True
    ):
        assert 0 <= repair < rollout <= 96 * LONGEST


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in model.state_dict().items()}


def test_a_resumed_run_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    whole = nano_trainer(tmp_path, settings=settings)
    whole.train()
    again = nano_trainer(tmp_path, settings=settings)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert again._memory == whole._memory
    expected = weights(whole.model)
    assert all(torch.equal(t, expected[name]) for name, t in weights(again.model).items())
    # The anchors of passes before the checkpoint are those of after it: problems of steps 1 and 2 are remembered.
    kept = json.loads((tmp_path / "checkpoint-2" / "kintsugi_memory.json").read_text())
    assert kept and kept.items() <= whole._memory.items()


def test_adapters_alone_are_trained(tmp_path: Path) -> None:
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=True)
    settings = {"max_steps": 2, "learning_rate": 1e-2, "beta": 0.04}
    trainer = nano_trainer(tmp_path, settings=settings, peft_config=config)
    before = weights(trainer.model)
    trainer.train()
    moved = {n for n, t in weights(trainer.model).items() if not torch.equal(t, before[n])}
    assert moved and all("lora_" in name for name in moved)
    # The reference is the model without its adapters, which begin as nothing: the first KL is 0, the second is not.
    first, second = trainer.logged("kl")
    assert abs(first) < 1e-6 < second


def test_the_reference_model_stands_beside_the_trained_one(tmp_path: Path) -> None:
    trainer = nano_trainer(
        tmp_path, settings={"max_steps": 2, "learning_rate": 1e-3, "beta": 0.04}, algorithm="iop"
    )
    trainer.train()
    first, second = trainer.logged("kl")
    assert abs(first) < 1e-6 < second


class Spy:
    """A reward function that remembers how it was asked."""

    __name__ = "spy"

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(
        self, prompts: list[Any], completions: list[Any], answer: list[int], **columns: Any
    ) -> list[float]:
        self.calls.append({"prompts": prompts, "completions": completions, "answer": answer, **columns})
        columns["log_metric"]("asked", len(completions))
        texts = [c if isinstance(c, str) else c[0]["content"] for c in completions]
        return [float(t.rpartition("####")[2].strip() == str(a)) for t, a in zip(texts, answer, strict=True)]


def shape(value: Any) -> Any:
    """What a value is made of."""
    if isinstance(value, list):
        return [shape(value[0])]
    return {k: shape(v) for k, v in value.items()} if isinstance(value, dict) else type(value)


@pytest.mark.parametrize("conversational", [True, False])
def test_a_reward_function_is_asked_as_trl_asks_it(conversational: bool, tmp_path: Path) -> None:
    spy, codec = Spy(), load_model("nano", device="cpu").codec
    problems = DagTask().train()[:16]
    rows = [
        {
            "prompt": [{"role": "user", "content": p.prompt}] if conversational else p.prompt,
            "answer": int(p.answer),
            "source": {"name": "dag"},
        }
        for p in problems
    ]
    if (
        not conversational
    ):  # without a chat template this model says nothing, unless its marks are in the text
        rows = [row | {"prompt": f"<|user|>{row['prompt']}<|assistant|>"} for row in rows]
    trainer = nano_trainer(
        tmp_path,
        train_dataset=Dataset.from_list(rows),
        reward_funcs=spy,
        algorithm={"name": "iop", "check": "none"},
    )
    trainer.train()
    rollouts, *repairs = spy.calls
    assert len(rollouts["completions"]) == 32  # TRL's own call; no rollout is judged twice
    assert sum(len(call["completions"]) for call in repairs) == trainer.logged("kintsugi/repair/samples")[0]
    assert repairs
    for call in repairs:
        assert call.keys() == rollouts.keys()
        assert {k: shape(v) for k, v in call.items() if not k.startswith("log_")} == {
            k: shape(v) for k, v in rollouts.items() if not k.startswith("log_")
        }
        assert call["trainer_state"] is trainer.state
        assert call["prompts"][0] in rollouts["prompts"]
    assert trainer.logged("asked") == [32]  # what is logged of repairs does not mix with the rollouts'
    # A repair's ids are those that were sampled, with the token that ends it.
    ended = {ids[-1] for call in (rollouts, *repairs) for ids in call["completion_ids"]}
    assert set(codec.stop_ids) & ended
    # Prompts are TRL's own to the token: the chat template's for conversations, the bare text otherwise.
    own = {tuple(row.prompt_ids) for row in trainer.rows[0] if row.term != "repair"}
    asked = {
        codec.chat(p.prompt)
        if conversational
        else tuple(trainer.processing_class(f"<|user|>{p.prompt}<|assistant|>")["input_ids"])
        for p in problems
    }
    assert own <= asked


async def brevity(completions: list[Any], log_extra: Any, **columns: Any) -> list[float | None]:
    """Minus the number of ones, as an async function; none for what has none."""
    ones = [c[0]["content"].count("1") for c in completions]
    log_extra("ones", ones)
    return [-n if n else None for n in ones]


def test_of_several_reward_functions_one_decides_and_all_are_weighed(tmp_path: Path) -> None:
    settings = {"learning_rate": 1e-9, "reward_weights": [0.1, 1.0]}
    trainer = nano_trainer(
        tmp_path, reward_funcs=[brevity, correct], outcome="correct", settings=settings, algorithm="dr_grpo"
    )
    trainer.train()
    mean = trainer.logged("rewards/correct/mean")[0]
    assert trainer.logged("kintsugi/accuracy")[0] == pytest.approx(mean, abs=1e-6)
    # The sum is TRL's own, and so is its mean; advantages are what each sum is above its group's mean.
    assert trainer.logged("kintsugi/reward")[0] == pytest.approx(trainer.logged("reward")[0], abs=1e-5)
    (rows,) = trainer.rows
    groups = [
        [r.advantages[0] for r in rows if r.problem_id == name] for name in {r.problem_id for r in rows}
    ]
    assert max(len(set(group)) for group in groups) > 2  # 0 and 1 alone would make two
    assert all(sum(group) == pytest.approx(0, abs=1e-5) for group in groups)


def test_repairs_are_weighed_by_all_functions_too(tmp_path: Path) -> None:
    algorithm = {"name": "kintsugi", "source": "rewrite"}
    trainer = nano_trainer(tmp_path, reward_funcs=[correct, brevity], algorithm=algorithm)
    trainer.train()
    problems = Run.open(Journal.place(tmp_path)).problems(1)
    repairs = [r.rollout.verdict for p in problems for r in p.episode.repairs]
    assert repairs and any(v.passed for v in repairs)
    for verdict in repairs:  # `correct` decides, as the first
        parts = {part.name: part.reward for part in verdict.parts}
        assert verdict.passed == (parts["correct"] == 1)
        assert parts.get("brevity", 0) == -verdict.logged["ones"]


def test_trls_own_accuracy_reward_decides_beside_a_reward_model(tmp_path: Path) -> None:
    problems = DagTask().train()[:16]
    rows = [
        {"prompt": [{"role": "user", "content": p.prompt}], "solution": f"\\boxed{{{p.answer}}}"}
        for p in problems
    ]
    loaded = load_model("nano", device="cpu")
    judging = copy.copy(loaded.model.config)
    judging.num_labels = 1
    judge = AutoModelForSequenceClassification.from_config(judging)
    judge.config.pad_token_id = loaded.tokenizer.pad_token_id
    trainer = nano_trainer(
        tmp_path,
        train_dataset=Dataset.from_list(rows),
        reward_funcs=[accuracy_reward, judge],
        reward_processing_classes=[None, loaded.tokenizer],
        algorithm="extra_rollouts",
    )
    trainer.train()
    # The model writes `#### 7`, which accuracy_reward does not read: nothing passes, and all are judged.
    assert trainer.logged("rewards/accuracy_reward/mean") == [0.0]
    assert trainer.logged("kintsugi/verdict/error") == [0]
    with pytest.raises(
        KintsugiError, match="expected a function to say whether an answer is right, this one is a model"
    ):
        nano_trainer(tmp_path, reward_funcs=judge, reward_processing_classes=loaded.tokenizer)


def broken_on_repairs(completions: list[Any], answer: list[str], **columns: Any) -> list[float]:
    if len(completions) < 8:  # repairs come one or two at a time
        raise RuntimeError("the judge is down")
    return correct(completions, answer)


def test_a_reward_function_that_fails_on_a_repair_is_warned_of(tmp_path: Path) -> None:
    trainer = nano_trainer(tmp_path, reward_funcs=broken_on_repairs)
    with pytest.warns(
        UserWarning, match="the verifier failed on problem .*: RuntimeError.*: the judge is down"
    ):
        trainer.train()
    assert trainer.logged("kintsugi/repair/verdict_error")[0] > 0


def always(completions: list[Any], **columns: Any) -> list[float]:
    return [1.0] * len(completions)


def test_a_batch_that_teaches_nothing_moves_nothing(tmp_path: Path) -> None:
    trainer = nano_trainer(tmp_path, reward_funcs=always, settings={"learning_rate": 1e-2})
    before = weights(trainer.model)
    trainer.train()
    assert all(torch.equal(t, before[name]) for name, t in weights(trainer.model).items())
    assert trainer.losses == [0.0]


def test_rollouts_that_were_cut_off_are_not_mended(tmp_path: Path) -> None:
    # Solutions take about 50 tokens: none ends within 20, so none states an answer, and none is worth a repair.
    trainer = nano_trainer(tmp_path, settings={"max_completion_length": 20})
    trainer.train()
    assert trainer.logged("completions/clipped_ratio") == [1]
    assert trainer.logged("kintsugi/repair/skipped_unmendable") == [4]
    assert trainer.logged("kintsugi/repair/samples") == [0]


def test_it_runs_in_a_notebook_whose_event_loop_is_running(tmp_path: Path) -> None:
    trainer = nano_trainer(tmp_path, algorithm={"name": "kintsugi", "source": "rewrite"})

    async def cell() -> None:
        trainer.train()

    asyncio.run(cell())
    assert trainer.logged("kintsugi/repair/samples")[0] > 0
    assert trainer.logged("grad_norm")[0] > 0


def test_evaluation_is_trls_own(tmp_path: Path) -> None:
    trainer: Watched = nano_trainer(
        tmp_path, eval_dataset=data(DagTask().evaluation()[:4]), settings={"per_device_eval_batch_size": 8}
    )
    found = trainer.evaluate()
    assert 0 <= found["eval_reward"] <= 1
    assert trainer.rows == []


def tool(x: int) -> int:
    """Doubles.

    Args:
        x: a number.
    """
    return 2 * x


def needs_more(completions: list[Any], level: list[int]) -> list[float]:
    return [0.0] * len(completions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"settings": {"loss_type": "cispo", "top_entropy_quantile": 0.5}, "rollout_func": lambda *_: {}},
            r"loss_type='cispo': expected 'dapo' or .*; top_entropy_quantile=0.5: .*; expected text in and text out",
        ),
        ({"settings": {"importance_sampling_level": "sequence"}}, "takes ratios of tokens"),
        (
            {"settings": {"num_iterations": 2}, "algorithm": "iop"},
            "algorithm iop clips each row at a range of its own, which TRL cannot",
        ),
        ({"algorithm": "ioq"}, "algorithm: unknown 'ioq'; did you mean 'iop'"),
        ({"prompts": {"name": "plain-v2", "system": "Hello"}}, "prompts: expected a name here"),
        ({"reward_funcs": needs_more}, "nothing fills its parameter 'level'"),
        ({"rollout_func": lambda *_: {}}, "expected text in and text out"),
    ],
    ids=str,
)
def test_what_cannot_be_is_one_line(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(KintsugiError, match=message):
        nano_trainer(tmp_path, **arguments)
