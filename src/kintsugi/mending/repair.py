"""Repairs failed rollouts with the model itself, and joins each with its best repair at the seam.

A repair is a rewrite (arXiv:2605.05226), the whole solution again, or [ours] a passing sibling as it is.
`either` [ours] writes nothing where a sibling already takes the failure's own steps, and else rewrites.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kintsugi.mending.align import align, distance, gates
from kintsugi.mending.audit import Suspect, audit
from kintsugi.mending.options import Mending
from kintsugi.mending.select import nearest_anchor, repair_score, same_steps, select
from kintsugi.mending.truncate import truncate
from kintsugi.records import Problem, Repair, Rollout, Seam
from kintsugi.sampling.base import Fork
from kintsugi.sampling.context import Context
from kintsugi.sampling.play import Asking, together


@dataclass(frozen=True, slots=True)
class Mender:
    """The inputs of mending one failure: rollout number `index` of the group, its context, and the options."""

    problem: Problem
    failed: Rollout
    index: int
    ctx: Context
    how: Mending


def mendable(rollout: Rollout) -> bool:
    """True if a rollout is worth repairing: it failed, ran to its end, and the verifier itself worked."""
    return rollout.verdict.state in ("fail", "unscorable") and not rollout.truncated


def repair_failures(
    problem: Problem, rollouts: Sequence[Rollout], ctx: Context, how: Mending
) -> Asking[tuple[tuple[Repair, ...], str]]:
    """(repairs of the mendable failures, why there are none).

    The anchor is a passing sibling; a group without one takes an earlier pass of the problem, or is skipped.
    """
    failures = [i for i, r in enumerate(rollouts) if mendable(r)][: how.failures]
    passing = [r for r in rollouts if r.solved]
    if not failures:
        return (), "all passed" if all(r.verdict.passed for r in rollouts) else "nothing mendable"
    if not passing and (how.source == "sibling" or problem.id not in ctx.memory):
        return (), "all failed"
    groups = yield from together(
        repair_one(Mender(problem, rollouts[i], i, ctx, how), rollouts) for i in failures
    )
    return tuple(repair for group in groups for repair in group), ""


def repair_one(mender: Mender, rollouts: Sequence[Rollout]) -> Asking[list[Repair]]:
    """The repairs of one failure from rho(. | x, y, a): G_rep of them, or its sibling."""
    problem, failed, ctx, how = mender.problem, mender.failed, mender.ctx, mender.how
    passing = [r for r in rollouts if r.solved]
    nearest = nearest_anchor(failed, passing)
    as_it_is = {"sibling": nearest, "either": same_steps(failed, passing)}.get(how.source)
    if as_it_is is not None:
        return [repair_by(mender, None, as_it_is, rollouts.index(as_it_is))]
    anchor = nearest.text if nearest else ctx.memory.get(problem.id)
    prompt_ids = ctx.ask(problem, ctx.prompts.repair(problem.prompt, failed.text, anchor))
    if ctx.max_prompt is not None and len(prompt_ids) > ctx.max_prompt:
        return []  # metrics show it: fewer failures tried than there were
    written = yield from ctx.sample(
        problem, prompt_ids, how.candidates, "repair", mender.index, draft=failed.completion.token_ids
    )
    return [repair_by(mender, anchor, rollout) for rollout in written]


def repair_by(mender: Mender, anchor: str | None, rollout: Rollout, sibling: int | None = None) -> Repair:
    """The repair that this rollout makes (see Repair), audited and scored."""
    failed, ctx = mender.failed, mender.ctx
    suspect = Suspect(
        failed=failed.text,
        repaired=rollout.text,
        anchor=anchor,
        leaks=ctx.prompts.leaks,
        truncated=rollout.truncated,
        question=mender.problem.prompt,
    )
    with ctx.meter.phase("audit"):
        reason = audit(suspect)
        apart = distance(failed.completion.token_ids, rollout.completion.token_ids)
    score = repair_score(rollout.verdict, reason, apart, mender.how.lambda_edit)
    return Repair(mender.index, anchor, rollout, reason, apart, score, sibling)


def join_seams(
    problem: Problem, rollouts: Sequence[Rollout], repairs: Sequence[Repair], ctx: Context, how: Mending
) -> Asking[tuple[Seam, ...]]:
    """One seam per failure that has a repair which mends it, with its reach."""
    chosen = [(i, select(repairs, i)) for i in sorted({r.failed for r in repairs})]
    seams = yield from together(
        join_one(Mender(problem, rollouts[i], i, ctx, how), repairs[j], j) for i, j in chosen if j is not None
    )
    forks = [fork_at(seam, rollouts, repairs) for seam in seams]
    known = iter((yield from ctx.reach([fork for fork in forks if fork])))
    return tuple(replace(s, reach=next(known)) if fork else s for s, fork in zip(seams, forks, strict=True))


def fork_at(seam: Seam, rollouts: Sequence[Rollout], repairs: Sequence[Repair]) -> Fork | None:
    """The failure's token and the repair's at the first edit, before which the two are equal; None where one ends."""
    failed, repaired = rollouts[seam.failed].completion.token_ids, repairs[seam.repair].ids
    at = seam.edits[0].failed_at if seam.edits else len(failed)
    if at >= min(len(failed), len(repaired)):
        return None
    return Fork(rollouts[seam.failed].prompt_ids, failed[:at], failed[at], repaired[at])


def join_one(mender: Mender, repair: Repair, chosen: int) -> Asking[Seam]:
    """Aligns failure and repair, settles K*, and gates the first K* difference tokens on both sides."""
    failed, repaired = mender.failed, repair.ids
    edits = align(failed.completion.token_ids, repaired)
    kept, kept_by, checks = yield from truncate(
        mender.problem, failed, repaired, edits, mender.ctx, mender.how, mender.index
    )
    failed_mask, repaired_mask = gates(len(failed.completion.token_ids), len(repaired), edits[:kept])
    return Seam(mender.index, chosen, edits, kept, kept_by, checks, failed_mask, repaired_mask)
