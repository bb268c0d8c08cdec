"""Comparisons: what a file comes to, and the statistics of its rows, by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from benchmarks.page import details, page

from kintsugi.compare.overall import overall_table, shared, speed_table
from kintsugi.compare.plan import Plan, load_plan, outline
from kintsugi.compare.plots import assign, moved_apart
from kintsugi.compare.results import (
    Curve,
    ResultRow,
    append_rows,
    censored_median,
    first_crossing,
    interval,
    latest_runs,
    paired,
    read_rows,
    rows_of_log,
    t_975,
)
from kintsugi.compare.tables import comparison_table, dynamics_table, seeds_table, standing, tuning_table
from kintsugi.compare.tuning import Point, Tuned, choose, points
from kintsugi.records import KintsugiError

QUICKSTART = Path(__file__).parents[3] / "recipes" / "quickstart.yaml"
FILE: dict[str, Any] = {
    "recipe": str(QUICKSTART),
    "algorithms": ["grpo", {"label": "iop-k8", "algorithm": {"name": "iop", "k": 8}}],
    "budget": 1000,
    "evaluations": 4,
    "seeds": [0, 1],
    "tuning": {"grid": {"optim.lr": [1e-5, 1e-4]}, "seeds": [9], "budget": 500},
}


def plan(tmp_path: Path, *overrides: str, **changes: Any) -> Plan:
    path = tmp_path / "comparison.yaml"
    path.write_text(yaml.safe_dump({**FILE, **changes}))
    return load_plan(path, overrides)


def curve(*points: tuple[int, float], **changes: Any) -> Curve:
    """A run with evaluations at (tokens, accuracy); 100 tokens take a second; budget 1,000."""
    row = ResultRow(
        comparison="main", stage="main", task="dag", algorithm="grpo", outcome_only=True, reference=False,
        model="nano", seed=0, lr=1e-4, budget=1000, step=0, generated_tokens=0, wall_s=0.0, accuracy=0.0,
        pass_at_8=1.0, commit="abc", recipe="0", dynamics={},
    )  # fmt: skip
    row = replace(row, **changes)
    return Curve(
        tuple(
            replace(row, step=i, generated_tokens=tokens, accuracy=accuracy, wall_s=tokens / 100)
            for i, (tokens, accuracy) in enumerate(points)
        )
    )


# ---- statistics


def test_the_interval_of_three_numbers() -> None:
    # mean 0.6; deviations -0.1, 0, 0.1: s^2 = 0.02 / 2 = 0.01, s = 0.1; t(0.975, 2) = 4.3027:
    # half width 4.3027 * 0.1 / sqrt(3) = 0.24842
    found = interval([0.5, 0.6, 0.7])
    assert (found.mean, found.n) == (pytest.approx(0.6), 3)
    assert found.half == pytest.approx(0.24842, abs=1e-5)
    assert str(found) == "0.600 ± 0.248"
    assert interval([0.4]).half is None
    assert str(interval([0.4])) == "0.400"


@pytest.mark.parametrize(
    ("df", "published"), [(1, 12.706), (4, 2.776), (10, 2.228), (11, 2.201), (20, 2.086), (120, 1.980)]
)
def test_students_t_agrees_with_published_tables(df: int, published: float) -> None:
    assert t_975(df) == pytest.approx(published, abs=6e-4)


def test_paired_differences_use_shared_seeds_alone() -> None:
    # Seeds 0 and 1: differences 0.2 and 0.4; mean 0.3, s = sqrt(0.02), half = 12.7062 * sqrt(0.02 / 2) = 1.27062
    found = paired({0: 0.5, 1: 0.9, 2: 0.1}, {0: 0.3, 1: 0.5, 7: 1.0})
    assert found is not None
    assert (found.mean, found.half, found.n) == (pytest.approx(0.3), pytest.approx(1.27062), 2)
    assert paired({0: 0.5}, {1: 0.5}) is None


def test_tokens_to_reach_lie_on_the_line_between_two_evaluations() -> None:
    # 0.3 at 400, 0.7 at 800: 0.5 is half way, at 600, after 6 s. Later dips do not undo it.
    found = curve((0, 0.1), (400, 0.3), (800, 0.7), (1100, 0.4))
    assert found.tokens_to_reach(0.5) == pytest.approx(600)
    assert found.seconds_at(600) == pytest.approx(6.0)
    assert found.tokens_to_reach(0.1) == 0
    assert found.tokens_to_reach(0.71) is None
    assert first_crossing([0, 10], [0.0, 0.0], 0.5) is None


def test_what_is_reached_beyond_the_budget_is_not_reached() -> None:
    # 0.2 at 900, 0.6 at 1,100: 0.4 exactly at the budget of 1,000, 0.5 at 1,050.
    found = curve((0, 0.2), (900, 0.2), (1100, 0.6))
    assert found.final() == pytest.approx(0.4)  # the overshoot of the last step is taken off
    assert found.tokens_to_reach(0.39) == pytest.approx(995)
    assert found.tokens_to_reach(0.5) is None


def test_a_run_that_never_gets_there_is_later_than_all_others() -> None:
    assert censored_median([300.0, None, 100.0]) == 300
    assert censored_median([300.0, None, None]) is None
    # Of four, the median lies half way between the second and the third: never, if the third is never.
    assert censored_median([100.0, 300.0, None, None]) is None


def tuned(point: Point, seed: int, *accuracies: float) -> Curve:
    """A tuning run with evaluations 500 tokens apart."""
    evaluations = [(500 * i, a) for i, a in enumerate(accuracies)]
    return curve(*evaluations, stage="tuning", seed=seed, settings=dict(point))


def lr(value: float) -> Point:
    return (("optim.lr", value),)


def test_the_best_point_has_the_highest_mean_of_its_last_two_evaluations_over_seeds() -> None:
    runs = [
        tuned(lr(1e-5), 8, 0.1, 0.3, 0.4), tuned(lr(1e-5), 9, 0.1, 0.3, 0.4),  # (0.35 + 0.35) / 2
        tuned(lr(1e-4), 8, 0.1, 0.9, 0.1), tuned(lr(1e-4), 9, 0.1, 0.6, 0.6),  # (0.50 + 0.60) / 2: a collapse costs
        tuned(lr(1e-3), 8, 0.1, 0.9, 0.9),  # the others have two seeds: not eligible
    ]  # fmt: skip
    choice = choose(runs)
    assert choice is not None
    assert choice.point == lr(1e-4)
    assert choice.scores == pytest.approx({lr(1e-5): 0.35, lr(1e-4): 0.55, lr(1e-3): 0.9})
    assert choice.seeds == {lr(1e-5): 2, lr(1e-4): 2, lr(1e-3): 1}
    assert choose([]) is None
    tie = choose([tuned(lr(1e-4), 8, 0.1, 0.5), tuned(lr(1e-5), 8, 0.9, 0.5)])  # the start does not count
    assert tie is not None
    assert tie.point == lr(1e-5)


def test_a_row_older_than_grids_is_a_point_of_its_learning_rate() -> None:
    choice = choose([curve((0, 0.1), (500, 0.3), stage="tuning", lr=3e-4)])
    assert choice is not None
    assert choice.point == lr(3e-4)


def two(rate: float, updates: int) -> Point:
    return (("optim.lr", rate), ("optim.minibatches", updates))


def surface() -> Tuned:
    """Rates 1e-4 and 4e-4, one and four updates; the best point is at the highest rate and the most updates."""
    scores = {two(1e-4, 1): 0.1, two(1e-4, 4): 0.2, two(4e-4, 1): 0.3, two(4e-4, 4): 0.4}
    return Tuned(two(4e-4, 4), scores, dict.fromkeys(scores, 1))


def test_a_best_point_at_the_edges_asks_for_the_points_beyond() -> None:
    assert surface().edges() == {"optim.lr": "highest", "optim.minibatches": "highest"}
    # one step further along each key, the other one kept: 4e-4 * 4e-4 / 1e-4, and 4 * 4 / 1
    assert list(surface().beyond()) == [two(1.6e-3, 4), two(4e-4, 16)]
    # there are no fewer updates than one, so that below it only a lower rate is asked for: 1e-4 * 1e-4 / 4e-4
    lowest = Tuned(two(1e-4, 1), surface().scores, surface().seeds)
    assert list(lowest.beyond()) == [two(2.5e-5, 1)]
    alone = Tuned(lr(1e-4), {lr(1e-4): 0.5}, {lr(1e-4): 1})
    assert (alone.edges(), list(alone.beyond()), list(alone.between())) == ({}, [], [])


def test_a_finer_grid_lies_between_the_best_point_and_its_neighbours() -> None:
    # sqrt(4e-4 * 1e-4) = 2e-4 and sqrt(4 * 1) = 2
    assert list(surface().between()) == [two(2e-4, 4), two(4e-4, 2)]
    scores = {**surface().scores, two(1.6e-3, 4): 0.0, two(4e-4, 16): 0.0}
    inside = Tuned(two(4e-4, 4), scores, dict.fromkeys(scores, 1))
    # on the other sides sqrt(4e-4 * 1.6e-3) = 8e-4 and sqrt(4 * 16) = 8
    assert list(inside.between()) == [two(2e-4, 4), two(8e-4, 4), two(4e-4, 2), two(4e-4, 8)]
    close = Tuned(two(4e-4, 2), {two(4e-4, 2): 0.5, two(4e-4, 3): 0.1}, {})
    assert list(close.between()) == []  # sqrt(6) = 2.4 is two updates again


def test_the_two_best_points_are_run_on_the_other_seeds() -> None:
    assert surface().finalists() == [two(4e-4, 4), two(4e-4, 1)]


def test_clip_ranges_are_no_part_of_the_grid_where_every_ratio_is_one() -> None:
    grid = {"optim.minibatches": [1, 4], "optim.clip_low, optim.clip_high": [4e-4, 1e-2]}
    assert [tuple(value for _, value in point) for point in points(grid)] == [(1, 4e-4), (4, 4e-4), (4, 1e-2)]


# ---- rows


def test_rows_survive_their_file_and_the_last_word_on_a_run_counts(tmp_path: Path) -> None:
    path = tmp_path / "rows" / "learning.jsonl"
    failed = replace(curve((0, 0.0)).head, accuracy=None, pass_at_8=None, error="out of memory", seed=1)
    append_rows(path, curve((0, 0.1), (1000, 0.2)).rows)
    append_rows(path, [failed])
    append_rows(path, curve((0, 0.1), (1000, 0.9)).rows)  # the same run again
    append_rows(path, curve((0, 0.1), (1000, 0.5), lr=1e-5, seed=2).rows)
    rows = read_rows(path)
    assert rows[2] == failed
    curves, errors = latest_runs(rows)
    assert [(c.head.seed, c.final()) for c in curves] == [(0, 0.9), (2, 0.5)]
    assert errors == [failed]
    append_rows(path, curve((0, 0.1), (1000, 0.7), seed=1).rows)  # tried again, this time with success
    curves, errors = latest_runs(read_rows(path))
    assert (sorted(c.head.seed for c in curves), errors) == ([0, 1, 2], [])
    path.write_text(path.read_text() + '{"task": "dag"}\n')
    with pytest.raises(KintsugiError, match=r"learning\.jsonl: line 10: expected a result row"):
        read_rows(path)


def test_a_runs_log_becomes_rows_with_the_means_of_the_steps_between() -> None:
    def step(number: int, tokens: int, accuracy: float, repaired: float | None) -> dict[str, Any]:
        return {
            "step": number, "accuracy": accuracy, "repair/success_per_failure": repaired, "active_ratio": 0.2,
            "reach/open": accuracy + 0.5,
            "tokens/rollout": 75, "tokens/repair": 25, "tokens/total": tokens, "groups/mixed": 1,
            "groups/all_passed": 2, "groups/all_failed": 1, "seconds/rollout": 1.0, "seconds/train": 0.5,
        }  # fmt: skip

    def evaluation(number: int, tokens: int, accuracy: float) -> dict[str, Any]:
        return {"step": number, "tokens/total": tokens, "eval/pass@1": accuracy, "eval/pass@8": 0.9}

    log = [
        evaluation(0, 0, 0.1),
        step(1, 100, 0.2, 0.5),
        step(2, 200, 0.4, None),  # nothing to repair in it: not a 0
        evaluation(2, 200, 0.3),
        evaluation(2, 200, 0.3),  # a resumed run evaluates its end again
    ]
    common = {k: v for k, v in vars_of(curve((0, 0.0)).head).items() if k not in FROM_THE_LOG}
    first, last = rows_of_log(log, common)
    assert (first.generated_tokens, first.wall_s, first.dynamics) == (0, 0.0, {})
    assert (last.generated_tokens, last.wall_s, last.accuracy, last.pass_at_8) == (200, 3.0, 0.3, 0.9)
    assert last.dynamics["train_accuracy"] == pytest.approx(0.3)
    assert (last.dynamics["repair_success"], last.dynamics["entropy"]) == (0.5, None)
    assert (last.dynamics["open_share"], last.dynamics["first_open_share"]) == (pytest.approx(0.8), 0.7)
    assert last.dynamics["first_fix_probability"] is None
    assert (last.dynamics["share_rollout"], last.dynamics["share_repair"]) == (0.75, 0.25)
    assert (last.dynamics["groups_mixed"], last.dynamics["groups_all_passed"]) == (0.25, 0.5)


FROM_THE_LOG = {"step", "generated_tokens", "wall_s", "accuracy", "pass_at_8", "dynamics"}


def vars_of(row: ResultRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ResultRow.__slots__}


# ---- tables and the page


def contest() -> list[Curve]:
    """grpo ends at 0.5 and 0.7, raft lower, iop gets to grpo's 0.6 at 500 with one seed and never with the other."""
    iop = {"algorithm": "iop", "outcome_only": False}
    return [
        curve((0, 0.1), (1000, 0.5)),
        curve((0, 0.1), (1000, 0.7), seed=1),
        curve((0, 0.1), (1000, 0.2), algorithm="raft"),
        curve((0, 0.2), (500, 0.6), (1000, 0.8), **iop, dynamics={"repair_success": 0.4}),
        curve((0, 0.2), (500, 0.3), (1000, 0.4), **iop, seed=1),
        curve((0, 0.2), (500, 0.3), **iop, stage="tuning", seed=9),
        curve((0, 0.2), (500, 0.4), **iop, stage="tuning", seed=9, lr=1e-3),
    ]


