"""Problems of an environment of the package `verifiers` (`pip install -e '.[verifiers]'`).

    task: {name: verifiers, taskset: my-taskset, config: {split: train}, eval_config: {split: test}}
    task: {name: verifiers, taskset: my_taskset.py:MyTaskset}

Every taskset (v1) whose tasks are one question and one answer. Tasks with containers, tools or more turns are refused.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from kintsugi.plugins import is_file_spec
from kintsugi.records import KintsugiError, Problem
from kintsugi.tasks.base import check_count, check_share, filled, require_problems
from kintsugi.tasks.chat import conversation
from kintsugi.verifiers.taskset import installed, open_taskset, own_hooks, requires_runtime

ENDLESS = (2000, 200)
"""Problems of each split where a taskset never ends and the recipe says nothing."""


class TasksetTask:
    """`task: {name: verifiers, taskset: my-taskset}`.

    taskset: an installed one by its name, or `path/to/file.py:MyTaskset`. config: its options. eval_config: those of
    the evaluation problems; without it `eval_share` of the texts are held out. problems, evaluation_problems: the
    most of each; None: all there are.
    """

    verifier = "verifiers"

    def __init__(
        self,
        taskset: str,
        config: dict[str, Any] | None = None,
        eval_config: dict[str, Any] | None = None,
        problems: int | None = None,
        evaluation_problems: int | None = None,
        eval_share: float = 0.1,
    ) -> None:
        self.what = f"task verifiers: {taskset}"
        self.name, self.config, self.eval_config = taskset, config or {}, eval_config
        self.share = check_share(f"{self.what}: eval_share", eval_share)
        for name, value in (("problems", problems), ("evaluation_problems", evaluation_problems)):
            if value is not None:
                check_count(f"{self.what}: {name}", value, 1)
        self.limits = (problems, evaluation_problems)
        self.taskset = open_taskset(taskset, self.config)
        self.held_out = None if eval_config is None else open_taskset(taskset, eval_config)

    def train(self) -> Sequence[Problem]:
        return require_problems(self._splits[0], f"{self.what}: training problems")

    def evaluation(self) -> Sequence[Problem]:
        return require_problems(self._splits[1], f"{self.what}: evaluation problems")

    @cached_property
    def _splits(self) -> tuple[list[Problem], list[Problem]]:
        if self.held_out is None:
            train, evaluation, _ = filled(
                self.problems(self.taskset, self.config), self.sizes(self.taskset), self.share
            )
            return train, evaluation
        evaluation = self.whole(self.held_out, self.eval_config or {}, 1)
        texts = {problem.prompt for problem in evaluation}
        return [p for p in self.whole(self.taskset, self.config, 0) if p.prompt not in texts], evaluation

    def sizes(self, taskset: Any) -> tuple[int, int]:
        """The most problems of each split."""
        usual = (sys.maxsize, sys.maxsize) if taskset.bounded else ENDLESS
        return (self.limits[0] or usual[0], self.limits[1] or usual[1])

    def whole(self, taskset: Any, config: Mapping[str, Any], part: int) -> list[Problem]:
        """The distinct problems of a taskset that is one split."""
        sizes = (self.sizes(taskset)[part], 0)
        return filled(self.problems(taskset, config, "eval/" if part else ""), sizes, 0.0)[0]

    def problems(self, taskset: Any, config: Mapping[str, Any], kind: str = "") -> Iterator[Problem]:
        """The tasks of a taskset as problems; `columns` are what the verifier needs to make a task again."""
        if env := own_environment(self.name):
            raise KintsugiError(f"{self.what}: its environment {env} has turns or judges of its own")
        for task in taskset:
            if reason := refusal(taskset, task):
                raise KintsugiError(
                    f"{self.what}: {reason}; only tasks of one question and one answer can be taken"
                )
            data = task.data
            messages = (
                [] if data.system_prompt is None else [{"role": "system", "content": data.system_prompt}]
            )
            where = f"{self.what}, task {data.idx}"
            before, prompt = None, data.prompt
            if messages or not isinstance(prompt, str):
                asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else dumped(prompt)
                before, prompt = conversation([*messages, *asked], where)
            answer = getattr(data, "answer", None)
            columns = {"taskset": self.name, "config": dict(config), "data": data.model_dump(mode="json")}
            yield Problem(
                f"{self.name}/{kind}{data.idx}",
                prompt.strip(),
                str(answer) if isinstance(answer, str | int | float) else "",
                columns,
                before,
            )


def dumped(messages: Sequence[Any]) -> list[dict[str, Any]]:
    return [message.model_dump() for message in messages]


def own_environment(name: str) -> str:
    """The environment that a taskset comes with, where that is more than one agent's answer; else ""."""
    from verifiers.v1.utils.loaders import environment_class

    env = installed().SingleAgentEnv if is_file_spec(name) else environment_class(name)
    return "" if env is installed().SingleAgentEnv else str(env.__name__)


def refusal(taskset: Any, task: Any) -> str:
    """The thing that a task needs and that is not here; "" if it can be taken."""
    from verifiers.v1.utils.decorators import discover_decorated

    data = task.data
    if task.NEEDS_CONTAINER or data.image or data.skills:
        return "it needs a container"
    if [*type(taskset).toolsets(taskset.config), *type(task).toolsets(task.config)]:
        return "it needs tools"
    if data.prompt is None:
        return "its user begins the conversation"
    if discover_decorated(task, "intercept"):
        return "it rewrites what is asked or answered"
    judges = [judge.score for judge in task.plugged_judges()]
    hooks = [hook for hook in (*own_hooks(task), *task.hooks("reward"), *judges) if requires_runtime(hook)]
    return f"its {hooks[0].__name__} needs the machine that an agent works on" if hooks else ""
