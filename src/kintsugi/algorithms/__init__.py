"""Algorithms by name. A new one is one file and its line here."""

from __future__ import annotations

from kintsugi.algorithms import dapo, extra_rollouts, iop, kintsugi, mgrpo, resets, vineppo
from kintsugi.algorithms.base import Algorithm
from kintsugi.algorithms.outcome import DR_GRPO, GRPO, GSPO, RAFT, RLOO
from kintsugi.algorithms.sdpo import SDPO
from kintsugi.plugins import Door, Spec, spec_name
from kintsugi.records import KintsugiError

ALGORITHMS = Door(
    "algorithm",
    {
        "kintsugi": kintsugi.kintsugi,
        "iop": iop.iop,
        "grpo": GRPO,
        "gspo": GSPO,
        "dr_grpo": DR_GRPO,
        "dapo": dapo.dapo,
        "rloo": RLOO,
        "raft": RAFT,
        "extra_rollouts": extra_rollouts.extra_rollouts,
        "vineppo": vineppo.vineppo,
        "resets": resets.resets,
        "mgrpo": mgrpo.mgrpo,
        "sdpo": SDPO,
    },
    own="my_algorithm.py:MINE",
)
"""Each an Algorithm, or a function that makes one: its arguments are the recipe's options."""


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