def test_others_are_measured_against_the_best_outcome_only_algorithm() -> None:
    found = standing(contest())
    assert (found.reference, found.target, found.budget) == ("grpo", pytest.approx(0.6), 1000)
    by_name = {s.label: s for s in found.summaries}
    iop, grpo = by_name["iop"], by_name["grpo"]
    # 0.8 - 0.5 = 0.3 and 0.4 - 0.7 = -0.3
    assert iop.versus is not None
    assert iop.versus.mean == pytest.approx(0.0)
    assert (iop.reached, iop.tokens) == (1, None)  # one of two: the median is never
    assert (grpo.reached, grpo.versus) == (1, None)
    table = comparison_table(found)
    assert "less `grpo`" in table
    assert "> 1k (1 of 2)" in table
    assert "`grpo` (outcome only)" in table


def test_a_named_reference_goes_before_the_outcome_only_ones() -> None:
    runs = [Curve(tuple(replace(r, reference=r.algorithm == "iop") for r in c.rows)) for c in contest()]
    assert standing(runs).reference == "iop"
    alone = [Curve(tuple(replace(r, outcome_only=False) for r in c.rows)) for c in contest()]
    assert standing(alone).reference is None
    assert "tokens" not in comparison_table(standing(alone))


def test_algorithms_that_no_ratio_told_apart_are_one_line() -> None:
    # One update per batch: gspo ends where grpo ends at every evaluation; kintsugi does not.
    same = [curve((0, 0.2), (1000, end), seed=i) for i, end in enumerate((0.4, 0.6))]
    gspo = [curve((0, 0.2), (1000, end), seed=i, algorithm="gspo") for i, end in enumerate((0.4, 0.6))]
    mine = [curve((0, 0.2), (1000, 0.6), seed=i, algorithm="kintsugi", outcome_only=False) for i in (0, 1)]
    assert [(s.label, s.final.mean) for s in standing([*same, *gspo, *mine]).summaries] == [
        ("kintsugi", 0.6), ("grpo = gspo", 0.5),
    ]  # fmt: skip
    # A single value that differs tells them apart.
    gspo[1] = curve((0, 0.2), (1000, 0.5), seed=1, algorithm="gspo")
    assert [s.label for s in standing([*same, *gspo]).summaries] == ["grpo", "gspo"]


