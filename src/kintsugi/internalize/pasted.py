"""Tells an answer that was pasted from one that was reasoned to (the audit rule `answer_only`).

Reasoning is compared by its numbers and operators (kintsugi.internalize.reasoning). An answer is pasted where
nothing of them changed but where the answer is stated, and the reasoning that stays does not end in it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from fractions import Fraction

from rapidfuzz.distance import Levenshtein

from kintsugi.internalize.reasoning import (
    Mark,
    Value,
    computations,
    is_relation,
    neighbour,
    of_a_kind,
    operands,
    read,
    values,
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
"""How many other things may stand among the last ones of a reasoning that a tuple is read from."""


def pasted(failed: str, repaired: str, old: str, new: str) -> bool:
    """Whether the answer `old` of one reasoning became `new` in another without a reason.

    `failed` and `repaired` are the reasonings, `old` and `new` the answers below them.
    """
    words = frozenset(w for w in plain_words(f"{old} {new}") if w not in FILLER)
    before, after = read(failed, words), read(repaired, words)
    claimed = values(new, words)
    if computed_anew(before, after) or (not has_number(new) and reworded(failed, repaired, words)):
        return False
    stated = restated(before, after, claimed)
    return stated is not None and not supports([m for i, m in enumerate(after) if i not in stated], claimed)


def computed_anew(before: Sequence[Mark], after: Sequence[Mark]) -> bool:
    """Whether `after` holds a computation that `before` does not hold as it is."""
    known = spaced(m.says for m in before)
    return any(spaced(run) not in known for run in computations(after))


def restated(before: Sequence[Mark], after: Sequence[Mark], claimed: Sequence[Value]) -> set[int] | None:
    """The marks of `after` that only state the new answer or repeat what `before` held; None where one says more.

    A number in the place of another says more, unless it is the new answer in the place of what was reached
    before: "3 + 3 = 6, so 6" does not become right by "so 5". A number or letter that is added says more if it is new.
    """
    known = {*claimed, *of_a_kind(before, numbers=False)}
    old, new = list(stated(before)), list(stated(after))
    found: set[int] = set()
    for edit in Levenshtein.opcodes([before[i].says for i in old], [after[j].says for j in new]):
        places = new[edit.dest_start : edit.dest_end]
        if edit.tag == "replace":
            pairs = zip(old[edit.src_start : edit.src_end], places, strict=True)
            if any(not goes_round(before[i], after, j, claimed) for i, j in pairs):
                return None
        if any(after[j].kind in ("number", "letter") and after[j].value not in known for j in places):
            return None
        found.update(places if edit.tag != "equal" else ())
    return found


def stated(marks: Sequence[Mark]) -> list[int]:
    """The places of what stands in no computation; `=` apart, which says nothing by itself."""
    return [
        i
        for i, (mark, is_worked) in enumerate(zip(marks, worked(marks), strict=True))
        if not is_worked and mark.says != "="
    ]


def goes_round(was: Mark, after: Sequence[Mark], place: int, claimed: Sequence[Value]) -> bool:
    """Whether a mark became the new answer although `after` still reaches, further up, what it was."""
    is_operand = operands(after)
    reached = (m.value for m, given in zip(after[:place], is_operand, strict=False) if not given)
    return after[place].value in claimed and was.value is not None and was.value in reached


def supports(reasoning: Sequence[Mark], claimed: Sequence[Value]) -> bool:
    """Whether a reasoning ends in an answer: in its last number or its last result, or, where the answer names
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


def reworded(failed: str, repaired: str, words: Collection[str]) -> bool:
    """Whether another word stands in the place of one, or a "not" more, among words that carry a worded answer."""
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
    """Whether any number stands in a text."""
    return any(m.kind == "number" for m in read(text))


def spaced(run: Iterable[str]) -> str:
    """Marks in a row, so that one row can be looked for in another."""
    return f" {' '.join(run)} "
