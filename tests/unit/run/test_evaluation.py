"""pass@k and its intervals against numbers worked out by hand."""

from __future__ import annotations

import pytest

from kintsugi.records import Verdict
from kintsugi.run.evaluation import bootstrap, majority, pass_at_k, scores
from kintsugi.verifiers.extract import UNENDED, vote


@pytest.mark.parametrize(
    ("n", "passed", "k", "expected"),
    [
        (4, 0, 1, 0.0),
        (4, 1, 1, 0.25),
        (4, 4, 1, 1.0),
        # 1 - C(2,2)/C(4,2) = 1 - 1/6: of the 6 pairs of 4 samples only one holds two failures
        (4, 2, 2, 5 / 6),
        # 1 - C(3,2)/C(4,2) = 1 - 3/6
        (4, 1, 2, 0.5),
        # fewer than k failures: every choice of k holds a pass
        (4, 3, 2, 1.0),
    ],
)
def test_pass_at_k(n: int, passed: int, k: int, expected: float) -> None:
    assert pass_at_k(n, passed, k) == pytest.approx(expected)


def test_pass_at_k_needs_k_samples() -> None:
    with pytest.raises(ValueError, match="at least 3 samples"):
        pass_at_k(2, 1, 3)


@pytest.mark.parametrize(
    ("votes", "passed", "expected"),
    [
        # "7" has two votes of three
        (["7", "3", "7"], [True, False, True], 1.0),
        (["7", "3", "3"], [True, False, False], 0.0),
        # two votes each: one of the two answers is right
        (["7", "3", "3", "7"], [True, False, False, True], 0.5),
        # one vote each: one of three is right; who gives no answer has no vote
        (["7", "3", None, "4", None], [True, False, False, False, False], 1 / 3),
        # the winner's two samples were judged differently: its pass rate
        (["x", "x", "y"], [True, False, True], 0.5),
        ([None, None], [False, False], 0.0),
    ],
)
def test_majority(votes: list[str | None], passed: list[bool], expected: float) -> None:
    assert majority(votes, passed) == pytest.approx(expected)


def test_a_vote_is_the_final_answer_undressed_else_the_last_line() -> None:
    assert vote("6*7\n#### **42**.\nDone.") == "42"
    assert vote(r"so \boxed{1,042} it is") == "1042"
    assert vote("Let me see.\nIt is 42.\n \n") == "It is 42"
    assert vote(" \n") is None and vote("") is None


def test_what_never_ends_its_thoughts_has_no_vote() -> None:
    # The prompt opened the thoughts, so the texts show no mark: their verdicts do. One vote is left, a passing one.
    verdicts = [[UNENDED, UNENDED, Verdict.scored(1.0), UNENDED]]
    assert scores(verdicts, [["#### 7", "#### 7", "#### 8", "#### 7"]], 3)["maj_at_k"] == [1.0]


def test_the_interval_of_equal_values_is_wilsons() -> None:
    # Wilson at 0 of 10: the middle is (z^2/20) / (1 + z^2/10) = 0.19208 / 1.38416 = 0.13877, the half width
    # z / 1.38416 * z/20 = 0.13877, so the interval is 0 to 0.2775.
    estimate = bootstrap([0.0] * 10)
    assert (estimate.value, estimate.low) == (0.0, 0.0)
    assert estimate.high == pytest.approx(0.2775, abs=1e-3)


def test_the_interval_of_a_fair_coin_is_about_two_standard_errors() -> None:
    # 100 values, half 0 and half 1: the standard error is 0.5 / sqrt(100) = 0.05, so 95% lies within
    # 1.96 * 0.05 = 0.098 of 0.5; resampled means move in steps of 0.01, hence the tolerance of 0.02.
    estimate = bootstrap([0.0] * 50 + [1.0] * 50)
    assert estimate.value == 0.5
    assert estimate.low == pytest.approx(0.402, abs=0.02)
    assert estimate.high == pytest.approx(0.598, abs=0.02)
