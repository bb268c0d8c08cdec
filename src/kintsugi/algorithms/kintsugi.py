"""Kintsugi [ours]: IOP's mended failures, at a price that pays, credited with what neighbouring work proved.

How this differs from IOP (algorithms/iop.py), each item a switch:
1. Few repairs: `failures` of a group with one candidate each, so that repairs stay far below half of the tokens.
   Their s_rep is compared within the problem, at a weight (`lambda_rep`) that keeps repair mode alive.
2. The first edit alone is gated, untried (`k`, `check`): what follows it is mostly its consequence.
3. Passing rollouts are praised by 1 - the group's pass rate (`praise`), what precedes a seam by `prefix`,
   all of a repair by `mended`.
4. Token-level clipped ratio; every group is normalised by itself.

With `check: continue` or patches, whose fixes the policy continues without the anchor in view:
5. A fix must be causal (`causal`): failures whose continuations from the fix never pass get no credit.
6. The continuations are samples of the policy itself, from a better state: they are trained on, as a group
   with its own baseline, prefix masked (`resets`; arXiv:2605.25507).

Off by default: a fix was sampled with the anchor in view, so its credit may be multiplied by
min(pi(f | x, y_<s) / rho(f | repair prompt), 2), token by token and without gradient (`capped`; arXiv:2605.15224).
A patch is no sample of the fix: not there.

    kintsugi train recipes/learning/brackets.yaml
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Literal

from pydantic import Field

from kintsugi.algorithms.base import Algorithm, group_rows, uniform_row
from kintsugi.algorithms.mending import MendingOptions, praised_prefix, repair_rows, run, unsolved
from kintsugi.records import Episode, Rollout, Row, Seam


class Options(MendingOptions):
    candidates: int = Field(1, ge=1, description="repairs sampled per failed rollout (G_rep)")
    k: int = Field(1, ge=1, description="edits kept at first; doubled once, then all (K)")
    check: Literal["continue", "graft", "none"] = Field(
        "none", description="how the first K edits are tried: continue, graft, or none (kept untried)"
    )
    lambda_rep: float = Field(1.0, ge=0, description="weight of the repair objective")
    continuations: int = Field(2, ge=1, description="samples of a `continue` check or of a patch (m)")
    failures: int = Field(3, ge=0, description="failures of a group that are mended at most; 0: all")
    praise: float = Field(
        1.0, ge=0, description="credit of passing rollouts, times 1 - the group's pass rate"
    )
    mended: float = Field(
        0.0, ge=0, description="credit of all of a verified repair, times 1 - the group's pass rate"
    )
    causal: bool = Field(True, description="drop fixes whose continuations never pass")
    resets: bool = Field(True, description="train on the continuations, as a group of their own")
    capped: bool = Field(False, description="credit of a fix times min(pi / rho, 2)")
    reduction: Literal["row", "token"] = Field("row", description="loss: the mean over rows, or over tokens")


def rows(episode: Episode, options: Options) -> list[Row]:
    """Rows of seams and of resets, one per other rollout (credited or not, it counts), then repair mode's."""
    seams = {seam.failed: seam for seam in episode.seams if causal(seam) or not options.causal}
    left = unsolved(episode.rollouts)
    made: list[Row] = []
    for i, rollout in enumerate(episode.rollouts):
        if i in seams:
            made += seam_rows(episode, seams[i], left, options)
        elif rollout.verdict.state != "error":
            praise = options.praise * left * rollout.verdict.passed
            name = f"{episode.problem.id}/rollouts"
            made.append(uniform_row(rollout, praise, "policy", episode.problem, name))
    if options.resets:
        for seam in episode.seams:
            made += group_rows(episode.problem, continuations(episode, seam), f"reset/{seam.failed}")
    return [*made, *repair_rows(episode, options.lambda_rep)]


def causal(seam: Seam) -> bool:
    """Whether the fix made the difference: no check was needed, or one of its continuations passed."""
    return seam.kept_by != "all" or not seam.checks


def continuations(episode: Episode, seam: Seam) -> tuple[Rollout, ...]:
    """What the policy made of the fix that was kept, the anchor out of its context: one group, one prefix."""
    patched = episode.repairs[seam.repair].continued
    return patched or tuple(check.rollout for check in seam.checks if check.edits == seam.kept)


def seam_rows(episode: Episode, seam: Seam, left: float, options: Options) -> Iterator[Row]:
    """The failure blamed at its seam and praised before it; the fix praised, as far as pi would write it."""
    repair, name = episode.repairs[seam.repair], f"{episode.problem.id}/seam/{seam.failed}"
    failed = uniform_row(episode.rollouts[seam.failed], -1.0, "failed", episode.problem, name)
    praised = praised_prefix(seam, options)
    credit = [-float(gate) for gate in seam.failed_mask]
    credit[:praised] = [options.prefix] * praised
    yield replace(failed, mask=tuple(int(c != 0) for c in credit), advantages=tuple(credit))
    sampled = repair.rollout.completion.logprobs if options.form == "rewrite" and options.capped else None
    mended = tuple(gate + options.mended * left for gate in seam.repaired_mask)
    yield replace(
        failed,
        completion_ids=seam.repaired_ids,
        mask=tuple(int(c != 0) for c in mended),
        advantages=mended,
        sampling_logprobs=None if repair.written else repair.rollout.completion.logprobs,
        behaviour_logprobs=sampled,
        role="repaired",
    )


def kintsugi(options: Options) -> Algorithm:
    return Algorithm(
        "kintsugi",
        partial(run, options=options),
        partial(rows, options=options),
        level="token",
        reduction=options.reduction,
        note=f"{options.failures or 'all'} failures of a group mended, {options.continuations} continuations of a fix",
    )
