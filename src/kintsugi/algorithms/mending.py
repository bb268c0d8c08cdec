"""What IOP and Kintsugi share: how an episode is made, the repair's row, and the rows that train repair mode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kintsugi.algorithms.base import Credit, group_advantages, uniform_row
from kintsugi.engines.play import Run
from kintsugi.internalize.context import Context
from kintsugi.internalize.options import Mending
from kintsugi.internalize.repair import join_seams, repair_failures
from kintsugi.records import Episode, Problem, Row, Seam


def run(problem: Problem, ctx: Context, how: Mending) -> Run[Episode]:
    """Rollouts, repairs of the failed ones, and the seam of each failure that was mended."""
    rollouts = yield from ctx.group(problem)
    repairs, skipped = yield from repair_failures(problem, rollouts, ctx, how)
    seams = yield from join_seams(problem, rollouts, repairs, ctx, how)
    return Episode(problem, rollouts, repairs, seams, skipped)


def failed_row(episode: Episode, seam: Seam, credit: list[float]) -> Row:
    """The failure with this credit by token; what has none does not count in the row's mean."""
    name = f"{episode.problem.id}/seam/{seam.failed}"
    row = uniform_row(episode.rollouts[seam.failed], 0.0, "failed", episode.problem, name)
    return replace(row, mask=tuple(int(c != 0) for c in credit), advantages=tuple(credit))


def repaired_row(episode: Episode, seam: Seam, praise: float) -> Row:
    """The repair as an answer to x alone, praised at its gate.

    A rewrite was written with the anchor in view, so it carries no sampling log-probabilities: the learner
    computes pi_old(repair | x). A sibling carries its own.
    """
    repair, name = episode.repairs[seam.repair], f"{episode.problem.id}/seam/{seam.failed}"
    return Row(
        prompt_ids=episode.rollouts[seam.failed].prompt_ids,
        completion_ids=seam.repaired_ids,
        mask=seam.repaired_mask,
        advantages=tuple(praise * gate for gate in seam.repaired_mask),
        sampling_logprobs=None if repair.written else repair.rollout.completion.logprobs,
        role="repaired",
        problem_id=episode.problem.id,
        group_id=name,
    )


def repair_rows(episode: Episode, weight: float, credit: Credit = group_advantages) -> Iterator[Row]:
    """What repair mode wrote, under its prompt, credited within groups by s_rep.

    A group is the candidates of one failure. Where each failure has a single one it is the problem's
    repairs [ours]: half the tokens, and still a baseline of the same question.
    """
    written = [r for r in episode.repairs if r.written and r.rollout.verdict.state != "error"]
    single = len(written) == len({r.failed for r in written})
    for failed in sorted({-1 if single else r.failed for r in written}):
        group = [r for r in written if single or r.failed == failed]
        name = f"{episode.problem.id}/repair" + ("" if single else f"/{failed}")
        for repair, advantage in zip(group, credit([r.score for r in group]), strict=True):
            yield uniform_row(repair.rollout, advantage, "repair", episode.problem, name, weight)
