"""The control of IOP: its repair budget spent on more rollouts [ours].

1. A first group of G rollouts is verified, as in GSPO (arXiv:2507.18071).
2. Where IOP would repair (a failure that ended by itself, in a group with a pass or with an earlier pass
   in memory), `candidates` further rollouts are drawn for each failure: as many as IOP draws repairs.
3. The advantage is taken over the enlarged group; ratio and clip are GSPO's, as IOP's are.
4. Not matched: IOP's graft checks (tokens/check), and that repairs and rollouts differ in length. Raise
   `candidates` until tokens agree, or compare over all tokens generated. Accuracy is the first group's.

    kintsugi train recipes/quickstart.yaml algorithm=extra_rollouts
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import Field

from kintsugi.algorithms.base import Algorithm, compared, rollout_rows, row
from kintsugi.mending.repair import mendable
from kintsugi.records import Episode, Extra, Problem, Row
from kintsugi.sampling.context import Context
from kintsugi.sampling.play import Asking


def run(problem: Problem, ctx: Context, candidates: int) -> Asking[Episode]:
    """G rollouts, and as extras the rollouts that stand in for repairs."""
    rollouts = yield from ctx.group(problem)
    failures = sum(mendable(r) for r in rollouts)
    anchored = problem.id in ctx.memory or any(r.solved for r in rollouts)
    if not failures or not anchored:
        return Episode(problem, rollouts)
    more = yield from ctx.sample(
        problem, ctx.solve_prompt(problem), failures * candidates, "rollout", index="extra"
    )
    return Episode(problem, rollouts, extras=tuple(Extra("rollout", 2, 0, r) for r in more))


def rows(episode: Episode) -> list[Row]:
    """One row per rollout of the enlarged group."""
    extras = [row(episode, i, "extra") for i in range(len(episode.extras))]
    return compared([*rollout_rows(episode), *extras], episode)


def extra_rollouts(
    candidates: Annotated[int, Field(ge=1, description="further rollouts per failed rollout")] = 2,
) -> Algorithm:
    return Algorithm(
        "extra_rollouts",
        partial(run, candidates=candidates),
        rows,
        level="sequence",
        clip_low=3e-4,
        clip_high=4e-4,
        outcome_only=True,
        note=f"{candidates} further rollouts for each failure",
    )
