"""Gates that end with the first differing step (benchmarks/step_gates.py)."""

from __future__ import annotations

import pytest
from benchmarks.step_gates import STEP_GATES
from fakes import make_context, run

from kintsugi.records import Problem

GOOD = "so 4#### 4"


@pytest.mark.parametrize(
    ("failed", "mended", "blamed", "praised"),
    [
        # The step "a3 b3" ends with the line: both of its numbers are gated, what follows is not.
        ("a3 b3\nc3#### 5", "a4 b4\nc4#### 4", "33", "44"),
        # A comma more is no edit: the first that counts is in the second line.
        ("a3 b3\nc3 d3\n#### 5", "a3, b3\nc6 d4\n#### 4", "33", "64"),
    ],
)
def test_the_edits_of_the_first_differing_step_are_gated(
    failed: str, mended: str, blamed: str, praised: str
) -> None:
    script = {"[Q]": [failed, GOOD, GOOD], f"[Q\nwrong:\n{failed}\nright:\n{GOOD}\nmend:\n]": [mended]}
    ctx, _ = make_context(script, sampling={"group_size": 3, "max_new_tokens": 20})
    episode = run(STEP_GATES().run(Problem("p", "Q", "4"), ctx), ctx)
    (seam,) = episode.seams

    def gated(ids: tuple[int, ...], mask: tuple[int, ...]) -> str:
        return "".join(ctx.codec.decode([i]) for i, g in zip(ids, mask, strict=True) if g)

    assert gated(episode.rollouts[0].completion.token_ids, seam.failed_mask) == blamed
    assert gated(episode.repairs[seam.repair].ids, seam.repaired_mask) == praised
