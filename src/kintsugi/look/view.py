"""The last steps of a run, as the rules of `kintsugi diagnose` read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kintsugi.look.commands import Commands
from kintsugi.run.reading import Run
from kintsugi.run.tables import Record

RECENT = 20
"""Steps that are looked at, from the end."""


@dataclass(frozen=True, slots=True)
class View:
    """The last steps of a run, all of it, and the commands that go on from it."""

    commands: Commands
    run: Run

    @property
    def steps(self) -> Sequence[Record]:
        return self.run.steps

    @property
    def recent(self) -> Sequence[Record]:
        return self.run.steps[-RECENT:]

    @property
    def span(self) -> str:
        first, last = self.recent[0]["step"], self.recent[-1]["step"]
        return f"steps {first} to {last}"

    def mean(self, key: str, lines: Sequence[Record] | None = None) -> float | None:
        """The mean of what could be measured; None where nothing could."""
        values = [
            line[key] for line in (self.recent if lines is None else lines) if line.get(key) is not None
        ]
        return sum(values) / len(values) if values else None

    def total(self, key: str, lines: Sequence[Record] | None = None) -> float:
        return sum(line.get(key) or 0 for line in (self.recent if lines is None else lines))

    def share(self, key: str, *wholes: str) -> float:
        """The total of `key` as a share of the wholes' totals; 0 where there was nothing."""
        whole = sum(self.total(w) for w in wholes)
        return self.total(key) / whole if whole else 0.0

    @property
    def rollouts(self) -> float:
        """The number of rollouts that the recent steps made."""
        made = (s["tokens/rollout"] / s["length/rollout"] for s in self.recent if s.get("length/rollout"))
        return float(sum(made))

    @property
    def first(self) -> Sequence[Record]:
        """As many of the first steps as make a fair start to compare with."""
        return self.steps[: max(3, min(10, len(self.steps) // 4))]

    def setting(self, dotted: str) -> Any:
        """A recipe key's value; None where the recipe does not say."""
        value: Any = self.run.recipe
        for part in dotted.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def example(self, state: str) -> str:
        """The verifier's words on a late rollout in this state."""
        said = self.run.said(state, [s["step"] for s in self.recent if s.get(f"verdict/{state}")])
        return f"; {said}" if said else ""
