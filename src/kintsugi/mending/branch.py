"""Branches [ours]: a group without a pass looks for one where its failures were in doubt.

The rival of a token is the likeliest other one at its place. A group of G has most likely drawn what is likelier than
1 / G, and what is below SLIGHT is hardly worth a try. So a failure is branched at the first of its tokens whose rival
lies between the two: the rival takes that token's place, and the policy goes on from there. A branch that passes, and
that no audit rule rejects, is a repair of the failure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kintsugi.mending.options import Mending
from kintsugi.mending.repair import Mender, mendable, repair_by
from kintsugi.records import Completion, Problem, Repair, Rival, Rollout
from kintsugi.sampling.base import Rivals
from kintsugi.sampling.context import Context
from kintsugi.sampling.play import Asking, together

SLIGHT = 0.01
"""The probability from which on a rival is tried."""

Place = Callable[[Sequence[Rival], int], int | None]
"""The number of the token at which a failure is branched, by its rivals and the size of its group."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A failure with `rival` for its token number `at`, before the policy goes on."""

    mender: Mender
    at: int
    rival: Rival


def in_doubt(rivals: Sequence[Rival], size: int) -> int | None:
    """The first token whose rival is worth a try in a group of `size`; None where no rival is."""
    chances = (math.exp(rival.logprob) for rival in rivals)
    return next((at for at, chance in enumerate(chances) if SLIGHT <= chance < 1 / size), None)


def branch_failures(
    problem: Problem, rollouts: Sequence[Rollout], ctx: Context, how: Mending, place: Place = in_doubt
) -> Asking[tuple[Repair, ...]]:
    """The branches of the failures as repairs, `how.branches` at most and one of each text.

    There is none where nobody can tell the rivals.
    """
    distinct = {r.completion.token_ids: i for i, r in reversed(list(enumerate(rollouts))) if mendable(r)}
    tried = sorted(distinct.values())[: how.branches]
    told = yield from ctx.rivals(
        [Rivals(rollouts[i].prompt_ids, rollouts[i].completion.token_ids) for i in tried]
    )
    found: list[Branch] = []
    for i, rivals in zip(tried, told, strict=True):
        at = place(rivals, len(rollouts)) if rivals else None
        if rivals and at is not None and rivals[at].token not in ctx.codec.stop_ids:
            found.append(Branch(Mender(problem, rollouts[i], i, ctx, how), at, rivals[at]))
    return tuple((yield from together(map(go_on, found))))


def go_on(branch: Branch) -> Asking[Repair]:
    """The branch with what the policy writes on it: one answer to the problem, with its tokens' log-probabilities."""
    mender, at, rival = branch.mender, branch.at, branch.rival
    failed, own = mender.failed, mender.failed.completion
    prefix = (*own.token_ids[:at], rival.token)
    (written,) = yield from mender.ctx.sample(
        mender.problem, failed.prompt_ids, 1, "repair", ("branch", mender.index), prefix
    )
    rest = written.completion
    whole = Completion(
        (*prefix, *rest.token_ids),
        (*own.logprobs[:at], rival.logprob, *rest.logprobs),
        rest.finish,
        rest.version,
    )
    rollout = Rollout(failed.prompt_ids, whole, written.text, written.verdict)
    return repair_by(mender, None, rollout, branched=at)
