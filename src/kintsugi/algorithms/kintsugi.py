"""Kintsugi [ours]: GRPO whose blame is gathered at the seam, with IOP's mended failures at a price that pays.

Rollouts without a seam are credited as in GRPO: nothing is lost where no repair is found. A failure that was
mended is blamed at its seam only, and what it got right is praised instead of blamed with the rest.

How this differs from IOP (algorithms/iop.py), each item a switch:
1. Passing rollouts, and failures that were not mended, keep their group advantage (`rest`). IOP leaves them out,
   and so nothing holds what no seam ever touches: copies and operators drift until repairs fail as well.
2. Loss is a token mean (`reduction`) in which a seam's token weighs `seam` others, and what precedes it in the
   failure is praised (`prefix`). What else the failure holds gets nothing, or with `soft` a share of its group
   advantage: a seam shows one error, and a weak model makes several.
3. Few repairs: `failures` of a group with one candidate each, and none is written where a passing sibling takes
   the failure's own steps (`form: either`), so that repairs stay far below half of the tokens.
   Their s_rep is compared within the problem, centred but not scaled: where all of them pass, what is left of
   it is edit distance, and a unit spread would make that as loud as right and wrong.
4. The first edit alone is gated, untried (`k`, `check`): what follows it is mostly its consequence.
5. Token-level clipped ratio; every group is normalised by itself.

With `check: continue` or patches, whose fixes the policy continues without the anchor in view:
6. A fix must be causal (`causal`): failures whose continuations from the fix never pass are treated as not mended.
7. The continuations are samples of the policy itself, from a better state: they are trained on, as a group
   with its own baseline, prefix masked (`resets`; arXiv:2605.25507).

Off by default: a fix was sampled with the anchor in view, so its credit may be multiplied by
min(pi(f | x, y_<s) / rho(f | repair prompt), 2), token by token and without gradient (`capped`; arXiv:2605.15224).
A patch is no sample of the fix: not there.

    kintsugi train recipes/quickstart.yaml
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Literal

from pydantic import Field

from kintsugi.algorithms.base import Algorithm, centred, group_advantages, group_rows, judged, uniform_row
from kintsugi.algorithms.mending import MendingOptions, praised_prefix, repair_rows, run, unsolved
from kintsugi.internalize.options import FORMS, Form
from kintsugi.records import Episode, Rollout, Row, Seam


class Options(MendingOptions):
    form: Form = Field("either", description=FORMS)
    candidates: int = Field(1, ge=1, description="repairs sampled per failed rollout (G_rep)")
    k: int = Field(1, ge=1, description="edits kept at first; doubled once, then all (K)")
    check: Literal["continue", "graft", "none"] = Field(
        "none", description="how the first K edits are tried: continue, graft, or none (kept untried)"
    )
    lambda_rep: float = Field(1.0, ge=0, description="weight of the repair objective")
    continuations: int = Field(2, ge=1, description="samples of a `continue` check or of a patch (m)")
    failures: int = Field(3, ge=0, description="failures of a group that are mended at most; 0: all")
    rest: Literal["group", "praise"] = Field(
        "group",
        description="credit of rollouts without a seam: their group advantage, or `praise` of passing ones alone",
    )
    seam: float = Field(
        10.0, gt=0, description="credit of a seam's tokens: blame of the failure's, praise of the fix"
    )
    praise: float = Field(
        1.0,
        ge=0,
        description="with `rest: praise`: credit of passing rollouts, times 1 - the group's pass rate",
    )
    prefix: float = Field(1.0, ge=0, description="credit of the first 70% of a failure before its seam")
    causal: bool = Field(True, description="drop fixes whose continuations never pass")
    resets: bool = Field(True, description="train on the continuations, as a group of their own")
    witnesses: int = Field(
        1, ge=1, description="passes a group needs before it is credited: a lone pass may be luck"
    )
    once: bool = Field(
        False, description="a sibling that mends several failures is praised once, not once for each"
    )
    capped: bool = Field(False, description="credit of a fix times min(pi / rho, 2)")
    reduction: Literal["row", "token"] = Field(
        "token", description="loss: the mean over rows, or over tokens"
    )


def rows(episode: Episode, options: Options) -> list[Row]:
    """Rows of seams and of resets, one per other rollout (credited or not, it counts), then repair mode's."""
    found = episode.seams if witnessed(episode, options) else ()
    seams = {seam.failed: seam for seam in found if causal(seam) or not options.causal}
    members = [i for i, r in enumerate(episode.rollouts) if r.verdict.state != "error"]
    made: list[Row] = []
    for i, advantage in zip(members, rest_credit(episode, options), strict=True):
        if i in seams:
            same = sum(other.repaired_ids == seams[i].repaired_ids for other in seams.values())
            praise = options.seam / (same if options.once else 1)
            made += seam_rows(episode, seams[i], options.soft * advantage, praise, options)
        else:
            name = f"{episode.problem.id}/rollouts"
            made.append(uniform_row(episode.rollouts[i], advantage, "policy", episode.problem, name))
    if options.resets:
        for seam in episode.seams:
            made += group_rows(episode.problem, continuations(episode, seam), f"reset/{seam.failed}")
    return [*made, *repair_rows(episode, options.lambda_rep, centred)]


def rest_credit(episode: Episode, options: Options) -> list[float]:
    """What each judged rollout gets on every token if it has no seam."""
    group = judged(episode.rollouts)
    if not witnessed(episode, options):
        return [0.0] * len(group)
    if options.rest == "group":
        return group_advantages([r.verdict.reward for r in group])
    return [options.praise * unsolved(group) * r.verdict.passed for r in group]


def witnessed(episode: Episode, options: Options) -> bool:
    """Whether the group's passes may be believed: there are none, or as many as bear each other out."""
    passes = sum(r.verdict.passed for r in episode.rollouts)
    return passes == 0 or passes >= options.witnesses


def causal(seam: Seam) -> bool:
    """Whether the fix made the difference: no check was needed, or one of its continuations passed."""
    return seam.kept_by != "all" or not seam.checks


def continuations(episode: Episode, seam: Seam) -> tuple[Rollout, ...]:
    """What the policy made of the fix that was kept, the anchor out of its context: one group, one prefix."""
    patched = episode.repairs[seam.repair].continued
    return patched or tuple(check.rollout for check in seam.checks if check.edits == seam.kept)


def seam_rows(episode: Episode, seam: Seam, spare: float, praise: float, options: Options) -> Iterator[Row]:
    """The failure blamed at its seam and praised before it, `spare` on what else it has; `praise` for the fix."""
    repair, name = episode.repairs[seam.repair], f"{episode.problem.id}/seam/{seam.failed}"
    failed = uniform_row(episode.rollouts[seam.failed], -1.0, "failed", episode.problem, name)
    praised = praised_prefix(seam, options)
    credit = [-options.seam if gate else spare for gate in seam.failed_mask]
    credit[:praised] = [options.prefix] * praised
    yield replace(failed, mask=tuple(int(c != 0) for c in credit), advantages=tuple(credit))
    sampled = (
        repair.rollout.completion.logprobs if repair.written and not repair.head and options.capped else None
    )
    yield replace(
        failed,
        completion_ids=seam.repaired_ids,
        mask=seam.repaired_mask,
        advantages=tuple(praise * gate for gate in seam.repaired_mask),
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