def test_a_best_rate_at_the_edge_is_marked() -> None:
    tuning = [c for c in contest() if c.head.stage == "tuning"]
    # each has one evaluation after the start
    assert tuning_table(tuning).splitlines()[-1] == "| `iop` | 0.300 | **0.400** | lr highest of its grid |"


def test_a_surface_has_a_line_for_each_value_of_the_other_keys() -> None:
    runs = [
        tuned(two(1e-4, 1), 8, 0.0, 0.2), tuned(two(4e-4, 1), 8, 0.0, 0.3), tuned(two(4e-4, 4), 8, 0.0, 0.5),
        tuned(two(4e-4, 4), 9, 0.0, 0.4),
    ]  # fmt: skip
    assert tuning_table(runs).splitlines()[2:] == [
        "| `grpo` | minibatches 1 | 0.200 | 0.300 |  |",
        "| `grpo` | minibatches 4 |  | **0.450** (2 seeds) | lr highest, minibatches highest of its grid |",
    ]


def test_the_dynamics_stand_beside_the_papers() -> None:
    lines = dynamics_table(contest()).splitlines()
    assert "0.384 → 0.731" in lines[2]
    assert "0.400 → 0.400" in next(line for line in lines if line.startswith("| `iop`"))


def test_every_seed_has_its_cell_with_the_runs_tokens_and_seconds() -> None:
    # At the budget of 1,000: 0.1 + (0.5 - 0.1) * 1000 / 1600 = 0.35. raft has no run on seed 1.
    runs = [
        curve((0, 0.1), (1600, 0.5)),
        curve((0, 0.1), (1200, 0.1), seed=1),
        curve((0, 0.1), (1000, 0.2), algorithm="raft"),
    ]
    assert seeds_table(runs).splitlines()[2:] == [
        "| `grpo` | 0.350 | 0.100 | 1,400 | 14 |",
        "| `raft` | 0.200 |  | 1,000 | 10 |",
    ]


