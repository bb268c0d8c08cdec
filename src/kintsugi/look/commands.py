"""Commands that go on from a run, ready to be pasted: `kintsugi diagnose` tells them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from kintsugi.algorithms import ALGORITHMS
from kintsugi.files import numbered
from kintsugi.names import NAMES
from kintsugi.plugins import arguments_of, spec_name

COLD_STEPS = 50
"""Steps of a cold start: those of recipes/smollm2 have 30 to 120."""


@dataclass(frozen=True, slots=True)
class Commands:
    """The commands of one run: its directory, its recipe, and what made it (train, sft, or "TRL" and its version)."""

    run: Path
    recipe: Mapping[str, Any]
    made_by: str

    def again(self, *changes: str, before: int | None = None) -> str:
        """The run once more with `key=value` changes, from its last checkpoint before a step where one is given.

        Of another trainer's run, the changes by that trainer's names.
        """
        other = self.made_by.partition(" ")[0]
        if other in NAMES:
            return " ".join(theirs(other, change) for change in changes)
        saved = [p for step, p in numbered(self.run / "checkpoints").items() if before and step < before]
        model = [f"model={saved[-1]}"] if saved else []
        command = "sft" if self.made_by == "sft" else "train"
        return self.line(command, *model, *changes, f"output_dir={self.free()}")

    def cold_start(self) -> str:
        """A cold start of the run's model on its own verified samples, then the run on what came of it."""
        if self.made_by.partition(" ")[0] in NAMES:
            return ""
        place = self.free("cold")
        settings = [f"steps={COLD_STEPS}", "budget=null", f"save_every={COLD_STEPS}", "eval.patience=0"]
        model = f"model={place}/checkpoints/step-{COLD_STEPS:06d}"
        first = self.line("sft", *settings, f"output_dir={place}")
        return f"{first} && {self.line('train', model, f'output_dir={self.free()}')}"

    def better_repairs(self) -> tuple[str, str]:
        """(what to do, the command) where the model's own rewrites are no good."""
        if "source" in self.options and self.option("source") != "sibling":
            told = "take repairs from passing siblings alone; a cold start teaches rewriting"
            return told, self.again("algorithm.source=sibling")
        return "teach repairing by a cold start", self.cold_start()

    def wider_gates(self) -> tuple[str, str]:
        """(what to do, the command) where seams are found and no token of them is trained on."""
        if "check" in self.options and self.option("check") != "none":
            return "keep the first edits untried", self.again("algorithm.check=none")
        return "look where the seams are", self.look("show")

    def line(self, command: str, *changes: str) -> str:
        return shlex.join(["kintsugi", command, str(self.run / "recipe.yaml"), *changes])

    def look(self, command: str, *options: str) -> str:
        return shlex.join(["kintsugi", command, str(self.run), *options])

    def free(self, name: str = "") -> Path:
        """A place beside the run where nothing is: RUN-2, or RUN-cold."""
        numbers = chain([""], count(2)) if name else count(2)
        places = (self.run.with_name(f"{self.run.name}-{name}{n}") for n in numbers)
        return next(place for place in places if not place.exists())

    @property
    def options(self) -> frozenset[str]:
        """The options that the run's algorithm has; of one of the user's own none are known."""
        name = spec_name(self.recipe.get("algorithm"))
        found = ALGORITHMS.find(name) if name in ALGORITHMS.built_in else None
        return frozenset(arguments_of(found)[0]) if callable(found) else frozenset()

    def option(self, name: str) -> Any:
        """An option's value in the recipe; None where it says nothing."""
        spec = self.recipe.get("algorithm")
        return spec.get(name) if isinstance(spec, Mapping) else None


def theirs(trainer: str, change: str) -> str:
    """A change by another trainer's name, where that has one that means the same."""
    key, _, value = change.partition("=")
    same = [name.theirs for name in NAMES[trainer] if name.ours == key and not name.note]
    return f"{same[0] if same else key}={value}"
