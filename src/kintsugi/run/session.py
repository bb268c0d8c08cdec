"""The parts that training and cold start share around their loops: result, evaluation, due dates, signals."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kintsugi.assembly import Parts
from kintsugi.config import Recipe, evaluations_between
from kintsugi.run.checkpoint import Progress
from kintsugi.run.console import Reporter
from kintsugi.run.directory import RunLog
from kintsugi.run.evaluation import evaluate
from kintsugi.verifiers.base import TrainerState


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Held-out pass@1 before and after (None when interrupted), steps done, training seconds, the run's place."""

    before: float | None
    after: float | None
    steps: int
    seconds: float
    directory: Path
    interrupted: int
    """The number of the signal that ended the run early; 0: none did."""

    def __fspath__(self) -> str:
        return str(self.directory)

    def summary(self, name: str) -> str:
        if self.after is None or self.before is None:
            return f"{name}: stopped after step {self.steps}"
        gain = self.after - self.before
        return f"{name}: held-out accuracy {self.before:.2f} -> {self.after:.2f} ({gain:+.2f}) in {self.seconds:.0f} s"


class Interrupted(KeyboardInterrupt):
    """A signal ended what `Stop.at_once` was around."""


class Stop(list[int]):
    """The signals that asked the run to end: empty until the first."""

    hurried = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within it a signal does not wait: it raises Interrupted. For work that is thrown away when cut short."""
        self.hurried = True
        try:
            yield
        finally:
            self.hurried = False


def evaluate_run(
    parts: Parts, log: RunLog, out: Reporter, progress: Progress, stop: Stop | None = None
) -> dict[str, Any] | None:
    """Evaluates, writes it down, says it; returns the summary. None where a signal came before or during it.

    A step that was evaluated already is not evaluated again.
    """
    stop = Stop() if stop is None else stop
    if stop:
        return None
    if progress.latest is not None and progress.evaluated == progress.step:
        return dict(progress.latest)
    try:
        with stop.at_once():
            result = evaluate(parts, out=out, state=state_of(parts, progress))
    except Interrupted:
        return None
    if not progress.step:
        parts.verifier.require((v for row in result.verdicts for v in row), "the evaluation at step 0")
    summary = dict(result.summary())
    progress.evaluated, progress.latest = progress.step, summary
    better = result.pass_at_1.value > progress.best
    progress.best, progress.worse = (
        (result.pass_at_1.value, 0) if better else (progress.best, progress.worse + 1)
    )
    log.metrics({"step": progress.step, "tokens/total": progress.tokens} | summary)
    of_k = f"pass@{result.k} {result.pass_at_k}  " if result.k > 1 else ""
    out.say(
        f"step {progress.step:>4}  held-out pass@1 {result.pass_at_1}  {of_k}"
        f"greedy {result.greedy}  ({result.problems} problems{result.left_out})"
    )
    out.evaluated(result.seconds)
    return summary


def state_of(parts: Parts, progress: Progress) -> TrainerState:
    """The trainer's state as reward functions may ask for it."""
    recipe = parts.recipe
    size = min(recipe.sampling.problems, len(parts.train_problems))
    return TrainerState(progress.step, recipe.steps, progress.step * size / len(parts.train_problems))


def accuracy(summary: Mapping[str, Any] | None) -> float | None:
    """The held-out pass@1 of an evaluation, if there was one."""
    return None if summary is None else float(summary["eval/pass@1"])


def due(every: int, step: int, last: int) -> bool:
    """True if something done every so many steps is due; False at the last step, where the end of the run does it."""
    return bool(every) and step % every == 0 and step != last


def finished(recipe: Recipe, progress: Progress) -> bool:
    """True if the run has made its steps, spent its budget of generated tokens (by at most one step too many), or
    lost its patience."""
    spent = recipe.budget is not None and progress.tokens >= recipe.budget
    return progress.step >= recipe.steps or spent or impatient(recipe, progress)


def impatient(recipe: Recipe, progress: Progress) -> bool:
    """True if `eval.patience` evaluations in a row were no better than the best before them."""
    return bool(recipe.eval.patience) and progress.worse >= recipe.eval.patience


def expected_steps(recipe: Recipe, progress: Progress) -> int:
    """The number of steps the run will make; where a budget decides, as if steps went on costing what they cost."""
    if recipe.budget is None or not progress.tokens:
        return recipe.steps
    needed = math.ceil(progress.step * recipe.budget / progress.tokens)
    return min(recipe.steps, max(progress.step, needed))


def expected_evaluations(recipe: Recipe, progress: Progress) -> int:
    """The number of evaluations that are still to come, the last one included."""
    last = expected_steps(recipe, progress)
    by_tokens = progress.tokens / progress.step if progress.step else 0.0
    return 1 + evaluations_between(recipe, progress.step, last, by_tokens)


def share_done(recipe: Recipe, progress: Progress) -> float:
    """The share of the run that is over, by steps or by tokens, whichever is further."""
    by_tokens = progress.tokens / recipe.budget if recipe.budget else 0.0
    return max(progress.step / recipe.steps, by_tokens)


def evaluation_due(recipe: Recipe, progress: Progress) -> bool:
    """True if the last step asks for an evaluation that has not been made. A run's end evaluates anyway.

    By tokens: whenever a multiple of `eval.every_tokens` was reached or passed.
    """
    if finished(recipe, progress) or progress.evaluated == progress.step:
        return False
    spacing = recipe.eval.every_tokens
    passed = bool(spacing) and progress.tokens // spacing > progress.tokens_before // spacing
    return passed or due(recipe.eval.every, progress.step, recipe.steps)


@contextmanager
def interruptible(out: Reporter) -> Iterator[Stop]:
    """Is filled by the first Ctrl-C, SIGTERM or SIGHUP; a second one ends the process at once, as usual.

    A SIGHUP that is ignored already (nohup) stays so.
    """
    stop = Stop()
    ways: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        ways[hangup] = signal.SIG_DFL

    def handle(number: int, frame: object) -> None:
        del frame
        stop.append(number)
        for kind, usual in ways.items():
            signal.signal(kind, usual)
        first = "" if stop.hurried else "finishing this step, then "
        out.say(f"interrupted: {first}writing a checkpoint (once more stops at once)")
        if stop.hurried:
            raise Interrupted

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
