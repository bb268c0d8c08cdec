"""The peer's worker: TRL's `GRPOTrainer.train()`, stopped at the end of every step until the driver wants the
next one, and transformers' `generate` with the settings that TRL samples with. Imports nothing of kintsugi.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.engine.pipes import Channel, Watch, memory, reset_peak


class Theirs:
    """What the worker holds between commands. `pending` is a command that arrived while TRL was training."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.device = "cpu"
        self.trainer: Any = None
        self.model: Any = None
        self.sampling = 0.0
        self.watch = Watch(self.device)
        self.generated = 0
        self.pending: dict[str, Any] | None = None

    def serve(self) -> None:
        """Answers commands until the driver hangs up. Steps are answered from within TRL's own loop."""
        command = self.channel.receive()
        while command is not None:
            try:
                if command["do"] == "step":
                    self.begin()
                    self.trainer.train()
                    command, self.pending = self.pending, None
                    continue
                do = command.pop("do")
                self.channel.reply(**getattr(self, f"do_{do}")(**command))
            except Exception:
                self.channel.fail()
            command = self.channel.receive()

    def begin(self) -> None:
        self.sampling, self.generated = 0.0, 0
        self.watch = Watch(self.device)

    def end(self) -> bool:
        """Answers a step and waits. True when the next command is another step."""
        spent = self.watch.read()
        self.channel.reply(
            **spent,
            sampling=self.sampling,
            training=spent["seconds"] - self.sampling,
            generated=self.generated,
            **memory(self.device),
        )
        self.pending = self.channel.receive()
        if self.pending is None or self.pending["do"] != "step":
            return False
        self.begin()
        return True

    def do_setup(
        self,
        model: str,
        problems: str,
        settings: Mapping[str, Any],
        reward: str,
        device: str,
        attention: str = "sdpa",
    ) -> dict[str, Any]:
        """A GRPOTrainer with these GRPOConfig settings, ready for its first step."""
        import torch
        import transformers
        from datasets import Dataset
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from trl import GRPOConfig, GRPOTrainer

        if device == "cpu":
            torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self.device = device
        transformers.utils.logging.set_verbosity_error()
        rows = [json.loads(line) for line in Path(problems).read_text(encoding="utf-8").splitlines()]
        data = Dataset.from_list(
            [{"prompt": [{"role": "user", "content": r["prompt"]}], "answer": r["answer"]} for r in rows]
        )
        self.run = tempfile.TemporaryDirectory(prefix="bench-trl-")
        self.trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(
                model, dtype=torch.float32, attn_implementation=attention
            ),
            reward_funcs=REWARDS[reward],
            args=GRPOConfig(output_dir=self.run.name, **settings),
            train_dataset=data,
            processing_class=AutoTokenizer.from_pretrained(model),
            callbacks=[gate(self)],
        )
        self.trainer._generate_and_score_completions = self.timed(
            self.trainer._generate_and_score_completions
        )
        reset_peak(device)
        return memory(device)

    def timed(self, sample: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
        """TRL's sampling and scoring, its seconds and tokens noted."""

        def call(inputs: Any) -> dict[str, Any]:
            watch = Watch(self.device)
            output = sample(inputs)
            self.sampling += watch.read()["seconds"]
            self.generated += int(output["completion_mask"].sum())
            return output

        return call

    def do_load(self, model: str, device: str) -> dict[str, Any]:
        """A bare model to call `generate` of."""
        import torch
        from transformers import AutoModelForCausalLM

        self.device = device
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=dtype).to(device).eval()
        reset_peak(device)
        return memory(device)

    def do_generate(self, prompts: list[list[int]], n: int, new_tokens: int, seed: int) -> dict[str, Any]:
        """n continuations of every prompt in one batch, each prompt repeated n times, as TRL hands them over."""
        import torch
        from transformers import GenerationConfig

        config = GenerationConfig(
            max_new_tokens=new_tokens,
            do_sample=True,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            pad_token_id=0,
            eos_token_id=self.model.config.vocab_size,
            disable_compile=True,
        )
        torch.manual_seed(seed)
        watch = Watch(self.device)
        longest = max(map(len, prompts))
        repeated = [p for p in prompts for _ in range(n)]
        ids = torch.tensor([[0] * (longest - len(p)) + p for p in repeated], device=self.device)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in repeated], device=self.device)
        with torch.no_grad():
            found = self.model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
        spent = watch.read()
        return {**spent, "generated": found[:, longest:].numel(), **memory(self.device)}

    def do_versions(self) -> dict[str, Any]:
        from importlib.metadata import version

        return {name: version(name) for name in ("trl", "transformers", "torch", "accelerate")}


def gate(worker: Theirs) -> Any:
    """A callback that lets TRL take one step at a time."""
    from transformers import TrainerCallback

    class Gate(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            if not worker.end():
                control.should_training_stop = True
            return control

    return Gate()


def alternate(completions: list[Any], **columns: Any) -> list[float]:
    """Every second completion passes (reward.py has ours)."""
    return [float(i % 2) for i in range(len(completions))]


def exact(completions: list[Any], answer: list[str], **columns: Any) -> list[float]:
    """Whether the last line is the answer of the built-in task."""
    texts = [c[0]["content"] for c in completions]
    return [float(t.rstrip().endswith(f"#### {a}")) for t, a in zip(texts, answer, strict=True)]


REWARDS = {"alternate": alternate, "exact": exact}

if __name__ == "__main__":
    Theirs(Channel()).serve()
