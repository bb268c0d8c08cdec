"""The numbers of a step, from one hand-made set of episodes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from fakes import make_repair, make_rollout

from kintsugi.algorithms import load_algorithm
from kintsugi.records import Check, Edit, Episode, Problem, Reach, Rollout, Seam, Verdict
from kintsugi.run.metrics import step_metrics
from kintsugi.sampling.base import StepStats

STATS = StepStats(
    loss=-0.5,
    grad_norm=2.0,
    lr=1e-4,
    updates=1,
    clip_fraction=0.25,
    ratio=1.5,
    sampler_gap=0.01,
    tokens=321,
    seconds=2.0,
)


OPEN = Reach(math.log(0.6), 1, math.log(0.3), 2, entropy=0.9)
CERTAIN = Reach(math.log(0.9), 1, math.log(0.1), 2, entropy=0.05)


def seam(
    failed: int,
    repair: int,
    edits: int,
    kept: int,
    kept_by: Any,
    checks: tuple[Check, ...] = (),
    length: int = 5,
    reach: Reach | None = None,
) -> Seam:
    """A seam whose first `kept` of 10 tokens are gated on the failed side, and one of the repair's `length`."""
    return Seam(
        failed=failed,
        repair=repair,
        edits=(Edit("replace", 0, 0),) * edits,
        kept=kept,
        kept_by=kept_by,
        checks=checks,
        failed_mask=tuple(int(t < kept) for t in range(10)),
        repaired_mask=tuple(int(t == 0) for t in range(length)),
        reach=reach,
    )


def nine(reward: float | Verdict, **more: Any) -> Rollout:
    """A rollout of nine characters: ten tokens with the stop token, nine when it was cut off."""
    return make_rollout("123456789", reward, **more)


def episodes() -> list[Episode]:
    fail, good = nine(0.0), nine(1.0)
    check = Check(2, make_rollout("12", 1.0))
    mixed = Episode(
        Problem("a", "Q", "1"),
        # two failures to mend, a pass, one cut off, one whose verifier broke down
        (fail, nine(Verdict("unscorable")), good, nine(0.0, finish="length"), nine(Verdict("error"))),
        (
            make_repair(0, "12345", audit="answer_only", distance=0.1),
            make_repair(0, "1234", distance=0.2, score=0.96),
            make_repair(1, "123", 0.0, distance=0.9, score=-0.18),
            make_repair(1, "12", audit="anchor_copy", distance=0.8),
        ),
        (seam(0, 1, edits=6, kept=2, kept_by="K", checks=(check,)),),
    )
    remembered = Episode(
        Problem("b", "Q", "1"),
        (fail, fail),
        (make_repair(0, "1", distance=0.4, score=0.9), make_repair(1, "1", distance=0.6, score=0.9)),
        (
            seam(0, 0, edits=3, kept=3, kept_by="all", length=2, reach=OPEN),
            seam(1, 1, edits=9, kept=4, kept_by="2K", length=2, reach=CERTAIN),
        ),
    )
    passed = Episode(Problem("c", "Q", "1"), (good, good), skipped="all passed")
    failed = Episode(Problem("d", "Q", "1"), (fail,), skipped="all failed")
    return [mixed, remembered, passed, failed]


@pytest.fixture(scope="module")
def metrics() -> dict[str, Any]:
    made = episodes()
    rows = [row for e in made for row in load_algorithm("iop").rows(e)]
    return step_metrics(7, made, rows, STATS, {"rollout": 1.25, "check": 0.5})


def assert_holds(metrics: dict[str, Any], expected: dict[str, Any]) -> None:
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)


def test_rollouts(metrics: dict[str, Any]) -> None:
    assert_holds(
        metrics,
        {
            "step": 7,
            "accuracy": 1 / 4,  # of each group as many as the smallest has, the first: only the third passes
            "verdict/unscorable": 1,
            "verdict/error": 1,
            "truncated": 1,
            "length/rollout": 99 / 10,  # ten of ten tokens, but for the one cut at nine
            "entropy": 0.5,  # every token was sampled at a log-probability of -0.5
        },
    )


def test_groups(metrics: dict[str, Any]) -> None:
    assert_holds(metrics, {"groups/mixed": 1, "groups/all_passed": 1, "groups/all_failed": 2})


