"""Repairs failed rollouts with the model itself, and joins each with its best repair at the seam."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kintsugi.internalize.align import align, distance, gates
from kintsugi.internalize.audit import Suspect, audit
from kintsugi.internalize.context import Context
from kintsugi.internalize.options import RepairOptions
from kintsugi.internalize.select import nearest_anchor, repair_score, select
from kintsugi.internalize.truncate import truncate
from kintsugi.records import Problem, Repair, Rollout, Seam


def mendable(rollout: Rollout) -> bool:
    """Whether a rollout is worth repairing: it failed, ran to its end, and the verifier itself worked."""
    return rollout.verdict.state in ("fail", "unscorable") and not rollout.truncated


async def repair_failures(
    problem: Problem, rollouts: Sequence[Rollout], ctx: Context, options: RepairOptions
) -> tuple[tuple[Repair, ...], str]:
    """(repairs of every mendable failure, why there are none).

    The anchor is the nearest passing sibling; a group without one takes an earlier pass from memory.
    """
    failures = [i for i, r in enumerate(rollouts) if mendable(r)]
    passing = [r for r in rollouts if r.verdict.passed and not r.truncated]
    remembered = ctx.memory.get(problem.id)
    if not failures:
        return (), "all passed" if all(r.verdict.passed for r in rollouts) else "nothing mendable"
    if not passing and remembered is None:
        return (), "all failed"
    groups = await asyncio.gather(
        *(repair_one(problem, rollouts[i], i, passing, remembered, ctx, options) for i in failures)
    )
    return tuple(repair for group in groups for repair in group), ""


async def repair_one(
    problem: Problem,
    failed: Rollout,
    index: int,
    passing: Sequence[Rollout],
    remembered: str | None,
    ctx: Context,
    options: RepairOptions,
) -> list[Repair]:
    """G_rep repairs of one failure from rho(. | x, y, a): verified, audited, scored."""
    nearest = nearest_anchor(failed, passing)
    anchor = nearest.text if nearest else remembered or ""
    anchor_ids = nearest.completion.token_ids if nearest else ctx.codec.encode(anchor)
    prompt_ids = ctx.codec.chat(ctx.prompts.repair(problem.prompt, failed.text, anchor))
    if ctx.max_prompt is not None and len(prompt_ids) > ctx.max_prompt:
        return []  # metrics show it: fewer failures tried than there were
    candidates = await ctx.sample(problem, prompt_ids, options.candidates, "repair", index)
    failed_ids = failed.completion.token_ids
    repairs = []
    with ctx.meter.phase("audit"):
        for candidate in candidates:
            ids = candidate.completion.token_ids
            reason = audit(
                Suspect(
                    failed=failed.text,
                    repaired=candidate.text,
                    failed_ids=failed_ids,
                    repaired_ids=ids,
                    anchor_ids=anchor_ids,
                    leaks=ctx.prompts.leaks,
                    truncated=candidate.truncated,
                )
            )
            apart = distance(failed_ids, ids)
            score = repair_score(candidate.verdict, reason, apart, options.lambda_edit)
            repairs.append(Repair(index, anchor, candidate, reason, apart, score))
    return repairs


async def join_seams(
    problem: Problem,
    rollouts: Sequence[Rollout],
    repairs: Sequence[Repair],
    ctx: Context,
    options: RepairOptions,
) -> tuple[Seam, ...]:
    """One seam per failure that has a repair which mends it."""
    chosen = [(i, select(repairs, i)) for i in sorted({r.failed for r in repairs})]
    return tuple(
        await asyncio.gather(
            *(
                join_one(problem, rollouts[i], i, repairs[j], j, ctx, options)
                for i, j in chosen
                if j is not None
            )
        )
    )


async def join_one(
    problem: Problem,
    failed: Rollout,
    index: int,
    repair: Repair,
    chosen: int,
    ctx: Context,
    options: RepairOptions,
) -> Seam:
    """Aligns failure and repair, settles K*, and gates the first K* difference tokens on both sides."""
    failed_ids, repaired_ids = failed.completion.token_ids, repair.rollout.completion.token_ids
    edits = align(failed_ids, repaired_ids)
    kept, kept_by, checks = await truncate(problem, failed, repaired_ids, edits, ctx, options, index)
    failed_mask, repaired_mask = gates(len(failed_ids), len(repaired_ids), edits[:kept])
    return Seam(index, chosen, repaired_ids, edits, kept, kept_by, checks, failed_mask, repaired_mask)
