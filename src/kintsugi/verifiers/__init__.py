"""Verifiers: completion texts and their problem in, one four-state verdict per text out.

verifier = load_verifier({"name": "math", "timeout": 5})
verdicts = verifier(problem, texts)
"""

from __future__ import annotations

from kintsugi.plugins import Door, Spec, is_file_spec, split_spec
from kintsugi.verifiers.base import Verifier
from kintsugi.verifiers.code import CodeVerifier
from kintsugi.verifiers.exact import ExactVerifier
from kintsugi.verifiers.guard import Guarded
from kintsugi.verifiers.gym import GymVerifier
from kintsugi.verifiers.math import MathVerifier
from kintsugi.verifiers.user import ApartVerifier, UserVerifier

__all__ = ["VERIFIERS", "Verifier", "begun_in_thoughts", "load_verifier"]

VERIFIERS = Door(
    "verifier",
    {"exact": ExactVerifier, "math": MathVerifier, "gym": GymVerifier, "code": CodeVerifier},
    own="my_file.py:function",
)


def load_verifier(spec: Spec) -> Verifier:
    """The verifier that a spec names: `exact`, `math`, `gym`, `code` or `my_file.py:function`, or a mapping with
    `name` and the verifier's arguments.

    It never raises: what goes wrong in it is an `error` verdict, one verdict per text in any case.
    KintsugiError for an unknown name or argument.
    """
    name, arguments = split_spec(spec, "verifier")
    return Guarded(ApartVerifier(name, arguments) if is_file_spec(name) else VERIFIERS.make(spec))


def begun_in_thoughts(verifier: Verifier) -> Verifier:
    """`verifier` for completions whose prompt ends with an opening mark of thinking: without a closing one they have
    not begun to answer. A user's function gets its texts as they are, all the same.
    """
    inner = verifier.verifier if isinstance(verifier, Guarded) else verifier
    if isinstance(inner, ApartVerifier | UserVerifier):
        return verifier
    return lambda problem, texts: verifier(problem, [f"<think>{text}" for text in texts])
