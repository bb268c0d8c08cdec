"""Does a completion depend on what it is sampled beside? Alone and in a batch, token by token.

python -m benchmarks.batch_mates [MODEL] [float32|bfloat16]
"""

from __future__ import annotations

import sys

from kintsugi.assembly import assemble
from kintsugi.config import Recipe
from kintsugi.sampling.base import Request, SamplingParams, generate


def main(model: str = "nano", dtype: str = "float32") -> None:
    recipe = Recipe.load("recipes/quickstart.yaml", [f"model={model}", f"dtype={dtype}", "threads=1"])
    parts = assemble(recipe)
    codec = parts.loaded.codec
    prompts = [codec.chat(parts.prompts.solve(p.prompt)) for p in parts.train_problems[:64]]

    def params(seed: int) -> SamplingParams:
        return SamplingParams(80, 1.0, 1.0, seed, codec.stop_ids)

    beside = generate(parts.sampler, [Request(p, params(i), 2) for i, p in enumerate(prompts)])
    alone = [generate(parts.sampler, [Request(p, params(i), 1)])[0] for i, p in enumerate(prompts)]
    same, gap, tokens = 0, 0.0, 0
    for (one,), (other, _) in zip(alone, beside, strict=True):
        same += one.token_ids == other.token_ids
        pairs = zip(one.token_ids, other.token_ids, one.logprobs, other.logprobs, strict=False)
        for a, b, x, y in pairs:
            if a != b:
                break
            tokens += 1
            gap = max(gap, abs(x - y))
    print(f"{model} {dtype}: {same} of {len(prompts)} completions are the same alone and among {2 * len(prompts)}; "
          f"largest difference of a log-probability {gap:.1e} over {tokens} tokens")  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
