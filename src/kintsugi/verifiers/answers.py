r"""Answers as people, data and models write them, read into one of a few kinds.

    read("the answer is $\\frac{1}{2}$ cm")   Value(node=1/2, unit="centimeter")
    read("(3,4]")                            Region("", one interval)

`undress` takes off what means nothing, then the first kind whose form fits is taken. An answer that fits
none is Unreadable.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kintsugi.verifiers.dress import undress
from kintsugi.verifiers.formula import Node, Unreadable, num, read_formula
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
from kintsugi.verifiers.numerals import CURRENCY, REPEATING, number_with_unit
from kintsugi.verifiers.units import doubted, split_unit
from kintsugi.verifiers.values import constant, equal

LONGEST = 2000
"""Characters: no answer is longer, and what reads it need not be fast on more."""


BASED = re.compile(
    r"(\d[0-9A-Fa-f]*|[0-9A-F]+)_(?:\{(\d+|[a-z]+)\}|(\d))|([0-9A-Fa-f]+),? ?\(?(?:in )?base[ -](\w+)\)?"
)
CALENDAR = re.compile(
    r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}|\d{1,2}:\d{2}(:\d{2})? ?([AaPp]\.?[Mm]\.?)?|\d{1,2} ?[ap]\.?m\.?"
    r"|\d+(\s*:\s*\d+)+|\d+[-–]\d+"
)
NAME_WITH_DIGITS = re.compile(
    r"(?=.*[A-Za-z]_?\{?\d)\d*(?:[A-Z][a-z]?(?:_?\{?\d+\}?)?){2,}|[A-Za-z]+\d[A-Za-z0-9]*"
)
WORDS = re.compile(r"[A-Za-zÀ-ɏ][A-Za-zÀ-ɏ0-9 .,'&-]*")
MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sept?|oct|nov|dec)[a-z]*"
DATED = re.compile(
    rf"(?i)(?=.*\b{MONTH}\b)(?=.*\d)(?:(?:{MONTH}|\d+(?:st|nd|rd|th)?|[a-z]+day|of|the)[ ,.]*)+"
)
CHOICE = re.compile(r"\(([A-Za-z])\)(.*)|([A-J])[).:](?!\w)(.*)|([A-J])")
MATRIX = re.compile(r"\\begin\s*\{([pbB]?matrix)\}(.*)\\end\s*\{\1\}")
SIGNS = (
    (r"\\leqslant|\\leq|\\le(?![a-z])|<=|≤", "≤"), (r"\\geqslant|\\geq|\\ge(?![a-z])|>=|≥", "≥"),
    (r"\\neq|\\ne(?![a-z])|!=|≠", "≠"), (r"\\lt(?![a-z])", "<"), (r"\\gt(?![a-z])", ">"), (r"\\in(?![a-z])|∈", "∈"),
)  # fmt: skip
NAME = re.compile(r"(?:\\?[A-Za-z]+|[A-Za-z]_\{?\w+\}?)'?(?:\([A-Za-z](?:, ?[A-Za-z])*\))?")
BUILDER = re.compile(r"\\\{\s*([a-z])\s*(?:\\in\s*\\mathbb\{?R\}?)?\s*(?:\\mid|\||:)(.*)\\\}")
INFINITE = Node("sym", ("inf",))
LOWEST = Node("neg", (INFINITE,))
COPULA = re.compile(
    r"(?:\b(?:is|are|was|were|equals?|equal to|has|have|had|gets?|got|makes?|made|earns?|earned|needs?|sold|spends?"
    r"|spent|costs?|pays?|paid|gives?|obtain|so|thus|hence|therefore)\b|[:=])\s+(?=[-+\\(\[{$€£.]*[\dA-Za-z\\(\[{|])"
)


def read_answer(text: str) -> Answer:
    """The answer that `text` is; Unreadable says why it is none."""
    if len(text) > LONGEST:
        raise Unreadable(f"{len(text)} characters")
    bare = undress(text)
    if not re.search(r"[^\W_]|\\", bare):
        raise Unreadable("nothing to read")
    try:
        return answer_kind(bare)
    except RecursionError:
        raise Unreadable("nested too deeply") from None


def answer_kind(text: str) -> Answer:
    """The first kind that fits an undressed text."""
    for form in (
        choice,
        literal,
        words,
        matrix,
        builder,
        number_with_unit,
        union,
        collection,
        relation,
        quantity,
    ):
        if (found := form(text)) is not None:
            return found
    raise Unreadable("no form of answer fits")


def choice(text: str) -> Answer | None:
    found = CHOICE.fullmatch(text)
    if not found or (found[1] and found[1].lower() > "j"):
        return None
    letter, rest = found[1] or found[3] or found[5], undress((found[2] or found[4] or "").lstrip(" ).:-"))
    if found[1] and not rest and found[1].lower() not in "abcdefghij":
        return None
    if not rest:
        return Option(letter.upper() if not found[5] else letter, not found[5])
    if CHOICE.search(rest) and re.search(r"(?:^|[\s(])[A-J][).:]", rest):
        raise Unreadable("more than one choice")
    if found[1] and re.match(r"[-+*/^=!]", rest):
        return None
    return Option(letter.upper(), True, read_answer(rest))


def literal(text: str) -> Answer | None:
    if based := BASED.fullmatch(text):
        digits, base = based[1] or based[4], based[2] or based[3] or based[5]
        if digits:
            return Literal("numeral of base", f"{digits.upper().lstrip('0') or '0'}_{BASES.get(base, base)}")
    if CALENDAR.fullmatch(text):
        return Literal("date or ratio", text.replace(" ", "").replace(".m", "m").lower().rstrip("."))
    name = text if re.search(r"[a-z]{2}", text) else text.replace(" ", "")
    if (
        NAME_WITH_DIGITS.fullmatch(name)
        and not CURRENCY.fullmatch(text)
        and not re.fullmatch(r"[A-Z]_\{?\d+\}?", text)
    ):
        return Literal("name", re.sub(r"[ _{}]", "", text))
    if len(text) < 60 and DATED.fullmatch(text):
        return Literal("date", re.sub(r"(?<=\d)(?:st|nd|rd|th)\b|,", "", text.lower()))
    if re.search(r"\\[lc]?dots|\.\.\.", text) and not REPEATING.fullmatch(text):
        return Literal("dots", re.sub(r"\\[lc]?dots|\.\.\.", "…", text).replace(" ", ""))
    return None


BASES = {"two": "2", "three": "3", "eight": "8", "ten": "10", "sixteen": "16"}


def words(text: str) -> Answer | None:
    """Words, or one name of several letters: they do not commute, though math-verify multiplies their letters."""
    if not WORDS.fullmatch(text) or re.search(r"\d", text):
        return None
    bare = re.sub(r"(?i)^(?:the|an?) (?=\w)", "", text).strip(" .,")
    if len(bare) < 2 or bare in ("pi", "theta", "alpha", "beta", "infinity", "inf", "oo"):
        return None
    if " or " not in text:  # of words it leaves a choice; of numbers it lists solutions
        parts = [part.strip() for part in re.split(r",| and ", text) if part.strip()]
        if len(parts) > 1:
            return Many("bare", tuple(one_word(part) for part in parts))
    parts = re.findall(r"[^ -]+", bare)
    if all(len(part) < (3 if "-" in bare else 2) for part in parts) and len(parts) > 1:
        return None  # `p - q`, `x y`
    return Literal("words", " ".join(bare.replace("-", " ").split()))


def one_word(text: str) -> Answer:
    return Value(read_formula(text)) if len(text) == 1 else words(text) or Literal("words", text)


def matrix(text: str) -> Answer | None:
    found = MATRIX.fullmatch(text)
    if not found:
        return None
    rows = [row for row in re.split(r"\\\\", found[2]) if row.strip()]
    return Matrix(tuple(tuple(read_answer(cell) for cell in row.split("&")) for row in rows))


def builder(text: str) -> Answer | None:
    found = BUILDER.fullmatch(text)
    return read_answer(found[2]) if found else None


def split_top(text: str, separators: str) -> list[str]:
    """`text` cut at the matches of a pattern that lie outside of all brackets."""
    parts, level, start = [], 0, 0
    for found in re.finditer(rf"\\[{{}}]|[(\[{{]|[)\]}}]|({separators})", text):
        token = found[0]
        if found[1] is not None:
            if level == 0:
                parts.append(text[start : found.start()])
                start = found.end()
        else:
            level += 1 if token.strip("\\") in "([{" else -1
    return [part.strip() for part in (*parts, text[start:])]


def union(text: str) -> Answer | None:
    parts = split_top(text, r"\\cup(?![a-z])|(?<=[\])}]) ?U ?(?=[(\[\\])")
    if len(parts) == 1:
        return None
    return Region("", tuple(piece for part in parts for piece in region(read_answer(part)).pieces))


def collection(text: str) -> Answer | None:
    """Bracketed, or separated by commas, `or`, `and`; a `\\pm` makes two of one."""
    outer = re.fullmatch(r"(\\\{|\(|\[|\\langle)(.*)(\\\}|\)|\]|\\rangle)", text)
    if outer and len(split_top(text[: len(text) - len(outer[3])], "$^")) == 1 and encloses(text):
        inside = items(outer[2])
        if outer[1] == r"\{":
            return Many("set", inside)
        if len(inside) == 2 and (outer[1], outer[3]) in (("(", "]"), ("[", ")")):
            return Region("", (pair(inside, outer[1], outer[3]),))
        if len(inside) == 2 and any(unbounded(item) for item in inside):
            return Region("", (pair(inside, outer[1], outer[3]),))
        if len(inside) > 1:
            return Many("list" if outer[1] == "[" else "tuple", inside)
        if outer[1] == "[" and outer[3] == "]":
            return Many("list", inside)
        return None
    found = items(text)
    return Many("bare", found) if len(found) > 1 else None


def encloses(text: str) -> bool:
    """True iff the first bracket closes with the last."""
    level = 0
    for found in re.finditer(r"\\langle|\\rangle|\\?[{}]|[()\[\]]", text):
        level += 1 if found[0].strip("\\") in ("(", "[", "{", "langle") else -1
        if level == 0 and found.end() < len(text):
            return False
    return level == 0


def items(text: str) -> tuple[Answer, ...]:
    parts = split_top(text, r"[,;]|\b(?:and|or)\b|\\(?:lor|vee)(?![a-z])|\\cup(?![a-z])")
    if len(parts) > 1 and parts[-1] == "" and text.rstrip().endswith(","):
        parts.pop()
    loose = [part for part in parts if part and not re.search(r"[\d\\=<>≤≥'\"]|^[A-Za-z]$", part)]
    if len(parts) > 1 and loose and len(loose) < len(parts) and re.search(r"\b(?:and|or)\b", text):
        return (kind_whole(text),)  # `18 dollars and no cents` is no list
    if len(parts) == 1:
        return (
            tuple(read_answer(part) for part in signs_spelled(text))
            if r"\pm" in text
            else (kind_whole(text),)
        )
    parts = (
        [part for part in parts if part or "," not in text] if re.search(r", *(?:and|or)\b", text) else parts
    )
    return tuple(read_answer(spelled) for part in parts for spelled in signs_spelled(part))


def signs_spelled(text: str) -> Sequence[str]:
    if r"\pm" not in text:
        return (text,)
    return tuple(text.replace(r"\pm", a).replace(r"\mp", b) for a, b in ("+-", "-+"))


def kind_whole(text: str) -> Answer:
    """One item, which is no collection."""
    for form in (choice, literal, words, matrix, number_with_unit, relation, quantity):
        if (found := form(undress(text))) is not None:
            return found
    raise Unreadable("no form of answer fits")


def unbounded(answer: Answer) -> bool:
    return isinstance(answer, Value) and answer.node in (INFINITE, LOWEST)


def pair(inside: Sequence[Answer], left: str, right: str) -> NumberInterval:
    low, high = inside
    if not isinstance(low, Value) or not isinstance(high, Value):
        raise Unreadable("an interval between what is no number")
    return NumberInterval(low.node, high.node, (left == "[", right == "]"))


def region(answer: Answer) -> Region:
    """The answer as a part of the number line: brackets with two numbers are an interval."""
    if isinstance(answer, Region):
        return answer
    if isinstance(answer, Relation) and isinstance(answer.value, Region | Many):
        return region(answer.value)
    if isinstance(answer, Many) and answer.kind in ("tuple", "list") and len(answer.items) == 2:
        ends = ("(", ")") if answer.kind == "tuple" else ("[", "]")
        return Region("", (pair(answer.items, *ends),))
    if isinstance(answer, Many) and answer.kind == "set" and all(isinstance(i, Value) for i in answer.items):
        points = [item.node for item in answer.items if isinstance(item, Value)]
        return Region("", tuple(NumberInterval(point, point, (True, True)) for point in points))
    if isinstance(answer, Many) and answer.kind == "bare":
        parts = [region(item) for item in answer.items]
        return Region(parts[0].variable, tuple(piece for part in parts for piece in part.pieces))
    raise Unreadable("no interval")


def relation(text: str) -> Answer | None:
    for pattern, sign in SIGNS:
        text = re.sub(pattern, sign, text)
    signs = re.findall(r"[=<>≤≥≠∈]", text)
    if not signs:
        return None
    parts = [undress(part) for part in re.split(r"[=<>≤≥≠∈]", text)]
    if not all(parts[1:]) or (not parts[0] and signs[0] == "="):
        if parts[0] == "" and signs == ["="]:
            return read_answer(parts[1])
        raise Unreadable("an equation with an empty side")
    if set(signs) == {"="}:
        return equation(parts)
    if signs == ["∈"] and NAME.fullmatch(parts[0]):
        return Relation("=", None, parts[0], read_answer(parts[1]))
    return inequality(parts, signs)


def equation(parts: Sequence[str]) -> Answer:
    """`x = 5`, `2x + y = 3`, or a chain that ends in its value: `x = 2 + 3 = 5`."""
    named = NAME.fullmatch(parts[0]) is not None
    *before, last = [read_answer(part) for part in (parts[1:] if named else parts)]
    for item in before:
        if not (isinstance(item, Value) and isinstance(last, Value)):
            raise Unreadable("a chain of what are no numbers")
        if not equal(item.node, last.node):
            if constant(item.node) is not None and constant(last.node) is not None:
                raise Unreadable("an equation that does not hold")
            if named or len(before) > 1:
                raise Unreadable("several equations in one")
            return Relation("=", minus(item.node, last.node))
    if not named:
        return last
    left = quantity_or_none(parts[0])
    both = left is not None and isinstance(last, Value)
    return Relation(
        "=", minus(left, last.node) if both and left and isinstance(last, Value) else None, parts[0], last
    )


def quantity_or_none(text: str) -> Node | None:
    try:
        return read_formula(text)
    except Unreadable:
        return None


def minus(a: Node, b: Node) -> Node:
    return Node("add", (a, Node("neg", (b,))))


def inequality(parts: Sequence[str], signs: Sequence[str]) -> Answer:
    """A part of the number line where one name is compared, else a relation of two formulas."""
    named = [
        (bool(NAME.fullmatch(part)) and part not in ("e", r"\pi", r"\infty")) or not part for part in parts
    ]
    nodes = [None if name else formula(part) for name, part in zip(named, parts, strict=True)]
    flipped = {"<": ">", ">": "<", "≤": "≥", "≥": "≤", "≠": "≠"}
    if len(parts) == 2 and named[0] != named[1]:
        sign = signs[0] if named[0] else flipped[signs[0]]
        name, end = (parts[0], nodes[1]) if named[0] else (parts[1], nodes[0])
        assert end is not None
        below = NumberInterval(LOWEST, end, (False, sign == "≤"))
        above = NumberInterval(end, INFINITE, (sign == "≥", False))
        pieces = {"<": (below,), "≤": (below,), ">": (above,), "≥": (above,), "≠": (below, above)}[sign]
        return Region(name, pieces)
    if len(parts) == 3 and named == [False, True, False] and len({s in "<≤" for s in signs}) == 1:
        low, high = (nodes[0], nodes[2]) if signs[0] in "<≤" else (nodes[2], nodes[0])
        closed = [sign in "≤≥" for sign in (signs if signs[0] in "<≤" else signs[::-1])]
        assert low is not None and high is not None
        return Region(parts[1], (NumberInterval(low, high, (closed[0], closed[1])),))
    if len(parts) == 2:
        left, right = (read_formula(part) for part in parts)
        down = signs[0] in "<≤"
        sign = flipped[signs[0]] if down else signs[0]
        return Relation(sign, minus(right, left) if down else minus(left, right))
    raise Unreadable("a chain of inequalities")


def formula(text: str) -> Node:
    value = number_with_unit(text) or quantity(text)
    assert isinstance(value, Value)
    return value.node


def quantity(text: str) -> Answer:
    """A formula with or without a unit."""
    sign, currency, rest = "", "", text
    if found := CURRENCY.fullmatch(text):
        sign, currency, rest = found[1], found[2], found[3]
    body, unit, factor = split_unit(rest)
    node = read_formula(sign + body)
    if factor != 1:
        node = Node("mul", (node, num(str(factor))))
    return Value(node, unit or ("dollar" if currency.endswith("$") else currency))


def read_sentence(text: str) -> Answer:
    """The answer at the end of a sentence: `She has 72 clips left`, `Hence $x = 5$`."""
    try:
        return read_answer(text)
    except Unreadable as error:
        bare = undress(text)
        cuts = list(COPULA.finditer(bare))
        lead = bare[: cuts[-1].end()] if cuts else ""
        if not re.search(r"(?<!\\)\b[A-Za-z]{2,}", lead) or doubted(lead):
            raise error
        return read_answer(bare[cuts[-1].end() :])
