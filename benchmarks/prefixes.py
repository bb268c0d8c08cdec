"""CPU seconds of reading prompts that share their beginnings: once for all beside each by itself, in turns.

    python -m benchmarks.prefixes            # a table of Markdown

Repairs of groups of three failures each, of random tokens: how long it takes does not depend on them.
"""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import dataclass
from unittest.mock import patch

import torch
from benchmarks.engine.models import endless_model
from transformers import PreTrainedModel

from kintsugi.sampling import prefill
from kintsugi.sampling.base import Request, SamplingParams, generate
from kintsugi.sampling.local import LocalSampler

FAILURES = 3


@dataclass(frozen=True, slots=True)
class Work:
    """Groups whose repair prompts share so many tokens, with a failure and more tokens of their own after them."""

    name: str
    size: str
    groups: int
    shared: int
    own: int
    pairs: int


WORK = (
    Work("nano, question shared", "nano", 1, 45, 102, 15),
    Work("nano, question shared", "nano", 12, 45, 102, 15),
    Work("nano, question and anchor shared", "nano", 1, 96, 51, 15),
    Work("nano, question and anchor shared", "nano", 12, 96, 51, 15),
    Work("135m, question and anchor shared", "135m", 2, 260, 210, 3),
)


def requests(work: Work, vocabulary: int) -> list[Request]:
    draw = random.Random(work.name)
    found = []
    for _ in range(work.groups):
        start = draw.choices(range(1, vocabulary), k=work.shared)
        for seed in range(FAILURES):
            rest = draw.choices(range(1, vocabulary), k=work.own + draw.randint(-8, 8))
            found.append(Request((*start, *rest), SamplingParams(1, seed=seed)))
    return found


def seconds(trained: PreTrainedModel, asked: list[Request], share: bool) -> float:
    """CPU seconds of one session."""
    sampler = LocalSampler(trained, pad_id=0, token_budget=10**6)
    pays_from = prefill.PAYS_FROM if share else 10**9
    with patch.object(prefill, "PAYS_FROM", pays_from):
        begin = time.process_time()
        generate(sampler, asked)
        return time.process_time() - begin


def main() -> None:
    torch.set_num_threads(1)
    print("| prompts | groups of 3 | tokens shared, own | shared, s | apart, s | ratio |")
    print("|---|---|---|---|---|---|")
    for work in WORK:
        trained = endless_model(work.size).eval()
        asked = requests(work, trained.config.vocab_size)
        seconds(trained, asked, share=True)
        pairs = [(seconds(trained, asked, True), seconds(trained, asked, False)) for _ in range(work.pairs)]
        once, apart = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(
            f"| {work.name} | {work.groups} | {work.shared}, {work.own} | {once:.3f} | {apart:.3f} | {ratio:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
