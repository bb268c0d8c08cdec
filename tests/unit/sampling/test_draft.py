"""A draft is followed through substitutions, insertions and deletions."""

from __future__ import annotations

from kintsugi.sampling.batch import width
from kintsugi.sampling.draft import Draft


def after(draft: str, *drawn: str) -> str:
    """What is left of the draft once each of these is drawn in a pass of its own."""
    found = Draft(tuple(map(ord, draft)))
    for tokens in drawn:
        found.follow([ord(c) for c in tokens])
    return "".join(map(chr, found.ids[found.at :]))


def test_what_agrees_and_what_is_replaced_moves_the_place_on() -> None:
    assert after("abcdefgh", "abc") == "defgh"
    assert after("abcdefgh", "abX") == "defgh"
    assert after("abcdefgh", "abX", "defY") == "h"


def test_one_token_put_in_is_seen_at_the_second_that_differs() -> None:
    # X is taken for another c, so d is awaited; c comes instead, and stands one place back.
    assert after("abcdefgh", "abX", "c") == "defgh"


def test_tokens_left_out_are_seen_once_two_stand_further_on() -> None:
    # e is taken for another c; f is not the d awaited, but e f stands there.
    assert after("abcdefghij", "abe", "f") == "ghij"


def test_a_draft_that_is_of_no_use_is_given_up() -> None:
    assert after("abcdefgh", "x", "x", "x") == "defgh"
    assert after("abcdefgh", "x", "x", "x", "x") == ""
    # A token that agrees begins the count anew.
    assert after("abcdefgh", "x", "x", "x", "d", "x") == "fgh"


def test_the_width_of_a_pass_is_what_draws_most_a_token() -> None:
    # (1 - 0.9^n) / 0.1 tokens a copying row and one a row without, over (24 + rows x n):
    # one row: 1/25 = .04, 2: 1.9/26 = .073, 4: 3.439/28 = .123, 8: 5.695/32 = .178, 16: 8.147/40 = .204, 32: .173
    assert width(1, 1, 100, 24) == 16
    assert width(1, 1, 10, 24) == 8  # eleven tokens at most: the pending one and ten
    # 24 rows: 24/48 = .5, 2: 45.6/72 = .633, 4: 82.5/120 = .688, 8: 136.7/216 = .633
    assert width(24, 24, 100, 24) == 4
    # four of 100: 100/124 = .806, 2: (96 + 7.6)/224 = .463
    assert width(100, 4, 100, 24) == 1
    assert width(4, 0, 0, 24) == 1
