"""A model's perplexity on ordinary text, which shows what training made it forget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from kintsugi.assembly import Parts
from kintsugi.learning.scoring import Scorer, Target, micro_batches
from kintsugi.records import KintsugiError
from kintsugi.run.console import Reporter
from kintsugi.sampling.sample import positions_of

WINDOW = 1024
"""Tokens seen at once, where the model can see as many."""


@dataclass(frozen=True, slots=True)
class Fit:
    """`nats` per token over the `tokens` that were scored."""

    tokens: int
    nats: float

    @property
    def perplexity(self) -> float:
        return math.exp(self.nats)

    def __str__(self) -> str:
        return f"{self.nats:.4f} nats a token, perplexity {self.perplexity:.2f}"


def windows(ids: Sequence[int], size: int) -> Iterator[Target]:
    """Every token but the first once, half a window at a time, each after the half (or what there is) before it."""
    half = size // 2
    for at in range(1, len(ids), half):
        piece = tuple(ids[at : at + half])
        yield Target(tuple(ids[max(0, at - half) : at]), piece, (True,) * len(piece), ())


def fit(parts: Parts, text: str, out: Reporter | None = None) -> Fit:
    """The model's cross entropy on a text, at temperature 1; `out` shows how far it is. KintsugiError where there is
    nothing to score."""
    out = out or Reporter()
    loaded = parts.loaded
    ids = loaded.codec.encode(text)
    if len(ids) < 2:
        raise KintsugiError(f"--text: expected a text of two tokens at least, got {len(ids)}")
    targets = list(windows(ids, min(WINDOW, positions_of(loaded.model.config) or WINDOW)))
    loaded.model.eval()
    scorer = Scorer(loaded.model, loaded.tokenizer.pad_token_id, 1.0, parts.autocast)
    sums: list[float] = []
    done = 0
    with torch.no_grad(), out, out.working("reading the text", len(targets), "windows") as reach:
        for chunk in micro_batches(targets, parts.recipe.optim.token_budget, scorer.passing):
            sums.append(float(scorer(chunk).double().sum()))
            done += len(chunk)
            reach(done, done)
            out.pulse(lambda: 0.0)
    return Fit(len(ids) - 1, -math.fsum(sums) / (len(ids) - 1))
