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

from dataclasses import replace

from kintsugi.algorithms.base import Algorithm, judged, uniform_row
from kintsugi.engines.play import Run
from kintsugi.internalize.context import Context
from kintsugi.internalize.repair import mendable
from kintsugi.internalize.select import nearest_anchor
from kintsugi.records import Episode, Problem, Row


def run(problem: Problem, ctx: Context) -> Run[Episode]:
    """Rollouts, and a teacher's prompt for each failure that has a passing sibling."""
    rollouts = yield from ctx.group(problem)
    passing = [r for r in rollouts if r.verdict.passed and not r.truncated]
    teachers = {}
    for i, rollout in enumerate(rollouts):
        anchor = nearest_anchor(rollout, passing)
        if anchor is None or not mendable(rollout):
            continue
        prompt = ctx.ask(problem, ctx.prompts.repair(problem.prompt, rollout.text, anchor.text))
        if ctx.max_prompt is None or len(prompt) + len(rollout.completion.token_ids) <= ctx.max_prompt:
            teachers[i] = prompt
    return Episode(problem, rollouts, teachers=teachers)


def rows(episode: Episode) -> list[Row]:
    """One row per rollout: credit 1, to be multiplied by the teacher's log-ratio, or none."""
    made = []
    for i, rollout in enumerate(episode.rollouts):
        teacher = episode.teachers.get(i)
        row = uniform_row(
            rollout, float(teacher is not None), "policy", episode.problem, f"{episode.problem.id}/rollouts"
        )
        if judged([rollout]):
            made.append(replace(row, teacher_prompt_ids=teacher))
    return made


SDPO = Algorithm("sdpo", run, rows, level="token", clip_low=0.2, clip_high=0.2)
