"""The built-in task: small graphs of one-digit sums, with every step known.

A problem such as `a=4+7,b=a-3,c=9-5,d=c+6,e=b+d` asks for its last variable, all arithmetic modulo 10.
Two chains can be worked off in any interleaving, so two correct solutions rarely have the same text and
a repair has to keep to the failure's own order. Every value is used once, and both operations are
bijections of each operand: answers are near uniform, and one wrong step always spoils the answer.

Demonstrations slip on a fixed share of the 200 one-digit facts (see kintsugi.tasks.worked).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from kintsugi.tasks.base import check_count, check_share
from kintsugi.tasks.worked import ANSWER, NAMES, Fact, WorkedStep, WorkedTask, slip_table, whole_range

FACTS: tuple[Fact, ...] = tuple((x, op, y) for op in "+-" for x in range(10) for y in range(10))


@dataclass(frozen=True, slots=True)
class Definition:
    """`name = left op right`, where left and right are digits or names of earlier variables."""

    name: str
    left: str
    op: str
    right: str

    def __str__(self) -> str:
        return f"{self.name}={self.left}{self.op}{self.right}"


def compute(left: int, op: str, right: int) -> int:
    """The exact value of one sum or difference, modulo 10."""
    return (left + right if op == "+" else left - right) % 10


class DagTask(WorkedTask[Sequence[Definition]]):
    """`task: dag` or `task: {name: dag, steps: 7}`.

    steps: definitions in a problem, or [low, high]. chains: independent chains merged at the end.
    problems, evaluation_problems: how many of each are made. slip_facts, slip_rate: in demonstrations,
    the share of facts that slip, and how often each of those does. seed: of the problems, not the slips.
    """

    name = "dag"

    def __init__(
        self,
        steps: int | Sequence[int] = 6,
        chains: int = 2,
        problems: int = 4000,
        evaluation_problems: int = 400,
        slip_facts: float = 0.3,
        slip_rate: float = 0.6,
        seed: int = 0,
    ) -> None:
        self.low, self.high = whole_range("task dag: steps", steps, 1, len(NAMES))
        self.chains = check_count("task dag: chains", chains, 1)
        slips = sum_slips(check_share("task dag: slip_facts", slip_facts))
        super().__init__(slips, slip_rate, problems, evaluation_problems, seed)

    def draw(self, rng: random.Random) -> Sequence[Definition]:
        return random_definitions(rng.randint(self.low, self.high), self.chains, rng)

    def text(self, problem: Sequence[Definition]) -> str:
        """The definitions in alphabetical order of their names."""
        return ",".join(map(str, sorted(problem, key=lambda d: d.name)))

    def parse(self, text: str) -> Sequence[Definition]:
        parts = (part.split("=") for part in text.split(","))
        return [Definition(name, body[0], body[1], body[2]) for name, body in parts]

    def steps(self, problem: Sequence[Definition], lines: Sequence[str]) -> Sequence[WorkedStep]:
        """Any definition not worked out yet whose operands are known; the answer once there is none left."""
        if lines and lines[-1].startswith(ANSWER):
            return []
        values = {str(d): d for d in range(10)} | {line[0]: int(line[-1]) for line in lines}
        ready = [d for d in problem if d.name not in values and d.left in values and d.right in values]
        if not ready:
            return [WorkedStep(f"{ANSWER}{values[max(d.name for d in problem)]}")]
        facts = [(values[d.left], d.op, values[d.right]) for d in ready]
        return [WorkedStep(f"{d.name}={f[0]}{f[1]}{f[2]}=", f) for d, f in zip(ready, facts, strict=True)]

    def compute(self, *fact: Any) -> int:
        return compute(*fact)

    def miscompute(self, fact: Fact, rng: random.Random) -> int:
        return miscompute(fact, rng)


def miscompute(fact: Fact, rng: random.Random) -> int:
    """A wrong digit: one wrong operand of a later bijection keeps every later value wrong."""
    return (compute(*fact) + rng.randint(1, 9)) % 10


@cache
def sum_slips(share: float) -> Mapping[Fact, int]:
    """The slips of one-digit sums and differences modulo 10."""
    return slip_table(FACTS, share, miscompute)


def random_definitions(steps: int, chains: int, rng: random.Random) -> list[Definition]:
    """`chains` chains of random lengths, then `chains - 1` merges; `steps` definitions in all.

    Fewer chains where the steps do not suffice (c chains need 2c - 1 steps).
    """
    chains = min(chains, (steps + 1) // 2)
    free = steps - (chains - 1)
    cuts = sorted(rng.sample(range(1, free), chains - 1))
    lengths = [b - a for a, b in zip([0, *cuts], [*cuts, free], strict=True)]
    definitions: list[Definition] = []
    ends: list[str] = []
    for length in lengths:
        left = str(rng.randrange(10))
        for _ in range(length):
            name = NAMES[len(definitions)]
            definitions.append(Definition(name, left, rng.choice("+-"), str(rng.randrange(10))))
            left = name
        ends.append(left)
    while len(ends) > 1:
        name = NAMES[len(definitions)]
        definitions.append(Definition(name, ends.pop(0), rng.choice("+-"), ends.pop(0)))
        ends.append(name)
    return definitions
