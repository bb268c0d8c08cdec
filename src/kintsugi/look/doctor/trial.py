"""The first step of a run, made as the trainer makes it and thrown away: what it shows about the recipe."""

from __future__ import annotations

import math
import os
import resource
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kintsugi.assembly import Parts, assemble
from kintsugi.config import Recipe, derived, evaluations_between
from kintsugi.learning.learner import LocalLearner
from kintsugi.look.diagnose import tolerated_gap
from kintsugi.look.doctor.check import CheckUp, graded
from kintsugi.look.show import visible
from kintsugi.loop import build_learner
from kintsugi.models.loading import quiet
from kintsugi.records import Problem, Rollout, Verdict
from kintsugi.run.checkpoint import Progress
from kintsugi.run.console import Reporter, span
from kintsugi.run.directory import RunLog
from kintsugi.run.metrics import step_metrics
from kintsugi.sampling.base import Request, SamplingParams, Score, generate
from kintsugi.sampling.play import Meter
from kintsugi.trainer import Reinforcement, check_algorithm, problems_of_step

BINS = 8


COLD_START = "kintsugi sft RECIPE optim.lr=1e-5 output_dir=runs/cold"
"""At the rate of 1e-6 that suits reinforcement a few examples change nothing."""


@dataclass(frozen=True, slots=True)
class TrialStep:
    """The result of the step: its metrics, lengths and verdicts of rollouts (these with their problems), the prompt,
    sizes in bytes, and whether seeds hold.

    `held_out` is the number of problems that an evaluation asks. `gap` is the most that sampler and learner differ by,
    in nats, on one token of any rollout.
    """

    recipe: Recipe
    metrics: Mapping[str, Any]
    lengths: Sequence[int]
    verdicts: Sequence[tuple[str, Verdict]]
    held_out: int
    prompt: str
    dtype: str
    parameters: int
    table_bytes: int
    peak_bytes: int
    memory_bytes: int
    free_bytes: int
    same_seed_same_text: bool
    gap: float
    notes: Sequence[str]


