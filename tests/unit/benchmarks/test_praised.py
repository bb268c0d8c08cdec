"""Kintsugi over RAFT's credit (benchmarks/praised.py): all of kintsugi but what rollouts without a seam get."""

from __future__ import annotations

from benchmarks.praised import PRAISED
from fakes import make_context, part_of, run

from kintsugi.algorithms import load_algorithm
from kintsugi.records import Problem, Row

FAILED, LEFT, MENDED, GOOD = "a3 b3#### 5", "a9 b9#### 9", "a4 b4#### 4", "so 4#### 4"
SCRIPT = {
    "[Q]": [FAILED, GOOD, GOOD, LEFT],
    f"[Q\nwrong:\n{FAILED}\nright:\n{GOOD}\nmend:\n]": [MENDED],
    f"[Q\nwrong:\n{LEFT}\nright:\n{GOOD}\nmend:\n]": [LEFT],
}


def rows(*, praised: bool) -> list[Row]:
    ctx, _ = make_context(SCRIPT, sampling={"group_size": 4, "max_new_tokens": 20})
    algorithm = PRAISED() if praised else load_algorithm("kintsugi")
    return algorithm.rows(run(algorithm.run(Problem("p", "Q", "4"), ctx), ctx))


def test_passes_are_praised_by_how_rare_they_are_and_unmended_failures_left_out() -> None:
    found = [r for r in rows(praised=True) if r.kind == "rollout" and "seam" not in r.credit]
    # Two of four pass: 1 - 1/2. Rollout 3 failed and was not mended: it has no row.
    assert [(r.index, set(r.credit["pass"])) for r in found] == [(1, {0.5}), (2, {0.5})]


def test_seams_and_repairs_are_kintsugis() -> None:
    def mended(made: list[Row]) -> list[tuple[str, tuple[float, ...]]]:
        return [(part_of(r), r.advantages) for r in made if "seam" in r.credit or r.term == "repair"]

    assert mended(rows(praised=True)) == mended(rows(praised=False)) != []
