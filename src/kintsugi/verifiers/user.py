"""`verifier: rewards.py:score`: a function of the user's, with TRL's or verl's signature."""

from __future__ import annotations

import inspect
import math
import numbers
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from kintsugi.names import ANSWERS
from kintsugi.plugins import did_you_mean, load_object
from kintsugi.records import KintsugiError, Part, Problem, Turn, Verdict
from kintsugi.verifiers.base import UNKNOWN, Sampled
from kintsugi.verifiers.calls import Log, tried
from kintsugi.verifiers.guard import MESSAGE_LIMIT, Worker, error_verdict

Reward = Callable[..., Any]
TIMEOUT = 120.0
"""Seconds that one call of a user's function may take: it judges a whole group, perhaps with a model."""
OWN = ("timeout", "memory", "messages")
"""Arguments of ours beside the name of a function, unless it takes arguments of these names itself."""
NO_COLUMNS = ("prompt", "completion", "completion_ids")
"""Names that TRL does not hand to reward functions as columns."""
BY_TRL = {"prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric"}
BY_VERL = {"data_source", "solution_str", "ground_truth", "extra_info"}


class ApartVerifier:
    """A function in a file of the user's, in a process of its own: what hangs, crashes or eats memory costs verdicts
    (`error`), never the run. It may print, write and use the network.

    timeout: seconds a call may take, on all texts of a group. memory: GiB of address space, None: no limit. messages:
    prompts and completions are messages even where the data set has texts. Columns of a problem must be plain data.
    """

    def __init__(self, name: str, arguments: Mapping[str, Any]) -> None:
        function = load_object(name, "verifier")
        takes = UserVerifier(function, name).takes
        own = {key: value for key, value in arguments.items() if key in OWN and key not in takes}
        memory, messages = own.get("memory"), own.get("messages", False)
        if memory is not None and (
            isinstance(memory, bool) or not isinstance(memory, int | float) or memory <= 0
        ):
            raise KintsugiError(f"verifier {name!r}: memory: expected GiB, more than 0, got {memory!r}")
        if not isinstance(messages, bool):
            raise KintsugiError(f"verifier {name!r}: messages: expected true or false, got {messages!r}")
        self.call = (name, {k: v for k, v in arguments.items() if k not in own}, messages)
        self.user = UserVerifier(function, *self.call)  # says what is wrong with the arguments
        most = None if memory is None else int(memory * 2**30)
        self.worker = Worker(
            "kintsugi.verifiers.user:prepare", name, own.get("timeout", TIMEOUT), trusted=True, memory=most
        )

    def __call__(self, problem: Problem, texts: Sequence[str], sampled: Sampled = UNKNOWN) -> list[Verdict]:
        return self.worker.ask((*self.call, problem, sampled), texts)


def prepare(
    payload: tuple[str, dict[str, Any], bool, Problem, Sampled],
) -> Callable[[list[str]], list[Verdict]]:
    """In the worker: what judges a group of texts on the payload's problem."""
    name, arguments, messages, problem, sampled = payload
    if name not in MADE:  # once: a file that is loaded again would forget what it keeps
        MADE[name] = UserVerifier(load_object(name, "verifier"), name, arguments, messages)
    return partial(MADE[name], problem, sampled=sampled)


MADE: dict[str, UserVerifier] = {}


