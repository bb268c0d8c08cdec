"""Tasks whose every step is known: solutions, systematic flaws, repairs and exact labels from one description.

A subclass says which steps may come next (`steps`) and what a step's fact comes to (`compute`). From that
follow right solutions in any order, demonstrations that slip, repairs that keep to a failure's own order,
and which characters of any text are wrong.

Demonstrations make *slips*: fixed facts are shown wrong more often than right. A model fitted to them has
exactly those flaws, which outcome rewards can mend.
"""

from __future__ import annotations

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

from kintsugi.records import KintsugiError, Problem
from kintsugi.tasks.base import RepairPair, check_count, check_share, in_evaluation

EVALUATION_SHARE = 0.1
ANCHOR_DRAWS = 8
ANSWER = "#### "
NAMES = "abcdefghijklmnopqrstuvwxyz"
Fact = tuple[Any, ...]
Compute = Callable[..., int]
"""A function that works out a fact, called with its parts. The task's `compute` is the exact one."""
P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class WorkedStep:
    """A line that may come next: `stem`, the result of `fact`, `tail`; without a fact, the answer line in full."""

    stem: str
    fact: Fact | None = None
    tail: str = ""


Choose = Callable[[Sequence[WorkedStep]], WorkedStep]
"""A function that takes one of the possible steps. `random.Random(order).choice` takes the same ones every time."""


class WorkedTask(ABC, Generic[P]):
    """A task over problems of type P. `RESULT` matches a step's result, right or wrong: here one digit."""

    verifier = "exact"
    name: ClassVar[str]
    RESULT: ClassVar[re.Pattern[str]] = re.compile(r"[0-9]")

    def __init__(
        self, slips: Mapping[Fact, int], slip_rate: float, problems: int, evaluation_problems: int, seed: int
    ) -> None:
        self.slips, self.seed = slips, seed
        self.slip_rate = check_share(f"task {self.name}: slip_rate", slip_rate)
        self.sizes = (
            check_count(f"task {self.name}: problems", problems, 0),
            check_count(f"task {self.name}: evaluation_problems", evaluation_problems, 0),
        )

    @abstractmethod
    def draw(self, rng: random.Random) -> P:
        """A random problem."""

    @abstractmethod
    def text(self, problem: P) -> str:
        """The problem as a model reads it."""

    @abstractmethod
    def parse(self, text: str) -> P:
        """The problem that a text of `text` says."""

    @abstractmethod
    def steps(self, problem: P, lines: Sequence[str]) -> Sequence[WorkedStep]:
        """The steps that may follow these lines, in an order that depends on the steps taken, not on their results.

        Values are read as they were written, right or wrong. Nothing follows the answer line.
        """

    @abstractmethod
    def compute(self, *fact: Any) -> int:
        """The exact result of a fact."""

    @abstractmethod
    def miscompute(self, fact: Fact, rng: random.Random) -> int:
        """A random wrong result, such that one wrong step always spoils the answer."""

    def misread(self, problem: P, rng: random.Random) -> P:
        """The problem as a demonstration takes it, in which other steps than the right ones may follow.

        It has as many steps at every point as `problem` itself, so that one order of steps serves both.
        """
        return problem

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

    def solve(self, problem: P, choose: Choose = lambda steps: steps[0], work: Compute | None = None) -> str:
        """A solution text; errors propagate, as a later step uses whatever value was written."""
        work = work or self.compute
        lines: list[str] = []
        while steps := self.steps(problem, lines):
            step = choose(steps)
            lines.append(step.stem if step.fact is None else f"{step.stem}{work(*step.fact)}{step.tail}")
        return "\n".join(lines)

    def wrong_characters(self, problem: str, solution: str) -> tuple[int, ...]:
        """Offsets of the wrong characters of a solution, each given what was written before it.

        A miscalculated result is one wrong character, the first that differs, and reading goes on with the
        value as written. Any other character that no right solution has there is the last offset: it is
        len(solution) where the text stops short.
        """
        parsed = self.parse(problem)
        found: list[int] = []
        lines: list[str] = []
        start = 0
        while steps := self.steps(parsed, lines):
            rest = solution[start:]
            right = [self._line(step) for step in steps]
            taken = next((line for line in right if rest.startswith(line)), None)
            if taken is None:
                found.append(start + max(shared_length(rest, line) for line in right))
                taken = self._slipped(rest, steps)
                if taken is None:
                    return tuple(found)
            lines.append(taken.removesuffix("\n"))
            start += len(taken)
        return (*found, start) if start < len(solution) else tuple(found)

    def demonstrations(self, seed: int) -> Iterator[tuple[str, str]]:
        rng = random.Random(f"demonstrations/{seed}")
        while True:
            problem = self._draw(rng, evaluation=False)
            yield self.text(problem), self.solve(self.misread(problem, rng), rng.choice, self._slipping(rng))

    def repair_pairs(self, seed: int) -> Iterator[RepairPair]:
        """Failures by slips or by one random wrong step; the repair is exact, in the failure's order.

        The anchor is in another order, where a few draws find one: beside an anchor in the failure's own
        order a plain copy is a perfect repair, and keeping to the failure is not learned.
        """
        rng = random.Random(f"repairs/{seed}")
        while True:
            problem, order = self._draw(rng, evaluation=False), rng.random()
            repaired = self.solve(problem, random.Random(order).choice)
            index = rng.randrange(repaired.count("\n"))
            read, work = problem, self.one_wrong(index, rng)
            if rng.random() < 0.5:
                read, work = self.misread(problem, rng), self._slipping(rng)
            failed = self.solve(read, random.Random(order).choice, work)
            if answer_of(failed) != answer_of(repaired):
                drawn = (self.solve(problem, rng.choice) for _ in range(ANCHOR_DRAWS))
                anchor = next((text for text in drawn if text != repaired), repaired)
                yield RepairPair(self.text(problem), failed, anchor, repaired)

    def one_wrong(self, index: int, rng: random.Random) -> Compute:
        """A worker that gets only step number `index` wrong."""
        calls = iter(range(10**6))

        def work(*fact: Any) -> int:
            return self.miscompute(fact, rng) if next(calls) == index else self.compute(*fact)

        return work

    def _slipping(self, rng: random.Random) -> Compute:
        def work(*fact: Any) -> int:
            wrong = self.slips.get(fact)
            return wrong if wrong is not None and rng.random() < self.slip_rate else self.compute(*fact)

        return work

    def _line(self, step: WorkedStep) -> str:
        """The step done right: its whole line, or the answer line, which nothing may follow."""
        return step.stem if step.fact is None else f"{step.stem}{self.compute(*step.fact)}{step.tail}\n"

    def _slipped(self, rest: str, steps: Sequence[WorkedStep]) -> str | None:
        """The line at the start of `rest` if it takes one of the steps with another result."""
        for step in steps:
            if step.fact is not None and rest.startswith(step.stem):
                result = self.RESULT.match(rest, len(step.stem))
                if result and rest.startswith(f"{step.tail}\n", result.end()):
                    return rest[: result.end() + len(step.tail) + 1]
        return None

    def _draw(self, rng: random.Random, *, evaluation: bool) -> P:
        while True:
            problem = self.draw(rng)
            if in_evaluation(self.text(problem), EVALUATION_SHARE) == evaluation:
                return problem

    def _problems(self, count: int, *, evaluation: bool) -> list[Problem]:
        rng = random.Random(f"problems/{self.seed}/{evaluation}")
        found: dict[str, Problem] = {}
        for _ in range(20 * count):
            if len(found) == count:
                break
            problem = self._draw(rng, evaluation=evaluation)
            text, split = self.text(problem), "eval" if evaluation else "train"
            name = f"{self.name}/{split}/{len(found)}"
            found.setdefault(text, Problem(name, text, answer_of(self.solve(problem))))
        return list(found.values())


