"""A verifier takes the texts of one problem and gives one four-state verdict per text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kintsugi.records import Problem, Verdict


class Verifier(Protocol):
    def __call__(self, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        """One verdict per completion text. Never raises: what goes wrong is an `error` verdict."""
        ...
