"""IOP (arXiv:2605.05226): mend failed rollouts, train on the seam between failure and repair.

The differences from GRPO, in the order of a step:
1. Rollouts that pass get no gradient; they are anchors.
2. The same model, in repair mode, repairs each failure beside the nearest anchor (G_rep candidates).
3. Repairs are verified and audited; s_rep = h (r - 0.2 D) selects one per failure.
4. Failure and repair are aligned; the first K* difference tokens gate both sides.
5. Gated clipped sequence ratio: -1 on the failure's gate, +1 on the repair's, both given x alone.
6. The repairs train repair mode: group-relative s_rep, weighted by lambda_rep.

    kintsugi train recipes/quickstart.yaml algorithm=iop algorithm.k=1 algorithm.lambda_rep=5
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import Field

from kintsugi.algorithms.base import Algorithm, rollout_rows
from kintsugi.algorithms.seams import reasons, repair_rows, repaired_row, run, trained
from kintsugi.mending.options import Closed, Mending, Trial
from kintsugi.records import Episode, Row


def iop(
    candidates: Annotated[int, Field(ge=1, description="repairs sampled per failed rollout (G_rep)")] = 2,
    k: Annotated[int, Field(ge=1, description="edits kept at first; doubled once, then all (K)")] = 8,
    check: Annotated[
        Trial,
        Field(description="how the first K edits are tried: continue, graft, or none (kept untried)"),
    ] = "continue",
    lambda_rep: Annotated[float, Field(ge=0, description="weight of the repair objective")] = 0.2,
    closed: Closed = "keep",
) -> Algorithm:
    def rows(episode: Episode) -> list[Row]:
        """J_pol's rows: the seams', and one per other rollout. Then J_rep's: one per repair candidate.

        Rows without credit get no gradient and cost nothing, but count in J_pol's mean [ours]: as failures
        become few, so does what is learned from them. With the mean over seams alone every update stays
        full-sized, and the nano model, at 90% by step 40, fell back to 12% by step 80.
        """
        seams = trained(episode, closed)
        policy: list[Row] = []
        for member in rollout_rows(episode):
            if seam := seams.get(member.index):
                policy.append(member.add("seam", [-1.0 * gate for gate in seam.failed_mask]).credited())
                policy.append(repaired_row(episode, seam, 1.0))
            else:
                policy.append(member)
        return [*policy, *repair_rows(episode, lambda_rep)]

    how = Mending("rewrite", None, candidates, check, k)
    return Algorithm(
        "iop",
        partial(run, how=how),
        rows,
        level="sequence",
        clip_low=3e-4,
        clip_high=4e-4,
        widen=True,
        note=f"up to {candidates} repairs of each failure, K = {k}, then {2 * k}, then all",
        reasons=reasons(1.0, lambda_rep, how.lambda_edit),
    )
