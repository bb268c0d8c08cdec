"""The embedded engine: any Hugging Face causal LM as a Sampler, many coroutines' calls in one batch.

A call waits until every coroutine that can run has run; then all waiting calls are decoded together
(see decode.py), so an algorithm may be written for one problem and still sample in full batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kintsugi.engines.base import SamplingParams
from kintsugi.engines.decode import Forward, Sample, decode
from kintsugi.records import Completion, KintsugiError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

TOKEN_BUDGET = 32_768
"""Default for the most positions a decoding batch may come to hold, counted as if no row stopped early."""

QUIET_CYCLES = 16
"""Cycles of the event loop without a new call after which all coroutines are taken to wait for one.

A value on its way up through nested tasks and gathers takes about two cycles a level, and nothing else
delays a coroutine (verifiers are synchronous), so what shares a batch does not depend on the clock.
"""


@dataclass(frozen=True, slots=True)
class _Call:
    samples: tuple[Sample, ...]
    future: asyncio.Future[list[Completion]]


@dataclass(slots=True)
class _Queue:
    """The calls that wait in one event loop, and the task that serves them. It dies with its loop."""

    loop: asyncio.AbstractEventLoop
    calls: list[_Call] = field(default_factory=list)
    server: asyncio.Task[None] | None = None


class LocalSampler:
    """A Sampler over `model` (on its device, at its present weights).

    `pad_id` may be any token id. `token_budget` bounds rows x (prompt + new tokens) of a decoding batch.
    `version` is asked for the learner's step count when a batch starts. `autocast` is a dtype to compute in.
    One event loop at a time, and one thread; a later asyncio.run may use the same sampler.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        pad_id: int,
        token_budget: int = TOKEN_BUDGET,
        version: Callable[[], int] = lambda: 0,
        autocast: torch.dtype | None = None,
    ) -> None:
        self._forward = Forward(model, autocast)
        self._pad_id = pad_id
        self._token_budget = token_budget
        self._version = version
        config = model.config.get_text_config()
        self._positions: int | None = getattr(config, "max_position_embeddings", None)
        self._vocabulary: int = config.vocab_size
        self._queue: _Queue | None = None

    async def generate(
        self, prompt_ids: Sequence[int], params: SamplingParams, n: int = 1
    ) -> list[Completion]:
        """n completions of the prompt; sample i is the same whatever else is being decoded.

        Near the model's last position completions are cut to what fits (finish "length"). Raises
        ValueError on arguments that make no sense and KintsugiError when the prompt leaves no position free;
        whatever goes wrong in decoding reaches every call of the round.
        """
        samples = self._samples(tuple(prompt_ids), params, n)
        if not samples:
            return []
        loop = asyncio.get_running_loop()
        # asyncio.run makes a new loop each time; what an old loop left behind can never be awaited again.
        if self._queue is None or self._queue.loop is not loop:
            self._queue = _Queue(loop)
        queue = self._queue
        call = _Call(samples, loop.create_future())
        queue.calls.append(call)
        if queue.server is None or queue.server.done():
            queue.server = loop.create_task(self._serve(queue))
        return await call.future

    def _samples(self, prompt: tuple[int, ...], params: SamplingParams, n: int) -> tuple[Sample, ...]:
        if not prompt:
            raise ValueError(
                "generate: the prompt is empty; a causal LM needs at least one token to go on from"
            )
        if not 0 <= min(prompt) <= max(prompt) < self._vocabulary:
            raise ValueError(
                f"generate: prompt ids must be in [0, {self._vocabulary}), got {min(prompt)} to {max(prompt)}"
            )
        if n < 0 or params.max_new_tokens < 1 or params.temperature < 0 or not 0 < params.top_p <= 1:
            raise ValueError(
                f"generate: expected n >= 0, max_new_tokens >= 1, temperature >= 0 and 0 < top_p <= 1, "
                f"got n={n} and {params}"
            )
        limit = params.max_new_tokens
        if self._positions is not None:
            if len(prompt) >= self._positions:
                raise KintsugiError(
                    f"prompt of {len(prompt)} tokens leaves no room to answer in a model "
                    f"of {self._positions} positions"
                )
            limit = min(limit, self._positions - len(prompt))
        return tuple(Sample(prompt, params, index, limit) for index in range(n))

    async def _serve(self, queue: _Queue) -> None:
        while queue.calls:
            await _quiet(queue)
            calls, queue.calls = queue.calls, []
            try:
                await self._answer(calls, queue)
            except Exception as error:
                for call in calls:
                    if not call.future.done():
                        call.future.set_exception(error)

    async def _answer(self, calls: list[_Call], queue: _Queue) -> None:
        """Decodes the calls, and only then answers them: whoever calls again does so into one next round."""
        # Equal samples (prompt, seed and index) are equal draws, so they are decoded once.
        wanted = {sample: None for call in calls if not call.future.done() for sample in call.samples}
        drawn: dict[Sample, Completion] = {}
        for batch in batches(wanted, self._token_budget):
            # Decoding blocks the loop; between batches let a cancellation (Ctrl-C) through to this task.
            await _quiet(queue)
            completions = decode(self._forward, batch, self._pad_id, self._version())
            drawn.update(zip(batch, completions, strict=True))
        for call in calls:
            if not call.future.done():
                call.future.set_result([drawn[sample] for sample in call.samples])


async def _quiet(queue: _Queue) -> None:
    """Returns once no call has come in for QUIET_CYCLES cycles of the loop."""
    quiet, seen = 0, len(queue.calls)
    while quiet < QUIET_CYCLES:
        await asyncio.sleep(0)
        quiet = quiet + 1 if len(queue.calls) == seen else 0
        seen = len(queue.calls)


def batches(samples: Iterable[Sample], token_budget: int) -> Iterator[list[Sample]]:
    """The samples in batches of rows x (longest prompt + largest limit) <= token_budget, at least one row.

    Longest prompts first: little padding, samples of one prompt side by side, and if memory does not
    suffice, it shows at once.
    """
    batch: list[Sample] = []
    prompt = limit = 0
    for sample in sorted(samples, key=lambda s: (len(s.prompt_ids), s.prompt_ids, s.limit), reverse=True):
        prompt, limit = max(prompt, len(sample.prompt_ids)), max(limit, sample.limit)
        if batch and (len(batch) + 1) * (prompt + limit) > token_budget:
            yield batch
            batch, prompt, limit = [], len(sample.prompt_ids), sample.limit
        batch.append(sample)
    if batch:
        yield batch
