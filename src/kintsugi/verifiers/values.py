r"""Formulas compared by value: equal iff they agree at points drawn for their variables.

The comparison is exact where values are rational, and to fifty digits where not. (math-verify takes 1/2004! for 0.)
Limits on sizes keep every evaluation short: what is beyond them is Unreadable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from random import Random
from typing import Any

from mpmath import MPContext

from kintsugi.verifiers.formula import LOG_BASE, Node, Unreadable

BITS = 60_000
"""Size of an exact number; 2006! has 19,000."""
LARGE = 10**50

mp = MPContext()
mp.dps = 120
Exact = Any
"""Fraction where exact, else mpf or mpc."""


def symbols(node: Node) -> set[str]:
    if node.head == "sym":
        return {node.args[0]}
    return set[str]().union(*(symbols(arg) for arg in node.args if isinstance(arg, Node)))


def value(node: Node, at: Mapping[str, Exact]) -> Exact:
    """The node's value where variables stand for `at`; ArithmeticError or ValueError where it has none."""
    if node.head == "num":
        return node.args[0]
    if node.head == "sym":
        return at[node.args[0]]
    result = OPERATIONS[node.head](*(value(arg, at) for arg in node.args))
    if isinstance(result, Fraction):
        if max(result.numerator.bit_length(), result.denominator.bit_length()) > BITS:
            raise Unreadable("a number too large to compare")
    elif mp.isnan(result):
        raise ValueError("undefined")
    return result


def real(x: Exact) -> Exact:
    """As mpmath has it."""
    return mp.mpf(x.numerator) / x.denominator if isinstance(x, Fraction) else x


def plus(a: Exact, b: Exact) -> Exact:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a + b
    x, y = real(a), real(b)
    total, most = x + y, max(abs(x), abs(y))
    if mp.isinf(most):
        return total
    if min(abs(x), abs(y)) and min(abs(x), abs(y)) < most * mp.mpf(10) ** -55:
        raise Unreadable("a sum of numbers too unlike in size to compare")
    return Fraction(0) if abs(total) < most * mp.mpf(10) ** -60 else total


def times(a: Exact, b: Exact) -> Exact:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a * b
    if a == 0 or b == 0:
        return Fraction(0)
    return real(a) * real(b)


def over(a: Exact, b: Exact) -> Exact:
    if b == 0:
        raise ZeroDivisionError
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a / b
    return real(a) / real(b)


def to_the(a: Exact, b: Exact) -> Exact:
    whole = isinstance(b, Fraction) and b.denominator == 1
    if isinstance(a, Fraction) and whole:
        bits = max(a.numerator.bit_length(), a.denominator.bit_length())
        if (abs(a) != 1 and abs(b) * (bits - 1) > BITS) or abs(b) > 10**9:
            raise Unreadable("a power too large to compare")
        return a ** int(b)
    if isinstance(a, Fraction) and isinstance(b, Fraction) and b.denominator < 100:
        return to_the(root(a, Fraction(b.denominator)), Fraction(b.numerator))
    x, y = real(a), real(b)
    if x == 0:
        if mp.re(y) <= 0:
            raise ZeroDivisionError
        return Fraction(0)
    if abs(y) * (1 + abs(mp.log(abs(x)))) > 40_000:
        raise Unreadable("a power too large to compare")
    return x**y


def root(a: Exact, n: Exact) -> Exact:
    """The real root where there is one: of a negative number too, if n is odd."""
    if not isinstance(n, Fraction) or n.denominator != 1 or n <= 0:
        return to_the(a, over(Fraction(1), n))
    degree = int(n)
    if isinstance(a, Fraction) and degree < 100:
        tops = [mp.nint(mp.root(abs(part), degree)) for part in (a.numerator, a.denominator)]
        top, low = (int(t) for t in tops)
        if (a >= 0 or degree % 2) and top**degree == abs(a.numerator) and low**degree == a.denominator:
            return Fraction(top if a >= 0 else -top, low)
    x = real(a)
    if degree % 2 and mp.im(x) == 0 and mp.re(x) < 0:
        return -mp.root(-mp.re(x), degree)
    return mp.root(x, degree)


def factorial(a: Exact) -> Exact:
    if abs(a) > 5000:
        raise Unreadable("a factorial too large to compare")
    if isinstance(a, Fraction) and a.denominator == 1:
        if a < 0:
            raise ZeroDivisionError
        return Fraction(math.factorial(int(a)))
    return mp.factorial(real(a))


def transcendental(function: Callable[[Any], Any], a: Exact) -> Exact:
    if abs(a) > LARGE:
        raise Unreadable("an argument too large to compare")
    x = real(a)
    result = function(x)
    # sin(pi) is 0, not 1e-121.
    return Fraction(0) if abs(result) < mp.mpf(10) ** -100 and abs(x) > 0.5 else result


def logarithm(a: Exact, base: Exact) -> Exact:
    if a == 0:
        raise ZeroDivisionError
    return over(transcendental(mp.log, a), transcendental(mp.log, base))


def exponential(a: Exact) -> Exact:
    if a == 0:
        return Fraction(1)
    if abs(a) > 40_000:
        raise Unreadable("a power too large to compare")
    return mp.exp(real(a))


