"""What the benches share: the workers, the model folders, the same work said to both sides, the turns they take."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.engine.ours import REWARD
from benchmarks.engine.pipes import ROOT, Worker

OURS, THEIRS = "benchmarks.engine.ours", "benchmarks.engine.theirs"
VLLM = ROOT / ".venv-vllm" / "bin" / "python"
LEARNING_RATE = 1e-9
"""So small that the policy stays what it is: every step of a bench then has the same work."""
SPLITS = (1, 2, 4)
"""Micro-batches per step that are tried on both sides; each is measured at its own fastest."""

Answer = Mapping[str, Any]
NOTHING: Answer = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Work:
    """One GRPO step: problems x group completions. Without `prompt_tokens` it is the built-in task, where
    completions end by themselves; `new_tokens` is then the most they may have, and `steps` the fewest and most
    steps of a problem, eight tokens each.
    """

    size: str
    problems: int
    group: int
    new_tokens: int
    prompt_tokens: int | None = 64
    steps: tuple[int, int] = (6, 6)

    @property
    def rows(self) -> int:
        return self.problems * self.group

    @property
    def tokens(self) -> int:
        """Padded tokens of the whole batch; problems of the built-in task have less than 64."""
        return self.rows * ((self.prompt_tokens or 64) + self.new_tokens)


@dataclass(frozen=True, slots=True)
class Lab:
    """Where and how is measured. `pairs` overrides what a bench takes; models are kept under `folder`."""

    device: str
    threads: int
    folder: Path
    peer: Path
    pairs: int | None = None

    @property
    def dtype(self) -> str:
        return "bfloat16" if self.device == "cuda" else "float32"

    def ours(self, engine: str = "local") -> Worker:
        """Our side, in the environment that has the engine."""
        return Worker(VLLM if engine == "vllm" else Path(sys.executable), OURS, self.threads)

    def theirs(self) -> Worker:
        return Worker(self.peer, THEIRS, self.threads)

    @contextmanager
    def both(self) -> Iterator[tuple[Worker, Worker]]:
        """Fresh processes of both sides."""
        with self.ours() as ours, self.theirs() as theirs:
            yield ours, theirs

    def model(self, size: str) -> tuple[str, int]:
        """(folder, parameters) of a model, built when it is missing. Raises what the build raises."""
        folder = self.folder / size
        if not (folder / "built.json").is_file():
            with self.ours() as worker:
                worker.ask("build", size=size, folder=str(folder))
        return str(folder), json.loads((folder / "built.json").read_text(encoding="utf-8"))["parameters"]

    def problems(self, work: Work) -> str:
        """The file of exactly the problems of one step, so that every step has the same."""
        kind = work.prompt_tokens or f"dag{work.steps[0]}-{work.steps[1]}"
        path = self.folder / f"problems-{work.problems}x{kind}.jsonl"
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.ours() as worker:
                worker.ask(
                    "problems",
                    path=str(path),
                    problems=work.problems,
                    prompt_tokens=work.prompt_tokens,
                    steps=work.steps,
                )
        return str(path)

    def recipe(self, work: Work, split: int = 1, optim: Answer = NOTHING, **more: Any) -> dict[str, Any]:
        """Our side's recipe for the work, its rows in `split` micro-batches."""
        path = self.problems(work)
        return {
            "model": self.model(work.size)[0],
            "task": {"name": "table", "path": path, "eval_path": f"{path}.held_out.jsonl"},
            "verifier": REWARD if work.prompt_tokens else "exact",
            "prompts": "terse-v1",
            "algorithm": "grpo",
            "steps": 10**6,
            "device": self.device,
            "dtype": self.dtype,
            "threads": self.threads,
            "sampling": {
                "problems": work.problems,
                "group_size": work.group,
                "max_new_tokens": work.new_tokens,
            },
            "optim": {"lr": LEARNING_RATE, "token_budget": max(16, work.tokens // split), **optim},
            **more,
        }

    def grpo_config(self, work: Work, split: int = 1, **more: Any) -> dict[str, Any]:
        """TRL's GRPOConfig for the work: one gradient step over the batch, nothing logged or saved."""
        return {
            "per_device_train_batch_size": work.rows // split,
            "gradient_accumulation_steps": split,
            "num_generations": work.group,
            "max_completion_length": work.new_tokens,
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": 0,
            "beta": 0.0,
            "num_iterations": 1,
            "loss_type": "grpo",
            "learning_rate": LEARNING_RATE,
            "lr_scheduler_type": "constant",
            "max_grad_norm": 1.0,
            "max_steps": 10**6,
            "gradient_checkpointing": False,
            "bf16": self.device == "cuda",
            "use_cpu": self.device == "cpu",
            "dataloader_pin_memory": False,
            "shuffle_dataset": False,
            "logging_strategy": "no",
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            **more,
        }

    def set_up_ours(self, worker: Worker, work: Work, split: int = 1, **more: Any) -> Answer:
        return worker.ask("setup", recipe=self.recipe(work, split, **more))

    def set_up_theirs(self, worker: Worker, work: Work, split: int = 1, **more: Any) -> Answer:
        return worker.ask(
            "setup",
            model=self.model(work.size)[0],
            problems=self.problems(work),
            settings=self.grpo_config(work, split, **more),
            reward="alternate" if work.prompt_tokens else "exact",
            device=self.device,
        )

    def turns(self, default: int) -> int:
        return self.pairs or default


def fastest(
    make: Callable[[], Worker], set_up: Callable[[Worker, int], Answer], splits: Sequence[int]
) -> tuple[int, dict[str, float]]:
    """(the split with the fastest step, seconds of each): the second step after each set-up."""
    if len(splits) == 1:
        return splits[0], {}
    seconds = {}
    with make() as worker:
        for split in splits:
            set_up(worker, split)
            worker.ask("step")
            seconds[split] = worker.ask("step")["seconds"]
    return min(seconds, key=seconds.__getitem__), {str(k): v for k, v in seconds.items()}


def take_turns(
    ours: Callable[[int], Answer], theirs: Callable[[int], Answer], pairs: int, warm_up: int = 1
) -> tuple[list[Answer], list[Answer]]:
    """Answers of `pairs` turns each, after warm-up; who goes first changes from pair to pair."""
    for i in range(warm_up):
        ours(-1 - i), theirs(-1 - i)
    found: tuple[list[Answer], list[Answer]] = ([], [])
    for i in range(pairs):
        sides = ((found[0], ours), (found[1], theirs))
        for answers, side in sides if i % 2 == 0 else reversed(sides):
            answers.append(side(i))
    return found


def seconds_of(answers: Sequence[Answer]) -> list[float]:
    return [answer["seconds"] for answer in answers]


def default_peer() -> Path:
    return ROOT / ".venv-trl" / "bin" / "python"
