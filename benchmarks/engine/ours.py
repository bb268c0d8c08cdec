"""Our worker: the trainer's own step, sampler and learner on a recipe, timed from outside.

Every method `do_x` answers the driver's command `x` with numbers.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

from benchmarks.engine.pipes import Channel, Watch, memory, reset_peak

REWARD = f"{Path(__file__).with_name('reward.py')}:alternate"


class Ours:
    """What the worker holds between commands: parts, learner and progress of the recipe it was set up with."""

    device = "cpu"

    def do_build(self, size: str, folder: str) -> dict[str, Any]:
        """Saves a model and its tokenizer."""
        from benchmarks.engine.models import build

        build(size, Path(folder))
        return {}

    def do_problems(
        self, path: str, problems: int, prompt_tokens: int | None, steps: list[int]
    ) -> dict[str, Any]:
        """Writes a file of problems, and beside it one that is held out."""
        from benchmarks.engine.models import write_problems

        write_problems(Path(path), problems, prompt_tokens, steps)
        Path(f"{path}.held_out.jsonl").write_text('{"prompt": "?", "answer": "0"}\n', encoding="utf-8")
        return {}

    def do_default_malloc(self) -> dict[str, Any]:
        """From now on a set-up leaves glibc's malloc as it is."""
        from kintsugi import assembly
        from kintsugi.models import loading

        assert assembly.settle_machine is loading.settle_machine
        loading.keep_freed_memory = lambda: None
        return {}

    def do_setup(self, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """Puts the recipe together as `kintsugi train` does, up to its first step."""
        from rich.console import Console

        from kintsugi.assembly import assemble
        from kintsugi.config import Recipe
        from kintsugi.loop import build_learner
        from kintsugi.plugins import spec_name
        from kintsugi.run.checkpoint import Progress
        from kintsugi.run.console import Reporter
        from kintsugi.run.directory import RunLog
        from kintsugi.sampling.mismatch import MismatchWatch
        from kintsugi.trainer import Reinforcement, check_algorithm

        self.run = tempfile.TemporaryDirectory(prefix="bench-run-")
        parsed = Recipe.parse({**recipe, "output_dir": self.run.name})
        self.lessons = Reinforcement(check_algorithm(parsed))
        self.parts = assemble(parsed, version=lambda: self.learner.version, pulse=self.count_step)
        self.learner = build_learner(self.parts, self.lessons)
        self.log = RunLog.open(parsed, overwrite=True, machine=self.parts.machine)
        self.progress, self.out = Progress(), Reporter(parsed.steps, console=Console(quiet=True))
        self.mismatch = MismatchWatch(self.parts.machine["dtype"].removeprefix("torch."))
        self.device = self.parts.loaded.model.device.type
        self.steps_only = spec_name(parsed.engine) != "local"  # it samples from a model of its own
        self.passes = self.fed = self.engine_steps = 0
        self.parts.loaded.model.register_forward_pre_hook(self.count)
        reset_peak(self.device)
        return {"dtype": self.parts.machine["dtype"], **memory(self.device)}

    def count(self, model: Any, args: Any) -> None:
        """Counts the sampler's forward passes and the tokens that it feeds, padding included."""
        import torch

        if torch.is_inference_mode_enabled():
            self.passes += 1
            self.fed += args[0].numel()

    def count_step(self, share: Callable[[], float]) -> None:
        self.engine_steps += 1

    def do_step(self) -> dict[str, Any]:
        """One step of training: wall seconds, phases and tokens as its own log has them, memory."""
        from kintsugi.loop import one_step
        from kintsugi.run.reading import read_metrics

        self.passes = self.fed = self.engine_steps = 0
        watch = Watch(self.device)
        one_step(self.parts, self.lessons, self.learner, self.mismatch, self.progress, self.log, self.out)
        spent = watch.read()
        metrics = read_metrics(self.log.directory / "metrics.jsonl")[-1]
        phases = {k.partition("/")[2]: v for k, v in metrics.items() if k.startswith("seconds/")}
        tokens = {k.partition("/")[2]: v for k, v in metrics.items() if k.startswith("tokens/")}
        sampling = sum(v for k, v in phases.items() if k != "train")
        return {
            **spent,
            "sampling": sampling,
            "training": phases["train"],
            "generated": metrics["tokens/generated"],
            "credited_rows": metrics["rows/credited"],
            "passes": self.engine_steps if self.steps_only else self.passes,
            "fed": self.fed,
            "phases": phases,
            "tokens": tokens,
            **memory(self.device),
        }

    def do_prompts(self) -> dict[str, Any]:
        """The token ids of every training prompt."""
        solve, chat = self.parts.prompts.solve, self.parts.loaded.codec.chat
        return {"ids": [list(chat(solve(problem.prompt))) for problem in self.parts.train_problems]}

    def do_generate(self, prompts: list[list[int]], n: int, new_tokens: int, seed: int) -> dict[str, Any]:
        """n continuations of every prompt, through the sampler that training uses."""
        from kintsugi.sampling.base import Request, SamplingParams, generate

        requests = [
            Request(tuple(p), SamplingParams(new_tokens, seed=seed + i), n) for i, p in enumerate(prompts)
        ]
        watch = Watch(self.device)
        found = generate(self.parts.sampler, requests)
        spent = watch.read()
        generated = sum(len(c.token_ids) for group in found for c in group)
        return {**spent, "generated": generated, **memory(self.device)}

    def do_learn(
        self, rows: int, prompt_tokens: int, completion_tokens: int, seed: int = 0
    ) -> dict[str, Any]:
        """One learner step on random rows of these lengths, all of which have credit; its model FLOPs."""
        from kintsugi.records import Row

        draw = random.Random(seed)
        vocabulary = self.parts.loaded.model.config.vocab_size

        def ids(count: int) -> tuple[int, ...]:
            return tuple(draw.choices(range(vocabulary), k=count))

        batch = [
            Row(
                prompt_ids=ids(prompt_tokens),
                completion_ids=ids(completion_tokens),
                sampling_logprobs=None,
                problem_id="p",
                kind="rollout",
                index=i,
                mask=(1,) * completion_tokens,
            ).add("group", 1 - 2 * (i % 2))
            for i in range(rows)
        ]
        watch = Watch(self.device)
        self.learner.step(batch)
        spent = watch.read()
        flops = model_flops(self.parts.loaded.model.config, rows, prompt_tokens, completion_tokens)
        return {**spent, "flops": flops, **memory(self.device)}

    def do_matmul(self, m: int, k: int, n: int) -> dict[str, Any]:
        """FLOP/s of an (m, k) by (k, n) product in the type that training computes in: the best of several."""
        import torch

        dtype = self.parts.autocast or torch.float32
        a, b = (torch.randn(shape, dtype=dtype, device=self.device) for shape in ((m, k), (k, n)))
        out = torch.empty(m, n, dtype=dtype, device=self.device)
        times: list[float] = []
        while len(times) < 5 or (sum(times) < 2 and len(times) < 200):
            watch = Watch(self.device)
            torch.mm(a, b, out=out)
            times.append(watch.read()["seconds"])
        return {"flops_per_second": 2 * m * k * n / min(times)}

    def do_align(self, length: int, edited: float) -> dict[str, Any]:
        """Alignment, gates and graft of two sequences that differ in this share of their tokens."""
        from kintsugi.mending.align import align, distance, gates, graft

        draw = random.Random(0)
        failed = [draw.randrange(50_000) for _ in range(length)]
        repaired = [draw.randrange(50_000) if draw.random() < edited else token for token in failed]
        reset_peak("cpu")
        before = memory("cpu")["resident"]
        watch = Watch("cpu")
        distance(failed, repaired)
        edits = align(failed, repaired)
        gates(length, length, edits[:8])
        graft(failed, repaired, edits, 8)
        spent = watch.read()
        return {**spent, "mib": memory("cpu")["peak"] - before, "edits": len(edits)}

    def do_time_alignment(self) -> dict[str, Any]:
        """From now on counts the seconds spent in kintsugi.mending.align, wherever it is called from."""
        self.clock = Clock()
        self.clock.watch("kintsugi.mending.align")
        return {}

    def do_alignment(self) -> dict[str, Any]:
        """Seconds counted since the last time of asking."""
        seconds, self.clock.seconds = self.clock.seconds, 0.0
        return {"seconds": seconds}


class Clock:
    """Adds up the time spent in a module's functions; calls among themselves count once."""

    def __init__(self) -> None:
        self.seconds, self.depth = 0.0, 0

    def watch(self, name: str) -> None:
        """Replaces the module's functions in every loaded module that has imported them."""
        module = sys.modules[name]
        own = {v: self.timed(v) for v in vars(module).values() if getattr(v, "__module__", "") == name}
        for user in [m for n, m in sys.modules.items() if n.startswith("kintsugi")]:
            for key, value in list(vars(user).items()):
                if callable(value) and getattr(value, "__hash__", None) and value in own:
                    setattr(user, key, own[value])

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            self.depth += 1
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.depth -= 1
                if not self.depth:
                    self.seconds += time.perf_counter() - start

        return call


def model_flops(config: Any, rows: int, prompt_tokens: int, completion_tokens: int) -> float:
    """FLOPs that forward and backward of these rows need: 2 a weight and token forward, twice that backward.

    The vocabulary head counts on completion tokens only, causal attention at half its square; what is
    computed again (checkpointing) or for padding is not counted. arXiv:2001.08361, section 2.1, and the
    model FLOPs utilisation of arXiv:2204.02311, appendix B.
    """
    hidden, heads = config.hidden_size, config.num_attention_heads
    head = getattr(config, "head_dim", None) or hidden // heads
    projections = 2 * hidden * head * (heads + config.num_key_value_heads)
    per_layer = projections + 3 * hidden * config.intermediate_size
    length = prompt_tokens + completion_tokens
    body = config.num_hidden_layers * (2 * per_layer * length + 4 * heads * head * length**2 / 2)
    top = 2 * hidden * config.vocab_size * completion_tokens
    return 3.0 * rows * (body + top)


def main() -> None:
    channel, worker = Channel(), Ours()
    while (command := channel.receive()) is not None:
        try:
            channel.reply(**getattr(worker, f"do_{command.pop('do')}")(**command))
        except Exception:
            channel.fail()


if __name__ == "__main__":
    main()
