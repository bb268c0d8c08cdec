"""IOP (arXiv:2605.05226): mend failed rollouts, train on the seam between failure and repair.

How this differs from GRPO, in the order of a step:
1. Rollouts that pass get no gradient; they are anchors.
2. The same model, in repair mode, repairs each failure beside the nearest anchor (G_rep candidates).
3. Repairs are verified and audited; s_rep = h (r - lambda_edit D) selects one per failure.
4. Failure and repair are aligned; the first K* difference tokens gate both sides.
5. Gated clipped sequence ratio: -1 on the failure's gate, +1 on the repair's, both given x alone.
6. The repairs train repair mode: group-relative s_rep, weighted by lambda_rep.
What the paper leaves open is an option with this as its default; so is credit outside the seam.

    kintsugi train recipes/quickstart.yaml algorithm=iop algorithm.k=1 algorithm.lambda_rep=5
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

from pydantic import Field

from kintsugi.algorithms.base import Algorithm, group_advantages, uniform_row
from kintsugi.algorithms.mending import MendingOptions, praised_prefix, repair_rows, run, unsolved
from kintsugi.records import Episode, Rollout, Row, Seam


class Options(MendingOptions):
    advantages: Literal["pair", "group"] = Field(
        "pair", description="credit of failure and repair: pair (-1 and +1), or as members of the group"
    )
    hold: float = Field(0.0, ge=0, description="weight of a KL to the reference outside the gates")


def rows(episode: Episode, options: Options) -> list[Row]:
    """J_pol's rows: the seams', and one per other rollout. Then J_rep's: one per repair candidate.

    Rows without credit get no gradient and cost nothing, but count in J_pol's mean [ours]: as failures
    become few, so does what is learned from them. With the mean over seams alone every update stays
    full-sized, and the nano model, at 90% by step 40, fell back to 12% by step 80.
    """
    seams = {seam.failed: seam for seam in episode.seams}
    members = [i for i, r in enumerate(episode.rollouts) if r.verdict.state != "error"]
    rewards = [episode.rollouts[i].verdict.reward for i in members]
    advantages, left = group_advantages(rewards), unsolved(episode.rollouts)
    policy: list[Row] = []
    for place, i in enumerate(members):
        rollout, spare = episode.rollouts[i], options.soft * advantages[place]
        if i in seams:
            credit = seam_credit(episode, seams[i], rewards, place, options)
            policy += seam_rows(episode, seams[i], credit, options)
            policy += rest_rows(episode, seams[i], spare, options)
        else:
            praise = options.praise * left * rollout.verdict.passed
            policy.append(whole_row(episode, rollout, spare + praise, options))
    return [*policy, *repair_rows(episode, options.lambda_rep)]


def seam_credit(
    episode: Episode, seam: Seam, rewards: Sequence[float], place: int, options: Options
) -> tuple[float, float]:
    """(credit of the failure's gate, credit of the repair's).

    `pair`: -1 and +1, a normalised group of two. `group` [ours]: their advantages in the rollouts' group
    with the repair as one more member, so that hard problems weigh more: with G failures and no pass,
    -1 / sqrt(G) and sqrt(G).
    """
    if options.advantages == "pair":
        return -1.0, 1.0
    repaired = episode.repairs[seam.repair].solution.verdict.reward
    advantages = group_advantages([*rewards, repaired])
    return advantages[place], advantages[-1]


def seam_rows(episode: Episode, seam: Seam, credit: tuple[float, float], options: Options) -> Iterator[Row]:
    """The failure and its repair, each with its credit on its gate and held outside of it.

    A repair was written with the anchor in view (or continues what was), but is scored given x alone, so it
    carries no sampling log-probabilities: the learner computes pi_old(repair | x). A sibling carries its own.
    """
    repair = episode.repairs[seam.repair]
    failed = gated(episode, seam, seam.failed_mask, credit[0])
    yield replace(failed, role="failed", hold=options.hold)
    yield replace(
        failed,
        completion_ids=seam.repaired_ids,
        mask=seam.repaired_mask,
        advantages=tuple(credit[1] * g for g in seam.repaired_mask),
        sampling_logprobs=None if repair.written else repair.rollout.completion.logprobs,
        role="repaired",
        hold=options.hold,
    )


def rest_rows(episode: Episode, seam: Seam, spare: float, options: Options) -> Iterator[Row]:
    """Credit of a mended failure outside its seam: `prefix` on what precedes it, `spare` on all else."""
    praised = praised_prefix(seam, options)
    if praised:
        before = tuple(int(t < praised) for t in range(len(seam.failed_mask)))
        yield gated(episode, seam, before, options.prefix)
    rest = tuple(int(t >= praised and not g) for t, g in enumerate(seam.failed_mask))
    if spare and any(rest):
        yield gated(episode, seam, rest, spare)


def gated(episode: Episode, seam: Seam, mask: tuple[int, ...], credit: float) -> Row:
    """A mended failure with one credit where `mask` is 1."""
    name = f"{episode.problem.id}/seam/{seam.failed}"
    row = uniform_row(episode.rollouts[seam.failed], credit, "rest", episode.problem, name)
    return replace(row, mask=mask, advantages=tuple(credit * g for g in mask))


def whole_row(episode: Episode, rollout: Rollout, credit: float, options: Options) -> Row:
    """A rollout without a seam: one credit on all of it; without any it is outside the gates, so it is held."""
    row = uniform_row(rollout, credit, "policy", episode.problem, f"{episode.problem.id}/rollouts")
    if credit or not options.hold:
        return row
    return replace(row, mask=(0,) * len(row.mask), hold=options.hold)


def iop(options: Options) -> Algorithm:
    each = {"patch": "patches of", "sibling": "siblings for"}.get(options.form, "repairs of")
    count = 1 if options.form == "sibling" else options.candidates
    kept = f"K = {options.k}, then {2 * options.k}, then all"
    return Algorithm(
        "iop",
        partial(run, options=options),
        partial(rows, options=options),
        level="sequence",
        clip_low=3e-4,
        clip_high=4e-4,
        widen=True,
        note=f"up to {count} {each} each failure, {'K = all of the patch' if options.form == 'patch' else kept}",
    )
