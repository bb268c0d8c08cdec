"""The built-in task: small graphs of one-digit sums, with every step known.

A problem such as `a=4+7,b=a-3,c=9-5,d=c+6,e=b+d` asks for its last variable, all arithmetic modulo 10.
Two chains can be worked off in any interleaving, so two correct solutions rarely have the same text and
a repair has to keep to the failure's own order. Every value is used once, and both operations are
bijections of each operand: answers are near uniform, and one wrong step always spoils the answer.

Demonstrations make *slips*: a fixed share of the 200 one-digit facts is shown wrong more often than
right. A model fitted to them has exactly those flaws, which outcome rewards can mend.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from kintsugi.records import KintsugiError, Problem
from kintsugi.tasks.base import RepairPair, check_count, check_share, in_evaluation

EVALUATION_SHARE = 0.1
NAMES = "abcdefghijklmnopqrstuvwxyz"
Worker = Callable[[int, str, int], int]
"""How one step is worked out; `compute` is the exact one."""
STEP = re.compile(r"^([a-z])=([0-9])([+-])([0-9])=([0-9])$")


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
    """The exact value of one step, modulo 10."""
    return (left + right if op == "+" else left - right) % 10


class DagTask:
    """`task: dag` or `task: {name: dag, steps: 7}`.

    steps: definitions in a problem, or [low, high]. chains: independent chains merged at the end.
    problems, evaluation_problems: how many of each are made. slip_facts, slip_rate: in demonstrations,
    the share of facts that slip, and how often each of those does. seed: of the problems, not the slips.
    """

    verifier = "exact"

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
        low, high = step_range(steps)
        check_count("task dag: chains", chains, 1)
        if not 1 <= low <= high <= len(NAMES):
            raise KintsugiError(f"task dag: steps must lie between 1 and {len(NAMES)}, got {steps!r}")
        self.low, self.high, self.chains = low, high, chains
        self.sizes = (
            check_count("task dag: problems", problems, 0),
            check_count("task dag: evaluation_problems", evaluation_problems, 0),
        )
        self.slip_rate, self.seed = check_share("task dag: slip_rate", slip_rate), seed
        self.slips = slip_table(check_share("task dag: slip_facts", slip_facts))

    def train(self) -> Sequence[Problem]:
        return self._train

    def evaluation(self) -> Sequence[Problem]:
        return self._evaluation

    @cached_property
    def _train(self) -> Sequence[Problem]:
        return self._problems(self.sizes[0], evaluation=False)

    @cached_property
    def _evaluation(self) -> Sequence[Problem]:
        return self._problems(self.sizes[1], evaluation=True)

    def demonstrations(self, seed: int) -> Iterator[tuple[str, str]]:
        rng = random.Random(f"demonstrations/{seed}")
        while True:
            definitions = self._draw(rng, evaluation=False)
            order = random_order(definitions, rng)
            yield text_of(definitions), solve(order, self._slipping(rng))

    def repair_pairs(self, seed: int) -> Iterator[RepairPair]:
        """Failures by slips or by one random wrong step; the repair is exact, in the failure's order."""
        rng = random.Random(f"repairs/{seed}")
        while True:
            definitions = self._draw(rng, evaluation=False)
            order = random_order(definitions, rng)
            repaired = solve(order)
            wrong = self._slipping(rng) if rng.random() < 0.5 else one_wrong(rng.randrange(len(order)), rng)
            failed = solve(order, wrong)
            if failed.rsplit(" ", 1)[1] != repaired.rsplit(" ", 1)[1]:
                anchor = solve(random_order(definitions, rng))
                yield RepairPair(text_of(definitions), failed, anchor, repaired)

    def _draw(self, rng: random.Random, *, evaluation: bool) -> list[Definition]:
        while True:
            definitions = random_definitions(rng.randint(self.low, self.high), self.chains, rng)
            if in_evaluation(text_of(definitions), EVALUATION_SHARE) == evaluation:
                return definitions

    def _problems(self, count: int, *, evaluation: bool) -> list[Problem]:
        rng = random.Random(f"problems/{self.seed}/{evaluation}")
        found: dict[str, Problem] = {}
        for _ in range(20 * count):
            if len(found) == count:
                break
            definitions = self._draw(rng, evaluation=evaluation)
            text = text_of(definitions)
            answer = solve(definitions).rsplit(" ", 1)[1]
            split = "eval" if evaluation else "train"
            found.setdefault(text, Problem(f"dag/{split}/{len(found)}", text, answer))
        return list(found.values())

    def _slipping(self, rng: random.Random) -> Worker:
        def work(left: int, op: str, right: int) -> int:
            wrong = self.slips.get((left, op, right))
            return wrong if wrong is not None and rng.random() < self.slip_rate else compute(left, op, right)

        return work


