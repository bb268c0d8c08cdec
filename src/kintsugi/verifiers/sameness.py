"""Two answers compared: like kinds item by item, unlike kinds where one stands for the other, else unequal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

from kintsugi.verifiers.answers import region
from kintsugi.verifiers.formula import Node, Unreadable, words_of
from kintsugi.verifiers.kinds import (
    Answer,
    Literal,
    Many,
    Matrix,
    NumberInterval,
    Option,
    Region,
    Relation,
    Value,
)
from kintsugi.verifiers.units import compatible
from kintsugi.verifiers.values import equal, number_at, sign_of_ratio

PLACES = 6
"""Decimals from which a rounded number stands for one that no decimal can state: 0.333333 for 1/3."""


def same(gold: Answer, answer: Answer) -> bool:
    """True iff `answer` is equal to `gold`; Unreadable where that cannot be said."""
    if type(gold) is type(answer):
        return LIKE[type(gold)](gold, answer)
    return unlike(gold, answer) or unlike(answer, gold)


def unlike(one: Answer, other: Answer) -> bool:
    """True iff `one` stands for `other`, which is of another kind."""
    if isinstance(one, Relation) and one.value is not None:
        return same(one.value, other)
    if isinstance(one, Option):
        if isinstance(other, Value):
            letter = other.node == Node("sym", (one.letter,)) and not other.unit
            return letter or (one.meaning is not None and same(one.meaning, other))
        return one.meaning is not None and same(one.meaning, other)
    if isinstance(one, Region) and isinstance(other, Many | Relation):
        try:
            return same(one, region(other))
        except Unreadable:
            return False
    if isinstance(one, Many) and len(one.items) == 1:
        return same(one.items[0], other)
    if isinstance(one, Literal) and isinstance(other, Value) and one.kind == "words" and len(one.text) == 2:
        product = Node("mul", (Node("sym", (one.text[0],)), Node("sym", (one.text[1],))))
        return other.node == product and not other.unit
    return False


def same_values(gold: Value, answer: Value) -> bool:
    if not compatible(gold.unit, answer.unit):
        return False
    if is_rounding(gold, answer) or is_rounding(answer, gold):
        return True
    if equal(gold.node, answer.node):
        return True
    percents = [side.unit == "%" for side in (gold, answer)]
    if percents in ([True, False], [False, True]) and not (gold.unit and answer.unit):
        hundredth = [
            Node("div", (side.node, Node("num", (Fraction(100),)))) if side.unit == "%" else side.node
            for side in (gold, answer)
        ]
        return equal(*hundredth)
    return False


def is_rounding(exact: Value, decimal: Value) -> bool:
    """True iff `decimal` is what no finite decimal can state, rounded to six places or more."""
    if not decimal.decimal or exact.decimal or decimal.node.head != "num":
        return False
    given: Fraction = decimal.node.args[0]
    places = digits_after(given)
    if places < PLACES or abs(given) < Fraction(1, 10):
        return False
    true = number_at(exact.node)
    if true is None or (isinstance(true, Fraction) and digits_after(true) < 10**6):
        return False
    return bool(abs(true - given) * 2 * 10**places <= 1)


def digits_after(x: Fraction) -> int:
    """Decimals that state `x` exactly; a million where none do."""
    below, places = x.denominator, 0
    while below % 10 == 0:
        below, places = below // 10, places + 1
    twos = fives = 0
    while below % 2 == 0:
        below, twos = below // 2, twos + 1
    while below % 5 == 0:
        below, fives = below // 5, fives + 1
    return places + max(twos, fives) if below == 1 else 10**6


def literals(gold: Literal, answer: Literal) -> bool:
    """Letter for letter. Case matters not in words, but in names: two letters, capitals within (`NaCl`), `ABC`."""
    if gold.text == answer.text:
        return gold.kind == answer.kind
    if gold.kind != "words" or answer.kind != "words" or gold.text.casefold() != answer.text.casefold():
        return False
    short = len(gold.text) < 3 and gold.text.casefold() not in ("no", "up", "on", "in", "ok")
    within = any(a.islower() and b.isupper() for text in (gold.text, answer.text) for a, b in pairwise(text))
    return not short and not within and len(words_of(gold.text.lower())) == 1


def same_options(gold: Option, answer: Option) -> bool:
    marked = gold.marked or answer.marked
    letters = (gold.letter.upper(), answer.letter.upper()) if marked else (gold.letter, answer.letter)
    if letters[0] != letters[1]:
        return False
    return gold.meaning is None or answer.meaning is None or same(gold.meaning, answer.meaning)


def many(gold: Many, answer: Many) -> bool:
    ordered = {"tuple", "list"}
    if gold.kind == "set" or answer.kind == "set":
        if ordered & {gold.kind, answer.kind} == {"tuple"}:
            return False
        return matched(distinct_answers(gold.items), distinct_answers(answer.items), same)
    named = all(isinstance(i, Relation) for side in (gold, answer) for i in side.items)
    one_name = len({i.name for i in gold.items if isinstance(i, Relation)}) < 2
    if {gold.kind, answer.kind} == ordered and len(gold.items) == 2:
        return False  # `(1, 2)` and `[1, 2]` may be intervals
    if ordered & {gold.kind, answer.kind} or (not named and not one_name):
        return len(gold.items) == len(answer.items) and all(map(same, gold.items, answer.items))
    return matched(gold.items, answer.items, same)


def distinct_answers(items: Sequence[Answer]) -> list[Answer]:
    kept: list[Answer] = []
    for item in items:
        if not any(same(item, other) for other in kept):
            kept.append(item)
    return kept


def matched(gold: Sequence[Any], answer: Sequence[Any], alike: Callable[[Any, Any], bool]) -> bool:
    """True iff the items pair off. (Equality carries over, so the first match is as good as any.)"""
    left = list(answer)
    if len(left) != len(gold):
        return False
    for item in gold:
        index = next((i for i, other in enumerate(left) if alike(item, other)), None)
        if index is None:
            return False
        del left[index]
    return True


def regions(gold: Region, answer: Region) -> bool:
    if gold.variable and answer.variable and gold.variable != answer.variable:
        return False
    return matched(gold.pieces, answer.pieces, intervals)


def intervals(gold: NumberInterval, answer: NumberInterval) -> bool:
    return gold.closed == answer.closed and equal(gold.low, answer.low) and equal(gold.high, answer.high)


def relations(gold: Relation, answer: Relation) -> bool:
    if gold.name == answer.name and gold.value is not None and answer.value is not None:
        return same(gold.value, answer.value)
    if gold.sign != answer.sign or gold.difference is None or answer.difference is None:
        return False
    sign = sign_of_ratio(gold.difference, answer.difference)
    return sign > 0 or (sign < 0 and gold.sign == "=")


def grids(gold: Matrix, answer: Matrix) -> bool:
    return [len(row) for row in gold.rows] == [len(row) for row in answer.rows] and all(
        all(map(same, left, right)) for left, right in zip(gold.rows, answer.rows, strict=True)
    )


LIKE: dict[type, Callable[[Any, Any], bool]] = {
    Value: same_values,
    Literal: literals,
    Option: same_options,
    Many: many,
    Region: regions,
    Relation: relations,
    Matrix: grids,
}
