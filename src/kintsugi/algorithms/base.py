"""An algorithm is one generator that makes an episode and one pure function that gives credit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kintsugi.learning.objective import Objective
from kintsugi.records import Episode, Kind, Level, Problem, Reduction, Rollout, Row, Term
from kintsugi.sampling.context import Codec, Context
from kintsugi.sampling.play import Asking

Advantages = Callable[[Sequence[float]], list[float]]
"""The rewards of a group to their advantages."""


OVER_THE_GROUP = "(reward − mean) / standard deviation of the group's rewards, on every token"


@dataclass(frozen=True, slots=True)
class Algorithm:
    """`run` makes an episode of a problem, `rows` turns episodes into training rows.

    `level` is where ratios are taken (token or sequence), clipped at 1 - clip_low and 1 + clip_high;
    `widen` scales that range with the gate, `reduction` is how rows come to one loss (both in
    kintsugi.learning.objective.Objective). `note` tells what the options come to. `scores`: the run asks for
    log-probabilities of the trainer, which not every bridge can give. `outcome_only`: nothing but whole rollouts
    and their rewards decides its credit. `reasons`: the words for each reason of its credit, with their numbers; the
    report shows them.
    """

    name: str
    run: Callable[[Problem, Context], Asking[Episode]]
    rows: Callable[[Episode], list[Row]]
    level: Level
    clip_low: float = 0.2
    clip_high: float = 0.2
    widen: bool = False
    reduction: Reduction = "row"
    note: str = ""
    scores: bool = False
    outcome_only: bool = False
    reasons: Mapping[str, str] = field(default_factory=lambda: {"group": OVER_THE_GROUP})

    def objective(
        self, horizon: int, clip_low: float | None = None, clip_high: float | None = None
    ) -> Objective:
        """The objective of its rows. Completions have at most `horizon` tokens; a clip range of None is its own."""
        return Objective(
            self.level,
            self.clip_low if clip_low is None else clip_low,
            self.clip_high if clip_high is None else clip_high,
            self.widen,
            self.reduction,
            horizon,
        )


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


def row(
    episode: Episode, index: int, kind: Kind = "rollout", *, term: Term = "policy", weight: float = 1.0
) -> Row:
    """A text of the episode under the prompt that it was sampled from: all tokens count, none has credit."""
    sampled = episode.text(kind, index)
    ids, logprobs = sampled.completion.token_ids, sampled.completion.logprobs
    return Row(
        prompt_ids=sampled.prompt_ids,
        completion_ids=ids,
        sampling_logprobs=logprobs,
        problem_id=episode.problem.id,
        kind=kind,
        index=index,
        mask=(1,) * len(ids),
        term=term,
        weight=weight,
    )


def run_rollouts(problem: Problem, ctx: Context) -> Asking[Episode]:
    """The episode of an outcome-only algorithm: G rollouts with their verdicts."""
    return Episode(problem, (yield from ctx.group(problem)))


def rewards(rollouts: Iterable[Rollout]) -> list[float]:
    """The rewards of the rollouts that have one: those whose verifier broke down (`error`) have none."""
    return [r.verdict.total for r in rollouts if not r.verdict.broken]


def rollout_rows(episode: Episode) -> list[Row]:
    """A row for every rollout that has a reward, without credit."""
    return [row(episode, i) for i, rollout in enumerate(episode.rollouts) if not rollout.verdict.broken]


def compared(
    rows: Sequence[Row], episode: Episode, credit: Advantages = group_advantages, reason: str = "group"
) -> list[Row]:
    """The rows as one group: those that have a reward, with the credit that it earns among them."""
    group = [(r, text) for r in rows if not (text := episode.text(r.kind, r.index)).verdict.broken]
    earned = credit(rewards(text for _, text in group))
    return [r.add(reason, a) for (r, _), a in zip(group, earned, strict=True)]


def outcome_rows(episode: Episode, credit: Advantages = group_advantages) -> list[Row]:
    """Every rollout of the group with its outcome's credit on every token."""
    return compared(rollout_rows(episode), episode, credit)


def step_starts(ids: Sequence[int], codec: Codec) -> tuple[int, ...]:
    """The positions at which the steps of a completion begin, 0 included. A step is a line.

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
        return [r if r.term == "repair" else replace(r, credit={}).add("lone pass", 0.0) for r in made]

    return replace(algorithm, rows=rows)
