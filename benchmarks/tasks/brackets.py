"""Chained brackets: a task with several right paths of different length.

A problem such as `a=(4+7)*3,b=(a-2)*9` asks for its last variable, modulo 10. Each bracket can be worked out
directly (`a:4+7=1`, `a=1*3=3`: two steps) or expanded, its products in either order (`a:4*3=2`, `a:7*3=1`,
`a=2+1=3`: three steps): k brackets have 3^k right solutions of 2k to 3k steps, and a repair has to keep to
the failure's own path. Factors are 3, 7 or 9, which are invertible modulo 10, so every fact is a bijection of
each value it takes over: answers are near uniform, and one wrong step always spoils the answer.

Demonstrations slip on a fixed share of the 200 sums and of the 30 products (see kintsugi.tasks.worked).
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kintsugi.tasks import dag
from kintsugi.tasks.base import check_share
from kintsugi.tasks.worked import ANSWER, NAMES, Fact, WorkedStep, WorkedTask, first, slip_table, whole_range

FACTORS = (3, 7, 9)
PRODUCTS: tuple[Fact, ...] = tuple((x, "*", y) for x in range(10) for y in FACTORS)
BRACKET = re.compile(r"([a-z])=\(([a-z0-9])([+-])([0-9])\)\*([0-9])")


@dataclass(frozen=True, slots=True)
class Bracket:
    """`name = (left op right) * factor`, where left is a digit or the bracket before."""

    name: str
    left: str
    op: str
    right: int
    factor: int

    def __str__(self) -> str:
        return f"{self.name}=({self.left}{self.op}{self.right})*{self.factor}"


class BracketsTask(WorkedTask[Sequence[Bracket]]):
    """`task: {name: "benchmarks/tasks/brackets.py:BracketsTask", brackets: 5}`.

    brackets: how many in a problem, or [low, high]. slips_kept: the share of the slipping facts that is kept, the
    first ones; bases that slip on fewer facts, and on these more surely, so slip on the same facts. The other
    arguments are those of `dag`.
    """

    name = "brackets"

    def __init__(
        self,
        brackets: int | Sequence[int] = 4,
        problems: int = 4000,
        evaluation_problems: int = 400,
        slip_facts: float = 0.3,
        slip_rate: float = 0.6,
        slips_kept: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.low, self.high = whole_range("task brackets: brackets", brackets, 1, len(NAMES))
        share = check_share("task brackets: slip_facts", slip_facts)
        sums, products = dag.sum_slips(share), slip_table(PRODUCTS, share, self.miscompute)
        slips = {**first(sums, slips_kept), **first(products, slips_kept)}
        super().__init__(slips, slip_rate, problems, evaluation_problems, seed)

    def draw(self, rng: random.Random) -> Sequence[Bracket]:
        names = NAMES[: rng.randint(self.low, self.high)]
        lefts = [str(rng.randrange(10)), *names]
        return [
            Bracket(name, left, rng.choice("+-"), rng.randrange(10), rng.choice(FACTORS))
            for name, left in zip(names, lefts, strict=False)
        ]

    def text(self, problem: Sequence[Bracket]) -> str:
        return ",".join(map(str, problem))

    def parse(self, text: str) -> Sequence[Bracket]:
        return [Bracket(m[1], m[2], m[3], int(m[4]), int(m[5])) for m in BRACKET.finditer(text)]

    def steps(self, problem: Sequence[Bracket], lines: Sequence[str]) -> Sequence[WorkedStep]:
        """Of the first bracket without a value: the sum or either product; what is then left to do."""
        if lines and lines[-1].startswith(ANSWER):
            return []
        values = {line[0]: int(line[-1]) for line in lines if line[1] == "="}
        bracket = next((b for b in problem if b.name not in values), None)
        if bracket is None:
            return [WorkedStep(f"{ANSWER}{values[problem[-1].name]}")]
        begun = [line for line in lines if line.startswith(f"{bracket.name}:")]
        left = int(bracket.left) if bracket.left.isdigit() else values[bracket.left]
        if not begun:
            facts: list[Fact] = [
                (left, bracket.op, bracket.right),
                (left, "*", bracket.factor),
                (bracket.right, "*", bracket.factor),
            ]
            return [WorkedStep(f"{bracket.name}:{x}{op}{y}=", (x, op, y)) for x, op, y in facts]
        return [finish(bracket, left, begun)]

    def compute(self, *fact: Any) -> int:
        left, op, right = fact
        return int(left * right % 10) if op == "*" else dag.compute(*fact)

    def miscompute(self, fact: Fact, rng: random.Random) -> int:
        return (self.compute(*fact) + rng.randint(1, 9)) % 10


def finish(bracket: Bracket, left: int, begun: Sequence[str]) -> WorkedStep:
    """The one step that may follow a bracket's first or second line.

    Where both products are of the same digit, the first one written is taken for the left one.
    """
    results = [int(line[-1]) for line in begun]
    if begun[0][3] != "*":
        fact: Fact = (results[0], "*", bracket.factor)
        return WorkedStep(f"{bracket.name}={results[0]}*{bracket.factor}=", fact)
    left_first = begun[0][2] == str(left)
    if len(begun) == 1:
        other = bracket.right if left_first else left
        return WorkedStep(f"{bracket.name}:{other}*{bracket.factor}=", (other, "*", bracket.factor))
    one, two = results if left_first else reversed(results)
    return WorkedStep(f"{bracket.name}={one}{bracket.op}{two}=", (one, bracket.op, two))
