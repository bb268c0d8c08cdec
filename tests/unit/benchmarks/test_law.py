"""The law's figures, from result rows (benchmarks/law.py)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.law import draw_law, forecast_table, law_table, settings
from benchmarks.page import pairs_of
from benchmarks.pairs import ends

from kintsugi.compare.results import Curve, ResultRow

EARLY = {
    "first_open_share": 0.4, "first_fix_probability": 0.05, "open_share": 0.8, "fix_probability": 0.25,
    "repair_success": 0.7, "groups_mixed": 0.6,
}  # fmt: skip


def run(label: str, seed: int, end: float, dynamics: dict[str, Any] = EARLY) -> Curve:
    first = ResultRow(
        comparison="law", stage="main", task="brackets-70", algorithm=label, outcome_only=False, reference=False,
        model="m", seed=seed, lr=1e-4, budget=1000, step=0, generated_tokens=0, wall_s=0.0, accuracy=0.3,
        pass_at_8=None, commit="abc", recipe="0", dynamics={},
    )  # fmt: skip
    last = replace(first, step=1, generated_tokens=1000, accuracy=end, dynamics=dynamics)
    return Curve((first, last))


RUNS = [
    *(run("kintsugi", seed, end) for seed, end in enumerate((0.7, 0.6))),
    *(run("kintsugi without seams", seed, end, {}) for seed, end in enumerate((0.5, 0.5))),
    *(run("kintsugi random seams", seed, end) for seed, end in enumerate((0.45, 0.55))),
]


def test_gains_are_differences_seed_by_seed() -> None:
    (found,) = settings({"brackets-70": RUNS})
    # Seams less none: 0.2 and 0.1. Mean 0.15, deviation 0.1 / sqrt(2): 12.7062 x 0.05 = 0.635 to a side.
    assert (found.gain.mean, found.gain.half) == pytest.approx((0.15, 0.635), abs=1e-3)
    # Random seams less none: -0.05 and 0.05.
    assert found.control is not None
    assert found.control.mean == pytest.approx(0)
    assert (found.start, found.first_open, found.open_share, found.mended) == (0.3, 0.4, 0.8, 0.7)
    # open seams and p(fix) in the first step and in the first half of a run, then the share mended
    assert "brackets-70 | 2 | 0.300 | 0.40, 0.80 | 0.05, 0.25 | 0.70 | 0.650 | 0.500 | 0.500 |" in law_table(
        [found]
    )


def test_the_ends_of_a_label_are_those_of_its_comparison_and_task() -> None:
    curves = [*RUNS, of("fair", run("kintsugi", 0, 0.9))]
    assert ends(curves, "law/brackets-70/kintsugi") == pytest.approx({0: 0.7, 1: 0.6})
    assert ends(curves, "fair/brackets-70/kintsugi") == pytest.approx({0: 0.9})
    assert ends(curves, "law/brackets-70/raft") == {}


def test_rows_from_before_the_first_step_was_kept() -> None:
    late = {key: value for key, value in EARLY.items() if not key.startswith("first")}
    (found,) = settings({"brackets-70": [run(c.head.algorithm, c.head.seed, c.final(), late) for c in RUNS]})
    assert found.first_fix is None
    assert "brackets-70 | 2 | 0.300 | 0.80 | 0.25 | 0.70 |" in law_table([found])


@pytest.mark.parametrize(
    ("mixed", "mended", "ends", "line"),
    [
        # Differences 0.19 and 0.21: 12.7062 x 0.01 to a side of 0.2, all above 0.
        (0.6, 0.7, (0.7, 0.72), "| 0.60 | 0.70 | gain | +0.200 ± 0.127 | yes |"),
        # 0.1 and 0.2: the interval holds 0.
        (0.6, 0.7, (0.7, 0.6), "| 0.60 | 0.70 | gain | +0.150 ± 0.635 | no |"),
        (0.3, 0.7, (0.7, 0.72), "| 0.30 | 0.70 | gain | +0.200 ± 0.127 | yes |"),  # whatever the groups
        (0.6, 0.2, (0.7, 0.6), "| 0.60 | 0.20 | no gain | +0.150 ± 0.635 | yes |"),
        (0.6, 0.2, (0.7, 0.72), "| 0.60 | 0.20 | no gain | +0.200 ± 0.127 | no |"),
    ],
)
def test_the_forecast_is_right_or_wrong(
    mixed: float, mended: float, ends: tuple[float, float], line: str
) -> None:
    seen = {**EARLY, "groups_mixed": mixed, "repair_success": mended}
    runs = [run("kintsugi", seed, end, seen) for seed, end in enumerate(ends)]
    none = [run("kintsugi without seams", seed, end, {}) for seed, end in enumerate((0.51, 0.51))]
    if ends[1] < ends[0]:
        none = [run("kintsugi without seams", seed, 0.5, {}) for seed in (0, 1)]
    assert line in forecast_table(settings({"brackets-70": [*runs, *none]}))


def test_a_base_without_the_pair_is_left_out() -> None:
    assert settings({"brackets-70": [c for c in RUNS if c.head.algorithm != "kintsugi without seams"]}) == []


def test_the_first_comparison_that_has_both_on_a_task_counts() -> None:
    """`words` lacks none, so `fair` counts, where seams gain 0.2 and 0.1; in `parts`, after it, they gain 0.3 more."""
    seams = [c for c in RUNS if c.head.algorithm == "kintsugi"]
    parts = [run("kintsugi", seed, end) for seed, end in enumerate((1.0, 0.9))] + RUNS[2:]
    curves = [of("words", c) for c in seams] + [of("parts", c) for c in parts] + [of("fair", c) for c in RUNS]
    (found,) = pairs_of(curves, ["words", "fair", "parts"])
    assert found.gain.mean == pytest.approx(0.15)


def of(comparison: str, curve: Curve) -> Curve:
    return Curve(tuple(replace(row, comparison=comparison) for row in curve.rows))


def test_the_picture_names_every_base(tmp_path: Path) -> None:
    draw_law(tmp_path / "law.svg", settings({"brackets-70": RUNS}))
    assert "brackets-70" in (tmp_path / "law.svg").read_text()