@quiet()
def attempt(recipe: Recipe, out: Reporter) -> TrialStep:
    """Samples, mends, credits and updates once, in memory; writes its tables to a temporary folder to weigh them."""
    lessons = Reinforcement(check_algorithm(recipe))
    parts = assemble(recipe, say=out.say, pulse=out.pulse)
    learner = build_learner(parts, lessons)
    problems = problems_of_step(parts.train_problems, recipe, 1)
    same = seeds_hold(parts, problems[0])
    meter = Meter()
    with out, out.working("step 1"):
        batch = lessons.batch(parts, learner, Progress(), meter)
        episodes, rows = batch.episodes, batch.rows
        rollouts = [r for e in episodes for r in e.rollouts]
        gap = largest_gap(
            rollouts, learner, recipe.sampling.top_p
        )  # before the update: it changes the learner
        stats = learner.step(rows, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        with RunLog.open(recipe.model_copy(update={"output_dir": folder})) as log:
            log.write(1, episodes, rows, stats.rows)
        size = sum(f.stat().st_size for f in Path(folder).rglob("*.parquet"))
    peak, memory = memory_use(parts)
    return TrialStep(
        recipe=recipe,
        metrics=step_metrics(1, episodes, rows, stats, meter.seconds),
        lengths=[len(r.completion.token_ids) for r in rollouts],
        verdicts=[(e.problem.id, r.verdict) for e in episodes for r in e.rollouts],
        held_out=len(parts.eval_problems),
        prompt=str(parts.loaded.tokenizer.decode(rollouts[0].prompt_ids)),
        dtype=parts.machine["dtype"],
        parameters=sum(p.numel() for p in parts.loaded.model.parameters()),
        table_bytes=size,
        peak_bytes=peak,
        memory_bytes=memory,
        free_bytes=shutil.disk_usage(existing(Path(recipe.output_dir))).free,
        same_seed_same_text=same,
        gap=gap,
        notes=parts.notes,
    )


def step_checks(trial: TrialStep) -> Iterator[CheckUp]:
    """Judges the step, check by check."""
    yield CheckUp("prompt", "ok", f"{len(trial.prompt)} characters", detail=visible(trial.prompt))
    yield lengths(trial)
    yield verdicts(trial)
    yield groups(trial)
    if trial.metrics["repair/tried"]:
        yield repairs(trial)
        yield forecast(trial)
    yield parity(trial)
    yield CheckUp(
        "seeds",
        "ok" if trial.same_seed_same_text else "fail",
        "the same seed samples the same text"
        if trial.same_seed_same_text
        else "the same seed sampled two texts",
        "set engine=local, or device=cpu: a run cannot be repeated otherwise",
    )
    yield whole_run(trial)
    yield memory(trial)
    yield disk(trial)
    for note in trial.notes:
        yield CheckUp("note", "warn", visible(note))


def lengths(trial: TrialStep) -> CheckUp:
    longest = trial.recipe.sampling.max_new_tokens
    cut = trial.metrics["truncated"] / len(trial.lengths)
    return CheckUp(
        "completion lengths",
        graded(cut, 0.05, 0.2),
        f"mean {sum(trial.lengths) / len(trial.lengths):.0f}, longest {max(trial.lengths)} of {longest} tokens; "
        f"{cut:.0%} cut off",
        f"set sampling.max_new_tokens={2 * longest}",
        histogram(trial.lengths, longest),
    )


def verdicts(trial: TrialStep) -> CheckUp:
    """The verdicts of the step's rollouts, and what was said of the first error, else of the first unscorable one."""
    counts = Counter[str](v.state for _, v in trial.verdicts)
    odd = "error" if counts["error"] else "unscorable"
    share = counts[odd] / len(trial.verdicts)
    return CheckUp(
        "verdicts at the start",
        graded(share, 0.0, 0.2) if odd == "error" else graded(share, 0.2, 0.9),
        ", ".join(f"{state} {count}" for state, count in sorted(counts.items()) if count),
        "correct the verifier where it raises"
        if odd == "error"
        else f"ask for the form of answer that the verifier reads (prompts), or first {COLD_START}",
        visible(next((f"problem {name}: {v.said}" for name, v in trial.verdicts if v.state == odd), "")),
    )


def histogram(values: Sequence[int], limit: int) -> str:
    """Counts of values up to the limit in bins of equal width, a line each."""
    width = -(-limit // BINS)
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, max(0, value - 1) // width)] += 1
    return "\n".join(
        f"{i * width + 1:>6}-{min(limit, (i + 1) * width):<6} {'#' * round(40 * n / max(counts))} {n}"
        for i, n in enumerate(counts)
    )


def groups(trial: TrialStep) -> CheckUp:
    mixed, passed, failed = (trial.metrics[f"groups/{x}"] for x in ("mixed", "all_passed", "all_failed"))
    whole, accuracy = mixed + passed + failed, trial.metrics["accuracy"]
    known = "" if accuracy is None else f"; accuracy {accuracy:.0%}"  # None: nothing but errors
    return CheckUp(
        "groups at the start",
        "fail" if not mixed else graded(1 - mixed / whole, 0.75, 1.0),
        f"{mixed} mixed, {passed} all pass, {failed} all fail{known}",
        f"only mixed groups teach: take easier problems or a cold start ({COLD_START}) where all fail, "
        "harder problems where all pass, or a larger sampling.group_size",
    )


def repairs(trial: TrialStep) -> CheckUp:
    success = trial.metrics["repair/success_per_failure"]
    return CheckUp(
        "repairs at the start",
        "ok" if success >= 0.1 else "warn",
        f"{success:.0%} of {trial.metrics['repair/tried']} failures mended",
        f"teach the model to write repairs by a cold start: {COLD_START}",
    )


FEW_TRIED = 5
"""Failures tried below which their share that is mended says nothing."""
ENOUGH = 0.4
"""The share of the failures tried that are mended from which seams gained. In docs/results.md nothing gained below."""


def expects_gain(mended: float) -> bool:
    """True if seams should gain more than outcomes alone, given the share of the failures tried that are mended.

    A group must hold a pass to be mended. But outcomes need that as well: the share of mixed groups tells how fast
    either learns, not which of them learns faster (`dot-97` in docs/results.md).
    """
    return mended >= ENOUGH


def forecast(trial: TrialStep) -> CheckUp:
    """Will seams gain more than outcomes alone (docs/report.md)? Judged by repairs; groups and reach are told."""
    seen = trial.metrics
    mended, tried, known = seen["repair/success_per_failure"], seen["repair/tried"], seen["reach/known"]
    groups = sum(seen[f"groups/{x}"] for x in ("mixed", "all_passed", "all_failed"))
    numbers = f"{seen['groups/mixed']} of {groups} groups mixed, {mended:.0%} of {tried} failures mended"
    if known:
        numbers += (
            f", {seen['reach/open']:.0%} of {known} seams open (failed token p {seen['reach/failed']:.2f}, "
            f"fix p {seen['reach/fix']:.2f}, entropy {seen['reach/entropy']:.2f} nats)"
        )
    if tried < FEW_TRIED:
        fix = f"set sampling.problems={4 * trial.recipe.sampling.problems}"
        return CheckUp("forecast", "warn", f"too few failures tried to say: {numbers}", fix)
    if expects_gain(mended):
        return CheckUp("forecast", "ok", f"failures are mended here: expect more than GRPO: {numbers}")
    return CheckUp(
        "forecast",
        "warn",
        f"few failures are mended: expect no gain from repairs: {numbers}",
        f"teach repairs first ({COLD_START}), or train with grpo",
    )


def parity(trial: TrialStep) -> CheckUp:
    most = tolerated_gap(trial.dtype)
    return CheckUp(
        "sampler and learner",
        "ok" if trial.gap <= most else "fail",
        f"log-probabilities of {sum(trial.lengths):,} sampled tokens differ by at most {trial.gap:.1g} nats "
        f"(tolerated in {trial.dtype}: {most:g})",
        "set engine=local, or dtype=float32",
    )


def whole_run(trial: TrialStep) -> CheckUp:
    recipe, metrics = trial.recipe, trial.metrics
    seconds = sum(v for k, v in metrics.items() if k.startswith("seconds/"))
    tokens = metrics["tokens/generated"]
    steps = min(recipe.steps, -(-recipe.budget // tokens)) if recipe.budget and tokens else recipe.steps
    evaluations = 2 + evaluations_between(recipe, 0, steps, tokens)
    rollouts = metrics["seconds/rollout"] / len(
        trial.lengths
    )  # as long as a rollout takes, so does an answer
    evaluation = rollouts * trial.held_out * (recipe.eval.samples + 1)
    return CheckUp(
        "the run",
        "ok",
        f"{tokens:,} tokens and {seconds:.1f} s a step; {steps} steps: {tokens * steps:,} tokens, about "
        f"{span(seconds * steps)}; {evaluations} evaluations, about {span(evaluation)} each: "
        f"{span(seconds * steps + evaluation * evaluations)} in all",
        detail="\n".join(derived(recipe, trial.held_out)),
    )


def memory(trial: TrialStep) -> CheckUp:
    return CheckUp(
        "memory",
        graded(trial.peak_bytes / trial.memory_bytes, 0.8, 0.95),
        f"peak {size(trial.peak_bytes)} of {size(trial.memory_bytes)} in this step (measured), of which "
        f"{size(16 * trial.parameters)} weights, gradients and optimizer in float32; completions may get longer",
        "set a smaller optim.token_budget, optim.gradient_checkpointing=true, or optim.lora=16",
    )


def disk(trial: TrialStep) -> CheckUp:
    recipe = trial.recipe
    saved = 1 + (recipe.steps // recipe.save_every if recipe.save_every else 0)
    checkpoints = saved * 12 * trial.parameters  # weights and Adam's two moments, 4 bytes each
    word = "checkpoint" if saved == 1 else "checkpoints"
    need = checkpoints + trial.table_bytes * recipe.steps
    return CheckUp(
        "disk",
        graded(need / max(1, trial.free_bytes), 0.5, 1.0),
        f"about {size(need)} of {size(trial.free_bytes)} free: {saved} {word} {size(checkpoints)}, "
        f"tables {size(trial.table_bytes * recipe.steps)}",
        "set a larger save_every, or an output_dir on another disk",
    )


def size(count: float) -> str:
    """Bytes for a person."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def largest_gap(rollouts: Sequence[Rollout], learner: LocalLearner, top_p: float) -> float:
    """The most that sampler and learner differ by on one token of any rollout, credited or not, in nats.

    Below 1, `top_p` makes the sampler's probabilities larger by up to 1 / top_p: that is no difference.
    """
    asked = [Score(r.prompt_ids, r.completion.token_ids) for r in rollouts]
    pairs = [
        (told, found)
        for r, scores in zip(rollouts, learner.logprobs(asked), strict=True)
        for told, found in zip(r.completion.logprobs, scores, strict=True)
    ]
    return max((max(found - told, told - found + math.log(top_p)) for told, found in pairs), default=0.0)


def seeds_hold(parts: Parts, problem: Problem) -> bool:
    """True if one seed samples one text, alone and beside another."""
    codec, recipe = parts.loaded.codec, parts.recipe
    prompt = codec.chat(*parts.prompts.solving(problem.prompt, problem.before))
    params = SamplingParams(
        min(64, recipe.sampling.max_new_tokens),
        recipe.sampling.temperature,
        recipe.sampling.top_p,
        17,
        codec.stop_ids,
    )

    ((alone,),) = generate(parts.sampler, [Request(prompt, params, 1)])
    ((first, _),) = generate(parts.sampler, [Request(prompt, params, 2)])
    return bool(alone.token_ids == first.token_ids)


def memory_use(parts: Parts) -> tuple[int, int]:
    """(most used so far, all there is) in bytes, of the device that computes."""
    device = parts.loaded.model.device
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
    unit = 1 if sys.platform == "darwin" else 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return used, physical_memory()


def physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def existing(path: Path) -> Path:
    """The nearest folder above a path that is there."""
    path = path.resolve()
    return next(p for p in (path, *path.parents) if p.exists())
