"""Algorithms by name. A new one is one file and its line here."""

from __future__ import annotations

from kintsugi.algorithms.base import Algorithm
from kintsugi.plugins import Door, Spec, spec_name
from kintsugi.records import KintsugiError

ALGORITHMS = Door(
    "algorithm",
    {
        "kintsugi": "kintsugi.algorithms.kintsugi:kintsugi",
        "iop": "kintsugi.algorithms.iop:iop",
        "grpo": "kintsugi.algorithms.outcome:GRPO",
        "gspo": "kintsugi.algorithms.outcome:GSPO",
        "dr_grpo": "kintsugi.algorithms.outcome:DR_GRPO",
        "dapo": "kintsugi.algorithms.dapo:dapo",
        "rloo": "kintsugi.algorithms.outcome:RLOO",
        "raft": "kintsugi.algorithms.outcome:RAFT",
        "extra_rollouts": "kintsugi.algorithms.extra_rollouts:extra_rollouts",
        "vineppo": "kintsugi.algorithms.vineppo:vineppo",
        "resets": "kintsugi.algorithms.resets:resets",
        "mgrpo": "kintsugi.algorithms.mgrpo:mgrpo",
        "sdpo": "kintsugi.algorithms.sdpo:SDPO",
    },
    own="my_algorithm.py:MINE",
)
"""Module and name of each: an Algorithm, or a function that makes one, whose arguments are the recipe's options."""


def load_algorithm(spec: Spec) -> Algorithm:
    """The algorithm that `iop`, `{name: iop, k: 1}` or `my_algorithm.py:MINE` names.

    KintsugiError for an unknown name or option, and for a file that holds no algorithm there.
    """
    found = ALGORITHMS.make(spec)
    if not isinstance(found, Algorithm):
        raise KintsugiError(
            f"algorithm {spec_name(spec)!r}: expected an Algorithm, or a function that makes one, "
            f"found {type(found).__name__}"
        )
    return found


__all__ = ["ALGORITHMS", "Algorithm", "load_algorithm"]