def test_tasks_count_the_same_over_all() -> None:
    def on(task: str, *ends: float, **changes: Any) -> list[Curve]:
        return [curve((0, 0.0), (1000, end), task=task, seed=i, **changes) for i, end in enumerate(ends)]

    iop = {"algorithm": "iop", "outcome_only": False}
    runs = {
        "dag": [*on("dag", 0.4, 0.6), *on("dag", 0.8, 1.0, **iop), *on("dag", 0.1, algorithm="raft")],
        "dot": [*on("dot", 0.2, 0.4), *on("dot", 0.1, 0.3, **iop)],
    }
    tasks = shared(runs)
    # iop: seeds (0.8 + 0.1) / 2 and (1.0 + 0.3) / 2; grpo: 0.3 and 0.5; both differ by 0.15. raft ran on one task.
    lines = overall_table(tasks).splitlines()
    assert lines[0] == (
        "| algorithm | seeds | dag | dot | at 1/4 | at 1/2 | mean | less `grpo` | tokens to 90% of `grpo` |"
    )
    # Straight lines from 0: a quarter and half of the end's 0.550.
    assert lines[2].startswith("| `iop` | 2 | 0.900 | 0.200 | 0.138 | 0.275 | 0.550 ±")
    assert "| +0.150 ± 0.000 |" in lines[2]
    assert lines[3].startswith("| `grpo` (outcome only) | 2 | 0.500 | 0.300 | 0.100 | 0.200 | 0.400 ±")
    assert len(lines) == 4
    # 90% of grpo's 0.5 on dag: 0.45 / 0.8 and 0.45 / 1.0 of the budget; grpo never with seed 0 (0.4), so all of it, and
    # 0.45 / 0.6 with seed 1. Ratios 0.5625 and 0.6. On dot 0.27: never with 0.1, 0.9 with 0.3; grpo never with 0.2 and
    # 0.675 with 0.4. Ratios 1 and 1.3333. Seeds: sqrt(0.5625 * 1) = 0.75, sqrt(0.6 * 1.3333) = 0.8944; together 0.8190.
    assert "| > 0.82 (" in lines[2]
    # dag: 0.5 lies at 500 / 0.8 = 625 and at 500 of 1,000 tokens, median 0.5625; dot: one of two gets to 0.3.
    assert speed_table(tasks).splitlines()[2:] == ["| `grpo` | 0.56, >1 |"]


