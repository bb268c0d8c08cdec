"""Verifiers: completion texts and their problem in, one four-state verdict per text out.

verifier = load_verifier({"name": "math", "timeout": 5})
verdicts = verifier(problem, texts)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from rapidfuzz import fuzz, process

from kintsugi.config import Spec, split_spec
from kintsugi.loading import is_file_spec
from kintsugi.records import KintsugiError
from kintsugi.verifiers.base import Verifier
from kintsugi.verifiers.code import CodeVerifier
from kintsugi.verifiers.exact import ExactVerifier
from kintsugi.verifiers.guard import Guarded
from kintsugi.verifiers.gym import GymVerifier
from kintsugi.verifiers.math import MathVerifier
from kintsugi.verifiers.user import ApartVerifier, UserVerifier

__all__ = ["VERIFIERS", "Verifier", "begun_in_thoughts", "load_verifier"]

VERIFIERS: Mapping[str, Callable[..., Verifier]] = {
    "exact": ExactVerifier,
    "math": MathVerifier,
    "gym": GymVerifier,
    "code": CodeVerifier,
}


def load_verifier(spec: Spec) -> Verifier:
    """The verifier that a spec names: `exact`, `math`, `gym`, `code` or `my_file.py:function`, or a mapping with
    `name` and the verifier's arguments.

    It never raises: what goes wrong in it is an `error` verdict, one verdict per text in any case.
    KintsugiError for an unknown name or argument.
    """
    name, arguments = split_spec(spec, "verifier")
    if is_file_spec(name):
        return Guarded(ApartVerifier(name, arguments))
    if name not in VERIFIERS:
        nearest = process.extractOne(name, list(VERIFIERS), scorer=fuzz.WRatio, score_cutoff=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise KintsugiError(
            f"unknown verifier {name!r}; {hint}expected {', '.join(VERIFIERS)} or my_file.py:function"
        )
    return Guarded(build(name, VERIFIERS[name], arguments))


def begun_in_thoughts(verifier: Verifier) -> Verifier:
    """`verifier` for completions whose prompt ends with an opening mark of thinking: without a closing one they have
    not begun to answer. A user's function gets its texts as they are, all the same.
    """
    inner = verifier.verifier if isinstance(verifier, Guarded) else verifier
    if isinstance(inner, ApartVerifier | UserVerifier):
        return verifier
    return lambda problem, texts: verifier(problem, [f"<think>{text}" for text in texts])


def build(name: str, factory: Callable[..., Verifier], arguments: Mapping[str, Any]) -> Verifier:
    """A built-in verifier with its arguments; KintsugiError says which it does not take."""
    accepted = list(inspect.signature(factory).parameters)
    for key in arguments:
        if key not in accepted:
            takes = f"it takes {', '.join(accepted)}" if accepted else "it takes none"
            raise KintsugiError(f"verifier {name!r}: unknown argument {key!r}; {takes}")
    return factory(**arguments)
