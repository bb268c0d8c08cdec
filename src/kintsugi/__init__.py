"""Kintsugi: reinforcement learning that mends failed solutions and learns from the seams.

    from kintsugi import Recipe, train
    result = train(Recipe.load("recipes/quickstart.yaml"))

Importing the package loads no torch; the names below are fetched when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kintsugi.assembly import assemble as assemble
    from kintsugi.coldstart import sft as sft
    from kintsugi.config import Recipe as Recipe
    from kintsugi.mender import mend as mend
    from kintsugi.notebook import evaluate as evaluate
    from kintsugi.notebook import report as report
    from kintsugi.notebook import show as show
    from kintsugi.notebook import train as train
    from kintsugi.records import Episode as Episode
    from kintsugi.records import KintsugiError as KintsugiError
    from kintsugi.records import Problem as Problem
    from kintsugi.records import Row as Row
    from kintsugi.records import Verdict as Verdict
    from kintsugi.run.harvest import harvest as harvest

__version__ = "0.1.0"

_HOMES = {
    "Recipe": "config",
    "Problem": "records",
    "Verdict": "records",
    "Episode": "records",
    "Row": "records",
    "KintsugiError": "records",
    "assemble": "assembly",
    "train": "notebook",
    "sft": "coldstart",
    "evaluate": "notebook",
    "mend": "mender",
    "harvest": "run.harvest",
    "report": "notebook",
    "show": "notebook",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kintsugi' has no attribute {name!r}")
    return getattr(import_module(f"kintsugi.{_HOMES[name]}"), name)