SHOWN = {"main": "Main comparison"}


def test_the_page_holds_tables_plots_failures_and_what_was_written_by_hand(tmp_path: Path) -> None:
    rows = [row for c in contest() for row in c.rows]
    failed = replace(rows[0], algorithm="gspo", accuracy=None, error="exit code 1: boom", seed=3)
    append_rows(tmp_path / "learning.jsonl", [*rows, failed])
    (tmp_path / "surprises.md").write_text("Seed 1 never took off.")
    credit = {"task": "dag", "algorithm": "iop", "seed": 0, "first_error_hit": 0.75}
    (tmp_path / "credit.jsonl").write_text(json.dumps(credit) + "\n")
    text = page(tmp_path, tmp_path / "images", SHOWN)
    assert "`gspo`, main, lr 0.0001, seed 3: exit code 1: boom" in text
    assert "Seed 1 never took off." in text
    assert "| dag | `iop` | 0.750 |" in details(tmp_path, SHOWN)
    picture = (tmp_path / "images" / "main-dag.svg").read_text()
    assert "(images/main-dag.svg)" in text
    assert all(label in picture for label in ("grpo", "raft", "iop", "held-out accuracy"))
    assert page(tmp_path, tmp_path / "images", SHOWN) == text
    assert (tmp_path / "images" / "main-dag.svg").read_text() == picture  # the same rows, the same file
    with pytest.raises(KintsugiError, match="no result rows there"):
        page(tmp_path / "images", tmp_path)


