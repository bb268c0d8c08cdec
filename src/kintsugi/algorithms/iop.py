"""IOP (arXiv:2605.05226): mend failed rollouts, train on the seam between failure and repair.

How this differs from GRPO, in the order of a step:
1. Rollouts that pass get no gradient; they are anchors.
2. The same model, in repair mode, repairs each failure beside the nearest anchor (G_rep candidates).
3. Repairs are verified and audited; s_rep = h (r - lambda_edit D) selects one per failure.
4. Failure and repair are aligned; the first K* difference tokens gate both sides.
5. Gated clipped sequence ratio: -1 on the failure's gate, +1 on the repair's, both given x alone.
6. The repairs train repair mode: group-relative s_rep, weighted by lambda_rep.

    kintsugi train recipes/quickstart.yaml
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from pydantic import Field, model_validator

from kintsugi.algorithms.base import Algorithm, group_advantages, uniform_row
from kintsugi.internalize.context import Context
from kintsugi.internalize.options import RepairOptions
from kintsugi.internalize.repair import join_seams, repair_failures
from kintsugi.records import Episode, Problem, Role, Row, Seam


class Options(RepairOptions):
    lambda_rep: float = Field(0.2, ge=0, description="weight of the repair objective")

    @model_validator(mode="after")
    def _compares(self) -> Options:
        if self.candidates < 2 and self.lambda_rep:
            raise ValueError(
                "candidates: the repair objective compares the candidates of a failure, expected at least 2 "
                f"(or lambda_rep=0), got {self.candidates}"
            )
        return self


async def run(problem: Problem, ctx: Context, options: Options) -> Episode:
    """Rollouts, repairs of the failed ones, and the seam of each failure that was mended."""
    rollouts = await ctx.rollouts(problem, ctx.recipe.sampling.group_size)
    repairs, skipped = await repair_failures(problem, rollouts, ctx, options)
    seams = await join_seams(problem, rollouts, repairs, ctx, options)
    return Episode(problem, rollouts, repairs, seams, skipped)


def rows(episode: Episode, options: Options) -> list[Row]:
    """Two policy rows per seam, one without credit per other rollout, and one repair row per candidate.

    Rows without credit get no gradient and cost nothing, but count in J_pol's mean [ours]: as failures
    become few, so does what is learned from them. With the mean over seams alone every update stays
    full-sized, and the nano model, at 90% by step 40, fell back to 12% by step 80.
    """
    seams = {seam.failed: seam for seam in episode.seams}
    policy: list[Row] = []
    for i, rollout in enumerate(episode.rollouts):
        if i in seams:
            policy += seam_rows(episode, seams[i])
        elif rollout.verdict.state != "error":
            policy.append(
                uniform_row(rollout, 0.0, "policy", episode.problem, f"{episode.problem.id}/rollouts")
            )
    return [*policy, *repair_rows(episode, options.lambda_rep)]


def seam_rows(episode: Episode, seam: Seam) -> tuple[Row, Row]:
    """The failure (-1 on its gate) and its repair (+1 on its own): a normalised group of two.

    The repair was written with the anchor in view, but is scored given x alone, so it carries no
    sampling log-probabilities: the learner computes pi_old(repair | x).
    """
    failed = episode.rollouts[seam.failed]
    completion = failed.completion

    def row(
        role: Role,
        ids: tuple[int, ...],
        mask: tuple[int, ...],
        credit: float,
        logprobs: tuple[float, ...] | None,
    ) -> Row:
        return Row(
            prompt_ids=failed.prompt_ids,
            completion_ids=ids,
            mask=mask,
            advantages=tuple(credit * g for g in mask),
            sampling_logprobs=logprobs,
            role=role,
            problem_id=episode.problem.id,
            group_id=f"{episode.problem.id}/seam/{seam.failed}",
        )

    return (
        row("failed", completion.token_ids, seam.failed_mask, -1.0, completion.logprobs),
        row("repaired", seam.repaired_ids, seam.repaired_mask, 1.0, None),
    )


def repair_rows(episode: Episode, weight: float) -> Iterator[Row]:
    """Every repair candidate under its repair prompt; its group is the candidates of the same failure."""
    for failed in sorted({r.failed for r in episode.repairs}):
        group = [r for r in episode.repairs if r.failed == failed and r.rollout.verdict.state != "error"]
        for repair, advantage in zip(group, group_advantages([r.score for r in group]), strict=True):
            name = f"{episode.problem.id}/repair/{failed}"
            yield uniform_row(repair.rollout, advantage, "repair", episode.problem, name, weight)


def iop(options: Options) -> Algorithm:
    return Algorithm(
        "iop",
        partial(run, options=options),
        partial(rows, options=options),
        level="sequence",
        clip_low=3e-4,
        clip_high=4e-4,
        widen=True,
        note=f"up to {options.candidates} repairs of each failure, "
        f"K = {options.k}, then {2 * options.k}, then all",
    )
