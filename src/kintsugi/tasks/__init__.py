"""Tasks by name.

    task = load_task({"name": "dag", "steps": 7})
    train, held_out = training_problems(task), evaluation_problems(task)

A task's module, and whatever that needs, is imported when the task is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kintsugi.plugins import Door, Spec, spec_name
from kintsugi.records import KintsugiError, Problem
from kintsugi.tasks.base import Task, require_problems

Rows = Sequence[Problem | Mapping[str, Any]]
TASKS = Door(
    "task",
    {
        "dag": "kintsugi.tasks.dag:DagTask",
        "table": "kintsugi.tasks.table:TableTask",
        "reasoning_gym": "kintsugi.tasks.gym:GymTask",
        "verifiers": "kintsugi.tasks.taskset:TasksetTask",
    },
    own="my_task.py:MyTask",
    also=dict.fromkeys(
        ("jsonl", "json", "csv", "tsv", "parquet", "arrow", "hub", "data", "dataset"), "table"
    ),
)


def as_task(task: Any) -> Any:
    """The task itself, or that of a list of Problems or rows."""
    if not isinstance(task, list | tuple):
        return task
    from kintsugi.tasks.table import GivenTask

    return GivenTask(task)


def load_task(spec: Spec | Task, *, judged: bool = False) -> Task:
    """The task of a spec (a name, `path/to/file.py:Class`, or a mapping of `name` and its arguments), or `spec` itself.

    It needs no verifier of its own if it is `judged` by another. KintsugiError says what is wrong with the name, an
    argument, or a class of the user's own.
    """
    task = TASKS.make(spec)
    lacks = [method for method in ("train", "evaluation") if not callable(getattr(task, method, None))]
    if not judged and not isinstance(getattr(task, "verifier", None), str):
        lacks.append("verifier (a string)")
    if lacks:
        raise KintsugiError(
            f"task {spec_name(spec)}: a task has train(), evaluation() and verifier; it lacks {', '.join(lacks)}"
        )
    found: Task = task
    return found


def training_problems(task: Task) -> Sequence[Problem]:
    """`task.train()`, checked: a sequence of at least one Problem."""
    return checked_problems(task.train, f"{type(task).__name__}.train()")


def evaluation_problems(task: Task) -> Sequence[Problem]:
    """`task.evaluation()`, checked: a sequence of at least one Problem."""
    return checked_problems(task.evaluation, f"{type(task).__name__}.evaluation()")


def checked_problems(make: Callable[[], object], what: str) -> Sequence[Problem]:
    """The problems of `make`. KintsugiError when it raises, or returns no sequence of Problems with unique ids."""
    try:
        problems = make()
    except KintsugiError:
        raise
    except Exception as error:
        raise KintsugiError(f"{what} raised {type(error).__name__}: {error}") from error
    if not isinstance(problems, Sequence):
        raise KintsugiError(f"{what}: expected a list of Problem, got {type(problems).__name__}")
    ids: set[str] = set()
    for number, problem in enumerate(problems):
        if not isinstance(problem, Problem):
            raise KintsugiError(f"{what}: item {number} is not a Problem but {type(problem).__name__}")
        for name in ("id", "prompt", "answer"):
            if not isinstance(getattr(problem, name), str):
                kind = type(getattr(problem, name)).__name__
                raise KintsugiError(f"{what}: item {number}: {name} must be a str, got {kind}")
        if problem.id in ids:
            raise KintsugiError(f"{what}: item {number}: the id {problem.id!r} occurs twice")
        ids.add(problem.id)
    return require_problems(problems, what)
