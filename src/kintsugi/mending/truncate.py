"""The part of a seam that is trained on: the first K* difference tokens (arXiv:2605.05226).

K* = K if the first K edits alone turn failure into success; else 2K if those do; else all.
`continue` [ours]: cut after the last of the edits and let the policy continue from there without the
anchor in context. `graft` [paper]: verify the failed text with the edits applied, as it stands; with an
answer-only verifier it can pass only when the answer itself lies within the edits.
`none` [ours]: K* = K untried, at no cost in tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from kintsugi.mending.align import graft
from kintsugi.mending.options import Mending
from kintsugi.records import Check, Completion, Edit, KeptBy, Problem, Rollout
from kintsugi.sampling.context import Context
from kintsugi.sampling.play import Asking


def truncate(
    problem: Problem,
    failed: Rollout,
    repaired: Sequence[int],
    edits: Sequence[Edit],
    ctx: Context,
    how: Mending,
    index: int,
) -> Asking[tuple[int, KeptBy, tuple[Check, ...]]]:
    """(K*, which try fixed it, the checks made). Nothing is checked once K reaches the number of edits."""
    if how.check == "none":
        return min(how.k, len(edits)), "K", ()
    checks: list[Check] = []
    tries: tuple[tuple[int, KeptBy], ...] = ((how.k, "K"), (2 * how.k, "2K"))
    for k, name in tries:
        if k >= len(edits):
            break
        tried = yield from try_edits(problem, failed, repaired, edits[:k], ctx, how, f"{index}/{k}")
        checks.append(Check(k, tried))
        if tried.verdict.passed:
            return k, name, tuple(checks)
    return len(edits), "all", tuple(checks)


def try_edits(
    problem: Problem,
    failed: Rollout,
    repaired: Sequence[int],
    edits: Sequence[Edit],
    ctx: Context,
    how: Mending,
    index: str,
) -> Asking[Rollout]:
    """The failure with `edits` applied, judged: continued by the policy, or as it stands."""
    prompt = failed.prompt_ids
    head, tail = graft(failed.completion.token_ids, repaired, edits, len(edits))
    finished = bool(head) and head[-1] in ctx.codec.stop_ids
    if how.check == "continue" and not finished:
        rest = tuple(repaired[len(head) :])
        return (yield from ctx.sample(problem, prompt, 1, "check", index, prefix=head, draft=rest))[0]
    text = head if how.check == "continue" else head + tail
    nothing_new = Completion((), (), "stop", failed.completion.version)
    with ctx.meter.phase("check"):
        return ctx.judge(problem, (*prompt, *text), [nothing_new], prefix=text)[0]
