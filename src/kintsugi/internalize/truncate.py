"""How much of a seam is trained on: the first K* difference tokens (arXiv:2605.05226).

K* = K if the first K edits alone turn failure into success; else 2K if those do; else all.
`continue` [ours]: cut after the last of the edits and let the policy continue from there without the
anchor in context. `graft` [paper]: verify the failed text with the edits applied, as it stands; with an
answer-only verifier it can pass only when the answer itself lies within the edits.
`none` [ours]: K* = K untried, at no cost in tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from kintsugi.internalize.align import graft
from kintsugi.internalize.context import Context
from kintsugi.internalize.options import RepairOptions
from kintsugi.records import Check, Completion, Edit, KeptBy, Problem, Rollout


async def truncate(
    problem: Problem,
    failed: Rollout,
    repaired: Sequence[int],
    edits: Sequence[Edit],
    ctx: Context,
    options: RepairOptions,
    index: int,
) -> tuple[int, KeptBy, tuple[Check, ...]]:
    """(K*, which try fixed it, the checks made). Nothing is checked once K reaches the number of edits."""
    if options.check == "none":
        return min(options.k, len(edits)), "K", ()
    checks: list[Check] = []
    tries: tuple[tuple[int, KeptBy], ...] = ((options.k, "K"), (2 * options.k, "2K"))
    for k, name in tries:
        if k >= len(edits):
            break
        tried = await try_edits(problem, failed, repaired, edits[:k], ctx, options, f"{index}/{k}")
        checks += [Check(k, rollout) for rollout in tried]
        if any(rollout.verdict.passed for rollout in tried):
            return k, name, tuple(checks)
    return len(edits), "all", tuple(checks)


async def try_edits(
    problem: Problem,
    failed: Rollout,
    repaired: Sequence[int],
    edits: Sequence[Edit],
    ctx: Context,
    options: RepairOptions,
    index: str,
) -> tuple[Rollout, ...]:
    """The failure with `edits` applied, judged: continued by the policy, or as it stands."""
    prompt = failed.prompt_ids
    head, tail = graft(failed.completion.token_ids, repaired, edits, len(edits))
    finished = bool(head) and head[-1] in ctx.codec.stop_ids
    if options.check == "continue" and not finished:
        return await ctx.sample(problem, prompt, options.continuations, "check", index, prefix=head)
    text = head if options.check == "continue" else head + tail
    nothing_new = Completion((), (), "stop", failed.completion.version)
    with ctx.meter.phase("check"):
        return ctx.judge(problem, (*prompt, *text), [nothing_new], prefix=text)
