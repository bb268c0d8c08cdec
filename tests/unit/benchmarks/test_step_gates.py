"""Seams in the first step that reckons otherwise (benchmarks/step_gates.py)."""

from __future__ import annotations

import pytest
from benchmarks.step_gates import STEP_GATES, STEP_SEAM
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
        # Another word in a line that reckons alike is passed over, in the line that does not it is gated.
        ("a3 b3\nc3 d3\n#### 5", "x3 b3\ny6 d3\n#### 4", "c3", "y6"),
        # No number differs but in the answer: that line is a step as well.
        ("a3 b3\n#### 5", "x3 y3\n#### 4", "5", "4"),
    ],
)
def test_the_edits_of_the_first_step_that_reckons_otherwise(
    failed: str, mended: str, blamed: str, praised: str
) -> None:
    script = {"[Q]": [failed, GOOD, GOOD], f"[Q\nwrong:\n{failed}\nright:\n{GOOD}\nmend:\n]": [mended] * 2}
    for algorithm, most in ((STEP_GATES, 8), (STEP_SEAM, 1)):
        ctx, _ = make_context(script, sampling={"group_size": 3, "max_new_tokens": 20})
        episode = run(algorithm().run(Problem("p", "Q", "4"), ctx), ctx)
        (seam,) = episode.seams

        def gated(ids: tuple[int, ...], mask: tuple[int, ...]) -> str:
            return "".join(ctx.codec.decode([i]) for i, g in zip(ids, mask, strict=True) if g)  # noqa: B023

        assert gated(episode.rollouts[0].completion.token_ids, seam.failed_mask) == blamed[:most]
        assert gated(episode.repairs[seam.repair].ids, seam.repaired_mask) == praised[:most]
        assert seam.kept == len(blamed[:most])
