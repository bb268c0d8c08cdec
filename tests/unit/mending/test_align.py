"""Alignment of a failure with its repair: edits, distance, gates, grafts."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from fakes import encode

from kintsugi.mending.align import align, cut_points, distance, gates, graft
from kintsugi.records import Edit


def edits_of(failed: str, repaired: str) -> tuple[Edit, ...]:
    return align(encode(failed), encode(repaired))


def masks_of(failed: str, repaired: str) -> tuple[str, str]:
    """Both masks as strings of 0 and 1."""
    masks = gates(len(failed), len(repaired), edits_of(failed, repaired))
    return "".join(map(str, masks[0])), "".join(map(str, masks[1]))


# ---- edits and gates


@pytest.mark.parametrize(
    ("failed", "repaired", "edits", "masks"),
    [
        # b -> x: the token at 1 on either side
        ("abc", "axc", [("replace", 1, 1)], ("010", "010")),
        # b comes before the c that stands at 1 of the failure: that c should not have come next
        ("ac", "abc", [("insert", 1, 1)], ("01", "010")),
        # an insertion at the end: no token of the failure stands there to be blamed
        ("ab", "abc", [("insert", 2, 2)], ("00", "001")),
        # b goes: the repair's c at 1 is what comes instead
        ("abc", "ac", [("delete", 1, 1)], ("010", "01")),
        # a deletion at the end: no token of the repair stands there to be praised
        ("abc", "ab", [("delete", 2, 2)], ("001", "00")),
        ("abc", "abc", [], ("000", "000")),
        ("", "", [], ("", "")),
        ("", "ab", [("insert", 0, 0), ("insert", 0, 1)], ("", "11")),
        ("ab", "", [("delete", 0, 0), ("delete", 1, 0)], ("11", "")),
        # b -> x at 1; then g is inserted before the e that stands at 4 of the failure:
        #   a b c d   e f
        #   a x c d g e f
        (
            "abcdef",
            "axcdgef",
            [("replace", 1, 1), ("insert", 4, 4)],
            ("010010", "0100100"),
        ),
        # two insertions at one place blame one token
        ("ad", "abcd", [("insert", 1, 1), ("insert", 1, 2)], ("01", "0110")),
    ],
)
def test_edits_and_gates(
    failed: str,
    repaired: str,
    edits: list[tuple[str, int, int]],
    masks: tuple[str, str],
) -> None:
    assert [(e.kind, e.failed_at, e.repaired_at) for e in edits_of(failed, repaired)] == edits
    assert masks_of(failed, repaired) == masks


def test_first_edits_gate_alone() -> None:
    # Of "abcdef" -> "axcdgef" (see above) only b -> x is kept.
    assert gates(6, 7, edits_of("abcdef", "axcdgef")[:1]) == ((0, 1, 0, 0, 0, 0), (0, 1, 0, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("failed", "repaired", "edit"),
    [
        # Any of the three a's could be called the inserted one. It must be the last: after "aa" the failure
        # goes on with b, the repair with a. Earlier, the same token after the same words would be both
        # blamed and praised.
        ("aab", "aaab", Edit("insert", 2, 2)),
        ("aaab", "aab", Edit("delete", 2, 2)),
        ("abab", "ababab", Edit("insert", 4, 4)),
    ],
)
def test_repeated_tokens_part_where_the_texts_do(failed: str, repaired: str, edit: Edit) -> None:
    assert edits_of(failed, repaired)[0] == edit


# ---- distance


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("kitten", "sitting", 3 / 7),  # k -> s, e -> i, + g; the longer one has 7
        ("abc", "axc", 1 / 3),
        ("", "ab", 1.0),
        ("ab", "cd", 1.0),
        ("", "", 0.0),
        ("same", "same", 0.0),
    ],
)
def test_distance(a: str, b: str, expected: float) -> None:
    assert distance(encode(a), encode(b)) == pytest.approx(expected, abs=1e-15)
    assert distance(encode(b), encode(a)) == pytest.approx(expected, abs=1e-15)


# ---- cut points and grafts


@pytest.mark.parametrize(
    ("failed", "repaired", "k", "cut", "head", "tail"),
    [
        ("abc", "axc", 1, (2, 2), "ax", "c"),  # substitution: after the token on both sides
        ("ac", "abc", 1, (1, 2), "ab", "c"),  # insertion: nothing of the failure is used up
        ("abc", "ac", 1, (2, 1), "a", "c"),  # deletion: nothing of the repair is needed
        ("abcdef", "axcdgef", 1, (2, 2), "ax", "cdef"),
        ("abcdef", "axcdgef", 2, (4, 5), "axcdg", "ef"),
        ("abcdef", "axcdgef", 9, (4, 5), "axcdg", "ef"),  # more than there are: all
        ("abcdef", "axcdgef", 0, (0, 0), "", "abcdef"),
        ("abc", "abc", 3, (0, 0), "", "abc"),  # no edits: the failure as it stands
        ("", "ab", 1, (0, 1), "a", ""),
        ("ab", "", 1, (1, 0), "", "b"),
    ],
)
def test_cut_points_and_graft(
    failed: str, repaired: str, k: int, cut: tuple[int, int], head: str, tail: str
) -> None:
    edits = edits_of(failed, repaired)
    assert cut_points(edits, k) == cut
    assert graft(encode(failed), encode(repaired), edits, k) == (encode(head), encode(tail))


# ---- properties


def apply_edits(failed: Sequence[int], repaired: Sequence[int], edits: Sequence[Edit]) -> tuple[int, ...]:
    """`failed` with the edits applied one after the other, from the right so that indices stay true."""
    text = list(failed)
    for edit in reversed(edits):
        new = [] if edit.kind == "delete" else [repaired[edit.repaired_at]]
        text[edit.failed_at : edit.failed_at + (edit.kind != "insert")] = new
    return tuple(text)


def levenshtein(a: Sequence[int], b: Sequence[int]) -> int:
    """The textbook recursion, row by row."""
    above = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        here = [i]
        for j, y in enumerate(b, 1):
            here.append(min(above[j] + 1, here[-1] + 1, above[j - 1] + (x != y)))
        above = here
    return above[-1]


def random_pairs(count: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    rng = random.Random(5)

    def draw(size: int) -> tuple[int, ...]:
        return tuple(rng.randrange(size) for _ in range(rng.randrange(10)))

    return [(draw(size), draw(size)) for size in rng.choices((1, 2, 3, 50), k=count)]


def test_edits_are_fewest_and_turn_the_failure_into_the_repair() -> None:
    for failed, repaired in random_pairs(600):
        edits = align(failed, repaired)
        assert apply_edits(failed, repaired, edits) == repaired
        assert len(edits) == levenshtein(failed, repaired)
        places = [(e.failed_at, e.repaired_at) for e in edits]
        assert places == sorted(places)


def test_every_graft_is_the_failure_with_its_first_edits() -> None:
    for failed, repaired in random_pairs(600):
        edits = align(failed, repaired)
        for k in range(len(edits) + 2):
            head, tail = graft(failed, repaired, edits, k)
            assert head + tail == apply_edits(failed, repaired, edits[:k])
            assert head == repaired[: len(head)]


def test_no_token_is_gated_before_the_texts_part() -> None:
    """Before the first difference both sides hold the same tokens after the same words: no credit there."""
    for failed, repaired in random_pairs(600):
        same = next((i for i, (x, y) in enumerate(zip(failed, repaired, strict=False)) if x != y), None)
        same = min(len(failed), len(repaired)) if same is None else same
        for mask in gates(len(failed), len(repaired), align(failed, repaired)):
            assert not any(mask[:same])
