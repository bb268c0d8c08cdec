"""MGRPO (arXiv:2506.04746): a second layer of GRPO in which the model corrects its own answer.

1. First layer: rollouts and advantages as in GRPO.
2. Second layer: the model is shown the problem and its own answer, and corrects it; the `candidates`
   corrections of one answer are a group, with the outcome as reward.
3. Both layers train the same weights: the sum of the two means.
4. Departs from the paper in what is corrected, failed answers that ended by themselves instead of all (the
   repair prompt says that the answer is wrong, and no other sibling is shown), and in the wording of that
   prompt. Described after its abstract.

    kintsugi train recipes/quickstart.yaml algorithm=mgrpo
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import Field

from kintsugi.algorithms.base import OVER_THE_GROUP, Algorithm, compared, outcome_rows, row
from kintsugi.mending.repair import mendable
from kintsugi.records import Episode, Extra, Problem, Row
from kintsugi.sampling.context import Context
from kintsugi.sampling.play import Asking, together


def run(problem: Problem, ctx: Context, candidates: int) -> Asking[Episode]:
    """Rollouts, and as extras the corrections of the failed ones."""
    rollouts = yield from ctx.group(problem)
    prompts = {
        i: ctx.ask(problem, ctx.prompts.repair(problem.prompt, r.text, None))
        for i, r in enumerate(rollouts)
        if mendable(r)
    }
    fitting = {i: p for i, p in prompts.items() if ctx.max_prompt is None or len(p) <= ctx.max_prompt}
    groups = yield from together(
        ctx.sample(problem, p, candidates, "repair", i, draft=rollouts[i].completion.token_ids)
        for i, p in fitting.items()
    )
    found = zip(fitting, groups, strict=True)
    return Episode(problem, rollouts, extras=tuple(Extra("repair", i, 0, r) for i, g in found for r in g))


def rows(episode: Episode) -> list[Row]:
    """The first layer's rows, and one repair row per correction, by the answer it corrects."""
    made = outcome_rows(episode)
    for i in sorted({e.of for e in episode.extras}):
        group = [row(episode, j, "extra", term="repair") for j, e in enumerate(episode.extras) if e.of == i]
        made += compared(group, episode, reason="correction")
    return made


def mgrpo(
    candidates: Annotated[int, Field(ge=2, description="corrections sampled per failed answer")] = 2,
) -> Algorithm:
    return Algorithm(
        "mgrpo",
        partial(run, candidates=candidates),
        rows,
        level="token",
        note=f"{candidates} corrections of each failure",
        reasons={
            "group": OVER_THE_GROUP,
            "correction": f"{OVER_THE_GROUP}; the group is the corrections of one answer",
        },
    )
