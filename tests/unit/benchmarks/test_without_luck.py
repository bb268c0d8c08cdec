"""Kintsugi told which passes hold an error (benchmarks/without_luck.py), on sums whose slips cancel."""

from __future__ import annotations

from benchmarks.tasks.sums import SumsTask
from benchmarks.without_luck import NO_SEAMS, SEAMS
from fakes import make_context, run

from kintsugi.records import Episode, Problem

# 3 + 8*7 + 9*8 = 3 + 56 + 72 = 131. Two slips cancel: 58 is 2 too many and 70 is 2 too few.
QUESTION = "3 + 8*7 + 9*8"
RIGHT = "8*7=56\n3+56=59\n9*8=72\n59+72=131\n#### 131"
LUCKY = "8*7=58\n3+58=61\n9*8=70\n61+70=131\n#### 131"
FAILED = "8*7=56\n3+56=59\n9*8=70\n59+70=129\n#### 129"


def episode(group: list[str], *, seams: bool) -> Episode:
    task = {"name": "benchmarks/tasks/sums.py:SumsTask", "in_order": True}
    ctx, _ = make_context(
        {f"[{QUESTION}]": group}, task=task, sampling={"group_size": len(group), "max_new_tokens": 96}
    )
    return run((SEAMS if seams else NO_SEAMS).run(Problem("p", QUESTION, "131"), ctx), ctx)


def test_the_task_slips_so() -> None:
    slips = SumsTask(factors=[6, 9], slip_facts=0.3).slips
    assert (slips[8, "*", 7], slips[9, "*", 8]) == (58, 70)


def test_a_pass_by_luck_counts_as_a_failure_and_repairs_none() -> None:
    made = episode([LUCKY, RIGHT, FAILED], seams=True)
    assert [r.verdict.passed for r in made.rollouts] == [False, True, False]
    # The failure is repaired by the right sibling: 9*8=7 is equal, then 0 becomes 2.
    places = {seam.failed: seam.edits[0].failed_at for seam in made.seams}
    assert places == {0: LUCKY.index("8\n"), 2: FAILED.index("0\n")}


def test_without_seams_the_verdicts_alone_change() -> None:
    made = episode([LUCKY, RIGHT], seams=False)
    assert [r.verdict.passed for r in made.rollouts] == [False, True]
    assert made.seams == ()
