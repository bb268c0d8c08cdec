r"""Numbers in digits, with or without their unit: `1 250`, `€160`, `2.5 million`, `0.\overline{3}`."""

from __future__ import annotations

import re
from fractions import Fraction

from kintsugi.verifiers.formula import Node
from kintsugi.verifiers.kinds import Value
from kintsugi.verifiers.units import split_unit

PLAIN_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)")
GROUPED = re.compile(r"([-+]?\d{1,3})((?:,\d{3})+|(?: \d{3})+)(\.\d+)?")
SCIENTIFIC = re.compile(r"([-+]?(?:\d+(?:\.\d*)?|\.\d+))[eE]([-+]?\d{1,3})")
REPEATING = re.compile(
    r"([-+]?\d*)\.(\d*)(?:\\(?:overline|bar|dot)\s*\{?(\d+)\}?|\((\d+)\)|(\d+?)\5+\s*(?:\.\.\.|\\ldots))"
)
CURRENCY = re.compile(
    r"([-+]?)\s*(?:US)?(\\\$|[$€£¥₹]|Rs\.?(?=[\s\d])|(?:USD|EUR|GBP|INR)\b)\s*(?=[-+\d.])(.*)"
)


def number_with_unit(text: str) -> Value | None:
    """A numeral with or without its unit."""
    sign, currency, rest = "", "", text
    if found := CURRENCY.fullmatch(text):
        sign, currency, rest = found[1], found[2], found[3]
    body, unit, factor = split_unit(rest.strip()) if re.search(r"\d", rest) else (rest, "", 1)
    if currency:
        _, money, _ = split_unit(f"1 {currency.strip('.').lstrip(chr(92))}")
        unit = money + (unit.removeprefix(money) if unit else "")
    value = numeral(sign + body)
    if value is None:
        return None
    return Value(Node("num", (value * factor,)), unit, "." in body and not REPEATING.fullmatch(body))


def numeral(text: str) -> Fraction | None:
    """A number in digits; `1 250`, `1,250`, `1e5` and `0.\\overline{3}` too."""
    text = text.strip()
    if len(text) > 1000:
        return None
    if grouped := GROUPED.fullmatch(text):
        text = grouped[1] + re.sub("[, ]", "", grouped[2]) + (grouped[3] or "")
    if PLAIN_NUMBER.fullmatch(text) or SCIENTIFIC.fullmatch(text):
        return Fraction(text)
    found = REPEATING.fullmatch(text)
    if not found:
        return None
    whole, fixed, block = found[1], found[2], found[3] or found[4] or found[5]
    if found[5] and len(fixed) + len(block) < 2 and text.count(block) < 2:
        return None
    below = 10 ** len(fixed) * (10 ** len(block) - 1)
    part = Fraction(int(fixed + block) - int(fixed or 0), below)
    size = abs(int(whole or 0)) if whole not in ("-", "+") else 0
    return -(size + part) if whole.startswith("-") else size + part
