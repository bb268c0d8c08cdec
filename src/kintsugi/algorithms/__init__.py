"""Algorithms by name. A new one is one file and its line here."""

from __future__ import annotations

from kintsugi.algorithms.base import Algorithm
from kintsugi.algorithms.grpo import GRPO
from kintsugi.algorithms.gspo import GSPO
from kintsugi.algorithms.iop import IOP
from kintsugi.records import KintsugiError
from kintsugi.tasks.base import did_you_mean

ALGORITHMS = {algorithm.name: algorithm for algorithm in (GRPO, GSPO, IOP)}


def load_algorithm(name: str) -> Algorithm:
    """The algorithm called `name`; KintsugiError names the nearest one there is."""
    if name not in ALGORITHMS:
        raise KintsugiError(
            f"algorithm: unknown {name!r}; {did_you_mean(name, ALGORITHMS)} There are {', '.join(ALGORITHMS)}"
        )
    return ALGORITHMS[name]


__all__ = ["ALGORITHMS", "Algorithm", "load_algorithm"]
