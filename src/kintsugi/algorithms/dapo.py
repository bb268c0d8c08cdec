"""DAPO (arXiv:2503.14476): GRPO with clip-higher, token mean, dynamic sampling, overlong filtering.

1. The ratio is clipped to 1 - 0.2 and 1 + 0.28: rare tokens may grow.
2. The loss is the mean over all tokens of the batch, so long rollouts count by their length.
3. Groups whose rewards are all equal teach nothing and are replaced. The paper draws other problems until
   the batch is full; here each problem draws another group of its own, up to `draws` times in all, and is
   left out of the batch if none is mixed. Every drawn token is counted; accuracy is the first draw's.
4. Truncated rollouts count in their group's mean and std, but are not trained on. The paper's soft
   punishment of lengths (eq. 13) is left out: rewards stay the verifier's.

    kintsugi train recipes/quickstart.yaml algorithm=dapo
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import Field

from kintsugi.algorithms.base import Algorithm, compared, rewards, rollout_rows, row
from kintsugi.records import Episode, Extra, Problem, Rollout, Row
from kintsugi.sampling.context import Context
from kintsugi.sampling.play import Asking


def mixed(group: tuple[Rollout, ...]) -> bool:
    """True if the group's rewards differ."""
    return len(set(rewards(group))) > 1


def run(problem: Problem, ctx: Context, draws: int) -> Asking[Episode]:
    """The first group, and as extras the groups drawn because those before were not mixed."""
    first = group = yield from ctx.group(problem)
    extras: list[Extra] = []
    for draw in range(2, draws + 1):
        if mixed(group):
            break
        group = yield from ctx.sample(
            problem, ctx.solve_prompt(problem), len(first), "rollout", index=f"draw/{draw}"
        )
        extras += [Extra("rollout", draw, 0, r) for r in group]
    return Episode(problem, first, extras=tuple(extras))


def rows(episode: Episode) -> list[Row]:
    """The rows of the last group drawn, if its rewards differ; none for truncated rollouts."""
    last = episode.extras[-1].of if episode.extras else 1
    group = [row(episode, i, "extra") for i, e in enumerate(episode.extras) if e.of == last]
    group = group or rollout_rows(episode)
    if not mixed(tuple(episode.text(r.kind, r.index) for r in group)):
        return []
    made = compared(group, episode)
    return [r for r in made if not episode.text(r.kind, r.index).truncated]


def dapo(
    draws: Annotated[
        int, Field(ge=1, description="groups drawn of a problem at most, until rewards differ")
    ] = 2,
) -> Algorithm:
    return Algorithm(
        "dapo",
        partial(run, draws=draws),
        rows,
        level="token",
        clip_low=0.2,
        clip_high=0.28,
        reduction="token",
        outcome_only=True,
        note=f"up to {draws} groups of a problem until rewards differ",
    )
