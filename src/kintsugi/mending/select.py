"""The choice of the anchor that a failure is shown, and of the repair that is kept (arXiv:2605.05226).

The kept repair is the one that passes, is not rejected, and edits least.
"""

from __future__ import annotations

from collections.abc import Sequence

from kintsugi.mending.align import distance
from kintsugi.mending.audit import step_shapes, takes_another_order
from kintsugi.records import Repair, Rollout, Verdict


def nearest_anchor(failed: Rollout, passing: Sequence[Rollout]) -> Rollout | None:
    """The passing rollout nearest to `failed` by token edit distance (the first of equals)."""
    return min(
        passing, key=lambda p: distance(failed.completion.token_ids, p.completion.token_ids), default=None
    )


def same_steps(failed: Rollout, passing: Sequence[Rollout]) -> Rollout | None:
    """The nearest passing rollout that takes the steps of `failed` in their order, numbers apart, if there is one.

    It is what the best repair would be: nothing is left to change but what was wrong and what follows from it.
    """
    own = step_shapes(failed.text)
    alike = (p for p in passing if step_shapes(p.text) == own)
    return nearest_anchor(failed, [p for p in alike if not takes_another_order(failed.text, p.text)])


def repair_score(verdict: Verdict, audit: str, edit_distance: float, lambda_edit: float) -> float:
    """s_rep = h * max(r - lambda_edit * D, 0), where h = 0 if an audit rule rejected the repair.

    The floor [ours] leaves every repair that can be selected as it is. Without it an honest try that
    fails would score below a rejected one (0), and best of all failing ones would be the verbatim copy.
    """
    return 0.0 if audit else max(verdict.reward - lambda_edit * edit_distance, 0.0)


def select(repairs: Sequence[Repair], failed: int) -> int | None:
    """Index of the best repair of rollout `failed` by s_rep, or None: only one that mends can be selected."""
    mending = [i for i, r in enumerate(repairs) if r.failed == failed and r.mends]
    return max(mending, key=lambda i: repairs[i].score, default=None)
