"""When a text being written anew has come back to the old one, so that the rest may be copied [ours]."""

from __future__ import annotations

from collections.abc import Sequence

MOST_SHIFT = 8
"""How many tokens longer or shorter than the old text the new one may have become before it comes back."""


def rejoined(tokens: Sequence[int], text: Sequence[int], after: int) -> int | None:
    """p such that the last `after` tokens are text[p - after : p] and the rest of `tokens` is not `text`'s beginning.

    None where there is no such place at most MOST_SHIFT from len(tokens); of several the nearest is taken.
    """
    written = len(tokens)
    before = written - after
    if after < 1 or before < 1 or tuple(tokens[:before]) == tuple(text[:before]):
        return None
    last = tuple(tokens[before:])
    shifts = sorted(range(-MOST_SHIFT, MOST_SHIFT + 1), key=abs)
    places = (written + shift for shift in shifts if after <= written + shift <= len(text))
    return next((p for p in places if tuple(text[p - after : p]) == last), None)


def first_return(tokens: Sequence[int], text: Sequence[int], after: int) -> int | None:
    """How many of the tokens were written when they first rejoined the text, or None if they never did."""
    counts = range(after + 1, len(tokens) + 1)
    return next((n for n in counts if rejoined(tokens[:n], text, after) is not None), None)
