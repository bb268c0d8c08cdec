"""The parts that IOP and Kintsugi share: the episode, the repair's row, and the rows that train repair mode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kintsugi.algorithms.base import Advantages, group_advantages, row
from kintsugi.mending.options import Closed, Mending
from kintsugi.mending.repair import join_seams, repair_failures
from kintsugi.records import Episode, Problem, Row, Seam
from kintsugi.sampling.context import Context
from kintsugi.sampling.play import Asking


def reasons(seam: float, lambda_rep: float, lambda_edit: float) -> dict[str, str]:
    """The words for the credit of a seam and of repair mode."""
    return {
        "seam": f"−{seam:g} on the tokens of a mended failure that were changed, +{seam:g} on those that its repair "
        "has instead, both given the problem alone; a sibling that repairs several failures gets it for each",
        "repair": "in repair mode, under the repair prompt: score − mean score of its group; the score is reward − "
        f"{lambda_edit:g} × distance, 0 where the audit rejects it; weight {lambda_rep:g}",
    }


def run(problem: Problem, ctx: Context, how: Mending) -> Asking[Episode]:
    """Rollouts, repairs of the failed ones, and the seam of each failure that was mended."""
    rollouts = yield from ctx.group(problem)
    repairs, skipped = yield from repair_failures(problem, rollouts, ctx, how)
    seams = yield from join_seams(problem, rollouts, repairs, ctx, how)
    return Episode(problem, rollouts, repairs, seams, skipped)


def trained(episode: Episode, closed: Closed) -> dict[int, Seam]:
    """The seams that are trained on, by their failure. All are recorded; one of unknown reach counts as open."""
    return {seam.failed: seam for seam in episode.seams if closed == "keep" or not seam.closed}


def repaired_row(episode: Episode, seam: Seam, praise: float) -> Row:
    """The repair as an answer to x alone, praised at its gate.

    A rewrite was written with the anchor in view, so it carries no sampling log-probabilities: the learner
    computes pi_old(repair | x). A sibling carries its own.
    """
    repair = episode.repairs[seam.repair]
    answer = replace(
        row(episode, seam.repair, "repair"),
        prompt_ids=episode.rollouts[seam.failed].prompt_ids,
        sampling_logprobs=None if repair.written else repair.rollout.completion.logprobs,
        mask=seam.repaired_mask,
    )
    return answer.add("seam", [praise * gate for gate in seam.repaired_mask])


def repair_rows(episode: Episode, weight: float, credit: Advantages = group_advantages) -> Iterator[Row]:
    """The rows of repair mode: its texts under its prompt, credited within groups by s_rep.

    A group is the candidates of one failure. It is all repairs of the problem where each failure has a
    single candidate [ours]: half the tokens, and still a baseline of the same question.
    """
    repairs = episode.repairs
    written = [j for j, r in enumerate(repairs) if r.written and not r.rollout.verdict.broken]
    single = len(written) == len({repairs[j].failed for j in written})
    for failed in sorted({-1 if single else repairs[j].failed for j in written}):
        group = [j for j in written if single or repairs[j].failed == failed]
        for j, advantage in zip(group, credit([repairs[j].score for j in group]), strict=True):
            yield row(episode, j, "repair", term="repair", weight=weight).add("repair", advantage)