def test_one_algorithm_that_ran_on_all_tasks_has_no_table_over_them(tmp_path: Path) -> None:
    """Of two tasks the second lacks `b`; with it, the tables over both are there."""
    runs = [("dag", "a"), ("dag", "b"), ("chain", "a"), ("chain", "b")]
    for kept, told in ((3, 0), (4, 1)):
        place = tmp_path / str(kept)
        rows = [
            r for task, a in runs[:kept] for r in curve((0, 0.1), (1000, 0.5), task=task, algorithm=a).rows
        ]
        append_rows(place / "learning.jsonl", rows)
        assert page(place, place / "images", SHOWN).count("### all tasks") == told


def test_seconds_are_drawn_where_all_runs_name_one_machine(tmp_path: Path) -> None:
    def drawn(*machines: str) -> tuple[str, str]:
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        rows = [
            row
            for m, a in zip(machines, "ab", strict=True)
            for row in curve((0, 0.1), (1000, 0.5), algorithm=a, machine=m).rows
        ]
        append_rows(place / "learning.jsonl", rows)
        text = page(place, place / "images", SHOWN)
        return text, (place / "images" / "main-dag.svg").read_text()

    text, picture = drawn("GPU, bfloat16", "GPU, bfloat16")
    assert "1k tokens a run on GPU, bfloat16." in text
    assert "seconds of sampling and training" in picture
    text, picture = drawn("GPU, bfloat16", "")  # rows made before machines were kept
    assert "1k tokens a run on GPU, bfloat16." in text
    assert "seconds of" not in picture
    assert "1k tokens a run." in drawn("", "")[0]


