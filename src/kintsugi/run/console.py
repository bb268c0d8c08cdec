"""The output of a run while it goes on: one live line on a terminal, plain lines elsewhere.

A run is not ended by its output: where that is closed (`| head -1`), full or gone with its terminal, the run goes on
in silence.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


def percent(value: float | None) -> str:
    return "   -" if value is None else f"{value:4.0%}"


def silence(stream: IO[str]) -> None:
    """Points a stream at nothing: what could not be written must not fail once more when the process ends."""
    with suppress(OSError, ValueError, AttributeError):  # it may be no file, or closed
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)


class Reporter:
    """Says how a run goes. Use as a context manager around the loop."""

    def __init__(self, steps: int, done: int = 0, console: Console | None = None) -> None:
        self.console = console or Console(soft_wrap=True, highlight=False)
        self.steps, self.done = steps, done
        self.first: tuple[int, float] | None = None
        self.live: Progress | None = None
        self.bar: TaskID | None = None

    def __enter__(self) -> Reporter:
        if self.console.is_terminal:
            columns = (BarColumn(bar_width=20), TextColumn("{task.description}"), TimeRemainingColumn())
            self.live = Progress(*columns, console=self.console)
            self.bar = self.live.add_task("sampling", total=self.steps, completed=self.done)
            with self.enduring():
                self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            with self.enduring():
                self.live.stop()

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
        """The line of one step: accuracy, repairs, gates, speed, time left."""
        self.done, now = int(metrics["step"]), time.perf_counter()
        # Counted from the end of the first step: what came before it (sampling, an evaluation) is not repeated.
        self.first = self.first or (self.done, now)
        pace = (now - self.first[1]) / max(1, self.done - self.first[0])
        line = describe(metrics)
        if self.live is not None and self.bar is not None:
            with self.enduring():
                self.live.update(self.bar, total=self.steps, completed=self.done, description=line)
        else:
            self.say(f"{line}  {pace * (self.steps - self.done):.0f} s left" if pace else line)


def describe(metrics: Mapping[str, Any]) -> str:
    """A step's metrics in one line."""
    if "accuracy" not in metrics:
        return f"step {metrics['step']:>4}  loss {metrics['loss']:.4f}  lr {metrics['lr']:.1e}"
    seconds = sum(value for key, value in metrics.items() if key.startswith("seconds/"))
    parts = [f"step {metrics['step']:>4}", f"accuracy {percent(metrics['accuracy'])}"]
    if metrics["repair/tried"]:
        parts.append(f"mended {percent(metrics['repair/success_per_failure'])}")
        parts.append(f"active {percent(metrics['active_ratio'])}")
    if errors := metrics["verdict/error"] + metrics["repair/verdict_error"]:
        parts.append(f"verifier errors {errors}")
    parts.append(f"{metrics['tokens/generated'] / max(seconds, 1e-9):,.0f} tok/s")
    return "  ".join(parts)