def rounded(function: Callable[[Any], Any], a: Exact) -> Exact:
    if not isinstance(a, Fraction) and mp.im(a):
        raise ValueError("undefined")
    return Fraction(int(function(real(a))))


TRANSCENDENTAL = ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh")
INVERSE = {
    "arcsin": mp.asin, "arccos": mp.acos, "arctan": mp.atan, "arccot": mp.acot, "arcsec": mp.asec, "arccsc": mp.acsc,
    "arcsinh": mp.asinh, "arccosh": mp.acosh, "arctanh": mp.atanh, "ln": mp.log,
}  # fmt: skip
OPERATIONS: Mapping[str, Callable[..., Exact]] = {
    "add": plus,
    "neg": lambda a: -a,
    "mul": times,
    "div": over,
    "pow": to_the,
    "root": root,
    "factorial": factorial,
    "binom": lambda n, k: over(factorial(n), times(factorial(k), factorial(n - k))),
    "abs": abs,
    "floor": partial(rounded, mp.floor),
    "ceil": partial(rounded, mp.ceil),
    "degrees": lambda a: real(a) * mp.pi / 180,
    "log": logarithm,
    "exp": exponential,
    **{name: partial(transcendental, getattr(mp, name)) for name in TRANSCENDENTAL},
    **{name: partial(transcendental, function) for name, function in INVERSE.items()},
}


# Comparison

CONSTANTS: Mapping[str, Exact] = {"e": mp.e + 0, "i": mp.j, "\\pi": mp.pi + 0, "inf": mp.inf}
LIKE = mp.mpf(10) ** -50
ENOUGH = 3
"""Points at which both must have a value."""


def sample_value(name: str, point: int) -> Fraction:
    """A variable's value at one of twelve points: whole numbers, fractions, near 0, below 0, far off."""
    random = Random(f"{name} {point}")
    part = Fraction(random.randint(1, 2**20 - 1), 2**20)
    ranges = (1 + part, 2 + 3 * part, part, part / 2, -part, -3 * part - 1, 900 + 90 * part, -900 - 90 * part)
    drawn = Fraction(random.randint(2, 12)) if point < 4 else ranges[point - 4]
    return abs(drawn) if name == LOG_BASE else drawn


POINTS = 12


def alike(a: Exact, b: Exact) -> bool:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    x, y = real(a), real(b)
    if mp.isinf(x) or mp.isinf(y):
        return bool(x == y)
    return bool(abs(x - y) <= LIKE * max(abs(x), abs(y)))


def sampled(a: Node, b: Node) -> list[tuple[Exact, Exact]] | None:
    """Both values at each point where both have one; None if one alone has a value somewhere."""
    names = symbols(a) | symbols(b)
    variables = sorted(names - CONSTANTS.keys())
    complex_too = "i" in names or not variables
    pairs: list[tuple[Exact, Exact]] = []
    for point in range(POINTS if variables else 1):
        at = {**CONSTANTS, **{name: sample_value(name, point) for name in variables}}
        try:
            x, y = value_at(a, at, complex_too), value_at(b, at, complex_too)
        except Unreadable:
            if not variables:
                raise
            continue
        if (x is None) != (y is None):
            return None
        if x is not None:
            pairs.append((x, y))
    if len(pairs) < (ENOUGH if variables else 1):
        raise Unreadable("a formula without values to compare")
    return pairs


def value_at(node: Node, at: Mapping[str, Exact], complex_too: bool) -> Exact | None:
    """The value, or None where there is none; a complex one counts only where the formula speaks of them."""
    try:
        found = value(node, at)
    except (ArithmeticError, ValueError):
        return None
    if complex_too or isinstance(found, Fraction):
        return found
    return mp.re(found) if abs(mp.im(found)) <= LIKE * abs(found) else None


def equal(a: Node, b: Node) -> bool:
    """True iff both formulas have the same value wherever they have one; Unreadable where that cannot be said."""
    if a == b:
        return True
    pairs = sampled(a, b)
    return pairs is not None and all(alike(x, y) for x, y in pairs)


def sign_of_ratio(a: Node, b: Node) -> int:
    """The sign of a/b where that is a constant other than 0, else 0."""
    pairs = sampled(a, b)
    if pairs is None or any(x == 0 or y == 0 for x, y in pairs):
        return 0
    first = over(*pairs[0])
    if not all(alike(over(x, y), first) for x, y in pairs) or mp.im(real(first)):
        return 0
    return 1 if first > 0 else -1


def constant(node: Node) -> Fraction | None:
    """The formula's exact value, where it has one."""
    if symbols(node):
        return None
    try:
        found = value(node, {})
    except (ArithmeticError, ValueError, Unreadable):
        return None
    return found if isinstance(found, Fraction) else None


def number_at(node: Node) -> Exact | None:
    """A formula's real value, where it has one and no variables."""
    if symbols(node) - CONSTANTS.keys():
        return None
    try:
        found = value(node, CONSTANTS)
    except (ArithmeticError, ValueError, Unreadable):
        return None
    return found if isinstance(found, Fraction) else None if mp.im(found) else mp.re(found)