def test_repairs(metrics: dict[str, Any]) -> None:
    assert_holds(
        metrics,
        {
            "repair/failures": 5,  # 2 + 2 + 0 + 1: neither the one cut off nor the one in error
            "repair/tried": 4,  # all but that of the group that was skipped
            "repair/samples": 6,
            "repair/success_per_failure": 3 / 4,
            "repair/success_per_sample": 3 / 6,
            "repair/distance": (0.2 + 0.4 + 0.6) / 3,  # of those selected
            "repair/edits": (6 + 3 + 9) / 3,
            "repair/skipped_all_failed": 1,
            "length/repair": (6 + 5 + 4 + 3 + 2 + 2) / 6,
        },
    )


def test_reach(metrics: dict[str, Any]) -> None:
    """Of three seams two have a reach; one is open."""
    expected = {"known": 2, "open": 1 / 2, "failed": 0.75, "fix": 0.2, "entropy": 0.475}
    assert_holds(metrics, {f"reach/{name}": value for name, value in expected.items()})


@pytest.mark.parametrize(
    ("rank", "entropy", "is_open"), [(1, 0.057, True), (5, 0.057, True), (6, 2.0, False), (1, 0.056, False)]
)
def test_a_seam_is_open_where_its_fix_is_in_the_top_five_and_the_policy_unsure(
    rank: int, entropy: float, is_open: bool
) -> None:
    assert Reach(-0.1, 1, -3.0, rank, entropy).open == is_open


def test_audit_counts_by_rule(metrics: dict[str, Any]) -> None:
    expected = {"answer_only": 1, "anchor_copy": 1, "format_break": 0, "prompt_leak": 0, "reordered": 0}
    assert {k: v for k, v in metrics.items() if k.startswith("audit/")} == {
        f"audit/{rule}": count for rule, count in expected.items()
    }


def test_k_star(metrics: dict[str, Any]) -> None:
    assert_holds(
        metrics,
        {"kstar/K": 1, "kstar/2K": 1, "kstar/all": 1, "kstar/kept": (2 + 3 + 4) / 3},
    )


def test_rows(metrics: dict[str, Any]) -> None:
    # Three seams, two policy rows each: 3 * 10 + 5 + 2 + 2 tokens, of which 2 + 3 + 4 and 3 * 1 are gated. Of the
    # other 7 of 10 rollouts, the one whose verifier broke down has no row, 6 have a row without credit.
    assert_holds(
        metrics,
        {
            "rows/policy": 6 + 6,
            "rows/credited": 6,
            "rows/repair": 6,
            "rows/empty_gate": 0,
            "active_ratio": (2 + 3 + 4 + 3) / 39,
        },
    )


def test_tokens_and_seconds_by_phase(metrics: dict[str, Any]) -> None:
    assert_holds(
        metrics,
        {
            "tokens/rollout": 99,
            "tokens/repair": 22,
            "tokens/audit": 0,
            "tokens/check": 3,
            "tokens/train": 321,
            "tokens/generated": 99 + 22 + 3,
            "seconds/rollout": 1.25,
            "seconds/repair": 0.0,
            "seconds/check": 0.5,
            "seconds/train": 2.0,
        },
    )


def test_learner_statistics_are_passed_on(metrics: dict[str, Any]) -> None:
    assert_holds(
        metrics,
        {"loss": -0.5, "grad_norm": 2.0, "lr": 1e-4, "updates": 1, "clip_fraction": 0.25, "ratio": 1.5}
        | {"sampler_gap": 0.01},
    )


def test_what_cannot_be_divided_is_none_and_not_zero() -> None:
    """Outcome-only training repairs nothing: its repair rates are unknown, and every token is active."""
    made = [Episode(Problem("a", "Q", "1"), (nine(1.0), nine(0.0)))]
    rows = load_algorithm("grpo").rows(made[0])
    found = step_metrics(1, made, rows, STATS, {})
    for name in ("success_per_failure", "success_per_sample", "distance", "edits"):
        assert found[f"repair/{name}"] is None
    assert found["length/repair"] is None
    assert found["kstar/kept"] is None
    assert found["active_ratio"] == 1.0
    assert step_metrics(1, [Episode(Problem("a", "Q", "1"), ())], [], STATS, {})["accuracy"] is None


def test_a_step_without_episodes_tells_of_its_update_alone() -> None:
    found = step_metrics(1, [], [], STATS, {})
    assert "accuracy" not in found and "tokens/generated" not in found
    assert (found["loss"], found["tokens/train"], found["seconds/train"]) == (-0.5, 321, 2.0)
