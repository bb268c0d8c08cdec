"""A verifier takes the texts of one problem and gives one four-state verdict per text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kintsugi.records import Problem, Verdict


@dataclass(frozen=True, slots=True)
class TrainerState:
    """The part of TRL's `trainer_state` that a run has: steps made, steps to be made, passes over the training
    problems."""

    global_step: int = 0
    max_steps: int = 0
    epoch: float = 0.0


UNTRAINED = TrainerState()


@dataclass(frozen=True, slots=True)
class Sampled:
    """The circumstances of texts, for functions that ask: the token ids of each (none where they were not sampled), and
    the trainer's state."""

    ids: Sequence[Sequence[int]] = ()
    state: Any = UNTRAINED

    def of(self, index: int) -> Sampled:
        """The circumstances of one text."""
        return Sampled(self.ids[index : index + 1], self.state)


UNKNOWN = Sampled()


class Verifier(Protocol):
    def __call__(self, problem: Problem, texts: Sequence[str], sampled: Sampled = UNKNOWN) -> list[Verdict]:
        """One verdict per completion text. Never raises: what goes wrong is an `error` verdict."""
        ...
