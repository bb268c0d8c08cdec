"""Repairs failed rollouts with the model itself, and joins each with its best repair at the seam.

Three forms: `rewrite` (arXiv:2605.05226), the whole solution again; `patch` [ours], the wrong step and its
replacement, which the policy then continues without the anchor; `sibling` [ours], a passing rollout as it is.
`either` [ours] writes nothing where a sibling already takes the failure's own steps, and else rewrites.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kintsugi.engines.base import derive_seed
from kintsugi.engines.rejoin import rejoined
from kintsugi.internalize.align import align, distance, gates
from kintsugi.internalize.audit import NO_PATCH, Suspect, answer_marks, audit
from kintsugi.internalize.context import Context
from kintsugi.internalize.options import RepairOptions
from kintsugi.internalize.patch import patched_head
from kintsugi.internalize.select import choose_anchor, repair_score, same_steps, select
from kintsugi.internalize.truncate import truncate
from kintsugi.records import Check, Completion, KeptBy, Problem, Repair, Rollout, Seam, Verdict, first_passing


@dataclass(frozen=True, slots=True)
class Mender:
    """What mending one failure takes: rollout number `index` of the group, where it happens, and how."""

    problem: Problem
    failed: Rollout
    index: int
    ctx: Context
    options: RepairOptions


def mendable(rollout: Rollout) -> bool:
    """Whether a rollout is worth repairing: it failed, ran to its end, and the verifier itself worked."""
    return rollout.verdict.state in ("fail", "unscorable") and not rollout.truncated


async def repair_failures(
    problem: Problem, rollouts: Sequence[Rollout], ctx: Context, options: RepairOptions
) -> tuple[tuple[Repair, ...], str]:
    """(repairs of every mendable failure, why there are none). `options` say beside which anchor, if any."""
    failures = [i for i, r in enumerate(rollouts) if mendable(r)][: options.failures or None]
    passing = [r for r in rollouts if r.verdict.passed and not r.truncated]
    if not failures:
        return (), "all passed" if all(r.verdict.passed for r in rollouts) else "nothing mendable"
    if not passing and not mends_alone(problem, ctx, options):
        return (), "all failed"
    groups = await asyncio.gather(
        *(repair_one(Mender(problem, rollouts[i], i, ctx, options), passing) for i in failures)
    )
    return tuple(repair for group in groups for repair in group), ""


def mends_alone(problem: Problem, ctx: Context, options: RepairOptions) -> bool:
    """Whether a group without a pass is repaired: beside an earlier pass, or with no anchor at all."""
    if options.without_pass == "skip" or options.form == "sibling":
        return False
    return problem.id in ctx.memory or options.without_pass == "alone" or options.anchor == "none"


async def repair_one(mender: Mender, passing: Sequence[Rollout]) -> Sequence[Repair]:
    """The repairs of one failure from rho(. | x, y, a): G_rep of them, or its sibling."""
    problem, failed, ctx, options = mender.problem, mender.failed, mender.ctx, mender.options
    seed = derive_seed(ctx.recipe.seed, ctx.step, problem.id, "anchor", mender.index)
    sibling = choose_anchor(options.anchor, failed, passing, seed)
    as_it_is = {"sibling": sibling, "either": same_steps(failed, passing)}.get(options.form)
    if as_it_is is not None:
        return [judged(mender, None, as_it_is, written=False)]
    anchor = sibling.text if sibling else ctx.memory.get(problem.id)
    anchor = None if options.anchor == "none" else anchor
    ask = ctx.prompts.patch if options.form == "patch" else ctx.prompts.repair
    prompt_ids = ctx.ask(problem, ask(problem.prompt, failed.text, anchor))
    if ctx.max_prompt is not None and len(prompt_ids) > ctx.max_prompt:
        return []  # metrics show it: fewer failures tried than there were
    if options.form != "patch":
        return await rewrite(mender, anchor, prompt_ids)
    patches = await ctx.generate(problem, prompt_ids, options.candidates, "repair", mender.index)
    return await asyncio.gather(
        *(patch_one(mender, anchor, prompt_ids, patch, j) for j, patch in enumerate(patches))
    )


async def rewrite(mender: Mender, anchor: str | None, prompt_ids: tuple[int, ...]) -> list[Repair]:
    """G_rep rewrites. Where `rejoin` allows it, one that has come back to the failure gets its rest from there.

    Never where the failure states its final answer: the rest would end in that same answer, which failed.
    """
    problem, failed, ctx, options = mender.problem, mender.failed, mender.ctx, mender.options
    old = failed.completion.token_ids if options.rejoin and not answer_marks(failed.text) else ()
    completions = await ctx.generate(
        problem, prompt_ids, options.candidates, "repair", mender.index, (), old, options.rejoin
    )
    places = [rejoined(c.token_ids, old, options.rejoin) if c.finish == "stop" else None for c in completions]
    tails = [() if place is None else old[place:] for place in places]
    with ctx.meter.phase("repair"):
        rollouts = ctx.judge(problem, prompt_ids, completions, tails=tails)
    return [judged(mender, anchor, r, tail=tail) for r, tail in zip(rollouts, tails, strict=True)]


async def patch_one(
    mender: Mender, anchor: str | None, prompt_ids: tuple[int, ...], patch: Completion, number: int
) -> Repair:
    """The repair that a patch makes once the policy has continued it; one rejected as NO_PATCH if it is none."""
    failed, ctx = mender.failed, mender.ctx
    text = ctx.codec.decode(patch.token_ids)
    head = patched_head(text, failed.text, failed.completion.token_ids, ctx.codec.decode, ctx.codec.encode)
    room = None if ctx.max_prompt is None else ctx.max_prompt - len(failed.prompt_ids)
    if head is None or patch.finish == "length" or (room is not None and len(head) > room):
        verdict = Verdict("unscorable", message="no patch of this failure")
        return Repair(mender.index, anchor, Rollout(prompt_ids, patch, text, verdict), NO_PATCH, 1.0, 0.0)
    name, tries = f"{mender.index}/{number}", mender.options.continuations
    continued = await ctx.sample(mender.problem, failed.prompt_ids, tries, "check", name, head)
    solution = first_passing(continued)
    written = Rollout(prompt_ids, patch, text, solution.verdict)
    return judged(mender, anchor, written, head=head, continued=continued)


def judged(
    mender: Mender,
    anchor: str | None,
    rollout: Rollout,
    *,
    written: bool = True,
    head: tuple[int, ...] = (),
    tail: tuple[int, ...] = (),
    continued: tuple[Rollout, ...] = (),
) -> Repair:
    """The repair that these make (see Repair), audited and scored."""
    failed, ctx, options = mender.failed, mender.ctx, mender.options
    repair = Repair(mender.index, anchor, rollout, "", 0.0, 0.0, written, head, tail, continued)
    suspect = Suspect(
        failed=failed.text,
        repaired=repair.solution.text,
        anchor=None if continued else anchor,  # the policy continued a patch without seeing any
        leaks=ctx.prompts.leaks,
        truncated=repair.solution.truncated,
        question=mender.problem.prompt,
    )
    with ctx.meter.phase("audit"):
        reason = audit(suspect) if options.audit else ""
        apart = distance(failed.completion.token_ids, repair.ids)
    score = repair_score(rollout.verdict, reason, apart, options.lambda_edit)
    return replace(repair, audit=reason, distance=apart, score=score)


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
                join_one(Mender(problem, rollouts[i], i, ctx, options), repairs[j], j)
                for i, j in chosen
                if j is not None
            )
        )
    )


async def join_one(mender: Mender, repair: Repair, chosen: int) -> Seam:
    """Aligns failure and repair, settles K*, and gates the first K* difference tokens on both sides."""
    failed, options = mender.failed, mender.options
    edits = align(failed.completion.token_ids, repair.ids)
    if repair.head:  # the policy has continued the patch and passed: it needs no other check
        patched = sum(edit.repaired_at < len(repair.head) for edit in edits)
        settled: tuple[int, KeptBy, tuple[Check, ...]] = (max(patched, min(1, len(edits))), "patch", ())
    else:
        problem, ctx = mender.problem, mender.ctx
        settled = await truncate(problem, failed, repair.ids, edits, ctx, options, mender.index)
    kept, kept_by, checks = settled
    failed_mask, repaired_mask = gates(
        len(failed.completion.token_ids), len(repair.ids), edits[:kept], options.masks == "extended"
    )
    return Seam(mender.index, chosen, repair.ids, edits, kept, kept_by, checks, failed_mask, repaired_mask)
