"""`verifier: rewards.py:score`: a function of the user's, with TRL's or verl's signature."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from kintsugi.plugins import load_object
from kintsugi.records import KintsugiError, Problem, Turn, Verdict
from kintsugi.verifiers.guard import Worker, error_verdict

Reward = Callable[..., Any]
TIMEOUT = 120.0
"""Seconds that one call of a user's function may take: it judges a whole group, perhaps with a model."""


class ApartVerifier:
    """A function in a file of the user's, in a process of its own: what hangs, crashes or eats memory costs verdicts
    (`error`), never the run. It may print, write and use the network.

    timeout: seconds a call may take, on all texts of a group. memory: GiB of address space, None: no limit. A
    function that takes arguments of these names gets them itself. Columns of a problem must be plain data.
    """

    def __init__(self, name: str, arguments: Mapping[str, Any]) -> None:
        function = load_object(name, "verifier")
        own = dict(arguments)
        takes = UserVerifier(function, name).takes
        timeout = own.pop("timeout", TIMEOUT) if "timeout" not in takes else TIMEOUT
        memory = own.pop("memory", None) if "memory" not in takes else None
        if memory is not None and (
            isinstance(memory, bool) or not isinstance(memory, int | float) or memory <= 0
        ):
            raise KintsugiError(f"verifier {name!r}: memory: expected GiB, more than 0, got {memory!r}")
        UserVerifier(function, name, own)  # says what is wrong with the arguments
        self.call = (name, own)
        most = None if memory is None else int(memory * 2**30)
        self.worker = Worker("kintsugi.verifiers.user:prepare", name, timeout, trusted=True, memory=most)

    def __call__(self, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        return self.worker.ask((*self.call, problem), texts)


def prepare(payload: tuple[str, dict[str, Any], Problem]) -> Callable[[list[str]], list[Verdict]]:
    """In the worker: what judges a group of texts on the payload's problem."""
    name, arguments, problem = payload
    if name not in MADE:  # once: a file that is loaded again would forget what it keeps
        MADE[name] = UserVerifier(load_object(name, "verifier"), name, arguments)
    return partial(MADE[name], problem)


MADE: dict[str, UserVerifier] = {}


class UserVerifier:
    """Rewards by a user's function; which kind it is shows in the names of its parameters.

    `completions`: TRL's `f(prompts, completions, **columns) -> list[float | None]`. Columns are lists with
    one element per completion: `answer` and all columns of the problem. Where the data set has conversations,
    prompts and completions are lists of messages, as in TRL.
    `solution_str`: verl's `f(data_source, solution_str, ground_truth, extra_info)`, which returns a number
    or a dict with `score`. Without columns of their names, `data_source` is "" and `extra_info` holds all
    columns.

    A function without `**kwargs` is handed only what it names. `arguments` are passed on to every call.
    Rewards are clipped to [0, 1] (the verdict's message says so). None is `unscorable`; an exception, NaN,
    infinity, anything but a number or a wrong number of rewards is `error`.
    """

    def __init__(
        self, function: Reward, name: str = "function", arguments: Mapping[str, Any] | None = None
    ) -> None:
        self.function, self.name, self.arguments = function, name, dict(arguments or {})
        try:
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):
            raise KintsugiError(f"verifier {name!r}: expected a function, got {function!r}") from None
        if inspect.iscoroutinefunction(function):
            raise KintsugiError(f"verifier {name!r}: expected a plain function, this one is async")
        self.takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        self.takes = set(parameters)
        self.batched = "completions" in parameters
        if not self.batched and "solution_str" not in parameters:
            raise KintsugiError(
                f"verifier {name!r}: expected a parameter `completions` (as in TRL) or `solution_str` (as in "
                f"verl), found ({', '.join(parameters)})"
            )
        unknown = [] if self.takes_all else sorted(set(self.arguments) - self.takes)
        if unknown:
            raise KintsugiError(f"verifier {name!r}: the function takes no argument {unknown[0]!r}")

    def __call__(self, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        return self._trl(problem, texts) if self.batched else [self._verl(problem, text) for text in texts]

    def _trl(self, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        count = len(texts)
        prompt, completions = as_trl_has_it(problem, texts)
        columns = {**problem.columns, "answer": problem.answer, "prompts": prompt}
        lists = {key: [value] * count for key, value in columns.items()}
        try:
            rewards = self._call({**lists, "completions": completions})
            if isinstance(rewards, str | Mapping):
                raise TypeError(f"expected a list of {count} rewards, got {type(rewards).__name__}")
            rewards = list(rewards)
        except (Exception, SystemExit) as error:
            return [error_verdict(error)] * count
        if len(rewards) != count:
            message = f"{self.name}: {len(rewards)} rewards for {count} completions"
            return [Verdict("error", message=message)] * count
        return [reward_verdict(reward) for reward in rewards]

    def _verl(self, problem: Problem, text: str) -> Verdict:
        values = {
            "data_source": problem.columns.get("data_source", ""),
            "solution_str": text,
            "ground_truth": problem.answer,
            "extra_info": problem.columns.get("extra_info", dict(problem.columns)),
        }
        try:
            result = self._call(values)
            return reward_verdict(result["score"] if isinstance(result, Mapping) else result)
        except (Exception, SystemExit) as error:
            return error_verdict(error)

    def _call(self, values: Mapping[str, Any]) -> Any:
        accepted = {key: value for key, value in values.items() if self.takes_all or key in self.takes}
        return self.function(**{**accepted, **self.arguments})


def as_trl_has_it(problem: Problem, texts: Sequence[str]) -> tuple[Any, list[Any]]:
    """(prompt, completions): strings, or lists of messages where the data set has conversations."""
    if problem.before is None:
        return problem.prompt, list(texts)
    prompt = [turn._asdict() for turn in (*problem.before, Turn("user", problem.prompt))]
    return prompt, [[{"role": "assistant", "content": text}] for text in texts]


def reward_verdict(reward: Any) -> Verdict:
    """Pass or fail by a reward clipped to [0, 1]; `unscorable` for None, `error` for what is no number."""
    if reward is None:
        return Verdict("unscorable", message="the function returned None")
    # One-element tensors and arrays are numbers to those who return them.
    try:
        value = reward.item() if hasattr(reward, "item") else reward
    except Exception as error:
        return error_verdict(error)
    if not isinstance(value, numbers.Real):
        return Verdict("error", message=f"expected a number as reward, got {type(value).__name__}")
    number = float(value)
    if not math.isfinite(number):
        return Verdict("error", message=f"expected a finite reward, got {number}")
    clipped = min(1.0, max(0.0, number))
    return Verdict.scored(clipped, "" if clipped == number else f"reward {number:g} clipped to {clipped:g}")
