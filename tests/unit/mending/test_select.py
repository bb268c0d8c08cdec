"""Which repair is kept, and which anchor is shown."""

from __future__ import annotations

import pytest
from fakes import make_repair, make_rollout

from kintsugi.mending.select import nearest_anchor, repair_score, same_steps, select
from kintsugi.records import Verdict


@pytest.mark.parametrize(
    ("reward", "audit", "distance", "lambda_edit", "expected"),
    [
        (1.0, "", 0.25, 0.2, 0.95),  # 1 * (1 - 0.2 * 0.25)
        (1.0, "", 0.0, 0.2, 1.0),
        (1.0, "", 1.0, 0.5, 0.5),  # 1 * (1 - 0.5 * 1)
        (0.0, "", 0.5, 0.2, 0.0),  # max(0 - 0.2 * 0.5, 0): a failing repair earns nothing
        (0.75, "", 0.5, 0.5, 0.5),  # 1 * (0.75 - 0.5 * 0.5)
        (1.0, "answer_only", 0.25, 0.2, 0.0),  # h = 0
    ],
)
def test_repair_score(
    reward: float, audit: str, distance: float, lambda_edit: float, expected: float
) -> None:
    assert repair_score(Verdict.scored(reward), audit, distance, lambda_edit) == pytest.approx(expected)


def test_the_best_that_mends_is_selected_and_indices_are_the_episodes() -> None:
    repairs = [
        make_repair(0, "a", 1.0, score=0.99),  # of another failure
        make_repair(2, "b", 1.0, score=0.90),
        make_repair(2, "c", 1.0, score=0.97),
        make_repair(2, "d", 1.0, score=0.95),
    ]
    assert select(repairs, 2) == 2
    assert select(repairs, 0) == 0
    assert select(repairs, 1) is None


def test_the_first_of_equals_is_selected() -> None:
    assert select([make_repair(0, "a", score=0.9), make_repair(0, "b", score=0.9)], 0) == 0


@pytest.mark.parametrize(
    "barred",
    [
        make_repair(0, "a", 0.0, score=9.0),
        make_repair(0, "a", Verdict("unscorable"), score=9.0),
        make_repair(0, "a", Verdict("error"), score=9.0),
        make_repair(0, "a", 1.0, audit="anchor_copy", score=9.0),
    ],
    ids=["failed", "unscorable", "error", "audited"],
)
def test_only_a_repair_that_mends_can_be_selected(barred: object) -> None:
    assert select([barred], 0) is None
    # A worse score wins as long as it mends: even one below 0.
    assert select([barred, make_repair(0, "b", 1.0, score=-0.5)], 0) == 1


def test_nearest_anchor() -> None:
    failed = make_rollout("1+1=3")
    far, near, as_near = make_rollout("two", 1.0), make_rollout("1+1=2", 1.0), make_rollout("1+1=4", 1.0)
    # Tokens with the stop token: "1+1=3." -> "1+1=2." is 1 edit of 6. "two." shares only its end: 5 of 6.
    assert nearest_anchor(failed, [far, near, as_near]) is near
    assert nearest_anchor(failed, [as_near, near]) is as_near  # the first of equals
    assert nearest_anchor(failed, [far]) is far
    assert nearest_anchor(failed, []) is None


def test_nearest_is_relative_to_length() -> None:
    # From "ab." (3 tokens): "xb." is 1 edit of 3 (0.33); "abcdefgh." is 6 edits of 9 (0.67).
    failed, short, long = make_rollout("ab"), make_rollout("xb", 1.0), make_rollout("abcdefgh", 1.0)
    assert nearest_anchor(failed, [long, short]) is short
    # From "abcdefghijkl." (13): "abcdefgh." is 4 edits of 13 (0.31), five more letters are 5 of 18 (0.28).
    failed = make_rollout("abcdefghijkl")
    longer = make_rollout("abcdefghijklmnopq", 1.0)
    assert nearest_anchor(failed, [long, longer]) is longer


def test_a_sibling_serves_as_repair_if_it_takes_the_failures_steps_in_their_order() -> None:
    failed = make_rollout("7*8=58\n6*9=54\n#### 112")
    moved, longer = (
        make_rollout("6*9=54\n7*8=56\n#### 110", 1.0),
        make_rollout("1*1=1\n7*8=56\n6*9=54\n#### 110", 1.0),
    )
    mended = make_rollout("7*8=56\n6*9=54\n#### 110", 1.0)
    assert same_steps(failed, [moved, longer]) is None
    assert same_steps(failed, [moved, longer, mended]) is mended
