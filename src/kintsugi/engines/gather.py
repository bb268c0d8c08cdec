"""Gathers the sampler calls of many coroutines into rounds: what waits together is answered together.

A call waits until every coroutine that can run has run; then all waiting calls make one round. So an
algorithm may be written for one problem and still sample in full batches, on any engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

QUIET_CYCLES = 16
"""Cycles of the event loop without a new call after which all coroutines are taken to wait for one.

A value on its way up through nested tasks and gathers takes about two cycles a level, and nothing else
delays a coroutine (verifiers are synchronous), so what shares a round does not depend on the clock.
"""

Request = TypeVar("Request", bound=Hashable)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Call(Generic[Request, Result]):
    requests: tuple[Request, ...]
    future: asyncio.Future[list[Result]]


@dataclass(slots=True)
class _Queue(Generic[Request, Result]):
    """The calls that wait in one event loop, and the task that serves them. It dies with its loop."""

    loop: asyncio.AbstractEventLoop
    calls: list[_Call[Request, Result]] = field(default_factory=list)
    server: asyncio.Task[None] | None = None


class Gatherer(Generic[Request, Result]):
    """Answers requests in rounds. One event loop at a time, and one thread; another loop may follow.

    `split` cuts a round's distinct requests into batches; `answer` returns a batch's results in its order.
    Both block the loop. Equal requests of a round are answered once.
    """

    def __init__(
        self,
        split: Callable[[Iterable[Request]], Iterable[list[Request]]],
        answer: Callable[[list[Request]], list[Result]],
    ) -> None:
        self._split, self._answer = split, answer
        self._queue: _Queue[Request, Result] | None = None

    async def ask(self, requests: Sequence[Request]) -> list[Result]:
        """The requests' results, in order. Whatever goes wrong in a round reaches every call of it."""
        if not requests:
            return []
        loop = asyncio.get_running_loop()
        # asyncio.run makes a new loop each time; what an old loop left behind can never be awaited again.
        if self._queue is None or self._queue.loop is not loop:
            self._queue = _Queue(loop)
        queue = self._queue
        call: _Call[Request, Result] = _Call(tuple(requests), loop.create_future())
        queue.calls.append(call)
        if queue.server is None or queue.server.done():
            queue.server = loop.create_task(self._serve(queue))
        return await call.future

    async def _serve(self, queue: _Queue[Request, Result]) -> None:
        while queue.calls:
            await _quiet(queue)
            calls, queue.calls = queue.calls, []
            try:
                await self._round(calls, queue)
            except Exception as error:
                for call in calls:
                    if not call.future.done():
                        call.future.set_exception(error)

    async def _round(self, calls: list[_Call[Request, Result]], queue: _Queue[Request, Result]) -> None:
        """Answers every batch, and only then the calls: whoever calls again does so into one next round."""
        wanted = {request: None for call in calls if not call.future.done() for request in call.requests}
        found: dict[Request, Result] = {}
        for batch in self._split(wanted):
            # Answering blocks the loop; between batches let a cancellation (Ctrl-C) through to this task.
            await _quiet(queue)
            found.update(zip(batch, self._answer(batch), strict=True))
        for call in calls:
            if not call.future.done():
                call.future.set_result([found[request] for request in call.requests])


async def _quiet(queue: _Queue[Request, Result]) -> None:
    """Returns once no call has come in for QUIET_CYCLES cycles of the loop."""
    quiet, seen = 0, len(queue.calls)
    while quiet < QUIET_CYCLES:
        await asyncio.sleep(0)
        quiet = quiet + 1 if len(queue.calls) == seen else 0
        seen = len(queue.calls)
