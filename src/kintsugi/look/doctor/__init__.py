"""`kintsugi doctor RECIPE`: what can go wrong with a recipe, before anything is spent on it.

1. `probes.py` asks the verifier about answers whose verdict is known: no model is needed.
2. `trial.py` makes the first training step as the run would, looks at it, and throws it away.

Each check says what it saw and, where that is not well, what to change.
"""

from __future__ import annotations

from collections.abc import Iterator

from kintsugi.config import Recipe
from kintsugi.look.doctor.check import CheckUp
from kintsugi.look.doctor.probes import probe
from kintsugi.run.console import Reporter
from kintsugi.tasks import load_task, training_problems
from kintsugi.trackers import load_trackers
from kintsugi.verifiers import check_columns, load_verifier

__all__ = ["CheckUp", "examine"]


def examine(recipe: Recipe, out: Reporter | None = None) -> Iterator[CheckUp]:
    """The checks, one by one as they are made; `out` says what takes long. KintsugiError where the recipe cannot be
    loaded at all."""
    load_trackers(recipe.trackers)
    task = load_task(recipe.task, judged=recipe.verifier is not None)
    verifier, problems = load_verifier(recipe.verifier or task.verifier), training_problems(task)
    check_columns(verifier, problems)
    yield from probe(verifier, problems)
    from kintsugi.look.doctor.trial import attempt, step_checks  # loads torch

    yield from step_checks(attempt(recipe, out or Reporter()))
