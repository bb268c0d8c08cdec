"""Exact labels, for judging and for upper bounds: no method may see them.

A task that knows its own steps says which characters of a solution are wrong; here they become tokens of
any tokenizer, and gates are judged by them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

Decode = Callable[[Sequence[int]], str]


@runtime_checkable
class Labelled(Protocol):
    """A task with exact process labels."""

    def wrong_characters(self, problem: str, solution: str) -> tuple[int, ...]:
        """Offsets of the characters of `solution` that are wrong given those before them; () if none is.

        The first one is the first error. len(solution) means that the text stops short. Text after the
        last one cannot be judged, or is right. `problem` is the problem's text.
        """
        ...


def wrong_tokens(
    task: Labelled, problem: str, token_ids: Sequence[int], decode: Decode, *, ended: bool
) -> tuple[int, ...]:
    """Indices of the wrong tokens of a completion, in order and without repetition.

    A token is wrong when it holds a wrong character. Where the text stops short, the last token is wrong
    if it is what ended the text (`ended`); a text cut off at its longest has no such token.
    """
    offsets = task.wrong_characters(problem, decode(token_ids))
    if not offsets:
        return ()
    ends = [len(decode(token_ids[: t + 1])) for t in range(len(token_ids))]
    found = []
    for offset in offsets:
        token = bisect_right(ends, offset)
        if token < len(ends):
            found.append(token)
        elif ended and ends:
            found.append(len(ends) - 1)
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class GateScore:
    """The score of gates as finders of the wrong tokens of failed rollouts. Shares; 1.0 where there is nothing to find.

    precision: of the active tokens, the share that is wrong. recall: of the wrong tokens, the share that is
    active. first: of the failures, the share whose first wrong token is active.
    """

    precision: float
    recall: float
    first: float
    failures: int


def score_gates(gates: Iterable[tuple[Sequence[int], Sequence[int]]]) -> GateScore:
    """The score of (mask, wrong token indices) pairs, one per failure; masks hold 0/1 per token."""
    active = wrong = both = first = failures = 0
    for mask, indices in gates:
        hit = [i for i in indices if mask[i]]
        active, wrong, both = active + sum(mask), wrong + len(indices), both + len(hit)
        first += bool(indices) and bool(mask[indices[0]])
        failures += bool(indices)
    return GateScore(share(both, active), share(both, wrong), share(first, failures), failures)


def share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
