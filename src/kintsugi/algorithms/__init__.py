"""Algorithms by name. A new one is one file and its line here."""

from __future__ import annotations

from kintsugi.algorithms import iop
from kintsugi.algorithms.base import Algorithm, Family, plain
from kintsugi.algorithms.grpo import GRPO
from kintsugi.algorithms.gspo import GSPO
from kintsugi.config import Spec, parse_section, split_spec
from kintsugi.loading import is_file_spec, load_object
from kintsugi.records import KintsugiError
from kintsugi.tasks.base import did_you_mean

ALGORITHMS: dict[str, Family] = {
    "grpo": plain(GRPO),
    "gspo": plain(GSPO),
    "iop": Family(iop.Options, iop.iop),
}


def load_algorithm(spec: Spec) -> Algorithm:
    """The algorithm that `iop`, `{name: iop, k: 1}` or `my_algorithm.py:MINE` names.

    KintsugiError for an unknown name or option, and for a file that holds no algorithm there.
    """
    name, arguments = split_spec(spec, "algorithm")
    family = own_family(name) if is_file_spec(name) else ALGORITHMS.get(name)
    if family is None:
        raise KintsugiError(
            f"algorithm: unknown {name!r}; {did_you_mean(name, ALGORITHMS)} There are {', '.join(ALGORITHMS)}, "
            "and my_algorithm.py:MINE"
        )
    return family.build(parse_section(family.options, arguments, f"algorithm {name}"))


def own_family(name: str) -> Family:
    """The Algorithm or Family that a file of the user's own defines."""
    found = load_object(name, "algorithm")
    if isinstance(found, Family):
        return found
    if isinstance(found, Algorithm):
        return plain(found)
    raise KintsugiError(
        f"algorithm {name!r}: expected an Algorithm or a Family, found {type(found).__name__}"
    )


__all__ = ["ALGORITHMS", "Algorithm", "Family", "load_algorithm", "plain"]
