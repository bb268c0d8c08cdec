"""The cost of lucky passes: kintsugi, and the same without seams, told which passes hold an error. An upper bound.

Two errors can cancel. The verifier passes such a solution, and as a repair it puts the error where the text was right.
Here a pass with a wrong token (the task's exact labels) counts as a failure, before anything is mended or credited.
Held-out accuracy is the verifier's, as ever.

    kintsugi train recipes/learning/sums.yaml algorithm=benchmarks/without_luck.py:SEAMS
"""

from __future__ import annotations

from dataclasses import replace

from kintsugi.algorithms import Algorithm
from kintsugi.algorithms.base import outcome_rows
from kintsugi.algorithms.kintsugi import kintsugi
from kintsugi.mending.options import Mending
from kintsugi.mending.repair import join_seams, repair_failures
from kintsugi.records import Episode, KintsugiError, Problem, Rollout, Verdict
from kintsugi.sampling.context import Context
from kintsugi.sampling.play import Asking
from kintsugi.tasks import load_task
from kintsugi.tasks.labels import Labelled


def honest(problem: Problem, ctx: Context) -> Asking[tuple[Rollout, ...]]:
    """The rollouts of a group, in which a pass with an error has failed."""
    task = load_task(ctx.recipe.task)
    if not isinstance(task, Labelled):
        raise KintsugiError(f"task {ctx.recipe.task!r} has no exact labels (tasks.labels.Labelled)")
    rollouts = yield from ctx.group(problem)
    return tuple(
        replace(r, verdict=Verdict("fail", message="a pass by luck"))
        if r.verdict.passed and task.wrong_characters(problem.prompt, r.text)
        else r
        for r in rollouts
    )


def mend(problem: Problem, ctx: Context) -> Asking[Episode]:
    """Kintsugi's episode of those rollouts."""
    how = Mending("either", 3, candidates=1, check="none", k=1)
    rollouts = yield from honest(problem, ctx)
    repairs, skipped = yield from repair_failures(problem, rollouts, ctx, how)
    seams = yield from join_seams(problem, rollouts, repairs, ctx, how)
    return Episode(problem, rollouts, repairs, seams, skipped)


def roll(problem: Problem, ctx: Context) -> Asking[Episode]:
    """Those rollouts alone."""
    return Episode(problem, (yield from honest(problem, ctx)))


SEAMS = replace(kintsugi(), name="kintsugi_without_luck", run=mend)
NO_SEAMS = Algorithm("without_luck", roll, outcome_rows, level="token", reduction="token")
