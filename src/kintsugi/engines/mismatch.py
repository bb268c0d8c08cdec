"""Do the sampler and the learner hold the same policy? Compares their log-probabilities of sampled tokens.

A ratio of the loss compares the learner with itself, so a sampler that is out of date, or far less precise,
goes unnoticed there: it only makes the samples off-policy. This says so, with numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kintsugi.engines.base import StepStats
from kintsugi.records import Row

GROWTH = 2.0
"""A warning is repeated once the largest difference is this many times what was last warned of."""


@dataclass(frozen=True, slots=True)
class Gap:
    """|log-prob of the sampler - log-prob of the learner| over `tokens` sampled tokens."""

    largest: float
    mean: float
    tokens: int


def gap(rows: Sequence[Row], stats: StepStats) -> Gap | None:
    """The step's gap, over rows that both have log-probabilities of; None without such a row."""
    differences = [
        abs(a - b)
        for row, row_stats in zip(rows, stats.rows, strict=True)
        if row_stats is not None and row.sampling_logprobs is not None
        for a, b in zip(row.sampling_logprobs, row_stats.old_logprobs, strict=True)
    ]
    if not differences:
        return None
    return Gap(max(differences), sum(differences) / len(differences), len(differences))
