"""Algorithms as generators: what they want sampled (`Ask`) or scored (`Score`, `Fork`), and the player that gets it.

A run yields a list of asks, is resumed with their answers, and returns its result. So an algorithm is written for
one problem, and still samples in full batches on any engine: the player drives the runs of a whole step and hands
their asks to the sampler as they come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, TypeVar

from kintsugi.records import Completion, KintsugiError, Phase, Reach, Rollout
from kintsugi.sampling.base import Fork, Request, Sampler, Score

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Ask:
    """Completions that an algorithm wants.

    request  What is sampled.
    phase    Whose tokens and seconds these are.
    judge    Makes verified rollouts of the completions.
    """

    request: Request
    phase: Phase
    judge: Callable[[Sequence[Completion]], tuple[Rollout, ...]]


Wanted = Ask | Score | Fork
Asking = Generator[list[Wanted], list[Any], Result]
"""Yields asks; is sent the answer to each, in order: rollouts to an Ask, log-probabilities to a Score, its Reach to a
Fork (None where nobody can tell it)."""

Scoring = Callable[[Sequence[Score]], Sequence[Sequence[float]]]
"""The log-probabilities of each completion, one per token."""
Reacher = Callable[[Sequence[Fork]], Sequence[Reach]]


@dataclass(slots=True)
class Meter:
    """Wall seconds by phase. While several phases wait at once, each gets its share by count."""

    seconds: dict[str, float] = field(default_factory=dict)
    _waiting: dict[str, int] = field(default_factory=dict)
    _since: float = 0.0

    def begin(self, name: Phase) -> None:
        self._settle()
        self._waiting[name] = self._waiting.get(name, 0) + 1

    def end(self, name: Phase) -> None:
        self._settle()
        self._waiting[name] -= 1

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        self.begin(name)
        try:
            yield
        finally:
            self.end(name)

    def _settle(self) -> None:
        now = time.perf_counter()
        total = sum(self._waiting.values())
        for name, waiting in self._waiting.items():
            if waiting:
                self.seconds[name] = self.seconds.get(name, 0.0) + (now - self._since) * waiting / total
        self._since = now


def together(runs: Iterable[Asking[Result]]) -> Asking[list[Result]]:
    """Several runs as one, side by side: what they ask for at the same time is asked for at the same time."""
    runs = list(runs)
    results: dict[int, Result] = {}
    asked: dict[int, list[Wanted]] = {}

    def resume(i: int, answers: Any) -> None:
        try:
            asked[i] = runs[i].send(answers)
        except StopIteration as end:
            results[i] = end.value

    for i in range(len(runs)):
        resume(i, None)
    while asked:
        now = dict(asked)
        asked.clear()
        answers = iter((yield [ask for asks in now.values() for ask in asks]))
        for i, asks in now.items():
            resume(i, [next(answers) for _ in asks])
    return [results[i] for i in range(len(runs))]


def play(
    runs: Sequence[Asking[Result]],
    sampler: Sampler,
    meter: Meter | None = None,
    scorer: Scoring | None = None,
    reacher: Reacher | None = None,
) -> list[Result]:
    """Plays the runs and returns their results. Each resumes once its own asks are answered, whatever others wait for.

    Scores wait until all that can be sampled is, so that they are computed together. KintsugiError where
    a run wants a score and there is no `scorer`; without a `reacher` nobody knows the reach of a seam.
    """
    player = Player(runs, sampler, meter or Meter(), scorer, reacher)
    with closing(player.session):
        for i in range(len(runs)):
            player.resume(i, None)
        while player.sampling or player.scoring:
            touched: dict[int, None] = {}
            for i, place, answer in player.sampled() if player.sampling else player.scored():
                player.found[i][place] = answer
                touched[i] = None
            for i in touched:
                if len(player.found[i]) == len(player.asked[i]):
                    player.resume(i, [player.found[i][place] for place in range(len(player.asked[i]))])
    return [player.results[i] for i in range(len(runs))]


class Player(Generic[Result]):
    """The runs being played: by number, what each has asked and been answered, and what it came to.

    sampling  The asks in the sampler's hands by ticket, each with its run and its place among the run's asks.
    scoring   The same of what waits to be scored.
    """

    def __init__(
        self,
        runs: Sequence[Asking[Result]],
        sampler: Sampler,
        meter: Meter,
        scorer: Scoring | None,
        reacher: Reacher | None,
    ) -> None:
        self.runs, self.meter, self.scorer, self.reacher = runs, meter, scorer, reacher
        self.session, self.tickets = sampler.session(), count()
        self.results: dict[int, Result] = {}
        self.asked: dict[int, list[Wanted]] = {}
        self.found: dict[int, dict[int, Any]] = {}
        self.sampling: dict[int, tuple[Ask, int, int]] = {}
        self.scoring: list[tuple[Score | Fork, int, int]] = []

    def resume(self, i: int, answers: Any) -> None:
        """Resumes run number `i` with the answers, and takes what it asks next."""
        try:
            self.asked[i] = self.runs[i].send(answers)
            while not self.asked[i]:
                self.asked[i] = self.runs[i].send([])
        except StopIteration as end:
            self.results[i] = end.value
            return
        self.found[i] = {}
        for place, ask in enumerate(self.asked[i]):
            if not isinstance(ask, Ask):
                self.scoring.append((ask, i, place))
                continue
            ticket = next(self.tickets)
            self.sampling[ticket] = (ask, i, place)
            self.meter.begin(ask.phase)
            self.session.put(ticket, ask.request)

    def sampled(self) -> Iterator[tuple[int, int, Any]]:
        """(run, place, answer) of each ask that the sampler has answered."""
        for ticket, completions in self.session.take():
            ask, i, place = self.sampling.pop(ticket)
            yield i, place, ask.judge(completions)
            self.meter.end(ask.phase)

    def scored(self) -> Iterator[tuple[int, int, Any]]:
        """(run, place, answer) of all that waits to be scored."""
        wanted, self.scoring = self.scoring, []
        scores = [ask for ask, _, _ in wanted if isinstance(ask, Score)]
        forks = [ask for ask, _, _ in wanted if isinstance(ask, Fork)]
        if scores and self.scorer is None:
            raise KintsugiError(
                "the algorithm asks for log-probabilities of the trainer, which cannot be had here"
            )
        values, reaches = iter(self.told(self.scorer, scores)), iter(self.told(self.reacher, forks))
        for ask, i, place in wanted:
            yield i, place, tuple(next(values)) if isinstance(ask, Score) else next(reaches)

    def told(self, trainer: Callable[[Any], Sequence[Any]] | None, asks: Sequence[Any]) -> Sequence[Any]:
        """The trainer's answers; None for each where there is no trainer."""
        if trainer is None or not asks:
            return [None] * len(asks)
        with self.meter.phase("train"):
            return trainer(asks)
