"""`kintsugi mend FAILURES`: the method tried on solutions that exist already. Nothing is trained.

1. Solutions are read (kintsugi.run.solutions) and judged; those of one problem are a group.
2. Where a failure has no passing sibling, the model is asked for one: `sampling.group_size` rollouts.
3. Failures are repaired and joined with their repairs as in training; tables and report are those of a run.

    kintsugi mend failures.jsonl --model nano --verifier math
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kintsugi.algorithms import Algorithm, load_algorithm
from kintsugi.assembly import Parts, assemble
from kintsugi.config import Recipe
from kintsugi.files import writing
from kintsugi.mending.repair import mendable
from kintsugi.models.loading import HFCodec, quiet
from kintsugi.models.nano import NANO
from kintsugi.plugins import spec_name
from kintsugi.records import Completion, Episode, Extra, KintsugiError, Problem, Rollout
from kintsugi.run.console import Reporter
from kintsugi.run.directory import RunLog
from kintsugi.run.metrics import step_metrics
from kintsugi.run.solutions import GOLD, Solutions, Solved
from kintsugi.sampling.base import StepStats
from kintsugi.sampling.context import Context
from kintsugi.sampling.given import Group, GroupContext
from kintsugi.sampling.play import Meter, play
from kintsugi.verifiers.base import Verifier
from kintsugi.verifiers.user import Reward

USUAL: Mapping[str, Any] = {"algorithm": {"name": "kintsugi", "failures": 0}, "output_dir": "runs/mend"}
"""The keys that differ from a recipe's defaults: all failures of a group are mended."""
UNTRAINED = StepStats(math.nan, math.nan, 0.0, 0, math.nan, math.nan, math.nan, 0, 0.0)


@dataclass(frozen=True, slots=True)
class Mended:
    """The run directory, and of the solutions: how many failed, were mended, and found no pass to start from."""

    directory: Path
    solutions: int
    failures: int
    mended: int
    without_pass: int

    def __fspath__(self) -> str:
        return str(self.directory)

    def __str__(self) -> str:
        lost = f"; {self.without_pass} had no pass to start from" if self.without_pass else ""
        return (
            f"{self.failures} of {self.solutions} solutions failed, {self.mended} of these were mended{lost}"
        )


