"""The output of a run while it goes on: what was said stays, and below it a terminal has a live line.

    step    7  accuracy  41%  mended  88%  active  12%  3,100 tok/s
    ⠋ ━━━━━━━╺━━━━━━━━━━━━ step 8 of 40, 1:52 left
    ⠋ ━━━━━━━━━━━━━━━━╸━━━ evaluating: 160 of 200 problems, 0:12 left

In a notebook the live lines stand above. Elsewhere a line comes for each step, and for work that takes longer one every
30 seconds. A run is not ended by its output: where that is closed (`| head -1`), full or gone with its terminal, the
run goes on in silence.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

REFRESH, SILENCE = 0.1, 30.0
"""Seconds between two pictures of the live line, and between two lines about one piece of work elsewhere."""


def padded_percent(value: float | None) -> str:
    return "   -" if value is None else f"{value:4.0%}"


def span(seconds: float) -> str:
    """Seconds for a person: 0:07, 12:30, 1:05:00."""
    text = str(timedelta(seconds=round(seconds)))
    return text.removeprefix("0:").removeprefix("0") if seconds < 3599.5 else text


def silence(stream: IO[str]) -> None:
    """Points a stream at nothing: what could not be written must not fail once more when the process ends."""
    with suppress(OSError, ValueError, AttributeError):  # it may be no file, or closed
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)


@dataclass(slots=True)
class Work:
    """A piece of work that goes on: `done` of `total` units, and `then` after the sampler's present round, of which
    `share` is over. Without a total (0) the round is all that is known."""

    what: str
    total: int
    unit: str
    done: int = 0
    then: int = 0
    share: float = 0.0
    since: float = field(default_factory=lambda: time.monotonic())
    bar: TaskID | None = None

    def reach(self, done: int, then: int) -> None:
        self.done, self.then, self.share = done, then, 0.0

    @property
    def over(self) -> float:
        """The units that are done, with the present round's share of its own."""
        return self.done + self.share * (self.then - self.done)

    def line(self) -> str:
        took = time.monotonic() - self.since
        if not self.total:
            return f"{self.what}: sampling {self.share:.0%}, {span(took)} so far" if self.share else self.what
        left = f", {span(took * (self.total - self.over) / self.over)} left" if self.over >= 1 else ""
        return f"{self.what}: {self.over:.0f} of {self.total} {self.unit}{left}"


class Inline(Progress):
    """The live lines of a notebook: one display, renewed in place. No widgets are needed."""

    def start(self) -> None:
        from IPython.display import display

        self.display = display(self, display_id=True)

    def refresh(self) -> None:
        self.display.update(self)

    def update(self, *args: Any, **kwargs: Any) -> None:
        super().update(*args, **kwargs)
        self.refresh()

    def stop(self) -> None:
        self.display.update({"text/plain": ""}, raw=True)


