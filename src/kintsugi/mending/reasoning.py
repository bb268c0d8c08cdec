r"""The numbers and operators of a solution: its reasoning, whatever words it stands in.

A text is read as marks: numbers (`1,234`, `1234.0` and `\$1{,}234` are one), fractions of whole numbers, single
letters, operators (`\times`, `×` and "times" are one; `2x` holds one), and the words of a worded answer. Two
texts with the same marks reason alike. Prose, spaces, bold type, dollar signs, bullets and the numbers of steps
leave no mark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import groupby

Stated = Fraction | str
DRESS = re.compile(
    r"</?[a-zA-Z:_|]{2,30}>|\*\*|<<|>>|\\[,!;: ]|\\?\$|####|\\\\"
    r"|\\(?:left|right|displaystyle|text|mathrm|mathbf|textbf|quad|qquad|boxed|begin|end)(?![a-zA-Z])"
    r"|\\(?:therefore|implies|Rightarrow|rightarrow|checkmark)(?![a-zA-Z])"
    r"|^[ \t]*(?:[-*•][ \t]|(?:step[ \t]+)?\d+[.):](?=[ \t]))",
    re.IGNORECASE | re.MULTILINE,
)
LEXEME = re.compile(
    r"(?P<minus>(?<![\w)\]}])-)?(?:"
    r"\\[dt]?frac\s*(?:\{\s*(?P<top>-?\d+)\s*\}|(?P<t>\d))\s*(?:\{\s*(?P<bottom>\d+)\s*\}|(?P<b>\d))"
    r"|(?<![\d.]/)(?P<over>\d+)\s*/\s*(?P<under>\d+)(?!\.?\d)"
    r"|(?P<number>(?<![(\[])\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+))"
    r"|(?P<product>(?<=\d)(?=[abcinpqrtu-z](?![a-zA-Z\d])))"
    r"|(?P<word>[^\W\d_]+(?:[-'’][^\W\d_]+)*)"
    r"|(?P<operator>\\[a-zA-Z]+|==?|<=|>=|[<>≤≥≈√×·÷]|[-+*/^](?=\s*(?:[-\d.(\[{\\√]|[A-Za-z](?![a-z]))))"
    r"|(?P<end>\n|[.!?;:,](?=\s|$))"
)
SPELLED_WORDS = (
    "two=2 three=3 four=4 five=5 six=6 seven=7 eight=8 nine=9 ten=10 eleven=11 twelve=12 dozen=12 thirteen=13 "
    "fourteen=14 fifteen=15 sixteen=16 seventeen=17 eighteen=18 nineteen=19 twenty=20 thirty=30 forty=40 fifty=50 "
    "sixty=60 seventy=70 eighty=80 ninety=90 hundred=100 thousand=1000 half=1/2 twice=2 double=2 triple=3"
)  # without "one", which is a pronoun as well
SPELLED = dict(pair.split("=") for pair in SPELLED_WORDS.split())
OPERATORS = {
    "=": "= == equals", "+": "+ plus", "-": "- minus", "*": r"* × · \times \cdot times", "/": r"/ ÷ \div \frac \dfrac",
    "≤": r"≤ <= \le \leq", "≥": r"≥ >= \ge \geq", "≈": r"≈ \approx", "sqrt": r"√ \sqrt",
}  # fmt: skip
SAME_OPERATOR = {name: operator for operator, names in OPERATORS.items() for name in names.split()}
MOST_DIGITS = 400
RELATIONS = ("=", "≈", "<", ">", "≤", "≥")
ASSIGNED = re.compile(r"\b[A-Za-z]\w{0,20}\s{0,3}=\s{0,3}")
SCIENTIFIC = re.compile(r"(?:\\times|\\cdot|[*×·])\s*10\s*\^")


@dataclass(frozen=True, slots=True)
class Mark:
    """A number, letter, operator or answer word; `clause` counts the pieces between stops and commas."""

    says: str
    kind: str
    clause: int

    @property
    def value(self) -> Stated | None:
        """The thing it names; None for an operator, which names nothing."""
        if self.kind == "operator":
            return None
        return named_number(self.says) if self.kind in ("number", "spelled") else self.says


@lru_cache(1 << 14)
def named_number(says: str) -> Stated:
    """The number that digits name; the digits themselves where they divide by zero or are too many to compute with."""
    try:
        return Fraction(says) if len(says) < MOST_DIGITS else says
    except ZeroDivisionError:
        return says


@lru_cache(64)  # the rules read a text several times over
def read_marks(text: str, words: frozenset[str] = frozenset()) -> tuple[Mark, ...]:
    """The marks of a text in their order. `words`, in lower case, are read as values too."""
    text = DRESS.sub(" ", text.replace("{,}", ",").replace("−", "-").replace("–", "-"))
    found: list[Mark] = []
    clause = 0
    for lexeme in LEXEME.finditer(text):
        if lexeme["end"]:
            clause += 1
            continue
        mark = meaning_of(lexeme, words, text[lexeme.end() : lexeme.end() + 2].strip()[:1])
        if mark is not None:
            found.append(Mark(*mark, clause))
    return tuple(as_times(found, i) for i in range(len(found)))


def meaning_of(lexeme: re.Match[str], words: frozenset[str], following: str) -> tuple[str, str] | None:
    """(what it says, its kind) of a lexeme, or None for a word that is neither value nor operator."""
    minus = lexeme["minus"] or ""
    if top := lexeme["top"] or lexeme["t"] or lexeme["over"]:
        return f"{minus}{top}/{lexeme['bottom'] or lexeme['b'] or lexeme['under']}".removeprefix(
            "--"
        ), "number"
    if lexeme["number"]:
        return str(named_number(minus + lexeme["number"].replace(",", ""))), "number"
    if lexeme["product"] is not None:
        return "*", "operator"
    said = lexeme[0].lower()
    if lexeme["operator"] or said in SAME_OPERATOR:
        return SAME_OPERATOR.get(said, said), "operator"
    if said in SPELLED:
        return SPELLED[said], "spelled"
    if said in words and not (said == "no" and following.isalpha()):  # "no factor" denies, it does not answer
        return said, "word"
    # "a dog" and "I see" hold no letter of algebra; "a = 1" and "the answer is A." do.
    is_letter = len(said) == 1 and not (said in "ai" and following.isalpha())
    return (lexeme[0], "letter") if is_letter else None


def as_times(marks: Sequence[Mark], i: int) -> Mark:
    """Mark number i, or `*` in place of an x between two numbers."""
    around = [m.kind for m in (*marks[i - 1 : i], *marks[i + 1 : i + 2])]
    crossed = marks[i].says in ("x", "X") and around == ["number", "number"]
    return Mark("*", "operator", marks[i].clause) if crossed else marks[i]


def neighbour(marks: Sequence[Mark], i: int, step: int) -> Mark | None:
    """The mark `step` places from mark i, where it stands in the same clause."""
    inside = 0 <= i + step < len(marks) and marks[i + step].clause == marks[i].clause
    return marks[i + step] if inside else None


def is_relation(mark: Mark | None) -> bool:
    """True if a mark says how two things compare."""
    return mark is not None and mark.says in RELATIONS


def is_operation(mark: Mark | None) -> bool:
    """True if a mark makes a number out of others."""
    return mark is not None and mark.kind == "operator" and mark.says not in RELATIONS


def worked(marks: Sequence[Mark]) -> list[bool]:
    """For each mark, whether it belongs to a computation: an operation, its operands or its result, as in 2 + 3 = 5.

    The 5 of "so x = 5" and of "that leaves 5" does not: such a number is only stated.
    """
    found: list[bool] = []
    for i, mark in enumerate(marks):
        before, after = neighbour(marks, i, -1), neighbour(marks, i, 1)
        follows = before is not None and found[-1]
        if is_operation(mark) or is_operation(before) or is_operation(after):
            found.append(True)
        elif is_relation(mark):
            found.append(follows or (before is not None and before.kind == "number"))
        elif is_relation(before):
            found.append(follows)
        else:
            found.append(mark.kind == "number" and is_relation(after) and neighbour(marks, i, 2) is not None)
    return found


def operands(marks: Sequence[Mark]) -> list[bool]:
    """For each mark, whether an operation stands right beside it."""
    return [any(is_operation(neighbour(marks, i, step)) for step in (-1, 1)) for i in range(len(marks))]


def computations(marks: Sequence[Mark]) -> Iterator[range]:
    """The places of every run of worked marks within a clause."""
    is_worked = worked(marks)
    for (_, found), run in groupby(range(len(marks)), key=lambda i: (marks[i].clause, is_worked[i])):
        if found:
            places = list(run)
            yield range(places[0], places[-1] + 1)


@lru_cache(64)
def computes(answer: str) -> bool:
    r"""True if an answer shows its computation, as `12 + 5 = 17` and `3 * 4` do; `3/4`, `2 + 3i`, `y = 2x` do not."""
    marks = read_marks(answer)
    for run in computations(marks):
        shown = marks[run.start : run.stop]
        if any(m.says == "=" for m in shown) and all(m.kind != "letter" for m in shown):
            return True
    plain = all(m.kind == "number" or m.says in ("+", "-", "*", "/") for m in marks)
    return plain and SCIENTIFIC.search(answer) is None and any(is_operation(m) for m in marks[1:])


def named_values(answer: str, words: frozenset[str] = frozenset()) -> list[Stated]:
    """The things an answer names: its numbers, else its letters and `words`; of a computation, the result."""
    bare = ASSIGNED.sub("", answer)
    named = read_marks(bare.rpartition("=")[2] or bare, words)
    return of_a_kind(named, any(m.kind == "number" for m in named))


def of_a_kind(marks: Sequence[Mark], numbers: bool) -> list[Stated]:
    """The values of marks: of numbers alone, or of all that name something."""
    wanted = ("number", "spelled") if numbers else ("number", "spelled", "letter", "word")
    return [value for m in marks if m.kind in wanted and (value := m.value) is not None]


def signature(answer: str) -> tuple[Stated, ...]:
    """The numbers, operators and operands of an answer without `x =`, of a computation those of its result.

    Equal for one answer in two dresses, units and all. () where no number stands in it.
    """
    bare = ASSIGNED.sub("", answer)
    marks = read_marks(bare.rpartition("=")[2] or bare)
    counted = [
        m for m, used in zip(marks, operands(marks), strict=True) if used or m.kind in ("number", "operator")
    ]
    some = any(m.kind == "number" for m in counted)
    return tuple(m.says if m.value is None else m.value for m in counted) if some else ()
