"""What an algorithm is: one generator that makes an episode, one pure function that gives credit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kintsugi.config import Section
from kintsugi.engines.play import Run
from kintsugi.internalize.context import Codec, Context
from kintsugi.objective import Objective
from kintsugi.records import Episode, Level, Problem, Reduction, Role, Rollout, Row

Credit = Callable[[Sequence[float]], list[float]]
"""The rewards of a group to their advantages."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """`run` makes an episode of a problem, `rows` turns episodes into training rows.

    `level` is where ratios are taken (token or sequence), clipped at 1 - clip_low and 1 + clip_high;
    `widen` scales that range with the gate, `reduction` is how rows come to one loss (both in
    kintsugi.objective.Objective). `note` tells what the options come to.
    """

    name: str
    run: Callable[[Problem, Context], Run[Episode]]
    rows: Callable[[Episode], list[Row]]
    level: Level
    clip_low: float = 0.2
    clip_high: float = 0.2
    widen: bool = False
    reduction: Reduction = "row"
    note: str = ""

    def objective(
        self, horizon: int, clip_low: float | None = None, clip_high: float | None = None
    ) -> Objective:
        """How its rows come to a loss, completions having at most `horizon` tokens; None: its own clip range."""
        return Objective(
            self.level,
            self.clip_low if clip_low is None else clip_low,
            self.clip_high if clip_high is None else clip_high,
            self.widen,
            self.reduction,
            horizon,
        )


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


def centred(rewards: Sequence[float]) -> list[float]:
    """r - mean of the group, not divided by its spread."""
    return [r - sum(rewards) / len(rewards) for r in rewards]


def leave_one_out(rewards: Sequence[float]) -> list[float]:
    """r - mean of the others; 0 for one without others."""
    n, total = len(rewards), sum(rewards)
    return [r - (total - r) / (n - 1) if n > 1 else 0.0 for r in rewards]


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


def run_rollouts(problem: Problem, ctx: Context) -> Run[Episode]:
    """The episode of an outcome-only algorithm: G rollouts with their verdicts."""
    return Episode(problem, (yield from ctx.group(problem)))


def judged(rollouts: Iterable[Rollout]) -> list[Rollout]:
    """The rollouts that have a reward: those whose verifier broke down (`error`) have none."""
    return [r for r in rollouts if r.verdict.state != "error"]


def group_rows(
    problem: Problem,
    rollouts: Iterable[Rollout],
    name: str = "rollouts",
    credit: Credit = group_advantages,
    role: Role = "policy",
) -> list[Row]:
    """Every judged rollout with the credit that its reward earns in this group, on every token."""
    group = judged(rollouts)
    advantages = credit([r.verdict.reward for r in group])
    return [
        uniform_row(rollout, advantage, role, problem, f"{problem.id}/{name}")
        for rollout, advantage in zip(group, advantages, strict=True)
    ]


def outcome_rows(episode: Episode, credit: Credit = group_advantages) -> list[Row]:
    """Every rollout of the group with its outcome's credit on every token."""
    return group_rows(episode.problem, episode.rollouts, credit=credit)


def step_starts(ids: Sequence[int], codec: Codec) -> tuple[int, ...]:
    """Where the steps of a completion begin, 0 included: a step is a line.

    A line begins after a token with a line break, where there is text to come in the next token.
    """
    texts = [codec.decode([i]) for i in ids]
    breaks = (t for t in range(1, len(ids)) if "\n" in texts[t - 1] and texts[t].strip())
    return (0, *breaks)


def believed(algorithm: Algorithm, witnesses: int) -> Algorithm:
    """The algorithm without credit in groups that hold a pass, but fewer than `witnesses`: a lone pass may be luck.

    Their rollouts count in the mean, and what repair mode wrote is trained as ever.
    """
    if witnesses <= 1:
        return algorithm

    def rows(episode: Episode) -> list[Row]:
        if not 0 < sum(r.verdict.passed for r in episode.rollouts) < witnesses:
            return algorithm.rows(episode)
        made = algorithm.rows(replace(episode, seams=()))
        return [
            row if row.role == "repair" else replace(row, advantages=(0.0,) * len(row.mask)) for row in made
        ]

    return replace(algorithm, rows=rows)


def settled(rows: Sequence[Row], logprobs: Callable[[Sequence[Row]], Sequence[Sequence[float]]]) -> list[Row]:
    """The rows with the credit that takes log-probabilities to know. `logprobs` gives the present policy's.

    With a teacher: times log pi(t | teacher's prompt) - log pi(t).
    """
    done = list(rows)
    taught = [i for i, row in enumerate(rows) if row.teacher_prompt_ids is not None]
    if not taught:
        return done
    teachers = [replace(rows[i], prompt_ids=rows[i].teacher_prompt_ids or ()) for i in taught]
    found = list(logprobs([*(rows[i] for i in taught), *teachers]))
    for i, own, told in zip(taught, found[: len(taught)], found[len(taught) :], strict=True):
        credit = tuple(a * (q - p) for a, p, q in zip(rows[i].advantages, own, told, strict=True))
        done[i] = replace(rows[i], advantages=credit)
    return done
