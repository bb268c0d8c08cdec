"""Algorithms by name. A new one is one file and its line here."""

from __future__ import annotations

from kintsugi.algorithms import iop
from kintsugi.algorithms.base import Algorithm, Family, plain
from kintsugi.algorithms.grpo import GRPO
from kintsugi.algorithms.gspo import GSPO
from kintsugi.config import Spec, parse_section, split_spec
from kintsugi.records import KintsugiError
from kintsugi.tasks.base import did_you_mean

ALGORITHMS: dict[str, Family] = {
    "grpo": plain(GRPO),
    "gspo": plain(GSPO),
    "iop": Family(iop.Options, iop.iop),
}


def load_algorithm(spec: Spec) -> Algorithm:
    """The algorithm that `iop` or `{name: iop, k: 1}` names; KintsugiError for an unknown name or option."""
    name, arguments = split_spec(spec, "algorithm")
    if name not in ALGORITHMS:
        raise KintsugiError(
            f"algorithm: unknown {name!r}; {did_you_mean(name, ALGORITHMS)} There are {', '.join(ALGORITHMS)}"
        )
    family = ALGORITHMS[name]
    return family.build(parse_section(family.options, arguments, f"algorithm {name}"))


__all__ = ["ALGORITHMS", "Algorithm", "Family", "load_algorithm", "plain"]
