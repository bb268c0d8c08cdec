"""What training and cold start share around their loops: result, evaluation, due dates, Ctrl-C."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kintsugi.assembly import Parts
from kintsugi.checkpoint import Progress
from kintsugi.config import Recipe
from kintsugi.console import Reporter
from kintsugi.evaluation import evaluate
from kintsugi.runlog import RunLog


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Held-out pass@1 before and after (None when interrupted), steps done, training seconds, the run's place."""

    before: float
    after: float | None
    steps: int
    seconds: float
    directory: Path
    interrupted: int
    """The number of the signal that ended the run early; 0: none did."""

    def summary(self, name: str) -> str:
        if self.after is None:
            return f"{name}: stopped after step {self.steps}"
        gain = self.after - self.before
        return f"{name}: held-out accuracy {self.before:.2f} -> {self.after:.2f} ({gain:+.2f}) in {self.seconds:.0f} s"


def measure(parts: Parts, log: RunLog, out: Reporter, progress: Progress) -> dict[str, Any]:
    """Evaluates, writes it down, says it; returns the summary."""
    result = evaluate(parts)
    summary = dict(result.summary())
    progress.evaluated = progress.step
    log.metrics({"step": progress.step, "tokens/total": progress.tokens} | summary)
    out.say(
        f"step {progress.step:>4}  held-out pass@1 {result.pass_at_1}  pass@{result.k} {result.pass_at_k}  "
        f"greedy {result.greedy}  ({result.problems} problems)"
    )
    return summary


def due(every: int, step: int, last: int) -> bool:
    """Whether something done every so many steps is due; what the end of the run does anyway is not."""
    return bool(every) and step % every == 0 and step != last


def finished(recipe: Recipe, progress: Progress) -> bool:
    """Whether the run has made its steps or spent its budget of generated tokens (by at most one step too many)."""
    return progress.step >= recipe.steps or (recipe.budget is not None and progress.tokens >= recipe.budget)


def expected_steps(recipe: Recipe, progress: Progress) -> int:
    """The number of steps the run will make; where a budget decides, as if steps went on costing what they cost."""
    if recipe.budget is None or not progress.tokens:
        return recipe.steps
    needed = math.ceil(progress.step * recipe.budget / progress.tokens)
    return min(recipe.steps, max(progress.step, needed))


def share_done(recipe: Recipe, progress: Progress) -> float:
    """How much of the run is over, by steps or by tokens, whichever is further."""
    by_tokens = progress.tokens / recipe.budget if recipe.budget else 0.0
    return max(progress.step / recipe.steps, by_tokens)


def evaluation_due(recipe: Recipe, progress: Progress) -> bool:
    """Whether the last step asks for an evaluation that has not been made; a run's end evaluates anyway.

    By tokens: whenever a multiple of `eval.every_tokens` was reached or passed.
    """
    if finished(recipe, progress) or progress.evaluated == progress.step:
        return False
    spacing = recipe.eval.every_tokens
    passed = bool(spacing) and progress.tokens // spacing > progress.tokens_before // spacing
    return passed or due(recipe.eval.every, progress.step, recipe.steps)


@contextmanager
def interruptible(out: Reporter) -> Iterator[list[int]]:
    """A list that is filled by the first Ctrl-C or SIGTERM; a second one ends the process at once, as usual."""
    stop: list[int] = []
    ways: dict[signal.Signals, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }

    def handle(number: int, frame: object) -> None:
        del frame
        stop.append(number)
        for kind, usual in ways.items():
            signal.signal(kind, usual)
        out.say("interrupted: finishing this step, then writing a checkpoint (once more stops at once)")

    try:
        before = {kind: signal.signal(kind, handle) for kind in ways}
    except ValueError:  # not in the main thread: whoever runs the thread handles Ctrl-C
        yield stop
        return
    try:
        yield stop
    finally:
        for kind, former in before.items():
            signal.signal(kind, former)