@cache
def slip_table(share: float) -> Mapping[tuple[int, str, int], int]:
    """(left, op, right) -> the wrong value that demonstrations show for it; the same in every run."""
    rng = random.Random("slips")
    facts = [(x, op, y) for op in "+-" for x in range(10) for y in range(10)]
    chosen = rng.sample(facts, round(share * len(facts)))
    return {fact: (compute(*fact) + rng.randint(1, 9)) % 10 for fact in chosen}


def step_range(steps: int | Sequence[int]) -> tuple[int, int]:
    """(low, high) of `7` or `[5, 9]`; KintsugiError for anything else a recipe may hold."""
    bounds: list[Any] = list(steps) if isinstance(steps, list | tuple) else [steps, steps]
    if len(bounds) != 2 or any(not isinstance(b, int) or isinstance(b, bool) for b in bounds):
        raise KintsugiError(f"task dag: steps must be a whole number or [low, high], got {steps!r}")
    return bounds[0], bounds[1]


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


def random_order(definitions: Sequence[Definition], rng: random.Random) -> list[Definition]:
    """A random topological order: each next step is uniform among those whose operands are known."""
    todo, done, order = list(definitions), set("0123456789"), []
    while todo:
        step = rng.choice([d for d in todo if d.left in done and d.right in done])
        todo.remove(step)
        done.add(step.name)
        order.append(step)
    return order


def text_of(definitions: Sequence[Definition]) -> str:
    """The problem text, definitions in alphabetical order of their names."""
    return ",".join(map(str, sorted(definitions, key=lambda d: d.name)))


def solve(order: Sequence[Definition], work: Worker = compute) -> str:
    """The solution text in this order, each step worked out by `work`.

    Errors propagate: a later step uses whatever value was written. Ends with `#### answer`.
    """
    values: dict[str, int] = {str(d): d for d in range(10)}
    lines = []
    for d in order:
        left, right = values[d.left], values[d.right]
        values[d.name] = work(left, d.op, right)
        lines.append(f"{d.name}={left}{d.op}{right}={values[d.name]}")
    last = max(order, key=lambda d: d.name).name
    return "\n".join([*lines, f"#### {values[last]}"])


def one_wrong(index: int, rng: random.Random) -> Worker:
    """A worker that gets only step number `index` wrong."""
    calls = iter(range(10**6))

    def work(left: int, op: str, right: int) -> int:
        shift = rng.randint(1, 9) if next(calls) == index else 0
        return (compute(left, op, right) + shift) % 10

    return work


def first_error(problem_text: str, solution: str) -> int | None:
    """0-based line of the first wrong step of a solution, or None when every line is right.

    A line is wrong when it is not a step, names an unknown or repeated variable, uses an operand other
    than the value written before, or miscalculates. The `####` line must repeat the last variable's value;
    it ends the solution, and nothing after it is read.
    """
    definitions = {}
    for part in problem_text.split(","):
        name, body = part.split("=")
        definitions[name] = Definition(name, body[0], body[1], body[2])
    values: dict[str, int] = {str(d): d for d in range(10)}
    target = max(definitions)
    lines = solution.strip().split("\n")
    for number, line in enumerate(lines):
        if line.startswith("#### "):
            right = target in values and line == f"#### {values[target]}"
            return None if right else number
        match = STEP.match(line)
        d = definitions.pop(match[1], None) if match else None
        if match is None or d is None or d.left not in values or d.right not in values:
            return number
        left, right_value = values[d.left], values[d.right]
        if (match[2], match[3], match[4]) != (str(left), d.op, str(right_value)):
            return number
        if int(match[5]) != compute(left, d.op, right_value):
            return number
        values[d.name] = int(match[5])
    return len(lines)