def test_many_algorithms_become_dots_of_which_each_is_named(tmp_path: Path) -> None:
    labels = [f"variant{i}" for i in range(12)]
    rows = [row for i, a in enumerate(labels) for row in curve((0, 0.1), (1000, i / 20), algorithm=a).rows]
    append_rows(tmp_path / "learning.jsonl", rows)
    page(tmp_path, tmp_path / "images", SHOWN)
    picture = (tmp_path / "images" / "main-dag.svg").read_text()
    assert [a for a in labels if a not in picture] == []


def test_labels_move_apart_and_keep_their_order() -> None:
    # a and b want 0.50 and 0.52: their middle is 0.51, 0.1 apart; c is far enough; d would leave the picture.
    found = moved_apart({"a": 0.50, "b": 0.52, "c": 0.8, "d": 1.02}, 0.1)
    assert found == pytest.approx({"a": 0.46, "b": 0.56, "c": 0.8, "d": 1.0})
    colours = assign(["grpo", "iop", "mine", "other"])
    assert len(set(colours.values())) == 4
    assert colours["iop"] == assign(["iop"])["iop"]


# ---- the plan


def test_an_outline_counts_what_evaluations_ask(tmp_path: Path) -> None:
    # 7 problems x (3 samples + 1 greedy) = 28 answers, 1 + 3 times.
    found = outline(plan(tmp_path, "settings.eval={problems: 7, samples: 3}", "evaluations=3"))
    assert any("evaluated 1 + 3 times: 112 answers a run beside its budget" in line for line in found)


@pytest.mark.parametrize(
    ("tuning", "said"),
    [
        ({}, "on seed 9"),
        ({"extend": 1}, "on seed 9, then around the best points"),
        ({"refine": 1, "seeds": [9, 10]}, "on seed 9, then around the best points, the two best on 2 seeds"),
    ],
)
def test_an_outline_promises_no_tuning_that_was_not_asked_for(
    tmp_path: Path, tuning: dict[str, Any], said: str
) -> None:
    found = outline(plan(tmp_path, tuning={"grid": {"optim.lr": [1.0e-4]}, "seeds": [9], **tuning}))
    assert found[2].endswith(f"(lr 0.0001) {said}")


def test_a_file_becomes_runs_of_equal_budget(tmp_path: Path) -> None:
    found = plan(tmp_path, "settings.eval.problems=7")
    tuning = found.tuning_runs()
    # one seed x two algorithms x two rates
    assert [(r.label, r.recipe.optim.lr, r.recipe.seed, r.budget) for r in tuning] == [
        ("grpo", 1e-5, 9, 500), ("grpo", 1e-4, 9, 500), ("iop-k8", 1e-5, 9, 500), ("iop-k8", 1e-4, 9, 500),
    ]  # fmt: skip
    main = found.main_runs({"grpo": lr(1e-5), "iop-k8": lr(1e-4)})
    assert [(r.recipe.seed, r.label) for r in main] == [(s, a) for s in (0, 1) for a in ("grpo", "iop-k8")]
    assert {r.budget for r in main} == {1000}
    assert {(r.recipe.eval.every_tokens, r.recipe.eval.samples, r.recipe.eval.problems) for r in main} == {
        (250, 8, 7)
    }
    assert {r.recipe.eval.every_tokens for r in tuning} == {250}
    # settings are chosen on the seven held-out problems after those that methods are compared on
    assert ({r.recipe.eval.skip for r in main}, {r.recipe.eval.skip for r in tuning}) == ({0}, {7})
    assert main[1].recipe.algorithm == {"name": "iop", "k": 8}
    assert [r.outcome_only for r in main[:2]] == [True, False]
    assert len({r.fingerprint for r in main + tuning}) == 8
    assert len({r.recipe.output_dir for r in main + tuning}) == 8
    (asked,) = found.tuning_runs({"grpo": [two(3e-4, 4)]}, [11])
    assert (asked.recipe.optim.lr, asked.recipe.optim.minibatches, asked.recipe.seed) == (3e-4, 4, 11)


