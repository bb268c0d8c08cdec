"""SDPO (arXiv:2601.20802): the model that has seen a passing sibling is its own teacher.

1. Rollouts as in GRPO. Rewards only decide who passed.
2. A failed rollout is scored again by the same weights under the repair prompt, which shows it and the
   nearest passing sibling. Its token credit is log pi(t | repair prompt) - log pi(t | x): what the teacher
   finds less likely is blamed, what it finds more likely is praised. No sample is drawn for it.
3. The gradient is that credit times grad log pi(t | x): the sampled-token form of the reverse KL to the
   teacher, to which the paper's policy gradient comes.
4. Departs from the paper in scoring the sampled token only, not the teacher's whole distribution; in the
   present weights as the teacher, not an average of past ones, which the paper finds stabler; and in the
   prompt: repair mode is what models here are trained in, so the teacher sees the failure too, and only
   failures have one (the paper's passes have another pass for a teacher). Rollouts without a teacher
   count in the mean, as in IOP. Described after the abstract and public reimplementations; equation
   numbers could not be checked.

    kintsugi train recipes/quickstart.yaml algorithm=sdpo
"""

from __future__ import annotations

from kintsugi.algorithms.base import Algorithm, rollout_rows
from kintsugi.mending.repair import mendable
from kintsugi.mending.select import nearest_anchor
from kintsugi.records import Episode, Problem, Row
from kintsugi.sampling.base import Score
from kintsugi.sampling.context import Context
from kintsugi.sampling.play import Asking


def run(problem: Problem, ctx: Context) -> Asking[Episode]:
    """Rollouts, and what its teacher makes of each failure that has a passing sibling."""
    rollouts = yield from ctx.group(problem)
    passing = [r for r in rollouts if r.solved]
    own: dict[int, Score] = {}
    told: dict[int, Score] = {}
    for i, rollout in enumerate(rollouts):
        anchor = nearest_anchor(rollout, passing)
        if anchor is None or not mendable(rollout):
            continue
        ids = rollout.completion.token_ids
        prompt = ctx.ask(problem, ctx.prompts.repair(problem.prompt, rollout.text, anchor.text))
        if ctx.max_prompt is None or len(prompt) + len(ids) <= ctx.max_prompt:
            own[i], told[i] = Score(rollout.prompt_ids, ids), Score(prompt, ids)
    scores = yield from ctx.score([*own.values(), *told.values()])
    pairs = zip(own, scores[: len(own)], scores[len(own) :], strict=True)
    teachers = {i: tuple(q - p for p, q in zip(mine, taught, strict=True)) for i, mine, taught in pairs}
    return Episode(problem, rollouts, teachers=teachers)


def rows(episode: Episode) -> list[Row]:
    """One row per rollout: credited by its teacher's log-ratio, or not at all."""
    teachers = episode.teachers
    return [r.add("teacher", teachers[r.index]) if r.index in teachers else r for r in rollout_rows(episode)]


SDPO = Algorithm(
    "sdpo",
    run,
    rows,
    level="token",
    scores=True,
    reasons={
        "teacher": "log-probability under the prompt that shows a passing sibling − that under the problem alone"
    },
)
