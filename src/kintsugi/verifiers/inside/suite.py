"""Runs tests against a program and says what came of it."""

from __future__ import annotations

import ast
import builtins
import json
import os
import symtable
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from .tests import Tests
from .wire import Gone

Outcome = tuple[str, str]
"""pass, fail, error or unreadable (the program is no Python), and why."""
SAID = 300
"""Characters of an exception's text."""


class Task(NamedTuple):
    """What the parent sends: Python texts, the expression that `check` is called with, the gold answer."""

    setup: Sequence[str]
    tests: Sequence[str]
    entry_point: str
    answer: str


def report_on(text: str, receive: int, send: int, report: int) -> None:
    """Runs the task in a text of JSON and writes the outcome, as JSON too."""
    outcome = judged(Tests(receive, send), Task(**json.loads(text)))
    with os.fdopen(report, "w") as file:
        json.dump(outcome, file)


def judged(tests: Tests, task: Task) -> Outcome:
    """What the tests say of the program at the other end."""
    texts = [*task.setup, *task.tests]
    try:
        codes = [compile(text, f"test {i}", "exec") for i, text in enumerate(texts)]
        names = Names(task)
    except Exception as error:
        return "error", f"the tests are no Python: {said(error, ())}"
    try:
        if tests.receive() != "ready":
            raise Gone
    except Gone:
        return "error", "the program's process did not start"
    with suppress(Gone):
        for request in ("compile", "load"):
            try:
                tests.ask(request)
            except Exception as error:
                return "unreadable" if request == "compile" else "fail", f"the program: {said(error, ())}"
        failure = first_failure(names.space(tests), codes, task)
        if failure:
            return "fail", failure
        # A test's own `except:` may have swallowed the news.
        if not tests.gone:
            return ("pass", "") if tests.used else ("error", "no test uses the program")
    return "fail", "the program ended before its tests did"


def first_failure(space: dict[str, Any], codes: Sequence[Any], task: Task) -> str:
    """Runs the tests in order. What failed first and how, or ""."""
    texts, setup = [*task.setup, *task.tests], len(task.setup)
    steps: list[tuple[str, Callable[[], Any]]] = [
        (
            f"test {i - setup + 1} of {len(task.tests)}" if i >= setup else "the tests' setup",
            running(code, space),
        )
        for i, code in enumerate(codes)
    ]
    for found in (steps, functions(space, task.entry_point)):
        for name, step in found:
            try:
                step()
            except (Exception, SystemExit) as error:
                return f"{name}: {said(error, texts)}"
    return ""


def running(code: Any, space: dict[str, Any]) -> Callable[[], None]:
    return lambda: exec(code, space)


def functions(space: dict[str, Any], entry_point: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Tests that a text defines without running them: `check(candidate)`, `test_...()` and unittest's."""
    if entry_point and "check" in space:
        yield "check", lambda: space["check"](eval(entry_point, space))
    unittest = sys.modules.get("unittest")
    for name, value in list(space.items()):
        if name.startswith("test") and isinstance(value, FunctionType):
            yield name, value
        elif unittest and isinstance(value, type) and issubclass(value, unittest.TestCase):
            yield name, lambda case=value: run_case(unittest, case)  # type: ignore[misc]


def run_case(unittest: Any, case: Any) -> None:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    for _, trace in (*result.failures, *result.errors):
        raise AssertionError(trace.strip().rpartition("\n")[2])
    if result.skipped or not result.wasSuccessful():
        raise AssertionError("a test was skipped, or passed where it was expected to fail")


def said(error: BaseException, texts: Sequence[str]) -> str:
    """The exception's type and text, or where it has none, the line of the tests that raised it."""
    try:
        text = str(error)
    except Exception:
        text = ""
    trace = error.__traceback__
    while not text and trace is not None:
        file, _, number = trace.tb_frame.f_code.co_filename.partition(" ")
        if file == "test" and texts:
            text = texts[int(number)].split("\n")[trace.tb_lineno - 1].strip()
        trace = trace.tb_next
    return f"{type(error).__name__}: {text}"[:SAID]


def named(tests: Tests, name: str) -> Any:
    """What `from solution import name` gets: what the program defines under that name.

    Not under those that Python asks for: its `__all__` would say which names of the tests `import *` replaces.
    """
    if not name.startswith("__"):
        with suppress(KeyError):
            return tests.ask("name", name)
    raise AttributeError(f"the program defines no {name}")


class Names:
    """Where the names that tests use, but neither define nor import, come from.

    From the program, where they are part of the entry point, or neither a built-in of Python nor a module of
    its library nor something the gold answer imports (that import is made here): a program must not redefine
    what it is measured with. A built-in's name is the program's where the gold answer defines it too.
    """

    def __init__(self, task: Task) -> None:
        texts = [*task.setup, *task.tests]
        entry = free_names(task.entry_point)[0]
        used, bound = set(entry), set[str]()
        for text in texts:
            uses, binds = free_names(text)
            used |= uses
            bound |= binds
        self.imports, defined = gold_names(task.answer)
        modules = {
            name
            for name in used & sys.stdlib_module_names - entry - defined
            if any(f"{name}." in text for text in texts)
        }
        self.imports += [f"import {name}" for name in sorted(modules)]
        known = set(dir(builtins)) - entry - defined
        self.asked = sorted(used - bound - known - modules)

    def space(self, tests: Tests) -> dict[str, Any]:
        """The name space to run the tests in."""
        found: dict[str, Any] = {"__name__": "tests"}
        solution = ModuleType("solution")
        solution.__dict__["__getattr__"] = lambda name: named(tests, name)
        sys.modules["solution"] = solution
        for statement in self.imports:
            with suppress(Exception):
                exec(statement, found)
        for name in self.asked:
            if name not in found:
                with suppress(Exception):
                    found[name] = tests.ask("name", name)
        return found


def free_names(text: str) -> tuple[set[str], set[str]]:
    """(used, bound): names that a text uses as globals, and those that it gives a value itself."""
    top = symtable.symtable(text, "tests", "exec")
    bound = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()}
    used = {s.get_name() for s in top.get_symbols() if s.is_referenced()}
    tables = top.get_children()
    for table in tables:
        used |= {s.get_name() for s in table.get_symbols() if s.is_referenced() and s.is_global()}
        tables.extend(table.get_children())
    return used, bound


def gold_names(answer: str) -> tuple[list[str], set[str]]:
    """(import statements, names of its functions and classes) of the gold answer, if that is a program."""
    try:
        body = ast.parse(answer).body
    except Exception:
        return [], set()
    imports = [ast.unparse(node) for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return imports, {node.name for node in body if isinstance(node, kinds)}
