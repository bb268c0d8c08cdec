"""Kintsugi with random seams (benchmarks/random_seams.py): all of it but the place."""

from __future__ import annotations

import pytest
from benchmarks.random_seams import RANDOM_SEAMS
from fakes import make_context, part_of, run

from kintsugi.algorithms import load_algorithm
from kintsugi.records import Problem, Row

FAILED, MENDED, GOOD = "a3 b3#### 5", "a4 b4#### 4", "so 4#### 4"
SCRIPT = {"[Q]": [FAILED, GOOD, GOOD], f"[Q\nwrong:\n{FAILED}\nright:\n{GOOD}\nmend:\n]": [MENDED]}


def rows(problem: str, *, moved: bool) -> list[Row]:
    ctx, _ = make_context(SCRIPT, sampling={"group_size": 3, "max_new_tokens": 20})
    algorithm = RANDOM_SEAMS() if moved else load_algorithm("kintsugi")
    return algorithm.rows(run(algorithm.run(Problem(problem, "Q", "4"), ctx), ctx))


def of(found: list[Row], role: str) -> Row:
    (row,) = [row for row in found if part_of(row) == role]
    return row


@pytest.mark.parametrize("problem", ["p", "q", "r"])
def test_one_token_of_each_side_is_credited_at_the_same_place(problem: str) -> None:
    failed, repaired = of(rows(problem, moved=True), "failed"), of(rows(problem, moved=True), "repaired")
    (at,) = [t for t, a in enumerate(failed.advantages) if a == -10]
    assert [t for t, a in enumerate(repaired.advantages) if a] == [at]
    assert repaired.advantages[at] == 10
    # What precedes the moved seam is praised, as kintsugi praises what precedes its own: the first 70%.
    assert [t for t, a in enumerate(failed.advantages) if a == 1] == list(range(int(0.7 * at)))


def test_the_place_is_drawn_for_each_problem_and_everything_else_is_kintsugis() -> None:
    places = {of(rows(f"p{i}", moved=True), "repaired").mask.index(1) for i in range(12)}
    assert len(places) > 3  # kintsugi's own is always 1
    ours, theirs = rows("p", moved=True), rows("p", moved=False)
    assert [(part_of(r), r.completion_ids, r.weight) for r in ours] == [
        (part_of(r), r.completion_ids, r.weight) for r in theirs
    ]
    same = [
        (a.advantages, b.advantages)
        for a, b in zip(ours, theirs, strict=True)
        if part_of(a) in ("policy", "repair")
    ]
    assert len(same) == 3
    assert all(a == b for a, b in same)
