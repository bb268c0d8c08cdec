"""Sampling in rounds: all that waits is answered at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kintsugi.records import Completion
from kintsugi.sampling.base import Request
from kintsugi.sampling.sample import Sample


class Rounds:
    """A session (kintsugi.sampling.base) of an engine that decodes whole batches.

    Equal samples of a round are drawn once.

    samples  The samples of a request; ValueError or KintsugiError for one that cannot be.
    answer   Their completions, in order.
    """

    def __init__(
        self,
        samples: Callable[[Request], tuple[Sample, ...]],
        answer: Callable[[list[Sample]], Sequence[Completion]],
    ) -> None:
        self._samples, self._answer = samples, answer
        self._waiting: list[tuple[int, tuple[Sample, ...]]] = []

    def put(self, ticket: int, request: Request) -> None:
        self._waiting.append((ticket, self._samples(request)))

    def take(self) -> list[tuple[int, list[Completion]]]:
        waiting, self._waiting = self._waiting, []
        wanted = list(dict.fromkeys(sample for _, samples in waiting for sample in samples))
        found = dict(zip(wanted, self._answer(wanted), strict=True)) if wanted else {}
        return [(ticket, [found[sample] for sample in samples]) for ticket, samples in waiting]

    def close(self) -> None:
        self._waiting = []
