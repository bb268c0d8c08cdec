"""Sums of products of whole numbers: long solutions for a model that can read, such as SmolLM2.

A problem such as `14 + 6*7 + 3*9` asks for its value. Each product (`6*7=42`) is added to the running sum at once
(`14+42=56`); the products may come in any order, so two right solutions rarely have the same text. This is `dot`
without the modulus: a model taught on right demonstrations errs by itself, in a carry or in the times table. One wrong
step always spoils the answer.

Demonstrations slip on no fact unless `slip_facts` says so.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kintsugi.tasks.base import check_share
from kintsugi.tasks.worked import (
    ANSWER,
    Fact,
    WorkedStep,
    WorkedTask,
    slip_table,
    whole_range,
    with_last_digit,
)


@dataclass(frozen=True, slots=True)
class Sum:
    """`start` plus the products."""

    start: int
    products: tuple[tuple[int, int], ...]


class SumsTask(WorkedTask[Sum]):
    """`task: {name: "benchmarks/tasks/sums.py:SumsTask", terms: 4}`.

    terms: products in a problem, or [low, high]; a solution has two steps for each. factors: [low, high] of a product's
    two digits. in_order: the products are worked out as they stand, so that two right solutions are the same text.
    slip_facts: the share of these products that slip. too_large: a slip's result is always too large, so that no two
    cancel and a pass never holds one. The other arguments are those of `dag`.
    """

    name = "sums"
    RESULT = re.compile(r"[0-9]{1,6}")

    def __init__(
        self,
        terms: int | Sequence[int] = 4,
        problems: int = 4000,
        evaluation_problems: int = 400,
        slip_facts: float = 0.0,
        slip_rate: float = 0.6,
        seed: int = 0,
        factors: Sequence[int] = (2, 9),
        in_order: bool = False,
        too_large: bool = False,
    ) -> None:
        self.low, self.high = whole_range("task sums: terms", terms, 1, 12)
        self.in_order, self.too_large = in_order, too_large
        least, most = whole_range("task sums: factors", factors, 1, 9)
        self.factors = range(least, most + 1)
        products: list[Fact] = [(x, "*", y) for x in self.factors for y in self.factors]
        slips = slip_table(products, check_share("task sums: slip_facts", slip_facts), self.miscompute)
        super().__init__(slips, slip_rate, problems, evaluation_problems, seed)

    def draw(self, rng: random.Random) -> Sum:
        terms = rng.randint(self.low, self.high)
        start = rng.randint(1, 99)
        return Sum(start, tuple((rng.choice(self.factors), rng.choice(self.factors)) for _ in range(terms)))

    def text(self, problem: Sum) -> str:
        return " + ".join([str(problem.start), *(f"{x}*{y}" for x, y in problem.products)])

    def parse(self, text: str) -> Sum:
        start, *products = text.split(" + ")
        return Sum(int(start), tuple((int(p[0]), int(p[2])) for p in products))

    def steps(self, problem: Sum, lines: Sequence[str]) -> Sequence[WorkedStep]:
        """Any product not worked out yet (`in_order`: the first of them); after it, its sum; at the end, the answer."""
        if lines and lines[-1].startswith(ANSWER):
            return []
        total = next((int(line.split("=")[1]) for line in reversed(lines) if "+" in line), problem.start)
        if lines and "*" in lines[-1]:
            product = int(lines[-1].split("=")[1])
            return [WorkedStep(f"{total}+{product}=", (total, "+", product))]
        done = Counter(line.split("=")[0] for line in lines if "*" in line)
        left = Counter(f"{x}*{y}" for x, y in problem.products) - done
        if not left:
            return [WorkedStep(f"{ANSWER}{total}")]
        if self.in_order:
            x, y = problem.products[done.total()]
            left = Counter([f"{x}*{y}"])
        return [WorkedStep(f"{product}=", (int(product[0]), "*", int(product[2]))) for product in left]

    def compute(self, *fact: Any) -> int:
        left, op, right = fact
        return int(left * right if op == "*" else left + right)

    def miscompute(self, fact: Fact, rng: random.Random) -> int:
        """Another last digit; `too_large`: as far above the right result as that is from it."""
        right = self.compute(*fact)
        wrong = with_last_digit(right, rng.randint(1, 9))
        return right + abs(wrong - right) if self.too_large else wrong