class UserVerifier:
    """Rewards by a user's function; which kind it is shows in the names of its parameters.

    `completions`, or `**kwargs` alone: TRL's `f(prompts, completions, **columns) -> list[float | None]`. Columns are
    lists with one element per completion: all columns of the problem, and its gold answer as `answer`. TRL's
    `completion_ids`, `trainer_state`, `log_extra` and `log_metric` are there. Where the data set has conversations,
    or with `messages`, prompts and completions are lists of messages, as in TRL.
    `solution_str`: verl's `f(data_source, solution_str, ground_truth, extra_info)`, which returns a number
    or a dict with `score`, of which the rest is logged. Without columns of their names, `data_source` is "" and
    `extra_info` holds all columns.

    Both may be async. A function without `**kwargs` is handed only what it names. `arguments` are passed on to every
    call. Pass and fail are decided by the reward clipped to [0, 1]; `Verdict.parts` has it as it is. None is
    `unscorable`; an exception, NaN, infinity, anything but a number or a wrong number of rewards is `error`. Where a
    call on several texts raises, each is judged alone: those that raise by themselves are errors.
    """

    def __init__(
        self,
        function: Reward,
        name: str = "function",
        arguments: Mapping[str, Any] | None = None,
        messages: bool = False,
    ) -> None:
        self.function, self.name, self.messages = function, name, messages
        self.arguments = dict(arguments or {})
        self.label = name.rpartition(":")[2]
        try:
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):
            raise KintsugiError(f"verifier {name!r}: expected a function, got {function!r}") from None
        self.takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        self.takes = set(parameters)
        self.batched = "solution_str" not in parameters
        if self.batched and "completions" not in parameters and not self.takes_all:
            raise KintsugiError(
                f"verifier {name!r}: expected a parameter `completions` (as in TRL) or `solution_str` (as in "
                f"verl), found ({', '.join(parameters)})"
            )
        named = [p for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        self.required = [p.name for p in named if p.default is p.empty and p.name not in self.arguments]
        unknown = [] if self.takes_all else sorted(set(self.arguments) - self.takes)
        if unknown:
            raise KintsugiError(f"verifier {name!r}: the function takes no argument {unknown[0]!r}")

    def check(self, columns: Iterable[str]) -> None:
        """KintsugiError for a required parameter that nothing fills where problems have these columns."""
        known = {*BY_TRL, *columns} - {"prompt", "completion"} if self.batched else BY_VERL
        for name in self.required:
            if name not in known:
                near = did_you_mean(name, known)
                if near == "." and name in ANSWERS:
                    near = next((f"; did you mean {a!r}?" for a in ANSWERS if a in known), near)
                raise KintsugiError(
                    f"verifier {self.name!r}: nothing fills its parameter {name!r}{near} "
                    f"There are {', '.join(sorted(known))}"
                )

    def __call__(self, problem: Problem, texts: Sequence[str], sampled: Sampled = UNKNOWN) -> list[Verdict]:
        return self._trl(problem, texts, sampled) if self.batched else self._verl(problem, texts)

    def _trl(self, problem: Problem, texts: Sequence[str], sampled: Sampled) -> list[Verdict]:
        """One call for all texts, as TRL makes it. Where it raises, one for each text: it condemns no sibling."""
        log, talks = Log(), self._talks(problem)
        (rewards,) = tried([partial(self._group, problem, texts, sampled, log)])
        if not isinstance(rewards, BaseException) or len(texts) == 1:
            return self._paid(rewards, len(texts), log, talks)
        logs = [Log() for _ in texts]
        each = tried(
            [partial(self._group, problem, [text], sampled.of(i), logs[i]) for i, text in enumerate(texts)]
        )
        return [self._paid(one, 1, log, talks)[0] for one, log in zip(each, logs, strict=True)]

    def _talks(self, problem: Problem) -> bool:
        return self.messages or problem.before is not None

    def _group(self, problem: Problem, texts: Sequence[str], sampled: Sampled, log: Log) -> Any:
        """The rewards that the function returns for these texts."""
        count = len(texts)
        prompt, completions = as_trl_has_it(problem, texts, self._talks(problem))
        answer = {"answer": problem.answer} if problem.answer else {}
        columns = {k: v for k, v in {**answer, **problem.columns}.items() if k not in NO_COLUMNS}
        values = {
            **{key: [value] * count for key, value in {**columns, "prompts": prompt}.items()},
            "completions": completions,
            "completion_ids": [list(ids) for ids in sampled.ids] or [[] for _ in texts],
            "trainer_state": sampled.state,
            "log_extra": log.extra,
            "log_metric": log.metric,
        }
        return self._call(values)

    def _paid(self, rewards: Any, count: int, log: Log, talks: bool) -> list[Verdict]:
        """The verdicts of what the function returned, or raised, for `count` texts."""
        if isinstance(rewards, BaseException):
            hint = MESSAGES if not talks and "string indices" in str(rewards) else ""
            return [self._failed(rewards, hint)] * count
        if not isinstance(rewards, Iterable) or isinstance(rewards, str | Mapping):
            message = f"{self.name}: expected a list of {count} rewards, got {type(rewards).__name__}"
            return [Verdict("error", message=message)] * count
        rewards = list(rewards)
        if len(rewards) != count:
            message = f"{self.name}: {len(rewards)} rewards for {count} completions"
            return [Verdict("error", message=message)] * count
        verdicts = [reward_verdict(reward, self.label) for reward in rewards]
        return [replace(verdict, logged=log.of(i)) for i, verdict in enumerate(verdicts)]

    def _verl(self, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        values = {
            "data_source": problem.columns.get("data_source", ""),
            "ground_truth": problem.answer,
            "extra_info": problem.columns.get("extra_info", dict(problem.columns)),
        }
        results = tried([partial(self._call, {**values, "solution_str": text}) for text in texts])
        return [self._scored(result) for result in results]

    def _scored(self, result: Any) -> Verdict:
        if isinstance(result, BaseException):
            return self._failed(result)
        if not isinstance(result, Mapping):
            return reward_verdict(result, self.label)
        if "score" not in result:
            return Verdict("error", message=f"{self.name}: expected a number or a dict with `score`")
        log = Log()
        for key, value in result.items():
            if key != "score":
                log.extra(key, [value])
        return replace(reward_verdict(result["score"], self.label), logged=log.of(0))

    def _call(self, values: Mapping[str, Any]) -> Any:
        accepted = {key: value for key, value in values.items() if self.takes_all or key in self.takes}
        return self.function(**{**accepted, **self.arguments})

    def _failed(self, error: BaseException, hint: str = "") -> Verdict:
        """An `error` that says where in the function's own file, if it came to that."""
        file = getattr(getattr(self.function, "__code__", None), "co_filename", "")
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file
        ]
        where = f" in line {lines[-1]} of {Path(file).name}" if lines else ""
        message = f"{type(error).__name__}{where}: {error}"
        return Verdict("error", message=message[:MESSAGE_LIMIT] + hint)


MESSAGES = " (completions are texts here; `messages: true` beside the function's name makes them messages)"


def as_trl_has_it(problem: Problem, texts: Sequence[str], talks: bool) -> tuple[Any, list[Any]]:
    """(prompt, completions): strings, or lists of messages."""
    if not talks:
        return problem.prompt, list(texts)
    prompt = [turn._asdict() for turn in (*(problem.before or ()), Turn("user", problem.prompt))]
    return prompt, [[{"role": "assistant", "content": text}] for text in texts]


def reward_verdict(reward: Any, name: str) -> Verdict:
    """Pass or fail by a reward clipped to [0, 1], kept as it is under `name`; `unscorable` for None, `error` for what
    is no number."""
    if reward is None:
        return Verdict("unscorable", message=f"{name} returned None")
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
    message = "" if clipped == number else f"reward {number:g}, clipped to {clipped:g} to pass or fail"
    return Verdict.scored(clipped, message, (Part(name, number),))
