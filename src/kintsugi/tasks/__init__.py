"""Tasks by name.

    task = load_task({"name": "dag", "steps": 7})
    train, held_out = training_problems(task), evaluation_problems(task)

A task's module, and whatever that needs, is imported when the task is asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from kintsugi.config import Spec, split_spec
from kintsugi.loading import is_file_spec, load_object
from kintsugi.records import KintsugiError, Problem
from kintsugi.tasks.base import Task, did_you_mean, require_problems

TASKS = {
    "dag": ("kintsugi.tasks.dag", "DagTask"),
    "brackets": ("kintsugi.tasks.brackets", "BracketsTask"),
    "columns": ("kintsugi.tasks.columns", "ColumnsTask"),
    "dot": ("kintsugi.tasks.dot", "DotTask"),
    "jsonl": ("kintsugi.tasks.jsonl", "JsonlTask"),
    "hub": ("kintsugi.tasks.hub", "HubTask"),
    "reasoning_gym": ("kintsugi.tasks.gym", "GymTask"),
}


def load_task(spec: Spec) -> Task:
    """The task of a spec: a name, `path/to/file.py:Class`, or a mapping of `name` and its arguments.

    KintsugiError says what is wrong with the name, an argument, or a class of the user's own.
    """
    name, arguments = split_spec(spec, "task")
    what = f"task {name}"
    make = load_object(name, "task") if is_file_spec(name) else built_in(name)
    if not callable(make):
        raise KintsugiError(f"{what}: expected a class, found {type(make).__name__}")
    check_arguments(what, make, arguments)
    try:
        task = make(**arguments)
    except KintsugiError:
        raise
    except Exception as error:
        raise KintsugiError(f"{what}: making it raised {type(error).__name__}: {error}") from error
    lacks = [method for method in ("train", "evaluation") if not callable(getattr(task, method, None))]
    if not isinstance(getattr(task, "verifier", None), str):
        lacks.append("verifier (a string)")
    if lacks:
        raise KintsugiError(
            f"{what}: a task has train(), evaluation() and verifier; it lacks {', '.join(lacks)}"
        )
    found: Task = task
    return found


def built_in(name: str) -> Callable[..., Any]:
    """The class registered under `name`; only its own module is imported."""
    if name not in TASKS:
        raise KintsugiError(
            f"unknown task {name!r}; {did_you_mean(name, TASKS)} (there are {', '.join(TASKS)}, "
            "and my_task.py:MyTask)"
        )
    module, attribute = TASKS[name]
    make: Callable[..., Any] = getattr(import_module(module), attribute)
    return make


def check_arguments(what: str, make: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """KintsugiError when `make` has no such argument, or requires one that is not given."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # classes written in C need not have a signature
        return
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    accepted = f"accepted: {', '.join(named) or 'none'}"
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for key in arguments:
            if key not in named:
                raise KintsugiError(f"{what}: unknown argument {key!r}; {accepted}")
    for key, parameter in named.items():
        if parameter.default is parameter.empty and key not in arguments:
            raise KintsugiError(f"{what}: missing argument {key!r}; {accepted}")


def training_problems(task: Task) -> Sequence[Problem]:
    """`task.train()`, checked: a sequence of at least one Problem."""
    return checked(task.train, f"{type(task).__name__}.train()")


def evaluation_problems(task: Task) -> Sequence[Problem]:
    """`task.evaluation()`, checked: a sequence of at least one Problem."""
    return checked(task.evaluation, f"{type(task).__name__}.evaluation()")


def checked(make: Callable[[], object], what: str) -> Sequence[Problem]:
    """What `make` returns; KintsugiError when it raises, or returns no sequence of Problems with ids of their own."""
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
