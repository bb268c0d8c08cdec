"""Aligns a failed completion with its repair, token by token: edits, distance, gates.

Levenshtein alignment on token ids by rapidfuzz (arXiv:2605.05226, "bilateral" difference masks).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from rapidfuzz.distance import Levenshtein

from kintsugi.records import Edit, EditKind

Mask = tuple[int, ...]

FEW = 64
"""Edits that are looked for first, in a band along the diagonal: repairs change little. Exact in any case."""


def align(failed: Sequence[int], repaired: Sequence[int]) -> tuple[Edit, ...]:
    """The fewest single-token edits that turn `failed` into `repaired`, from left to right."""
    return tuple(
        Edit(cast(EditKind, op.tag), op.src_pos, op.dest_pos)
        for op in Levenshtein.editops(list(failed), list(repaired), score_hint=FEW)
    )


def distance(a: Sequence[int], b: Sequence[int]) -> float:
    """D(a, b): token edits over the longer length, in [0, 1]; two empty texts are at 0."""
    longer = max(len(a), len(b))
    return Levenshtein.distance(list(a), list(b), score_hint=FEW) / longer if longer else 0.0


def gates(failed_length: int, repaired_length: int, edits: Sequence[Edit]) -> tuple[Mask, Mask]:
    """(failed mask, repaired mask): 1 where a token is trained on.

    The paper gates deleted and substituted tokens of the failure, inserted and substituted tokens of the repair.
    Here [ours] an insertion also gates the token of the failure that stood at that place (it is the one that
    should not have come next), and a deletion the repair's.
    """
    failed_mask, repaired_mask = [0] * failed_length, [0] * repaired_length
    for edit in edits:
        if edit.failed_at < failed_length:
            failed_mask[edit.failed_at] = 1
        if edit.repaired_at < repaired_length:
            repaired_mask[edit.repaired_at] = 1
    return tuple(failed_mask), tuple(repaired_mask)


def cut_points(edits: Sequence[Edit], k: int) -> tuple[int, int]:
    """(f, r) such that the first k edits turn failed[:f] into repaired[:r]; both end after the k-th edit."""
    if k <= 0 or not edits:
        return 0, 0
    last = edits[min(k, len(edits)) - 1]
    return (
        last.failed_at + (last.kind != "insert"),
        last.repaired_at + (last.kind != "delete"),
    )


def graft(
    failed: Sequence[int], repaired: Sequence[int], edits: Sequence[Edit], k: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(head, tail): the first k edits applied to `failed`, cut after the last of them.

    head + tail is `failed` with its first k edits applied; head is a prefix of `repaired`.
    """
    f, r = cut_points(edits, k)
    return tuple(repaired[:r]), tuple(failed[f:])
