"""A task is two sets of problems, disjoint by text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from kintsugi.records import KintsugiError, Problem, Turn

PATIENCE = 500
"""Problems in a row that bring nothing new before a stream counts as used up."""


@runtime_checkable
class Task(Protocol):
    """Problems to train on and problems to be judged on.

    `verifier` is the spec used when the recipe names none (see kintsugi.verifiers). A task of your own
    is a class with these three in a file of your own: `task: my_task.py:MyTask`.
    """

    verifier: str

    def train(self) -> Sequence[Problem]: ...

    def evaluation(self) -> Sequence[Problem]: ...


@dataclass(frozen=True, slots=True)
class RepairPair:
    """One cold-start example of repair mode: rho should answer (problem, failed, anchor) with `repaired`.

    Without an anchor the repair prompt shows the failure alone.
    """

    prompt: str
    failed: str
    anchor: str | None
    repaired: str
    before: tuple[Turn, ...] | None = None


@runtime_checkable
class Demonstrator(Protocol):
    """A task that can write solutions itself, and so can cold-start a model without another model."""

    def demonstrations(self, seed: int) -> Iterator[tuple[str, str]]:
        """Endless (problem text, solution text) pairs, of training problems only."""
        ...

    def repair_pairs(self, seed: int) -> Iterator[RepairPair]:
        """Endless repair pairs, of training problems only."""
        ...


def fingerprint(problems: Sequence[Problem]) -> str:
    """The number of problems and their SHA-256 (16 digits), over conversations and answers in order."""
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(json.dumps([problem.before, problem.prompt, problem.answer]).encode())
    return f"{len(problems):,} problems, sha256 {digest.hexdigest()[:16]}"


def in_evaluation(text: str, share: float) -> bool:
    """True if a problem text belongs to the evaluation split. Its hash decides, so it is never in both."""
    digest = hashlib.sha256(text.strip().encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def split_by_text(problems: Iterable[Problem], share: float) -> tuple[list[Problem], list[Problem]]:
    """(train, evaluation), without repeated conversations; `share` of the distinct texts go to evaluation."""
    train: list[Problem] = []
    evaluation: list[Problem] = []
    seen: set[object] = set()
    for problem in problems:
        text = problem.prompt.strip()
        key = (problem.before or (), text)
        if key in seen:
            continue
        seen.add(key)
        (evaluation if in_evaluation(text, share) else train).append(problem)
    return train, evaluation


def filled(
    stream: Iterable[Problem | Exception], sizes: tuple[int, int], share: float
) -> tuple[list[Problem], list[Problem], Exception | None]:
    """(train, evaluation, the last exception): both splits filled from a stream that may never end, without repeated
    texts, until they have these sizes or nothing new has come for PATIENCE. `share` of the texts go to evaluation.

    An entry that stands for a problem whose making failed is passed over.
    """
    splits: tuple[list[Problem], list[Problem]] = ([], [])
    seen: set[object] = set()
    barren = 0
    trouble: Exception | None = None
    for made in stream:
        barren += 1
        if isinstance(made, Exception):
            trouble = made
        else:
            key = (made.before or (), made.prompt.strip())
            part = int(in_evaluation(made.prompt, share))
            if key not in seen and len(splits[part]) < sizes[part]:
                seen.add(key)
                splits[part].append(made)
                barren = 0
        if barren == PATIENCE or (len(splits[0]), len(splits[1])) == sizes:
            break
    return *splits, trouble


def require_problems(problems: Sequence[Problem], what: str) -> Sequence[Problem]:
    """`problems` itself, or a KintsugiError when there is none."""
    if not problems:
        raise KintsugiError(f"{what}: expected at least one problem, found none")
    return problems


def check_count(what: str, value: object, least: int) -> int:
    """`value` itself, or a KintsugiError when it is no whole number of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise KintsugiError(f"{what}: expected a whole number of at least {least}, got {value!r}")
    return value


def check_share(what: str, value: object) -> float:
    """`value` itself, or a KintsugiError when it does not lie in [0, 1]."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise KintsugiError(f"{what}: expected a number between 0 and 1, got {value!r}")
    return value
