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
from functools import partial
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from .rewriting import about_finite, built_ins, rewritten
from .tests import Tests
from .wire import Gone

Outcome = tuple[str, str]
"""pass, fail, error or unreadable (the program is no Python), and why."""
SAID = 300
"""Characters of an exception's text."""


class Task(NamedTuple):
    """The parent's message: Python texts, the expression that `check` is called with, the gold answer."""

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
    """The outcome of the tests for the program at the other end."""
    texts = [*task.setup, *task.tests]
    try:
        trees = [rewritten(text, f"test {i}") for i, text in enumerate(texts)]
        codes = [compile(tree, f"test {i}", "exec", dont_inherit=True) for i, tree in enumerate(trees)]
        names = Names(task)
        tests.finite = about_finite(trees, [*texts, task.answer])
    except Exception as error:
        return "error", f"the tests are no Python: {said(error, ())}"
    try:
        if tests.receive() != "ready":
            raise Gone
    except Gone:
        return "error", "the program's process did not start"
    try:
        for request in ("compile", "load"):
            try:
                tests.ask(request)
            except Gone:
                raise
            except BaseException as error:
                return "unreadable" if request == "compile" else "fail", f"the program: {said(error, ())}"
        run_all(names, codes, task, tests)
    except Gone:
        pass
    except Failed as failed:
        return failed.state, str(failed)
    # A test's own `except:` may have swallowed the news.
    if tests.gone:
        return "fail", "the program ended before its tests did"
    if tests.distrust:
        return "fail", tests.distrust
    return ("pass", "") if tests.used else ("error", "no test uses the program")


class Failed(BaseException):
    """The end of the tests: `fail`, or `error` where no program could pass. No Exception, like Gone."""

    def __init__(self, state: str, why: str) -> None:
        super().__init__(why)
        self.state = state


def run_all(names: Names, codes: Sequence[Any], task: Task, tests: Tests) -> None:
    """Runs the tests in order. Failed says what failed first and how."""
    texts, setup = [*task.setup, *task.tests], len(task.setup)
    space = names.space(tests)
    for i, compiled in enumerate(codes):
        name = f"test {i - setup + 1} of {len(task.tests)}" if i >= setup else "the tests' setup"
        alone = i < setup and not names.touched(texts[: i + 1])
        run(name, partial(run_text, compiled, space, tests), texts, tests, alone)
    for name, step in functions(space, task.entry_point):
        run(name, step, texts, tests)


def run(name: str, step: Callable[[], Any], texts: Sequence[str], tests: Tests, alone: bool = False) -> None:
    """One step. `alone`: it has nothing to do with the program, so that a failure is the data's.

    So is an import that fails among the tests.
    """
    try:
        step()
    except (Gone, Failed):
        raise
    except BaseException as error:
        own = not tests.gave(error)
        missing = isinstance(error, ImportError) and str(error.name).partition(".")[0] != "solution"
        state = "error" if own and (alone or missing) else "fail"
        raise Failed(state, f"{name}: {said(error, texts)}") from None


def run_text(compiled: Any, space: dict[str, Any], tests: Tests) -> None:
    """Runs a text of the tests, which may end itself without complaint, as by `unittest.main()`."""
    try:
        exec(compiled, space)
    except SystemExit as error:
        if error.code or tests.gave(error):
            raise


def functions(space: dict[str, Any], entry_point: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Tests that a text defines without running them: `check(candidate)`, `test_...()` and unittest's."""
    if entry_point and "check" in space:
        yield "check", lambda: space["check"](eval(compile(entry_point, "entry point", "eval"), space))
    unittest = sys.modules.get("unittest")
    for name, value in list(space.items()):
        if name.startswith("test") and isinstance(value, FunctionType):
            yield name, value
        elif unittest and isinstance(value, type) and issubclass(value, unittest.TestCase):
            yield name, lambda case=value: run_case(unittest, case)  # type: ignore[misc]


def run_case(unittest: Any, case: Any) -> None:
    result, found = unittest.TestResult(), []
    result.addError = result.addFailure = lambda test, raised: found.append(raised[1])
    result.addSubTest = lambda test, part, raised: found.extend([raised[1]] if raised else [])
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    if found:
        raise found[0]
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
    """The object that `from solution import name` gets: what the program defines under that name.

    Not under those that Python asks for: its `__all__` would say which names of the tests `import *` replaces.
    """
    if not name.startswith("__"):
        with suppress(KeyError):
            return tests.ask("name", name)
    raise AttributeError(f"the program defines no {name}")


class Names:
    """The names that tests use, but neither define nor import.

    They come from the program, where they are part of the entry point, or neither a built-in of Python nor a module of
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
        self.needed = used - bound

    def touched(self, texts: Sequence[str]) -> bool:
        """Tells whether some of the tests' texts have to do with the program."""
        names = {"solution", *self.asked}
        return any("solution" in text or names & free_names(text)[0] for text in texts)

    def space(self, tests: Tests) -> dict[str, Any]:
        """The name space to run the tests in, which is that of a main module. Failed where an import of them fails."""
        sys.argv = ["tests.py"]
        main = sys.modules["__main__"] = ModuleType("__main__")
        found = main.__dict__
        solution = ModuleType("solution")
        solution.__dict__["__getattr__"] = lambda name: named(tests, name)
        sys.modules["solution"] = solution
        for statement in self.imports:
            try:
                exec(statement, found)
            except Exception as error:
                if self.needed & free_names(statement)[1]:
                    raise Failed("error", f"the gold answer's {statement}: {said(error, ())}") from None
        for name in self.asked:
            if name not in found:
                try:
                    found[name] = tests.ask("name", name)
                except Gone:
                    raise
                except BaseException:  # the program does not define it
                    continue
        for name, value in built_ins(tests).items():
            found.setdefault(name, value)
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
