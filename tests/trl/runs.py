"""TRL runs of the shipped model: trainers that are watched, and trainers that are fed a frozen scene."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import in_torch  # noqa: F401 (for processes that are started beside pytest)
import torch
from datasets import Dataset
from scene import GROUP, LONGEST, PROMPTS, Scene, Tape
from transformers import TrainerCallback
from trl import GRPOConfig

from kintsugi.bridges.trl import KintsugiGRPOTrainer
from kintsugi.models.loading import load_model
from kintsugi.records import Problem, Row
from kintsugi.tasks.dag import DagTask


def correct(completions: list[Any], answer: list[str], **columns: Any) -> list[float]:
    """A reward function as TRL's users write them, for texts and conversations."""
    texts = [c if isinstance(c, str) else c[0]["content"] for c in completions]
    return [float(t.rpartition("####")[2].strip() == a) for t, a in zip(texts, answer, strict=True)]


def data(problems: Sequence[Problem]) -> Dataset:
    """The problems as conversations."""
    return Dataset.from_list(
        [{"prompt": [{"role": "user", "content": p.prompt}], "answer": p.answer} for p in problems]
    )


def config(directory: Path, **settings: Any) -> GRPOConfig:
    """fp32 on a CPU, a generation batch of 4 groups in one step, a constant learning rate, nothing saved."""
    usual = {
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 4 * GROUP,
        "num_generations": GROUP,
        "max_completion_length": LONGEST,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "constant",
        "max_steps": 1,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": 5,
    }
    return GRPOConfig(str(directory), **(usual | settings))


class Watched(KintsugiGRPOTrainer):
    """Keeps the rows of every batch, all processes' and its own tensors, and the last loss and gradient."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.rows: list[list[Row]] = []
        self.batches: list[dict[str, Any]] = []
        self.losses: list[float] = []
        self.gradient: dict[str, torch.Tensor] = {}
        super().__init__(*args, **kwargs)
        self.add_callback(Grab(self.gradient))

    def _batch(self, rows: Sequence[Row], first: int) -> dict[str, Any]:
        self.rows.append(list(rows))
        self.batches.append(super()._batch(rows, first))
        return self.batches[-1]

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        loss = super()._compute_loss(model, inputs)
        self.losses.append(float(loss.detach()))
        return loss

    def logged(self, name: str) -> list[float]:
        return [line[name] for line in self.state.log_history if name in line]


class Grab(TrainerCallback):
    """The gradient that the optimizer is about to use."""

    def __init__(self, into: dict[str, torch.Tensor]) -> None:
        self.into = into

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        found = {n: p.grad.clone() for n, p in kwargs["model"].named_parameters() if p.grad is not None}
        self.into.clear()
        self.into.update({name.removeprefix("module."): grad for name, grad in found.items()})


class Replayed(Watched):
    """Generates what the tape holds."""

    tape: Tape

    def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> Any:
        return [list(self.tape.take(ids).token_ids) for ids in prompt_ids], None


class Telling(Replayed):
    """And says with which log-probabilities it was sampled."""

    def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> Any:
        found = [self.tape.take(ids) for ids in prompt_ids]
        return [list(c.token_ids) for c in found], [list(c.logprobs) for c in found]


def replayed(
    scene: Scene, algorithm: Any, directory: Path, kind: type[Replayed] = Replayed, **settings: Any
) -> Replayed:
    """One step of TRL on the scene, trained."""
    settings = {"learning_rate": 1e-9, "max_grad_norm": 1e9, "shuffle_dataset": False} | settings
    scene.tape.rewind()
    trainer = kind(
        model=load_model("nano", device="cpu").model,
        reward_funcs=correct,
        args=config(directory, **settings),
        train_dataset=data(scene.problems),
        processing_class=scene.loaded.tokenizer,
        algorithm=algorithm,
        prompts=PROMPTS,
    )
    trainer.tape = scene.tape
    trainer.train()
    return trainer


def nano_trainer(directory: Path, kind: type[Watched] = Watched, **more: Any) -> Any:
    """A trainer of the shipped model on its task; `settings` are GRPOConfig's, what else is said the trainer's."""
    loaded = load_model("nano", device="cpu")
    arguments = {
        "model": loaded.model,
        "reward_funcs": correct,
        "args": config(directory, **more.pop("settings", {})),
        "train_dataset": data(DagTask().train()[:400]),
        "processing_class": loaded.tokenizer,
        "prompts": PROMPTS,
    }
    return kind(**(arguments | more))
