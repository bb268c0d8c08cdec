"""Resets (arXiv:2605.25507): go back to a step of a failed rollout, and try again from there.

1. Rollouts and advantages as in GRPO: the base group.
2. A failed rollout is cut where a step (a line) begins; `continuations` new ones are sampled from there.
   They are a group of their own, with their own mean and std; the shared prefix gets no gradient.
3. `at: random` draws that step uniformly (the paper's RRPO). `at: self` takes the step the model itself
   holds for the first wrong one (SRPO): here the line in which its own repair of the failure, beside the
   nearest passing sibling if there is one, first departs from it. The paper asks the model for the step's
   number; repair mode is what models here are trained in. A repair that changes nothing locates nothing,
   and the step is drawn.
4. The defaults are the paper's split, one failure of a problem and four continuations; it takes them out of
   the group's eight rollouts, here they come on top and are counted. Described after the abstract and the
   authors' code; equation numbers could not be checked.

    kintsugi train recipes/quickstart.yaml algorithm=resets
"""

from __future__ import annotations

import random
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from kintsugi.algorithms.base import OVER_THE_GROUP, Algorithm, compared, outcome_rows, row, step_starts
from kintsugi.mending.repair import mendable
from kintsugi.mending.select import nearest_anchor
from kintsugi.records import Episode, Extra, Problem, Rollout, Row
from kintsugi.sampling.base import derive_seed
from kintsugi.sampling.context import Context
from kintsugi.sampling.play import Asking, together

Place = Literal["self", "random"]


def run(problem: Problem, ctx: Context, place: Place, failures: int, continuations: int) -> Asking[Episode]:
    """Rollouts, and as extras the repairs that locate a step and the continuations from it."""
    rollouts = yield from ctx.group(problem)
    failed = [i for i, r in enumerate(rollouts) if mendable(r)][:failures]
    resets = yield from together(reset(problem, rollouts, i, ctx, place, continuations) for i in failed)
    return Episode(problem, rollouts, extras=tuple(extra for made in resets for extra in made))


def reset(
    problem: Problem, rollouts: tuple[Rollout, ...], i: int, ctx: Context, place: Place, continuations: int
) -> Asking[list[Extra]]:
    """Resets rollout i and returns what was sampled for it: its location and its continuations."""
    ids = rollouts[i].completion.token_ids
    starts = step_starts(ids, ctx.codec)
    at = random.Random(derive_seed(ctx.recipe.seed, ctx.step, problem.id, "reset", i)).choice(starts)
    tried = (yield from repair(problem, rollouts, i, ctx)) if place == "self" else ()
    for r in tried:
        first = first_difference(ids, r.completion.token_ids)
        at = at if first is None else max(s for s in starts if s <= first)
    prompt = ctx.solve_prompt(problem)
    again = yield from ctx.sample(
        problem, prompt, continuations, "check", f"reset/{i}", prefix=ids[:at], draft=ids[at:]
    )
    return [*(Extra("repair", i, 0, r) for r in tried), *(Extra("check", i, at, r) for r in again)]


def repair(
    problem: Problem, rollouts: tuple[Rollout, ...], i: int, ctx: Context
) -> Asking[tuple[Rollout, ...]]:
    """The model's own repair of rollout i; none where its prompt is too long."""
    anchor = nearest_anchor(rollouts[i], [r for r in rollouts if r.solved])
    message = ctx.prompts.repair(problem.prompt, rollouts[i].text, anchor.text if anchor else None)
    prompt = ctx.ask(problem, message)
    if ctx.max_prompt is not None and len(prompt) > ctx.max_prompt:
        return ()
    return (yield from ctx.sample(problem, prompt, 1, "repair", i, draft=rollouts[i].completion.token_ids))


def first_difference(a: tuple[int, ...], b: tuple[int, ...]) -> int | None:
    """The first place where `a` differs from `b`, or None."""
    return next((t for t, token in enumerate(a) if t >= len(b) or token != b[t]), None)


def rows(episode: Episode) -> list[Row]:
    """The base group's rows and those of every reset, each group by itself."""
    made = outcome_rows(episode)
    for i in sorted({e.of for e in episode.extras}):
        again = [j for j, e in enumerate(episode.extras) if e.of == i and e.phase == "check"]
        made += compared([row(episode, j, "extra") for j in again], episode, reason="reset")
    return made


def resets(
    at: Annotated[Place, Field(description="step a failure is reset to: self or random")] = "self",
    failures: Annotated[int, Field(ge=1, description="failed rollouts of a problem that are reset")] = 1,
    continuations: Annotated[int, Field(ge=2, description="new rollouts from a reset")] = 4,
) -> Algorithm:
    return Algorithm(
        "resets",
        partial(run, place=at, failures=failures, continuations=continuations),
        rows,
        level="token",
        note=f"{failures} failed rollouts reset, {continuations} continuations of each",
        reasons={
            "group": OVER_THE_GROUP,
            "reset": f"{OVER_THE_GROUP}; the group is the continuations from one place",
        },
    )
