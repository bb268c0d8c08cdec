"""A rival without repairs: GRPO that credits only the tokens of which the policy was unsure.

arXiv:2605.06241 finds that RL moves few positions, those of high entropy, and gets there by a contrast of passes and
failures at these positions alone. Here the group advantage falls on the `share` least likely tokens of a group's
rollouts, as they were sampled; the surprisal of a sampled token is a one-sample estimate of the entropy there, and
costs nothing. All else is `without_seams`: GRPO with the mean over tokens, here over the credited ones.

    kintsugi train recipes/learning/brackets.yaml algorithm=benchmarks/contrast.py:CONTRAST
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from kintsugi.algorithms.base import Algorithm, outcome_rows, run_rollouts
from kintsugi.records import Episode, Row


def CONTRAST(
    share: Annotated[
        float, Field(gt=0, le=1, description="of a group's tokens, the share that is credited")
    ] = 0.2,
) -> Algorithm:
    """Group advantages at the least likely `share` of each group's tokens."""

    def rows(episode: Episode) -> list[Row]:
        made = outcome_rows(episode)
        seen = sorted(logprob for row in made for logprob in row.sampling_logprobs or ())
        bound = seen[min(len(seen) - 1, round(share * len(seen)))] if seen else 0.0
        return [unsure(row, bound) for row in made]

    return Algorithm("contrast", run_rollouts, rows, level="token", reduction="token", outcome_only=True)


def unsure(row: Row, bound: float) -> Row:
    """The row with its credit, and its count in the mean, on the tokens less likely than `bound` (in nats) alone."""
    gate = [int(logprob < bound) for logprob in row.sampling_logprobs or ()]
    credit = [a * g for a, g in zip(row.advantages, gate, strict=True)]
    return replace(row, mask=tuple(gate), credit={"group": tuple(credit)})
