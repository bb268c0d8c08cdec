"""Do the sampler and the learner hold the same policy? Compares their log-probabilities of sampled tokens.

A ratio of the loss compares the learner with itself, so a sampler that is out of date, or far less precise,
goes unnoticed there: it only makes the samples off-policy. This says so, with numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kintsugi.records import Row
from kintsugi.sampling.base import RowStats, StepStats

TOLERATED = {"float32": 1e-3, "bfloat16": 0.1}
"""The largest mean gap, in nats a token, that rounding alone is taken to explain (docs/engines.md measures it).

The mean decides: in bfloat16 single tokens were off by up to 0.96 between two correct engines.
"""

GROWTH = 2.0
"""A warning is repeated once the mean gap is this many times what was last warned of."""


@dataclass(frozen=True, slots=True)
class Gap:
    """|log-prob of the sampler - log-prob of the learner|, in nats, over `tokens` sampled tokens."""

    largest: float
    mean: float
    tokens: int


def measure_gap(rows: Sequence[Row], stats: StepStats) -> Gap | None:
    """The step's gap, over rows that both have computed log-probabilities of; None without such a row.

    Rows whose old log-probabilities are the sampler's own say nothing (LocalLearner.sampler_exact).
    """
    gaps = [
        abs(a - b)
        for row, row_stats in zip(rows, stats.rows, strict=True)
        if row_stats is not None and row.sampling_logprobs is not None and not taken(row, row_stats)
        for a, b, gate in zip(row.sampling_logprobs, row_stats.old_logprobs, row.mask, strict=True)
        if gate  # the learner computes no others
    ]
    return Gap(max(gaps), math.fsum(gaps) / len(gaps), len(gaps)) if gaps else None


def taken(row: Row, stats: RowStats) -> bool:
    """True if the old log-probabilities are, float for float, those of the sampler."""
    pairs = zip(row.sampling_logprobs or (), stats.old_logprobs, row.mask, strict=True)
    return all(a == b for a, b, gate in pairs if gate)


@dataclass(slots=True)
class MismatchWatch:
    """Warns when the gap of a step is beyond what rounding explains: once, and again when it has grown.

    `dtype` is what sampler and learner compute in, as "float32". With `top_p` below 1 the sampler's
    probabilities are those of its nucleus, larger than the learner's by up to 1 / top_p: that is allowed for.
    """

    dtype: str
    top_p: float = 1.0
    warned: float = 0.0

    def check(self, rows: Sequence[Row], stats: StepStats) -> str | None:
        """The warning that this step deserves, one line, or None."""
        gap = measure_gap(rows, stats)
        tolerated = TOLERATED[self.dtype] - math.log(self.top_p)
        if gap is None or gap.mean <= max(tolerated, GROWTH * self.warned):
            return None
        self.warned = gap.mean
        return (
            f"sampler and learner disagree: their log-probabilities of {gap.tokens} sampled tokens differ by "
            f"{gap.mean:.2g} in the mean and {gap.largest:.2g} at most (mean tolerated in {self.dtype}: "
            f"{tolerated:.2g}); either the sampler's weights are out of date, or it rounds more coarsely "
            "(dtype=float32), or it cannot run this model exactly (engine=local)"
        )
