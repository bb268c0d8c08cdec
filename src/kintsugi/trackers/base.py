"""A tracker has three methods. One of your own is named in a recipe as `trackers: [my_file.py:MyTracker]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Beginning:
    """The facts that a tracker is told when a run begins.

    `recipe` is resolved and plain (as JSON would have it); `step` is 0, or the checkpoint's where a run is resumed;
    `id` is what `start` returned when this run began, None where it is new.
    """

    directory: Path
    recipe: Mapping[str, Any]
    step: int
    id: str | None


class Tracker(Protocol):
    """Shows a run's numbers elsewhere. An exception costs the tracker, never the run."""

    def start(self, beginning: Beginning) -> str | None:
        """Begins, or goes on with, the run; returns what it is called there, so that a resumed run finds it again."""
        ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Finite numbers of one step by name (`eval/pass@1`); a step that was evaluated comes twice."""
        ...

    def finish(self) -> None:
        """Everything is logged: flush and close."""
        ...


def flat(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value of a resolved recipe, for trackers that know no nesting."""
    found: dict[str, Any] = {}
    for key, value in recipe.items():
        inner = flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
        found |= inner
    return found
