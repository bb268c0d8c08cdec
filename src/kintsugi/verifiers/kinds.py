"""The kinds of answers that `math` tells apart."""

from __future__ import annotations

from dataclasses import dataclass

from kintsugi.verifiers.formula import Node


@dataclass(frozen=True, slots=True)
class Value:
    """A number or formula. decimal: it is written as a decimal number."""

    node: Node
    unit: str = ""
    decimal: bool = False


@dataclass(frozen=True, slots=True)
class Literal:
    """A text that is equal only letter for letter: words, names, dates, numerals of another base, sums with dots."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Option:
    """A letter of a multiple choice, and what it stands for if that is said."""

    letter: str
    marked: bool
    meaning: Answer | None = None


@dataclass(frozen=True, slots=True)
class Many:
    """Several answers. kind: `set` has no order, `tuple` and `list` have one, `bare` has that of the other side."""

    kind: str
    items: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class NumberInterval:
    low: Node
    high: Node
    closed: tuple[bool, bool]


@dataclass(frozen=True, slots=True)
class Region:
    """A union of intervals; variable: the name that lies in it, or ""."""

    variable: str
    pieces: tuple[NumberInterval, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """`difference` is related to 0. name, value: set where it says what one name is (`x = 5`)."""

    sign: str
    difference: Node | None
    name: str = ""
    value: Answer | None = None


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix, row by row."""

    rows: tuple[tuple[Answer, ...], ...]


Answer = Value | Literal | Option | Many | Region | Relation | Matrix