def slip_table(
    facts: Sequence[Fact], share: float, miscompute: Callable[[Fact, random.Random], int]
) -> dict[Fact, int]:
    """fact -> the wrong result that demonstrations show for it, for a share of `facts`; the same in every run."""
    rng = random.Random("slips")
    return {fact: miscompute(fact, rng) for fact in rng.sample(facts, round(share * len(facts)))}


def first(slips: Mapping[Fact, int], kept: float) -> dict[Fact, int]:
    """The first `kept` of a slip table, a share of it."""
    share = check_share("slips_kept", kept)
    return dict(list(slips.items())[: round(share * len(slips))])


def with_last_digit(value: int, shift: int) -> int:
    """`value` with its last digit moved on by `shift`, modulo 10."""
    size = abs(value)
    return (size - size % 10 + (size + shift) % 10) * (-1 if value < 0 else 1)


def answer_of(solution: str) -> str:
    return solution.rsplit(ANSWER, 1)[1]


def shared_length(one: str, other: str) -> int:
    """The number of characters that two texts share from their start."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def whole_range(what: str, value: int | Sequence[int], least: int, most: int) -> tuple[int, int]:
    """(low, high) of `7` or `[5, 9]`; KintsugiError for anything else a recipe may hold."""
    bounds: list[Any] = list(value) if isinstance(value, list | tuple) else [value, value]
    if len(bounds) != 2 or any(not isinstance(b, int) or isinstance(b, bool) for b in bounds):
        raise KintsugiError(f"{what} must be a whole number or [low, high], got {value!r}")
    if not least <= bounds[0] <= bounds[1] <= most:
        raise KintsugiError(f"{what} must lie between {least} and {most}, got {value!r}")
    return bounds[0], bounds[1]
