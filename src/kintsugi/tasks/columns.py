"""Column addition: a fragile kind of step, and errors that do not spread.

A problem such as `a3+8,b7+1,c0+4` lists the digits of two numbers column by column, units first. Each line
adds one column and the carry of the line before, and writes carry and digit: `a3+8=11`, `b7+1=09`. The
answer is every column's digit: `#### a1b9c4`. A column may be read in either direction, `3+8` or `8+3`, so
two right solutions rarely have the same text. A wrong digit spoils the answer but not the next column: one
failure can hold several errors, none follows from another unless a carry is wrong too, and no luck mends it.

Demonstrations slip only where a carry is made: on the 100 facts that come to ten or more (see
kintsugi.tasks.worked). With a share of them only, a model soon learns to read each column in the direction
that it knows, and outcome rewards suffice.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from kintsugi.tasks.base import check_share
from kintsugi.tasks.worked import ANSWER, NAMES, Fact, Step, WorkedTask, slip_table, whole_range

CARRYING: tuple[Fact, ...] = tuple(
    (x, y, carry) for x in range(10) for y in range(10) for carry in (0, 1) if x + y + carry >= 10
)
Columns = Sequence[tuple[int, int]]


class ColumnsTask(WorkedTask[Columns]):
    """`task: columns` or `task: {name: columns, columns: 9}`.

    columns: digits of either number, or [low, high]. slip_facts: the share of the facts with a carry that slip.
    The other arguments are those of `dag`.
    """

    name = "columns"
    digits = 2

    def __init__(
        self,
        columns: int | Sequence[int] = 8,
        problems: int = 4000,
        evaluation_problems: int = 400,
        slip_facts: float = 1.0,
        slip_rate: float = 0.6,
        seed: int = 0,
    ) -> None:
        self.low, self.high = whole_range("task columns: columns", columns, 1, len(NAMES))
        share = check_share("task columns: slip_facts", slip_facts)
        slips = slip_table(CARRYING, share, self.miscompute)
        super().__init__(slips, slip_rate, problems, evaluation_problems, seed)

    def draw(self, rng: random.Random) -> Columns:
        return [(rng.randrange(10), rng.randrange(10)) for _ in range(rng.randint(self.low, self.high))]

    def text(self, problem: Columns) -> str:
        return ",".join(f"{name}{x}+{y}" for name, (x, y) in zip(NAMES, problem, strict=False))

    def parse(self, text: str) -> Columns:
        return [(int(part[1]), int(part[3])) for part in text.split(",")]

    def steps(self, problem: Columns, lines: Sequence[str]) -> Sequence[Step]:
        """The next column in either direction; after the last one the answer."""
        done = len(lines)
        if done > len(problem):
            return []
        if done == len(problem):
            return [Step(ANSWER + "".join(line[0] + line[-1] for line in lines))]
        x, y = problem[done]
        carry = int(lines[-1][-2]) if lines else 0
        return [Step(f"{NAMES[done]}{p}+{q}=", (p, q, carry)) for p, q in ((x, y), (y, x))]

    def compute(self, *fact: Any) -> int:
        return int(sum(fact))

    def miscompute(self, fact: Fact, rng: random.Random) -> int:
        """A wrong total from 0 to 19 with a wrong digit: the carry alone would go unnoticed in the last column."""
        right = self.compute(*fact)
        return rng.choice([total for total in range(20) if total % 10 != right % 10])
