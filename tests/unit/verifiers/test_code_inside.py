"""Tests and a program, each at its end of the line, but here in two threads: the values, exceptions and verdicts
that come of it. The same in two sandboxes: tests/faults/test_code_verifier.py.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from crossings import RIGHT, WRONG

from kintsugi.verifiers.inside import suite
from kintsugi.verifiers.inside.program import Program
from kintsugi.verifiers.inside.wire import Gone


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a process of its own may leave as it is."""
    monkeypatch.setattr(sys, "argv", sys.argv)
    before = dict(sys.modules)
    yield
    for name in ("__main__", "program", "solution"):
        sys.modules.pop(name, None)
        if name in before:
            sys.modules[name] = before[name]


def judged(
    program: str, *tests: str, setup: tuple[str, ...] = (), answer: str = "-", entry: str = ""
) -> suite.Outcome:
    asked, ask = os.pipe()
    told, tell = os.pipe()

    def serve() -> None:
        other = Program(program, asked, tell)
        with suppress(Gone), other.incoming, other.outgoing:
            other.serve()

    thread = threading.Thread(target=serve)
    thread.start()
    ours = suite.Tests(told, ask)
    with ours.incoming, ours.outgoing:
        outcome = suite.judged(ours, suite.Task(setup, tests, entry, answer))
    thread.join()
    return outcome


@pytest.mark.parametrize("name", RIGHT)
def test_right_programs_pass(name: str) -> None:
    assert judged(*RIGHT[name]) == ("pass", "")


@pytest.mark.parametrize("name", WRONG)
def test_wrong_programs_fail(name: str) -> None:
    state, why = judged(*WRONG[name])
    assert state == "fail" and why


@pytest.mark.parametrize(
    ("setup", "test", "answer", "message"),
    [
        (
            "",
            "import nothing\nassert f(1) == 1",
            "-",
            "test 1 of 1: ModuleNotFoundError: No module named 'nothing'",
        ),
        (
            "",
            "from math import nothing\nassert f(1) == 1",
            "-",
            "ImportError: cannot import name 'nothing' from 'math'",
        ),
        ("import nothing", "assert f(1) == 1", "-", "the tests' setup: ModuleNotFoundError"),
        ("x = 1 / 0", "assert f(x) == 1", "-", "the tests' setup: ZeroDivisionError: division by zero"),
        (
            "",
            "assert nothing.same(f(1), 1)",
            "import nothing\ndef f(x): return x",
            "the gold answer's import nothing",
        ),
        ("", "def test_f():\n    import nothing\n    assert f(1) == 1", "-", "test_f: ModuleNotFoundError"),
        (
            "",
            "import unittest\nclass T(unittest.TestCase):\n    def test(self): import nothing; f(1)",
            "-",
            "T: ModuleNotFoundError",
        ),
        ("", "x = 1", "-", "no test uses the program"),
    ],
)
def test_faults_of_the_data_are_errors(setup: str, test: str, answer: str, message: str) -> None:
    state, why = judged("f = lambda x: x", test, setup=(setup,) if setup else (), answer=answer)
    assert state == "error" and message in why


def test_faults_of_the_program_in_the_setup_are_not() -> None:
    """The setup asks the program for `x`, which this one lacks; then for an item of it."""
    assert judged("g = 1", "assert y == 1", setup=("y = x",))[0] == "fail"
    assert judged("x = []", "assert y == 1", setup=("y = x[0]",))[0] == "fail"
    assert judged("x = [1]", "assert y == 1 and x", setup=("y = x[0]",))[0] != "fail"


def test_built_in_names_that_the_gold_answer_defines_are_the_programs() -> None:
    gold = "def zip(a, b): return a + b"
    assert judged(gold, "assert zip(1, 2) == 3", answer=gold) == ("pass", "")
