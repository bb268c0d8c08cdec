"""The parts of the command line that Python has, too: train, evaluate, report, show. They display themselves in a
notebook.

result = train("recipes/quickstart.yaml", on_step=lambda step: step.metrics["accuracy"] > 0.9)
report(result)
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from kintsugi import trainer
from kintsugi.config import Recipe
from kintsugi.look.report import write_report
from kintsugi.look.show import Selection
from kintsugi.look.show import show as show_on
from kintsugi.run.console import Reporter
from kintsugi.run.evaluation import EvalResult
from kintsugi.run.measuring import evaluated
from kintsugi.run.reading import Run
from kintsugi.run.session import TrainResult
from kintsugi.tasks import Rows, as_task
from kintsugi.tasks.base import Task
from kintsugi.verifiers.base import Verifier
from kintsugi.verifiers.user import Reward

INLINE = 24 * 2**20
"""Bytes of a report that a notebook holds; browsers refuse longer addresses (Firefox from 32 MiB)."""

How = ParamSpec("How")


def reported_at(run: Path) -> str:
    """Writes the run's report and returns where it is; what goes wrong with it is no failure of the run."""
    try:
        return f"report: {write_report(run)}"
    except Exception as error:
        return f"no report: {error}"


def reporting(made: Callable[How, TrainResult]) -> Callable[How, TrainResult]:
    """`made`, with the report of its run written at the end, if no signal ended it, and its path said."""

    @wraps(made)
    def made_and_reported(*told: How.args, **how: How.kwargs) -> TrainResult:
        result = made(*told, **how)
        if not result.interrupted:
            out = how.get("reporter")
            (out if isinstance(out, Reporter) else Reporter()).say(reported_at(result.directory))
        return result

    return made_and_reported


train = reporting(trainer.train)


def evaluate(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    *,
    model: str | Path | None = None,
    task: Task | Rows | None = None,
    verifier: Verifier | Reward | Sequence[Any] | None = None,
) -> EvalResult:
    """The recipe's model (or `model`) on its held-out problems: pass@1, pass@k, maj@k and greedy, with their intervals.

    task, verifier: objects in place of those that the recipe names. KintsugiError for what a user can mend.
    """
    named = None if model is None else str(model)
    return evaluated(Recipe.of(recipe, model=named, task=as_task(task), verifier=verifier), Reporter())[1]


@dataclass(frozen=True, slots=True)
class Report:
    """A report that was written to `path`; a notebook shows the page itself."""

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        page = self.path.read_bytes()
        if len(page) > INLINE:
            return f"The report is too large for a notebook: open {self.path} in a browser."
        # An address of its own and no rights: a frame with `srcdoc` would take the page's own links for the notebook's.
        data = base64.b64encode(page).decode("ascii")
        return (
            '<iframe sandbox="allow-scripts" style="width: 100%; height: 54rem; border: 0" '
            f'title="Kintsugi report" src="data:text/html;charset=utf-8;base64,{data}"></iframe>'
        )


def report(run: str | os.PathLike[str], output: str | Path | None = None) -> Report:
    """Writes the report of a run (its directory, or what `train` returned), as `kintsugi report` does."""
    return Report(write_report(os.fspath(run), output, print))


def show(
    run: str | os.PathLike[str],
    *,
    step: int | None = None,
    problem: str | None = None,
    every: bool = False,
    limit: int = 5,
    anchor: bool = False,
) -> None:
    """Prints failures of a run beside their repairs, as `kintsugi show` does: of the last step, or of `step`.

    problem: part of a problem's id. every: failures without an accepted repair, too. limit: failures at most, 0 for
    all. anchor: the anchors, too.
    """
    from rich.console import Console

    show_on(
        Run.open(os.fspath(run)), Selection(step, problem, every, limit, anchor), Console(highlight=False)
    )
