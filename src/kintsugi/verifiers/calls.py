"""Calls of a user's function: async ones are awaited, and what they log is kept."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import Any


def tried(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """The results of the calls, an exception for one that raised. Awaitables are awaited together."""
    results: list[Any] = []
    for call in calls:
        try:
            results.append(call())
        except (Exception, SystemExit) as error:
            results.append(error)
    waiting = {i: result for i, result in enumerate(results) if inspect.isawaitable(result)}
    if waiting:
        done = asyncio.run_coroutine_threadsafe(together(list(waiting.values())), event_loop()).result()
        for i, result in zip(waiting, done, strict=True):
            results[i] = result
    return results


async def together(awaited: Sequence[Awaitable[Any]]) -> list[Any]:
    return await asyncio.gather(*awaited, return_exceptions=True)


@cache
def event_loop() -> asyncio.AbstractEventLoop:
    """One loop for all calls: clients that a function keeps are bound to the loop that they began in. It has a thread
    of its own, for the caller's may run a loop already (a notebook)."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


class Log:
    """TRL's `log_extra` and `log_metric` during one call."""

    def __init__(self) -> None:
        self.columns: defaultdict[str, list[Any]] = defaultdict(list)
        self.metrics: defaultdict[str, list[float]] = defaultdict(list)

    def extra(self, column: str, values: Sequence[Any]) -> None:
        """A column with one value per completion."""
        self.columns[str(column)].extend(map(plain_value, values))

    def metric(self, name: str, value: Any) -> None:
        """A number for all completions of the call; the mean of several."""
        self.metrics[str(name)].append(float(value))

    def of(self, index: int) -> dict[str, Any]:
        """The values that were logged of completion number `index`."""
        found = {name: values[index] for name, values in self.columns.items() if index < len(values)}
        return found | {name: sum(values) / len(values) for name, values in self.metrics.items()}


def plain_value(value: Any) -> Any:
    """The value as JSON has it: a number, true, false, null, or text."""
    value = value.item() if hasattr(value, "item") and getattr(value, "size", 2) == 1 else value
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
