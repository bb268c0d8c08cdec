"""pass@k and its intervals against numbers worked out by hand."""

from __future__ import annotations

import pytest

from kintsugi.evaluation import bootstrap, pass_at_k


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
