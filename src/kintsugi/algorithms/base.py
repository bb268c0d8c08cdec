"""What an algorithm is: one coroutine that makes an episode, one pure function that gives credit."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kintsugi.config import Section
from kintsugi.internalize.context import Context
from kintsugi.records import Episode, Level, Problem, Reduction, Role, Rollout, Row


@dataclass(frozen=True, slots=True)
class Algorithm:
    """`run` makes an episode of a problem, `rows` turns episodes into training rows.

    `level` is where ratios are taken (token or sequence), clipped at 1 - clip_low and 1 + clip_high;
    `widen` scales that range with the gate, `reduction` is how rows come to one loss (both in
    kintsugi.loss.Objective). `needs_group`: refuses G = 1. `note` tells what the options come to.
    """

    name: str
    run: Callable[[Problem, Context], Awaitable[Episode]]
    rows: Callable[[Episode], list[Row]]
    level: Level
    clip_low: float
    clip_high: float
    widen: bool = False
    reduction: Reduction = "row"
    needs_group: bool = True
    note: str = ""


class NoOptions(Section):
    pass


@dataclass(frozen=True, slots=True)
class Family:
    """An algorithm by its options: what the recipe may say beside `name`, and what that builds."""

    options: type[Section]
    build: Callable[[Any], Algorithm]


def plain(algorithm: Algorithm) -> Family:
    """An algorithm that takes no options."""
    return Family(NoOptions, lambda _: algorithm)


def group_advantages(rewards: Sequence[float]) -> list[float]:
    """(r - mean) / std of the group, with the population's std; all 0 where the rewards are equal.

    GRPO, arXiv:2402.03300, section 4.1.2.
    """
    if not rewards:
        return []
    mean = sum(rewards) / len(rewards)
    std = math.sqrt(sum((r - mean) ** 2 for r in rewards) / len(rewards))
    return [(r - mean) / std if std > 1e-8 else 0.0 for r in rewards]


def uniform_row(
    rollout: Rollout, advantage: float, role: Role, problem: Problem, group: str, weight: float = 1.0
) -> Row:
    """A row that spreads one advantage over every token of a completion, conditioned on its own prompt."""
    n = len(rollout.completion.token_ids)
    return Row(
        prompt_ids=rollout.prompt_ids,
        completion_ids=rollout.completion.token_ids,
        mask=(1,) * n,
        advantages=(advantage,) * n,
        sampling_logprobs=rollout.completion.logprobs,
        role=role,
        problem_id=problem.id,
        group_id=group,
        weight=weight,
    )


async def run_rollouts(problem: Problem, ctx: Context) -> Episode:
    """The episode of an outcome-only algorithm: G rollouts with their verdicts."""
    return Episode(problem, await ctx.rollouts(problem, ctx.recipe.sampling.group_size))


def outcome_rows(episode: Episode) -> list[Row]:
    """Every rollout with its group-relative outcome advantage on every token.

    Rollouts whose verifier broke down (`error`) have no reward: they leave the group.
    """
    judged = [r for r in episode.rollouts if r.verdict.state != "error"]
    advantages = group_advantages([r.verdict.reward for r in judged])
    return [
        uniform_row(rollout, advantage, "policy", episode.problem, f"{episode.problem.id}/rollouts")
        for rollout, advantage in zip(judged, advantages, strict=True)
    ]
