"""`verifier: verifiers`: the weighted rewards of an environment of the package `verifiers` (0.4, its v1 tasks).

Tasksets are packages or files of the user's own. They judge in a process of their own, which may use the network, as
judges do.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

from kintsugi.plugins import is_file_spec, load_object
from kintsugi.records import KintsugiError, Part, Problem, Verdict
from kintsugi.verifiers.base import UNKNOWN, Sampled
from kintsugi.verifiers.extract import UNENDED, spoken
from kintsugi.verifiers.guard import Worker, error_verdict

COLUMNS = ("taskset", "config", "data")


class TasksetVerifier:
    """The rewards of a task, weighed as the environment weighs them. A text passes if the reward that decides is at
    least 0.5: the one named `outcome`, here or by the environment, else that of the largest weight. Group advantages
    compare the weighted sum.

    Needs the problem columns of task `verifiers`. Rewards see the text after its thoughts, as its clients have it.
    timeout: seconds that all texts of a problem may take.
    """

    def __init__(self, outcome: str = "outcome", timeout: float = 120.0) -> None:
        installed()
        self.outcome = outcome
        self.worker = Worker(
            "kintsugi.verifiers.taskset:prepare", "verifiers.v1", timeout, trusted=True, memory=None
        )

    def __call__(self, problem: Problem, texts: Sequence[str], sampled: Sampled = UNKNOWN) -> list[Verdict]:
        missing = [name for name in COLUMNS if name not in problem.columns]
        if missing:
            raise KintsugiError(
                f"problem {problem.id} has no column {missing[0]!r}: verifier verifiers is for task verifiers"
            )
        return self.worker.ask((*(problem.columns[name] for name in COLUMNS), self.outcome), texts)


def installed() -> Any:
    """The module `verifiers.v1`; KintsugiError when the package is missing."""
    try:
        import verifiers.v1 as vf
    except ImportError as error:
        raise KintsugiError(
            f"task verifiers needs the verifiers package: pip install -e '.[verifiers]' ({error})"
        ) from None
    return vf


def open_taskset(name: str, config: Mapping[str, Any]) -> Any:
    """The taskset of a name as `verifiers` knows it, or `path/to/file.py:MyTaskset`, with this config.

    KintsugiError where it cannot be made.
    """
    vf = installed()
    from verifiers.v1.utils import loaders
    from verifiers.v1.utils.generic import concrete_type

    try:
        own = is_file_spec(name)
        made = load_object(name, "task verifiers: taskset") if own else loaders.taskset_class(name)
        kind = concrete_type(made, vf.TasksetConfig, origin=vf.Taskset) or vf.TasksetConfig
        return made(kind.model_validate({**config, "id": name}))
    except KintsugiError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise KintsugiError(f"task verifiers: {name}: {type(error).__name__}: {reason}") from error


def requires_runtime(function: Callable[..., Any]) -> bool:
    """True if a hook of a task cannot be called without the machine that an agent works on."""
    import inspect

    runtime = inspect.signature(function).parameters.get("runtime")
    return runtime is not None and runtime.default is inspect.Parameter.empty


def own_hooks(task: Any) -> list[Callable[..., Any]]:
    """`setup` and `finalize` of a task, where it has its own."""
    base, kind = installed().Task, type(task)
    names = ("setup", "finalize")
    return [getattr(task, name) for name in names if getattr(kind, name) is not getattr(base, name)]


def prepare(payload: tuple[str, dict[str, Any], dict[str, Any], str]) -> Callable[[list[str]], list[Verdict]]:
    """In the worker: what judges a group of texts on the payload's task."""
    name, config, data, outcome = payload
    taskset = opened(name, json.dumps(config))
    kind = type(taskset).task_type()
    task = kind(kind.data_type().model_validate(data), taskset.config.task)
    return partial(judged, task, outcome)


@cache
def opened(name: str, config: str) -> Any:
    return open_taskset(name, json.loads(config))


def judged(task: Any, outcome: str, texts: list[str]) -> list[Verdict]:
    async def together() -> list[Verdict]:
        return list(await asyncio.gather(*(judge(task, outcome, text) for text in texts)))

    return asyncio.run(together())


async def judge(task: Any, outcome: str, text: str) -> Verdict:
    """The verdict on one text."""
    from verifiers.v1.utils.decorators import invoke

    said = spoken(text)
    if said is None:
        return UNENDED
    trace = trace_of(task, said)
    try:
        for hook in own_hooks(task):
            await invoke(hook, {"trace": trace})
        await task.score(trace)
    except Exception as error:
        return error_verdict(error.__cause__ or error)
    return verdict_of(trace.rewards, outcome)


def trace_of(task: Any, reply: str) -> Any:
    """The trace of a conversation of one question, which has been answered."""
    vf = installed()
    from verifiers.v1.state import state_cls

    told = [vf.SystemMessage(content=task.data.system_prompt)] if task.data.system_prompt else []
    prompt = task.data.prompt
    asked = [vf.UserMessage(content=prompt)] if isinstance(prompt, str) else list(prompt)
    messages = [*told, *asked, vf.AssistantMessage(content=reply)]
    nodes = [
        vf.MessageNode(parent=i - 1 if i else None, message=message, sampled=i == len(messages) - 1)
        for i, message in enumerate(messages)
    ]
    return vf.Trace(
        task=vf.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash),
        agent=vf.AgentInfo(config=vf.AgentConfig()),
        state=state_cls(type(task))(),
        nodes=nodes,
        is_completed=True,
        ok=True,
        stop_condition="agent_completed",
    )


def verdict_of(rewards: Mapping[str, Any], outcome: str) -> Verdict:
    """The verdict of a trace's rewards; `error` where one is missing or no number."""
    lost = [name for name, reward in rewards.items() if reward is None or not math.isfinite(reward.score)]
    if lost or not rewards:
        return Verdict(
            "error", message=f"reward {lost[0]} is no number" if lost else "the task has no reward"
        )
    if outcome != "outcome" and outcome not in rewards:
        return Verdict("error", message=f"no reward {outcome!r}; there are {', '.join(rewards)}")
    decides = outcome if outcome in rewards else max(rewards, key=lambda name: rewards[name].weight)
    parts = tuple(Part(name, reward.score, reward.weight) for name, reward in rewards.items())
    message = ", ".join(f"{part.name} {part.reward:g}" for part in parts)
    return Verdict.scored(min(1.0, max(0.0, rewards[decides].score)), message, parts)
