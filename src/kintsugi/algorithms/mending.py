"""What IOP and Kintsugi share: their episode, credit outside of seams, and the rows that train repair mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field

from kintsugi.algorithms.base import Credit, group_advantages, judged, uniform_row
from kintsugi.internalize.context import Context
from kintsugi.internalize.options import RepairOptions
from kintsugi.internalize.repair import join_seams, repair_failures
from kintsugi.records import Episode, Problem, Rollout, Row, Seam

PREFIX_SHARE = 0.7
"""How much of what precedes a seam is praised: VPPO (arXiv:2601.18984) shortens it against step inflation."""


class MendingOptions(RepairOptions):
    lambda_rep: float = Field(0.2, ge=0, description="weight of the repair objective")
    praise: float = Field(
        0.0, ge=0, description="credit of passing rollouts, times 1 - the group's pass rate"
    )
    prefix: float = Field(0.0, ge=0, description="credit of the first 70% of a failure before its seam")
    soft: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of its group advantage that a rollout keeps outside the gates; 0: hard gates",
    )
    scouts: int = Field(
        0,
        ge=0,
        description="rollouts of a problem drawn first; the others only where one passes; 0: all at once",
    )


async def run(problem: Problem, ctx: Context, options: MendingOptions) -> Episode:
    """Rollouts, repairs of the failed ones, and the seam of each failure that was mended."""
    rollouts = await scouted(problem, ctx, options.scouts)
    repairs, skipped = await repair_failures(problem, rollouts, ctx, options)
    seams = await join_seams(problem, rollouts, repairs, ctx, options)
    return Episode(problem, rollouts, repairs, seams, skipped)


async def scouted(problem: Problem, ctx: Context, scouts: int) -> tuple[Rollout, ...]:
    """The group of a problem; its first `scouts` rollouts alone (0: no scouts) where none of them passes."""
    size = ctx.recipe.sampling.group_size
    first = await ctx.rollouts(problem, min(scouts, size) or size)
    missing = size - len(first)  # none where another trainer has drawn the group already
    if not missing or not any(r.verdict.passed for r in first):
        return first
    return (*first, *await ctx.sample(problem, ctx.solve_prompt(problem), missing, "rollout", "rest"))


def unsolved(rollouts: Sequence[Rollout]) -> float:
    """1 - the pass rate of the judged rollouts: how much a problem still has to teach. 1 without any."""
    group = judged(rollouts)
    return 1 - sum(r.verdict.passed for r in group) / max(1, len(group))


def praised_prefix(seam: Seam, options: MendingOptions) -> int:
    """How many of a failure's first tokens are praised."""
    return int(PREFIX_SHARE * seam.edits[0].failed_at) if options.prefix and seam.edits else 0


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
