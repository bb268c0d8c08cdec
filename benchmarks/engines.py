"""Both engines on one recipe: tokens a second, and how far their log-probabilities are from the learner's.

Needs the environment of `make test-vllm`. A round is one step's rollouts; the first one warms up.

    .venv-vllm/bin/python benchmarks/engines.py recipes/quickstart.yaml threads=1 dtype=float32
"""

from __future__ import annotations

import os
import sys
import time
from statistics import median

from kintsugi import Recipe
from kintsugi.assembly import Parts, assemble
from kintsugi.loop import build_learner
from kintsugi.records import Completion, Row
from kintsugi.sampling.base import Request, SamplingParams, derive_seed, generate
from kintsugi.trainer import Reinforcement, check_algorithm

ROUNDS = 5


def sample(parts: Parts, number: int) -> list[tuple[tuple[int, ...], Completion]]:
    """(prompt, completion) of every rollout of a step."""
    codec, s = parts.loaded.codec, parts.recipe.sampling
    prompts = [codec.chat(parts.prompts.solve(p.prompt)) for p in parts.train_problems[: s.problems]]

    def params(prompt: tuple[int, ...]) -> SamplingParams:
        seed = derive_seed("benchmark", number, prompt)
        return SamplingParams(s.max_new_tokens, s.temperature, s.top_p, seed, codec.stop_ids)

    groups = generate(parts.sampler, [Request(p, params(p), s.group_size) for p in prompts])
    return [(p, c) for p, group in zip(prompts, groups, strict=True) for c in group]


def measure(recipe: Recipe) -> str:
    """One line of figures."""
    start = time.perf_counter()
    parts = assemble(recipe)
    ready = time.perf_counter() - start
    learner = build_learner(parts, Reinforcement(check_algorithm(recipe)))
    speeds: list[float] = []
    tokens, gaps = 0, []
    for number in range(ROUNDS + 1):
        start = time.perf_counter()
        drawn = sample(parts, number)
        seconds = time.perf_counter() - start
        tokens = sum(len(c.token_ids) for _, c in drawn)
        speeds += [tokens / seconds] if number else []
        if number in (1, 2):
            rows = [row(prompt, c) for prompt, c in drawn]
            for r, theirs in zip(rows, learner.logprobs(rows), strict=True):
                gaps += [abs(a - b) for a, b in zip(r.sampling_logprobs or (), theirs, strict=True)]
    return (
        f"{recipe.engine}: ready in {ready:.0f} s; {len(drawn)} samples, {tokens} tokens; "
        f"{median(speeds):.0f} tokens/s ({min(speeds):.0f} to {max(speeds):.0f}); "
        f"gap: mean {sum(gaps) / len(gaps):.2g}, largest {max(gaps):.2g} over {len(gaps)} tokens "
        f"({parts.machine}, load {os.getloadavg()[0]:.1f})"
    )


def row(prompt: tuple[int, ...], c: Completion) -> Row:
    return Row(prompt, c.token_ids, c.logprobs, "p", "rollout", 0, mask=(1,) * len(c.token_ids)).add(
        "group", 1.0
    )


def main() -> None:
    for engine in ("local", "vllm"):
        print(measure(Recipe.load(sys.argv[1], [*sys.argv[2:], f"engine={engine}"])), flush=True)


if __name__ == "__main__":
    main()
