"""Verifiers: completion texts and their problem in, one four-state verdict per text out.

verifier = load_verifier({"name": "math", "timeout": 5})
verdicts = verifier(problem, texts)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from math import isfinite
from typing import Any

from kintsugi.plugins import Door, Spec, is_file_spec, spec_name, split_spec
from kintsugi.records import KintsugiError, Problem
from kintsugi.verifiers.base import UNKNOWN, Verifier
from kintsugi.verifiers.code import CodeVerifier
from kintsugi.verifiers.exact import ExactVerifier
from kintsugi.verifiers.guard import Guarded
from kintsugi.verifiers.gym import GymVerifier
from kintsugi.verifiers.math import MathVerifier
from kintsugi.verifiers.taskset import TasksetVerifier
from kintsugi.verifiers.user import ApartVerifier, Reward, UserVerifier
from kintsugi.verifiers.weighted import Weighted, decides, distinct_names

__all__ = ["VERIFIERS", "Verifier", "begun_in_thoughts", "check_columns", "load_verifier"]

VERIFIERS = Door(
    "verifier",
    {
        "exact": ExactVerifier,
        "math": MathVerifier,
        "gym": GymVerifier,
        "code": CodeVerifier,
        "verifiers": TasksetVerifier,
    },
    own="my_file.py:function",
)
GO_ON = {"stop": False, "continue": True}


def load_verifier(spec: Spec | Verifier | Reward | Sequence[Any]) -> Verifier:
    """The verifier that a spec names: `exact`, `math`, `gym`, `code` or `my_file.py:function`, or a mapping with
    `name` and the verifier's arguments. Of a list, whose mappings may have a `weight`, the first decides, or the one
    named `outcome`. In Python a reward function, or what takes `problem` and `texts`, may stand for its name: it judges
    in this process, where nothing limits its time and memory.

    It never raises: what goes wrong in it is an `error` verdict, one verdict per text in any case.
    KintsugiError for an unknown name or argument.
    """
    if isinstance(spec, list | tuple):
        return weighted(spec)
    name, arguments = split_spec(spec, "verifier")
    arguments.pop("on_error", None)
    if not isinstance(name, str):
        return Guarded(given(name, arguments))
    return Guarded(
        ApartVerifier(name, arguments) if is_file_spec(name) else VERIFIERS.make({"name": name, **arguments})
    )


def weighted(specs: Sequence[Spec]) -> Weighted:
    """The verifiers of a list, by the names of functions."""
    for pair in (specs, *specs):
        if isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[1], int | float):
            called = getattr(pair[0], "__name__", repr(pair[0]))
            say = f'{{"name": {called}, "weight": {pair[1]}}}'
            raise KintsugiError(f"verifier: expected a mapping for {called} with its weight; say {say}")
    split = [split_spec(spec, "verifier") for spec in specs]
    weights = [arguments.pop("weight", 1.0) for _, arguments in split]
    called = [spec_name(spec) for spec in specs]
    for name, weight in zip(called, weights, strict=True):
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not isfinite(weight):
            raise KintsugiError(f"verifier {name}: weight: expected a number, got {weight!r}")
    names = distinct_names(name.rpartition(":")[2] for name in called)
    verifiers = [load_verifier({"name": name, **arguments}) for name, arguments in split]
    return Weighted(
        dict(zip(names, verifiers, strict=True)), dict(zip(names, weights, strict=True)), decides(names)
    )


def goes_on(spec: Spec | Sequence[Spec]) -> bool:
    """True if a spec says `on_error: continue`: a run goes on where verdicts are nothing but errors."""
    specs = spec if isinstance(spec, list | tuple) else [spec]
    said = [one.get("on_error", "stop") for one in specs if isinstance(one, dict)]
    for word in said:
        if word not in GO_ON:
            raise KintsugiError(f"verifier: on_error: expected stop or continue, got {word!r}")
    return any(GO_ON[word] for word in said)


def given(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Verifier:
    """The verifier that is, or is made of, a function given in Python."""
    with suppress(TypeError, ValueError):
        named = list(inspect.signature(function).parameters)
        if named[:2] == ["problem", "texts"]:
            return (
                function
                if "sampled" in named
                else lambda problem, texts, sampled=UNKNOWN: function(problem, texts)
            )
    own = dict(arguments)
    return UserVerifier(function, spec_name(function), own, own.pop("messages", False))


def begun_in_thoughts(verifier: Verifier) -> Verifier:
    """`verifier` for completions whose prompt ends with an opening mark of thinking: without a closing one they have
    not begun to answer. A user's function gets its texts as they are, all the same.
    """
    if isinstance(verifier, Weighted):
        return verifier.each(begun_in_thoughts)
    if function_of(verifier):
        return verifier
    return lambda problem, texts, sampled=UNKNOWN: verifier(
        problem, [f"<think>{text}" for text in texts], sampled
    )


def check_columns(verifier: Verifier, problems: Iterable[Problem]) -> None:
    """KintsugiError for a function of the user's that requires a parameter that nothing fills on these problems."""
    columns = {"answer", *(name for problem in problems for name in problem.columns)}
    for one in verifier.verifiers.values() if isinstance(verifier, Weighted) else [verifier]:
        if function := function_of(one):
            function.check(columns)


def function_of(verifier: Verifier) -> UserVerifier | None:
    """The user's function in a verifier, None in one that is built in."""
    inner = verifier.verifier if isinstance(verifier, Guarded) else verifier
    inner = inner.user if isinstance(inner, ApartVerifier) else inner
    return inner if isinstance(inner, UserVerifier) else None