@quiet()
def mend(
    solutions: Solutions,
    recipe: Mapping[str, Any],
    *,
    verifier: Verifier | Reward | Sequence[Any] | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> Mended:
    """Repairs the failed ones of `solutions` (kintsugi.run.solutions.read_solutions) without training.

    recipe: keys of a recipe; `model` and, without the object `verifier`, `verifier` must be among them. overwrite:
    deletes the run in output_dir. KintsugiError for what a user can mend.
    """
    own = {"prompts": "terse-v1"} if spec_name(recipe.get("model")) in NANO else {}
    told = Recipe.of(
        {**USUAL, **own, **recipe, "eval": {"problems": 1}}, task=Solved(solutions), verifier=verifier
    )
    if told.verifier is None:
        raise KintsugiError("mend: expected a verifier (--verifier math, or verifier=my_function), got none")
    require_answers(told.verifier, solutions)
    algorithm = load_algorithm(told.algorithm)
    if algorithm.outcome_only:
        raise KintsugiError(f"mend: algorithm {algorithm.name} repairs nothing; kintsugi and iop do")
    RunLog.check(told, overwrite=overwrite)
    out = reporter or Reporter()
    parts = assemble(told, say=out.say, pulse=out.pulse)
    for note in parts.notes:
        out.say(f"note: {note}")
    with ExitStack() as stack:
        machine = parts.machine | {"made by": "mend"}
        log = stack.enter_context(RunLog.open(told, overwrite=overwrite, machine=machine))
        with writing(log.directory):
            parts.loaded.tokenizer.save_pretrained(log.directory / "tokenizer")
        out.steps = -(-len(parts.train_problems) // told.sampling.problems)
        stack.enter_context(out)
        episodes = [e for made in mended_steps(parts, solutions, algorithm, log, out) for e in made]
    failed = [r for e in episodes for r in e.rollouts if not r.verdict.passed]
    return Mended(
        log.directory,
        sum(len(e.rollouts) for e in episodes),
        len(failed),
        sum(len(e.seams) for e in episodes),
        sum(sum(map(mendable, e.rollouts)) for e in episodes if e.skipped == "all failed"),
    )


def require_answers(verifier: Any, solutions: Solutions) -> None:
    """KintsugiError where a verifier that compares with gold answers would find none."""
    specs = verifier if isinstance(verifier, list | tuple) else [verifier]
    if {"exact", "math"} & set(map(spec_name, specs)) and not any(
        g.problem.answer for g in solutions.values()
    ):
        first = next(iter(solutions.values())).problem
        raise KintsugiError(
            f"mend: {first.id}: the verifier needs a gold answer, expected one of the columns {', '.join(GOLD)}, found "
            f"{', '.join(first.columns)}; name it with --answer NAME"
        )


def mended_steps(
    parts: Parts, solutions: Solutions, algorithm: Algorithm, log: RunLog, out: Reporter
) -> Iterator[list[Episode]]:
    """The episodes of `sampling.problems` problems at a time; each such step is written down as one of training."""
    problems, size, tokens = parts.train_problems, parts.recipe.sampling.problems, 0
    for step, first in enumerate(range(0, len(problems), size), 1):
        meter = Meter()
        ctx = Context(
            parts.loaded.codec, parts.verifier, parts.prompts, parts.recipe, step,
            meter=meter, max_prompt=parts.max_prompt,
        )  # fmt: skip
        with out.working(f"step {step}"):
            groups = [
                as_rollouts(p, solutions[p.id].texts, ctx, parts.loaded.codec)
                for p in problems[first : first + size]
            ]
            if step == 1:
                parts.verifier.require((v for g in groups for v in g.verdicts), "step 1")
            drawn = draws(groups, ctx, parts)
            runs = [algorithm.run(g.problem, surroundings(g, ctx, drawn)) for g in groups]
            episodes = [
                replace(
                    e, extras=(*e.extras, *(Extra("rollout", 1, 0, r) for r in drawn.get(e.problem.id, ())))
                )
                for e in play(runs, parts.sampler, meter)
            ]
        rows = [row for episode in episodes for row in algorithm.rows(episode)]
        metrics = step_metrics(step, episodes, rows, UNTRAINED, meter.seconds)
        tokens += metrics["tokens/generated"]
        log.write(step, episodes, rows, [None] * len(rows))
        log.metrics(metrics | {"tokens/total": tokens})
        out.step(metrics)
        yield episodes


def as_rollouts(problem: Problem, texts: Sequence[str], ctx: Context, codec: HFCodec) -> Group:
    """The texts as the model's own answers to the problem, with fresh verdicts. Their author is not known, so they
    have no log-probabilities."""
    prompt = ctx.solve_prompt(problem)
    ids = [codec.answer(prompt, text) for text in texts]
    completions = tuple(Completion(i, (math.nan,) * len(i), "stop", 0) for i in ids)
    return Group(problem, prompt, completions, tuple(ctx.verifier(problem, texts)))


def draws(groups: Sequence[Group], ctx: Context, parts: Parts) -> dict[str, tuple[Rollout, ...]]:
    """The rollouts, by problem, of groups that failed and have no pass."""
    lacking = [
        g.problem
        for g in groups
        if not any(v.passed for v in g.verdicts) and any(not v.broken for v in g.verdicts)
    ]
    found = play(
        [ctx.rollouts(p, parts.recipe.sampling.group_size) for p in lacking], parts.sampler, ctx.meter
    )
    return {p.id: rollouts for p, rollouts in zip(lacking, found, strict=True)}


def surroundings(group: Group, ctx: Context, drawn: Mapping[str, Sequence[Rollout]]) -> GroupContext:
    """The context of one group; a pass that was drawn for it stands in for an earlier one."""
    passes = [r.text for r in drawn.get(group.problem.id, ()) if r.solved]
    memory = {group.problem.id: min(passes, key=len)} if passes else {}
    return GroupContext(
        ctx.codec, ctx.verifier, ctx.prompts, ctx.recipe, ctx.step, memory, ctx.meter, ctx.max_prompt, given=group
    )  # fmt: skip
