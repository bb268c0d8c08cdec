"""Tells an answer that was pasted from one that was reasoned to (the audit rule `answer_only`).

Reasoning is compared by its numbers and operators (kintsugi.mending.reasoning). An answer is pasted where
nothing of them changed but where the answer is stated, and the reasoning that stays does not end in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction

from rapidfuzz.distance import Levenshtein

from kintsugi.mending.reasoning import (
    Mark,
    Stated,
    computations,
    computes,
    is_relation,
    named_values,
    neighbour,
    of_a_kind,
    operands,
    read_marks,
    worked,
)

WORD = re.compile(r"[^\W\d_]+")
FILLER_WORDS = (
    "so thus therefore hence then now and but a an the is are was we it that this of to in by for here finally "
    "answer final solution result correct right indeed actually well clearly simply just"
)
FILLER = frozenset(FILLER_WORDS.split())
NEGATIONS = frozenset(("not", "no", "never", "neither", "nor", "none", "cannot"))
MARGIN = 2
"""The number of other things that may stand among the last ones of a reasoning that a tuple is read from."""


def pasted(failed: str, repaired: str, old: str, new: str) -> bool:
    """True if the answer `old` of one reasoning became `new` in another without a reason.

    `failed` and `repaired` are the reasonings, `old` and `new` the answers below them.
    """
    worded = not (has_number(old) and has_number(new))
    words = frozenset(w for w in plain_words(f"{old} {new}") if worded and w not in FILLER)
    before, after = read_marks(failed, words), read_marks(repaired, words)
    claimed = named_values(new, words)
    had, has = stated_places(before, (old, new)), stated_places(after, (old, new))
    shown, known = computed(after, has), spaced(before)
    if any(spaced(after[run.start : run.stop]) not in known for run in shown):
        return False
    if not has_number(new) and reworded(failed, repaired, words):
        return False
    changed, more = restated((before, had), (after, has), claimed)
    left_out = not shown and computed(before, had)
    if more and not left_out:
        return False
    return not supports([m for i, m in enumerate(after) if i not in changed], claimed)


def computed(marks: Sequence[Mark], has: Sequence[int]) -> list[range]:
    """The computations of a reasoning, without the places `has` where something is only stated."""
    only_stated = frozenset(has)
    return [run for run in computations(marks) if run.start not in only_stated]


def stated_places(marks: Sequence[Mark], answers: Iterable[str]) -> list[int]:
    """The places of what stands in no computation, as in "so 5" and "x = 5"; of an answer wherever it stands alone.

    `=` is left out, for it says nothing by itself.
    """
    alone = [spaced(read_marks(answer)) for answer in answers if not computes(answer)]
    is_worked = worked(marks)
    for run in computations(marks):
        if any(spaced(marks[run.start : run.stop]) in answer for answer in alone):
            is_worked[run.start : run.stop] = [False] * len(run)
    return [i for i, mark in enumerate(marks) if not is_worked[i] and mark.says != "="]


def restated(
    before: tuple[Sequence[Mark], Sequence[int]],
    after: tuple[Sequence[Mark], Sequence[int]],
    claimed: Sequence[Stated],
) -> tuple[set[int], bool]:
    """(places of `after` that differ from `before`, whether one says more than the new answer or what was known).

    `before` and `after` are marks and the places of those that are only stated. A number in the place of another
    says more, unless it is the new answer in the place of what was reached before: "3 + 3 = 6, so 6" does not become
    right by "so 5". A number or letter that is added says more if it is new.
    """
    (was, had), (now, has) = before, after
    known, reached = {*claimed, *of_a_kind(was, numbers=False)}, first_reached(now, has)
    found: set[int] = set()
    more = False
    for edit in Levenshtein.opcodes([was[i].says for i in had], [now[j].says for j in has]):
        places = has[edit.dest_start : edit.dest_end]
        if edit.tag == "replace":
            pairs = zip(had[edit.src_start : edit.src_end], places, strict=True)
            more |= any(now[j].value not in claimed or reached.get(bound(was, i), j) >= j for i, j in pairs)
        more |= any(now[j].kind in ("number", "letter") and now[j].value not in known for j in places)
        found.update(places if edit.tag != "equal" else ())
    return found, more


def bound(marks: Sequence[Mark], i: int) -> tuple[str, Stated | None]:
    """(letter, value) where mark i stands after `letter =`, else ("", value)."""
    sign, letter = neighbour(marks, i, -1), neighbour(marks, i, -2)
    is_bound = sign is not None and sign.says == "=" and letter is not None and letter.kind == "letter"
    return (letter.says if letter is not None and is_bound else "", marks[i].value)


def first_reached(marks: Sequence[Mark], has: Sequence[int]) -> dict[tuple[str, Stated | None], int]:
    """For each value, and each value of a letter, its first place outside of operations or among the places `has`."""
    free = {i for i, used in enumerate(operands(marks)) if not used}.union(has)
    return {key: i for i in sorted(free, reverse=True) for key in (("", marks[i].value), bound(marks, i))}


def supports(reasoning: Sequence[Mark], claimed: Sequence[Stated]) -> bool:
    """True if a reasoning ends in an answer: in its last number or its last result, or, where the answer names
    several things, in these in their order."""
    numbers = any(isinstance(value, Fraction) for value in claimed)
    reached = of_a_kind(reasoning, numbers)
    if len(claimed) < 2:
        results = of_a_kind(
            [m for i, m in enumerate(reasoning) if is_relation(neighbour(reasoning, i, -1))], numbers
        )
        return list(claimed) in (reached[-1:], results[-1:])
    if reached[-len(claimed) :] == list(claimed):
        return True
    given = operands(reasoning)
    free = of_a_kind([m for m, operand in zip(reasoning, given, strict=True) if not operand], numbers)
    last = iter(free[-len(claimed) - MARGIN :])
    return all(value in last for value in claimed)


def reworded(failed: str, repaired: str, words: frozenset[str]) -> bool:
    """True if, among words that carry a worded answer, another stands in the place of one, or there is a "not" more."""
    before, after = (
        [w for w in plain_words(t) if w not in FILLER and w not in words] for t in (failed, repaired)
    )
    edits = Levenshtein.opcodes(before, after)
    added = (after[e.dest_start : e.dest_end] for e in edits if e.tag == "insert")
    return any(e.tag == "replace" for e in edits) or any(NEGATIONS & {*run} for run in added)


def plain_words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return WORD.findall(text.lower())


def has_number(text: str) -> bool:
    """True if any number stands in a text."""
    return any(m.kind == "number" for m in read_marks(text))


def spaced(marks: Iterable[Mark]) -> str:
    """Marks in a row, so that one row can be looked for in another."""
    return f" {' '.join(mark.says for mark in marks)} "
