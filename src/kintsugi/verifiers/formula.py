r"""Formulas as models and data write them, LaTeX or plain, read into a tree.

math-verify's reader lowers every letter (`R` is `r`), drops primes and dots, and adds `(2)(3)`. Here all of a text is
read as one formula or it is Unreadable; so is what readers take in two ways, such as `1/2x`.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

DEPTH = 60
LOG_BASE = "base of log"


def listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


GREEK = listed(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell hbar"
)
FUNCTIONS = listed("sin cos tan cot sec csc arcsin arccos arctan asin acos atan sinh cosh tanh ln log lg exp")
PLAIN = {"sqrt", "pi", "infinity", "infty", "inf", "oo", "cdot", "times", *FUNCTIONS, *GREEK}
"""Words that need no backslash to be mathematics."""
OPENING = {"(": ")", "[": "]", "{": "}", r"\{": r"\}", "|": "|", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil"}
NAMES = ("overline", "vec", "hat", "bar", "tilde", "angle", "triangle", "mathbf", "mathcal", "mathbb")
TOKEN = re.compile(r"\d+(?:\.\d+)?|\.\d+|\\[a-zA-Z]+|\\[{}%]|[a-zA-Z]+|[-+*/^_!|(){}\[\],<>=':%]|\S")
NUMBER = re.compile(r"\d*\.?\d+")


class Unreadable(Exception):
    """Says what was seen that cannot be read."""


class Node(NamedTuple):
    """An operation and what it is applied to: nodes, or a Fraction (`num`), or a name (`sym`)."""

    head: str
    args: tuple[Any, ...]


def num(text: str) -> Node:
    return Node("num", (Fraction(text),))


def words_of(run: str) -> list[str]:
    """Letters side by side as symbols: `ab` is a product, `abc` too, `cost` is one name: words do not commute."""
    if run in PLAIN:
        return ["\\" + run]
    near = all(0 < ord(b) - ord(a) <= 3 for a, b in pairwise(run))
    return list(run) if len(run) < 3 or near else [run]


def tokens_of(text: str) -> list[str]:
    found: list[str] = []
    for token in TOKEN.findall(text.replace("**", "^")):
        found += words_of(token) if token.isalpha() and len(token) > 1 else [token]
    return found


class Reader:
    """Recursive descent over the tokens of one formula."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.at, self.depth = text, tokens_of(text), 0, 0

    def whole(self) -> Node:
        node = self.sum()
        if self.at < len(self.tokens):
            raise Unreadable(f"unexpected {self.tokens[self.at]!r} in {self.text[:80]!r}")
        return node

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1] if self.at <= len(self.tokens) else ""

    def expect(self, token: str) -> None:
        if self.take() != token:
            raise Unreadable(f"expected {token!r} in {self.text[:80]!r}")

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > DEPTH:
            raise Unreadable("nested too deeply")
        sign = self.take() if self.peek() in ("+", "-") else ""
        node = self.product()
        if sign == "-":
            node = Node("neg", (node,))
        while self.peek() in ("+", "-"):
            sign = self.take()
            term = self.product()
            node = Node("add", (node, Node("neg", (term,)) if sign == "-" else term))
        self.depth -= 1
        return node

    def product(self) -> Node:
        node, divided = self.mixed(), False
        while True:
            token = self.peek()
            if token in ("*", r"\cdot", r"\times", "/", r"\div"):
                self.take()
                sign = self.take() if self.peek() == "-" else ""
                factor = self.power()
                factor = Node("neg", (factor,)) if sign else factor
                divided = token == "/"
                node = Node("div" if token in ("/", r"\div") else "mul", (node, factor))
            elif self.begins_factor():
                if divided:  # 1/2x is (1/2)x to some and 1/(2x) to others
                    raise Unreadable(f"a product after a slash: {self.text[:80]!r}")
                if NUMBER.fullmatch(token):
                    raise Unreadable(f"numbers side by side: {self.text[:80]!r}")
                node = Node("mul", (node, self.power()))
            else:
                return node

    def begins_factor(self) -> bool:
        token = self.peek()
        return (
            token.isalpha()
            or bool(NUMBER.fullmatch(token))
            or token in ("(", "[", "{", r"\lfloor", r"\lceil")
            or (token.startswith("\\") and token[1:].isalpha() and token[1:] not in ("rfloor", "rceil"))
        )

    def mixed(self) -> Node:
        r"""A factor; `1\frac{4}{5}` and `1 4/5` are 9/5, and only a proper fraction of plain numbers is read so."""
        whole, start = self.peek(), self.at
        node = self.power()
        if not (whole.isdigit() and self.at == start + 1):
            return node
        rest = self.tokens[self.at : self.at + 7]
        parts = [rest[2], rest[5]] if rest[:1] == [r"\frac"] and len(rest) == 7 else rest[0:3:2]
        shape = [r"\frac", "{", *parts[:1], "}", "{", *parts[1:], "}"]
        if rest != shape and not (rest[1:2] == ["/"] and rest[0].isdigit() and len(parts) == 2):
            return node
        if not all(part.isdigit() for part in parts):
            return node
        above, below = map(int, parts)
        if not 0 < above < below:
            raise Unreadable(f"a number beside an improper fraction: {self.text[:80]!r}")
        self.at += 7 if rest == shape else 3
        return Node("num", (int(whole) + Fraction(above, below),))

    def power(self) -> Node:
        base = self.postfix(self.atom())
        if self.peek() != "^":
            return base
        self.take()
        if self.peek() == r"\circ" or self.tokens[self.at : self.at + 3] == ["{", r"\circ", "}"]:
            self.at += 1 if self.peek() == r"\circ" else 3
            return Node("degrees", (base,))
        return self.postfix(Node("pow", (base, self.exponent())))

    def exponent(self) -> Node:
        sign = self.take() if self.peek() in ("-", "+") else ""
        node = self.power()
        return Node("neg", (node,)) if sign == "-" else node

    def postfix(self, node: Node) -> Node:
        while self.peek() in ("!", "'"):
            if self.take() == "!":
                if self.peek() == "!":
                    raise Unreadable("a double factorial")
                node = Node("factorial", (node,))
            elif node.head == "sym":
                node = Node("sym", (node.args[0] + "'",))
            else:
                raise Unreadable("a prime after what is no symbol")
        return node

    def atom(self) -> Node:
        token = self.take()
        if NUMBER.fullmatch(token):
            if self.peek() == "_":
                raise Unreadable(f"a numeral of another base within a formula: {self.text[:80]!r}")
            return num(token)
        if token in OPENING:
            node = self.sum()
            self.expect(OPENING[token])
            heads = {"|": "abs", r"\lfloor": "floor", r"\lceil": "ceil"}
            return Node(heads[token], (node,)) if token in heads else node
        if token.isalpha():
            if token in "fgh" and self.peek() == "(":
                raise Unreadable(f"a function {token} without a definition")
            return self.symbol(token)
        if token.startswith("\\"):
            return self.command(token[1:])
        raise Unreadable(f"unexpected {token or 'end'!r} in {self.text[:80]!r}")

    def symbol(self, name: str) -> Node:
        if self.peek() == "_":
            self.take()
            name += "_" + self.raw()
        return Node("sym", (name,))

    def raw(self) -> str:
        """The next token, or the text of the next group in braces."""
        if self.peek() != "{":
            return self.take()
        self.take()
        inside, level = "", 1
        while level:
            token = self.take()
            if not token:
                raise Unreadable("a brace that is not closed")
            level += (token == "{") - (token == "}")
            inside += token if level else ""
        return inside

    def argument(self) -> Node:
        r"""The argument of a command: a group, or as TeX has it one digit or sign (`\frac12`)."""
        token = self.peek()
        if token.isdigit() and len(token) > 1:
            self.tokens[self.at : self.at + 1] = [token[0], token[1:]]
        return self.atom()

    def command(self, name: str) -> Node:
        if name == "frac":
            above = self.argument()
            return Node("div", (above, self.argument()))
        if name == "binom":
            above = self.argument()
            return Node("binom", (above, self.argument()))
        if name == "sqrt":
            index = num("2")
            if self.peek() == "[":
                self.take()
                index = self.sum()
                self.expect("]")
            return Node("root", (self.argument() if self.peek() == "{" else self.power(), index))
        if name in FUNCTIONS:
            return self.function(name)
        if name in ("infty", "infinity", "inf", "oo"):
            return Node("sym", ("inf",))
        if name in NAMES:
            return Node("sym", (f"\\{name}{{{self.raw()}}}",))
        if name == "pi" or name in GREEK:
            return self.symbol("\\" + name)
        raise Unreadable(f"\\{name} in {self.text[:80]!r}")

    def function(self, name: str) -> Node:
        name = name if name[0] != "a" or name.startswith("arc") else "arc" + name[1:]
        base = None
        if name in ("log", "lg") and self.peek() == "_":
            self.take()
            base = self.argument()
        exponent = None
        if self.peek() == "^":
            self.take()
            exponent = self.exponent()
        if exponent == Node("neg", (num("1"),)):
            name, exponent = "arc" + name, None
        bracketed = self.peek() in ("(", "[", "{")
        inside = self.atom() if bracketed else self.power()
        while not bracketed and (self.peek().isalpha() or self.peek() in (r"\pi", r"\theta", r"\alpha")):
            inside = Node("mul", (inside, self.power()))
        if name in ("log", "lg"):
            # The base of a bare `log` is for its writer to know: it is a variable here.
            value = Node("log", (inside, base or Node("sym", (LOG_BASE,))))
        else:
            value = Node(name, (inside,))
        return value if exponent is None else Node("pow", (value, exponent))


@lru_cache(maxsize=256)
def read_formula(text: str) -> Node:
    """The tree of a formula; Unreadable where it has none or more than one."""
    return Reader(text).whole()
