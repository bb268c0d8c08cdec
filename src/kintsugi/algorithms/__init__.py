"""Algorithms by name. A new one is one file and its line here."""

from __future__ import annotations

from kintsugi.algorithms import dapo, extra_rollouts, iop, kintsugi, mgrpo, resets, vineppo
from kintsugi.algorithms.base import Algorithm, Family, plain
from kintsugi.algorithms.outcome import DR_GRPO, GRPO, GSPO, RAFT, RLOO
from kintsugi.algorithms.sdpo import SDPO
from kintsugi.config import Spec, parse_section, split_spec
from kintsugi.loading import is_file_spec, load_object
from kintsugi.records import KintsugiError
from kintsugi.tasks.base import did_you_mean

ALGORITHMS: dict[str, Family] = {
    "kintsugi": Family(kintsugi.Options, kintsugi.kintsugi),
    "iop": Family(iop.Options, iop.iop),
    "grpo": plain(GRPO),
    "gspo": plain(GSPO),
    "dr_grpo": plain(DR_GRPO),
    "dapo": Family(dapo.Options, dapo.dapo),
    "rloo": plain(RLOO),
    "raft": plain(RAFT),
    "extra_rollouts": Family(extra_rollouts.Options, extra_rollouts.extra_rollouts),
    "vineppo": Family(vineppo.Options, vineppo.vineppo),
    "resets": Family(resets.Options, resets.resets),
    "mgrpo": Family(mgrpo.Options, mgrpo.mgrpo),
    "sdpo": plain(SDPO),
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