class Reporter:
    """Says how a run goes. Use as a context manager around the loop; without one it has no live line.

    steps, evaluations  Those that the run will have made, and those still to come; the loop keeps them up to date.
    """

    def __init__(self, steps: int = 0, console: Console | None = None) -> None:
        self.inline = console is None and Console().is_jupyter
        self.console = console or Console(soft_wrap=True, highlight=False, force_jupyter=False)
        self.steps, self.done, self.evaluations = steps, 0, 0
        self.paces: list[float] = []  # seconds of the steps made here
        self.evaluating = 0.0  # seconds of the last evaluation
        self.live: Progress | None = None
        self.bar: TaskID | None = None
        self.work: Work | None = None
        self.told = 0.0

    def __enter__(self) -> Reporter:
        if self.inline or self.console.is_terminal:
            columns = (SpinnerColumn(), BarColumn(20), TextColumn("{task.description}", markup=False))
            self.live = (Inline if self.inline else Progress)(*columns, console=self.console, transient=True)
            with self.enduring():
                self.live.start()
            if self.steps:
                self.bar = self.live.add_task(self.run_line(), total=self.steps, completed=self.done)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            with self.enduring():
                self.live.stop()
            self.live = self.bar = None

    @contextmanager
    def enduring(self) -> Iterator[None]:
        """Within it an output that fails is given up, said once on standard error."""
        try:
            yield
        except (OSError, SystemExit) as error:  # rich turns a closed pipe into SystemExit
            self.console.quiet = True
            silence(self.console.file)
            why = error.strerror if isinstance(error, OSError) else "it was closed"
            with suppress(OSError):
                print(f"the output is lost ({why}): the run goes on in silence", file=sys.stderr)

    def say(self, line: str) -> None:
        """One plain line, above the live one where there is one."""
        encoding = self.console.encoding
        with self.enduring():
            self.console.print(line.encode(encoding, "backslashreplace").decode(encoding), markup=False)

    def step(self, metrics: Mapping[str, Any]) -> None:
        """The line of one step, which stays: accuracy, repairs, gates, speed, time left."""
        self.done = int(metrics["step"])
        self.paces.append(sum(value for key, value in metrics.items() if key.startswith("seconds/")))
        left = f"  {self.left()} left" if self.live is None and self.done < self.steps else ""
        self.say(f"{step_line(metrics)}{left}")
        self.refresh()

    def evaluated(self, seconds: float) -> None:
        """An evaluation took so long."""
        self.evaluating = seconds
        self.refresh()

    def left(self) -> str:
        """The time that steps and evaluations to come will take: the first step is slower than those after it."""
        paces = self.paces[1:] or self.paces
        pace = sum(paces) / len(paces) if paces else 0.0
        return span(pace * (self.steps - self.done) + self.evaluating * self.evaluations)

    def run_line(self) -> str:
        return f"{self.done} of {self.steps} steps" + (f", {self.left()} left" if self.paces else "")

    def refresh(self) -> None:
        if self.live is not None and self.bar is not None:
            with self.enduring():
                self.live.update(self.bar, total=self.steps, completed=self.done, description=self.run_line())

    @contextmanager
    def working(self, what: str, total: int = 0, unit: str = "") -> Iterator[Callable[[int, int], None]]:
        """Around a piece of work: it has a live line of its own, or elsewhere a line every 30 seconds.

        Yields what is to be called before each round of the sampler: with the units done, and those done after it.
        """
        work = self.work = Work(what, total, unit)
        self.told = work.since
        if self.live is not None:
            work.bar = self.live.add_task(work.line(), total=total or None)
        try:
            yield work.reach
        finally:
            self.work = None
            if self.live is not None and work.bar is not None:
                self.live.remove_task(work.bar)

    def pulse(self, share: Callable[[], float]) -> None:
        """The sampler goes on; `share` tells how much of its present round is done, and is asked where it is shown."""
        now, work = time.monotonic(), self.work
        if work is None:
            return
        if now - self.told < (SILENCE if self.live is None else REFRESH):
            return
        self.told, work.share = now, share()
        if self.live is None:
            self.say(work.line())
        elif work.bar is not None:
            with self.enduring():
                self.live.update(work.bar, completed=work.over, description=work.line())


def step_line(metrics: Mapping[str, Any]) -> str:
    """A step's metrics in one line."""
    if "accuracy" not in metrics:
        return f"step {metrics['step']:>4}  loss {metrics['loss']:.4f}  lr {metrics['lr']:.1e}"
    seconds = sum(value for key, value in metrics.items() if key.startswith("seconds/"))
    parts = [f"step {metrics['step']:>4}", f"accuracy {padded_percent(metrics['accuracy'])}"]
    if metrics["repair/tried"]:
        parts.append(f"mended {padded_percent(metrics['repair/success_per_failure'])}")
        parts.append(f"active {padded_percent(metrics['active_ratio'])}")
    if errors := metrics["verdict/error"] + metrics["repair/verdict_error"]:
        parts.append(f"verifier errors {errors}")
    if seconds and metrics["tokens/generated"]:  # solutions that were given took no time
        parts.append(f"{metrics['tokens/generated'] / seconds:,.0f} tok/s")
    return "  ".join(parts)
