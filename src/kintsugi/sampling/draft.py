"""Drafts: a text that a completion copies most of, followed through its edits.

A draft decides how many forward passes a completion takes, never a token of it (see Rows.take).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

REACH = 16
"""Tokens by which one edit may shift the draft."""

ALIKE = 8
"""Tokens before a place by which it is recognised."""

PATIENCE = 4
"""Tokens in a row that are not the draft's, after which it is given up."""


@dataclass(slots=True)
class Draft:
    """A draft, and the place in it that a completion has come to: `ids[at]` is what it would say next."""

    ids: tuple[int, ...]
    at: int = 0
    written: list[int] = field(default_factory=list)
    missed: int = 0
    """The tokens in a row, up to the last, that the draft has otherwise."""

    def ahead(self, most: int) -> list[int]:
        """The next tokens of the draft, `most` at most."""
        return list(self.ids[self.at : self.at + most])

    def follow(self, tokens: Sequence[int]) -> None:
        """Goes on past tokens that were drawn, all but the last as the draft has them.

        A last token that is not the draft's is taken for a substitution, unless it and the one before it stand
        nearby in the draft, or it alone where the one before was not the draft's either: then tokens were left out or
        put in, and the draft goes on from there.
        """
        expected = self.at + len(tokens)
        self.written += tokens
        self.at = expected
        if self.ids[expected - 1 : expected] == (tokens[-1],):
            self.missed = 0
            return
        self.missed = self.missed + 1 if len(tokens) == 1 else 1
        if self.missed == PATIENCE:
            self.at = len(self.ids)
            return
        shift = max(range(-REACH, REACH + 1), key=lambda s: (self._alike(expected + s), -abs(s)))
        if self._alike(expected + shift) >= (2 if self.missed == 1 else 1):
            self.at = expected + shift

    def _alike(self, at: int) -> int:
        """The tokens right before place `at` of the draft that are the last ones written, ALIKE at most."""
        count = 0
        while count < min(ALIKE, at, len(self.written)) and at <= len(self.ids):
            if self.ids[at - 1 - count] != self.written[-1 - count]:
                break
            count += 1
        return count
