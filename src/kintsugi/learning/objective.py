"""The objective, by which credit becomes one loss, and each row's scale. The learner and the bridges share it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kintsugi.records import Level, Reduction, Row


@dataclass(frozen=True, slots=True)
class Objective:
    """The loss that credit becomes: the level at which ratios are taken, and the range to which they are clipped.

    widen: scale the clip range of a row by sqrt(T / active tokens): the mean of log-ratios over fewer
    tokens is noisier by that factor, and GSPO's range is meant for whole sequences.
    reduction: how row losses, which are token means, come to one number (see `share`); `horizon` is the
    longest completion, in tokens, for "constant".
    """

    level: Level
    clip_low: float = 0.2
    clip_high: float = 0.2
    widen: bool = False
    reduction: Reduction = "row"
    horizon: int = 1


def row_share(objective: Objective, active: int) -> tuple[float, float]:
    """(what a row's loss is multiplied by, what the row adds to the divisor) with `active` gated tokens.

    row: the mean over rows. token: the mean over all tokens of all rows (DAPO, arXiv:2503.14476).
    constant: a row's sum over tokens divided by one constant, the horizon, and then the mean over rows, so
    that a row's length never divides its credit (Dr. GRPO, arXiv:2503.20783).
    """
    if objective.reduction == "token":
        return active, active
    if objective.reduction == "constant":
        return active / objective.horizon, 1
    return 1, 1


def row_scales(rows: Sequence[Row], objective: Objective) -> list[float]:
    """The factor of each row's loss, which is a mean over its gated tokens. The products add up to the batch's loss.

    That loss is the mean of the policy rows plus the mean of the repair rows, each row times its weight.
    """
    divisors = defaultdict[str, float](float)
    for row in rows:
        divisors[row.term] += row_share(objective, row.active)[1]
    # A divisor of 0: nothing is gated there, and nothing gets credit.
    return [row.weight * row_share(objective, row.active)[0] / (divisors[row.term] or 1.0) for row in rows]


def flattened(rows: Sequence[Row], objective: Objective) -> list[Row]:
    """The rows with their place in the loss folded into their credit, for trainers that know none of it.

    The sum over all gated tokens of all rows of -min(w A, clip(w) A), with w the token's or the sequence's
    ratio, is then the batch's loss: both are proportional to A, so a factor that is never negative may move
    into it. `weight` is 1 afterwards.
    """
    return [
        replace(row, credit={}, weight=1.0).add(
            "loss", [scale / max(1, row.active) * a for a in row.advantages]
        )
        for row, scale in zip(rows, row_scales(rows, objective), strict=True)
    ]