def test_the_fingerprint_ignores_where_and_not_what(tmp_path: Path) -> None:
    rates = {"grpo": lr(1e-5), "iop-k8": lr(1e-5)}
    base, elsewhere, other = (
        plan(tmp_path, *overrides).main_runs(rates)[0].fingerprint
        for overrides in (
            (),
            ("output_dir=/elsewhere", "settings.threads=3"),
            ("settings.sampling.top_p=0.9",),
        )
    )
    assert base == elsewhere
    assert base != other


def test_an_entry_may_have_keys_of_its_own_and_what_it_sets_is_not_tuned(tmp_path: Path) -> None:
    clip = "optim.clip_low, optim.clip_high"
    entries = [
        {"algorithm": "gspo", "grid": {clip: [4e-4, 1e-2]}},
        {"algorithm": "raft", "optim": {"minibatches": 2}},
    ]
    grid = {"optim.lr": [1e-4], "optim.minibatches": [4]}
    found = plan(tmp_path, algorithms=entries, tuning={"grid": grid, "seeds": [9]}).tuning_runs()
    optims = [(r.label, r.recipe.optim) for r in found]
    assert [(label, o.minibatches, o.clip_low, o.clip_high) for label, o in optims] == [
        ("gspo", 4, 4e-4, 4e-4), ("gspo", 4, 1e-2, 1e-2), ("raft", 2, None, None),
    ]  # fmt: skip


def test_an_entry_with_a_rate_of_its_own_is_not_tuned(tmp_path: Path) -> None:
    own = {"label": "fixed", "algorithm": "grpo", "optim": {"lr": 5e-5}}
    found = plan(tmp_path, algorithms=["grpo", own])
    assert {r.label for r in found.tuning_runs()} == {"grpo"}
    runs = found.main_runs({"grpo": lr(1e-4)})
    assert [r.recipe.optim.lr for r in runs[:2]] == [1e-4, 5e-5]
    assert runs[1].recipe.optim.warmup == 5  # the rest of the section is the recipe's
    assert [r.label for r in found.main_runs({})] == ["fixed", "fixed"]  # without a rate there is no run
    assert math.isclose(plan(tmp_path, tuning=None).main_runs({})[0].recipe.optim.lr, 2e-4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budgett": 1}, "unknown key 'budgett'; did you mean 'budget'"),
        ({"algorithms": ["grpp"]}, "unknown 'grpp'; did you mean 'grpo'"),
        ({"algorithms": ["grpo", "grpo"]}, "the label 'grpo' occurs twice"),
        ({"algorithms": [{"label": "x"}]}, "expected a name or a mapping with `algorithm`"),
        ({"algorithms": [{"algorithm": "grpo", "optm": {}}]}, "algorithm grpo: unknown key 'optm'"),
        ({"baselines": ["raft"]}, "'raft' is no label"),
        ({"tuning": {"grid": {"optim.rl": [1e-4]}, "seeds": [9]}}, "tuning.grid: unknown key 'optim.rl'"),
        ({"seeds": [9]}, r"expected seeds that no run has, got \[9\] in both"),
        ({"settings": {"optim": {"schedule": "linear"}}}, "'constant' or 'cosine'"),
        ({"recipe": "nowhere.yaml"}, "no such recipe file"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(KintsugiError, match=said) as error:
        plan(tmp_path, **changes).main_runs({"grpo": lr(1e-4)})
    assert "\n" not in str(error.value)
