"""Several verifiers as one: one of them decides, and all are weighed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kintsugi.records import Part, Problem, Verdict
from kintsugi.verifiers.base import UNKNOWN, Sampled, Verifier


@dataclass(frozen=True, slots=True)
class Weighted:
    """Verifiers by name with their weights. `outcome` names the one that decides pass and fail, and thereby what is
    repaired; group advantages compare the weighted sum of all."""

    verifiers: Mapping[str, Verifier]
    weights: Mapping[str, float]
    outcome: str

    def __call__(self, problem: Problem, texts: Sequence[str], sampled: Sampled = UNKNOWN) -> list[Verdict]:
        columns = [verifier(problem, texts, sampled) for verifier in self.verifiers.values()]
        rows = zip(*columns, strict=True)
        return [
            combined(dict(zip(self.verifiers, row, strict=True)), self.weights, self.outcome) for row in rows
        ]

    def each(self, change: Callable[[Verifier], Verifier]) -> Weighted:
        """The same with every verifier changed."""
        return replace(self, verifiers={name: change(v) for name, v in self.verifiers.items()})


def combined(verdicts: Mapping[str, Verdict], weights: Mapping[str, float], outcome: str) -> Verdict:
    """The verdict of `outcome` with the rewards of all as parts. One that gives none (unscorable) adds nothing, as in
    TRL; where one breaks down, the sum is unknown: an `error`."""
    broken = next((verdict for verdict in verdicts.values() if verdict.broken), None)
    parts = (Part(n, v.total, weights[n]) for n, v in verdicts.items() if v.state != "unscorable")
    logged = {name: value for verdict in verdicts.values() for name, value in verdict.logged.items()}
    return broken or replace(verdicts[outcome], parts=tuple(parts), logged=logged)


def distinct_names(names: Iterable[str]) -> list[str]:
    """The names, with its number for one that came before."""
    found: list[str] = []
    for name in names:
        found.append(f"{name}_{len(found) + 1}" if name in found else name)
    return found


def decides(names: Sequence[str]) -> str:
    """The name of the verifier that decides unless it is said: `outcome`, else the first."""
    return "outcome" if "outcome" in names else names[0]
