"""VinePPO (arXiv:2410.01679): PPO whose values are Monte-Carlo estimates, one per step.

1. A step is a line of a rollout. The value of the text up to a step is the mean reward of K continuations
   from there: V(s) = 1/K sum_k R. They give values only; they are not trained on.
2. Every token of a step has the step's advantage V(next) - V(here), without discount; V after the last
   step is the rollout's reward.
3. Rollouts that begin alike share the values of their common steps, as in the authors' code.
4. Departs from the paper in leaving out the KL term; in V(x) of the problem itself, the mean reward of the
   group's other rollouts, which are continuations from there already; and in valuing at most `states`
   steps of a rollout, evenly spread [ours]: K continuations of every line are many tokens, and lines
   between two valued ones share their advantage. The loss is PPO's clipped ratio with the mean over
   tokens. Described after the abstract and the authors' code; equation numbers could not be checked.

    kintsugi train recipes/quickstart.yaml algorithm=vineppo
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import Field

from kintsugi.algorithms.base import Algorithm, leave_one_out, rewards, rollout_rows, step_starts
from kintsugi.records import Episode, Extra, Problem, Rollout, Row
from kintsugi.sampling.context import Context
from kintsugi.sampling.play import Asking, together


def spread(places: tuple[int, ...], most: int) -> tuple[int, ...]:
    """At most `most` of the places, evenly spread."""
    n = len(places)
    return places if n <= most else tuple(places[(2 * k + 1) * n // (2 * most)] for k in range(most))


def run(problem: Problem, ctx: Context, continuations: int, states: int) -> Asking[Episode]:
    """Rollouts, and as extras K continuations of every valued beginning."""
    rollouts = yield from ctx.group(problem)
    places: dict[tuple[int, ...], tuple[int, int]] = {}
    for i, rollout in enumerate(rollouts):
        ids = rollout.completion.token_ids
        for at in spread(step_starts(ids, ctx.codec)[1:], states):
            places.setdefault(ids[:at], (i, at))
    prompt = ctx.solve_prompt(problem)
    groups = yield from together(
        ctx.sample(
            problem,
            prompt,
            continuations,
            "check",
            f"{i}/{at}",
            prefix=prefix,
            draft=rollouts[i].completion.token_ids[at:],
        )
        for prefix, (i, at) in places.items()
    )
    found = zip(places.values(), groups, strict=True)
    return Episode(problem, rollouts, extras=tuple(Extra("check", *of, r) for of, g in found for r in g))


def state_values(episode: Episode) -> dict[tuple[int, ...], float]:
    """V by beginning: the mean reward of its continuations that have one."""
    found: dict[tuple[int, ...], list[float]] = {}
    for e in episode.extras:
        ids = episode.rollouts[e.of].completion.token_ids[: e.at]
        found.setdefault(ids, []).extend(rewards([e.rollout]))
    return {ids: sum(state_values) / len(state_values) for ids, state_values in found.items() if state_values}


def step_advantages(rollout: Rollout, start: float, value: dict[tuple[int, ...], float]) -> list[float]:
    """V(next) - V(here) on every token; `start` is V(x)."""
    ids = rollout.completion.token_ids
    known = {len(p): v for p, v in value.items() if ids[: len(p)] == p and len(p) < len(ids)}
    ends = [*sorted(known), len(ids)]
    credit: list[float] = []
    here = start
    for end in ends:
        after = known.get(end, rollout.verdict.total)
        credit += [after - here] * (end - len(credit))
        here = after
    return credit


def rows(episode: Episode) -> list[Row]:
    """One row per rollout, credited step by step."""
    group, value, made = rollout_rows(episode), state_values(episode), []
    for member, over in zip(group, leave_one_out(rewards(episode.rollouts)), strict=True):
        rollout = episode.rollouts[member.index]
        made.append(member.add("step", step_advantages(rollout, rollout.verdict.total - over, value)))
    return made


def vineppo(
    continuations: Annotated[int, Field(ge=1, description="continuations that value a step (K)")] = 3,
    states: Annotated[int, Field(ge=1, description="steps valued in a rollout at most")] = 4,
) -> Algorithm:
    return Algorithm(
        "vineppo",
        partial(run, continuations=continuations, states=states),
        rows,
        level="token",
        clip_low=0.2,
        clip_high=0.2,
        reduction="token",
        note=f"{continuations} continuations of up to {states} steps of each rollout",
        reasons={
            "step": "value after the step − value before it; a value is the mean reward of continuations from there"
        },
    )
