"""The slots of the local engine: each row has a prompt and a length of its own, enters at any step and leaves at its
end.

Prompts are read in batches of their own, whose rows then join those that are going; an answer is out as soon as its
last row has ended. Models whose cache holds more than keys and values let rows enter only when all have left: they
decode in rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from kintsugi.records import Completion, KintsugiError
from kintsugi.sampling.asked import Asked
from kintsugi.sampling.base import Pulse, Request
from kintsugi.sampling.batch import Decoding, Ended, join
from kintsugi.sampling.forward import Forward
from kintsugi.sampling.prefill import prefill
from kintsugi.sampling.sample import Sample

COMPACT_AT = 0.75
"""Ended rows leave the cache once at most this share of its rows is still going: leaving copies the whole cache,
which costs about what two steps of attention do."""

ADMIT_AT = 0.125
"""New rows enter once they are this share of those that are going: entering copies the whole cache as well."""


class Slots:
    """A session (kintsugi.sampling.base) of the local engine.

    samples       The samples of a request; ValueError or KintsugiError for one that cannot be.
    pad_id        Any token id.
    token_budget  Bounds rows x (prompt + most tokens to come). A row alone may exceed it.
    version       The policy's; the completions carry it.
    pulse         Called after each pass with what tells which share of the samples asked for is done. A row that goes
                  on counts as if it came to its limit.
    """

    def __init__(
        self,
        forward: Forward,
        samples: Callable[[Request], tuple[Sample, ...]],
        pad_id: int,
        token_budget: int,
        version: int = 0,
        pulse: Pulse = lambda _: None,
    ) -> None:
        self._forward, self._asked, self._pad_id = forward, Asked(samples), pad_id
        self._token_budget, self._version, self._pulse = token_budget, version, pulse
        self._waiting: list[Sample] = []
        self._batch: Decoding | None = None

    def put(self, ticket: int, request: Request) -> None:
        self._waiting += self._asked.put(ticket, request)
        # Longest prompts first: samples of like lengths side by side, and if memory does not suffice, it shows at once.
        self._waiting.sort(key=lambda s: (len(s.prompt_ids), s.prompt_ids, s.limit), reverse=True)

    def take(self) -> list[tuple[int, list[Completion]]]:
        with self._forward.sampling():
            while self._asked.waiting:
                entered = self._enter()
                self._settle(self._batch.step() if entered is None and self._batch else entered or [])
                self._pulse(self._share)
        return self._asked.answers()

    def close(self) -> None:
        self._waiting, self._batch = [], None

    def _enter(self) -> Ended | None:
        """Lets enter what waits and fits, and lets go what has ended, once it is worth the copying.

        Samples that end at their first token; None where none entered.
        """
        batch, going = self._batch, self._batch.going if self._batch else 0
        new = self._fitting(batch) if self._waiting else 0
        if new < max(1, ADMIT_AT * going) or (going and not self._forward.joins):
            new = 0
        if not new and batch is not None and going > COMPACT_AT * len(batch.ended):
            return None
        entering, self._waiting = self._waiting[:new], self._waiting[new:]
        read_now = list(prefill(self._forward, entering, self._pad_id)) if entering else []
        self._batch = join([*([batch] if batch else []), *(made for made, _ in read_now)])
        return [ended for _, endings in read_now for ended in endings] if read_now else None

    def _fitting(self, batch: Decoding | None) -> int:
        """The number of samples that fit the token budget beside the rows that are going, or 1 where none is."""
        going = [s for s, over in zip(batch.samples, batch.ended, strict=True) if not over] if batch else []
        room = max((len(s.prompt_ids) + s.limit for s in going), default=0)
        for new, sample in enumerate(self._waiting):
            room = max(room, len(sample.prompt_ids) + sample.limit)
            if (len(going) + new + 1) * room > self._token_budget and len(going) + new:
                return new
        return len(self._waiting)

    def _settle(self, endings: Ended) -> None:
        for sample, tokens, logprobs in endings:
            if not all(map(math.isfinite, logprobs)):
                raise KintsugiError(
                    "the model's logits are not finite (NaN or infinity): its weights have diverged"
                )
            self._asked.settle(sample, sample.completion(tokens, logprobs, self._version))

    def _share(self) -> float:
        going, drawn = (self._batch.going, self._batch.drawn()) if self._batch else (0, 0.0)
        return 1 - (going - drawn + len(self._waiting)) / self._asked.total
