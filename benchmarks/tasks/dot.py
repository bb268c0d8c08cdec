"""Sums of products: one fragile kind of step, and errors that do not follow from one another.

A problem such as `s=4,a=3*4,b=7*2` asks for s plus all products, modulo 10. Each product (`a:3*4=2`) is added to
the running sum at once (`a=4+2=6`); the products may come in any order, so two right solutions rarely have the
same text. Products take their operands from the problem: a wrong one spoils the sum from there on, but no other
product. Wrong products cancel now and then, so about one failure in ten passes by luck.

Demonstrations slip on a share of the 100 products only; sums are always right (see kintsugi.tasks.worked).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kintsugi.tasks.base import check_share
from kintsugi.tasks.worked import ANSWER, NAMES, Fact, WorkedStep, WorkedTask, first, slip_table, whole_range

PRODUCTS: tuple[Fact, ...] = tuple((x, "*", y) for x in range(10) for y in range(10))
TERMS = NAMES.replace("s", "")


@dataclass(frozen=True, slots=True)
class Dot:
    """`start` plus the products, modulo 10; product i has the name TERMS[i]."""

    start: int
    products: tuple[tuple[int, int], ...]


class DotTask(WorkedTask[Dot]):
    """`task: {name: "benchmarks/tasks/dot.py:DotTask", terms: 6}`.

    terms: products in a problem, or [low, high]. slip_facts: the share of the 100 products that slip;
    slips_kept: the share of these that is kept, the first ones. The other arguments are those of `dag`.
    """

    name = "dot"

    def __init__(
        self,
        terms: int | Sequence[int] = 5,
        problems: int = 4000,
        evaluation_problems: int = 400,
        slip_facts: float = 0.7,
        slip_rate: float = 0.6,
        slips_kept: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.low, self.high = whole_range("task dot: terms", terms, 1, len(TERMS))
        slips = slip_table(PRODUCTS, check_share("task dot: slip_facts", slip_facts), self.miscompute)
        super().__init__(first(slips, slips_kept), slip_rate, problems, evaluation_problems, seed)

    def draw(self, rng: random.Random) -> Dot:
        terms = rng.randint(self.low, self.high)
        return Dot(rng.randrange(10), tuple((rng.randrange(10), rng.randrange(10)) for _ in range(terms)))

    def text(self, problem: Dot) -> str:
        named = zip(TERMS, problem.products, strict=False)
        return ",".join([f"s={problem.start}", *(f"{name}={x}*{y}" for name, (x, y) in named)])

    def parse(self, text: str) -> Dot:
        start, *products = text.split(",")
        return Dot(int(start[2]), tuple((int(p[2]), int(p[4])) for p in products))

    def steps(self, problem: Dot, lines: Sequence[str]) -> Sequence[WorkedStep]:
        """Any product not worked out yet; after a product, its sum; after the last sum, the answer."""
        if lines and lines[-1].startswith(ANSWER):
            return []
        total = next((int(line[-1]) for line in reversed(lines) if line[1] == "="), problem.start)
        if lines and lines[-1][1] == ":":
            product = int(lines[-1][-1])
            return [WorkedStep(f"{lines[-1][0]}={total}+{product}=", (total, "+", product))]
        done = {line[0] for line in lines}
        left = [(name, xy) for name, xy in zip(TERMS, problem.products, strict=False) if name not in done]
        if not left:
            return [WorkedStep(f"{ANSWER}{total}")]
        return [WorkedStep(f"{name}:{x}*{y}=", (x, "*", y)) for name, (x, y) in left]

    def compute(self, *fact: Any) -> int:
        left, op, right = fact
        return int(left * right if op == "*" else left + right) % 10

    def miscompute(self, fact: Fact, rng: random.Random) -> int:
        return (self.compute(*fact) + rng.randint(1, 9)) % 10
