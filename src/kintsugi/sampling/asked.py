"""The requests of a session: shared by the engines that answer each of them as it ends."""

from __future__ import annotations

from collections.abc import Callable

from kintsugi.records import Completion
from kintsugi.sampling.base import Request
from kintsugi.sampling.sample import Sample


class Asked:
    """Requests by ticket, with the samples that they miss. Equal samples of several requests are drawn once.

    samples  The samples of a request; ValueError or KintsugiError for one that cannot be.
    total    The samples that have been asked for, equal ones once.
    """

    def __init__(self, samples: Callable[[Request], tuple[Sample, ...]]) -> None:
        self._samples = samples
        self.total = 0
        self._asked: dict[int, tuple[Sample, ...]] = {}
        self._missing: dict[int, set[Sample]] = {}
        self._users: dict[Sample, list[int]] = {}
        self._found: dict[Sample, Completion] = {}
        self._done: list[int] = []

    def put(self, ticket: int, request: Request) -> list[Sample]:
        """Takes the request in. The samples that are to be drawn for it, without those that are on their way."""
        samples = self._samples(request)
        self._asked[ticket] = samples
        self._missing[ticket] = {sample for sample in samples if sample not in self._found}
        if not self._missing[ticket]:
            self._done.append(ticket)
        distinct = list(dict.fromkeys(samples))
        new = [sample for sample in distinct if sample not in self._users]
        for sample in distinct:
            self._users.setdefault(sample, []).append(ticket)
        self.total += len(new)
        return new

    def settle(self, sample: Sample, completion: Completion) -> None:
        self._found[sample] = completion
        for ticket in self._users[sample]:
            self._missing[ticket].discard(sample)
            if not self._missing[ticket]:
                self._done.append(ticket)

    @property
    def waiting(self) -> bool:
        """True while there are requests and none of them can be answered."""
        return bool(self._asked) and not self._done

    def answers(self) -> list[tuple[int, list[Completion]]]:
        """The requests that can be answered, in the order of their ends, with their completions."""
        done, self._done = self._done, []
        return [(ticket, self._answer(ticket)) for ticket in done]

    def _answer(self, ticket: int) -> list[Completion]:
        samples = self._asked.pop(ticket)
        answer = [self._found[sample] for sample in samples]
        del self._missing[ticket]
        for sample in dict.fromkeys(samples):
            self._users[sample].remove(ticket)
            if not self._users[sample]:
                del self._users[sample], self._found[sample]
        return answer
