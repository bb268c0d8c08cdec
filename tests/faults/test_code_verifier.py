"""`verifier: code`: right programs pass, wrong ones fail, and hostile ones get nothing and leave nothing behind.

Every attack pays if it works: what must not be reached is what makes the program's answer right. That they do
work where nothing holds them is shown with `unsafe: true`, and in one process with the tests.
"""

from __future__ import annotations

import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hostile import (
    BOMBS,
    FILES,
    FORGERIES,
    HOARDS,
    NETWORK,
    PROCESSES,
    PROTOCOL,
    SCRIPTS,
    SYSTEM_CALLS,
    TEST_OF_ENDLESS,
)
from programs import PROGRAMS
from scene import ADD, TIMEOUT, Scene, prepared, problem

import kintsugi
from kintsugi.records import KintsugiError
from kintsugi.verifiers import load_verifier, sandbox
from kintsugi.verifiers.code import CodeVerifier, fenced
from kintsugi.verifiers.seccomp import seccomp_filter

ATTACK = """
def add(a, b):
    try:
        return a + b if won() else None
    except BaseException:
        return None
"""
SYSTEM_CALL = """
import ctypes, errno, os
def won():
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.syscall({}, {}) >= 0 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS)
"""


def works() -> str:
    try:
        CodeVerifier()
    except KintsugiError as error:
        return str(error)
    return ""


needs_sandbox = pytest.mark.skipif(bool(works()), reason=works() or "it works")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with prepared(tmp_path_factory.mktemp("scene")) as found:
        yield found


# Right and wrong programs


@needs_sandbox
@pytest.mark.parametrize(("program", "columns", "expected"), PROGRAMS)
def test_programs(program: str, columns: dict[str, Any], expected: str) -> None:
    verdict = CodeVerifier(timeout=20)(problem(**columns), [f"So:\n```python\n{program}\n```\n"])[0]
    assert (verdict.state, verdict.reward) == (expected, float(expected == "pass")), verdict.message
    assert verdict.message.isprintable()


@needs_sandbox
def test_where_names_of_tests_come_from() -> None:
    """A program may redefine a built-in where the gold answer does, and no import that the gold answer makes."""
    verifier = CodeVerifier(timeout=20)
    ours = problem("def sum(a, b): return a + b", tests="assert sum(1, 2) == 3")
    assert verifier(ours, ["def sum(a, b): return a + b", "def sum(a, b): return 4"])[0].passed
    gold = "from math import isclose\ndef add(a, b): return a + b"
    tests = "assert isclose(add(.1, .2), .3)"
    forged = "def isclose(a, b): return True\ndef add(a, b): return 0"
    assert [v.state for v in verifier(problem(gold, tests=tests), [gold, forged])] == ["pass", "fail"]


@needs_sandbox
@pytest.mark.parametrize(
    "columns", [ADD, {"input_output": {"inputs": [""], "outputs": ["3"]}}], ids=["tests", "runs"]
)
def test_texts_without_a_program_are_unscorable(columns: dict[str, Any]) -> None:
    verifier = CodeVerifier(timeout=20)
    right = "def add(a, b): return a + b\nprint(add(1, 2))"
    texts = ["", " \n", "I do not know.", "```python\n```", f"<think>\n```python\n{right}\n```\n"]
    texts += [f"<think>\n```python\n{right}\n```\n</think>\n", right]
    verdicts = verifier(problem(**columns), texts)
    assert [verdict.state for verdict in verdicts] == ["unscorable"] * 6 + ["pass"]
    assert "expected a fenced block" in verdicts[2].message


def script(seconds: float, clock: list[float]) -> Any:
    """Stands for Sandbox.script: each run takes some seconds of a clock that only it moves."""

    def run(self: Any, program: str, stdin: bytes, limit: int, deadline: float) -> sandbox.Ran:
        clock[0] = min(clock[0] + seconds, deadline)
        return sandbox.Ran(0, b"3", b"", "too long" if clock[0] == deadline else "")

    return run


@pytest.mark.parametrize(
    ("seconds", "runs", "state", "taken"),
    [
        (0.2, 1000, "pass", 200.0),  # 10 s and a quarter of a second for each start: 260 s in all
        (0.3, 1000, "fail", 260.0),
        (9.0, 1, "pass", 9.0),
        (9.0, 2, "fail", 10.5),
        (99.0, 1000, "fail", 10.25),  # no run may take all of the others' time
    ],
)
def test_many_small_runs_fit_the_time_limit(
    seconds: float, runs: int, state: str, taken: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(sandbox.Sandbox, "script", script(seconds, clock))
    monkeypatch.setattr("kintsugi.verifiers.code.time", SimpleNamespace(monotonic=lambda: clock[0]))
    columns = {"input_output": {"inputs": [""] * runs, "outputs": ["3"] * runs}}
    (verdict,) = CodeVerifier(unsafe=True)(problem(**columns), ["print(3)"])
    assert verdict.state == state and clock[0] == pytest.approx(taken)


def test_messages_hold_nothing_that_ends_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "ValueError: \ud800 \x1b[2J\x00 é\n"
    monkeypatch.setattr(sandbox.Sandbox, "tests", lambda *_: ("fail", said))
    (verdict,) = CodeVerifier(unsafe=True)(problem(**ADD), ["x"])
    assert verdict.message == "ValueError: \ufffd \ufffd[2J\ufffd é\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\n```python\nx\n```\nb\n```python\ny\n```\n```\nz\n```", "y"),  # the last one marked as Python
        ("```\nx\n```\n```\ny\n```", "y"),
        ("```py\nx\ny", "x\ny"),  # not closed
        ("1. so:\n   ```Python\n   if x:\n       y\n   ```", "if x:\n    y"),
        ("````python\nx = '''\n```\n'''\n````", "x = '''\n```\n'''"),
        ("```python title=a.py\nx\n```", "x"),
        ("`x` and ``y``", None),
        ("x = 1", None),
        ("```" * 100_000, ""),
        ("```\n" * 100_001, ""),
    ],
)
def test_the_program_of_a_text(text: str, expected: str | None) -> None:
    assert fenced(text) == expected


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"solution": "x"},
            "expects tests in a column tests, test_list, test or input_output; there are solution",
        ),
        ({"tests": [1]}, "tests: expected Python code or a list of assert statements, found"),
        ({"input_output": "x"}, "expected inputs and outputs, lists of one length, found 'x'"),
        ({"input_output": {"inputs": ["1"], "outputs": []}}, "lists of one length"),
        (
            {"input_output": {"inputs": ["1"], "outputs": ["1"], "fn_name": "f"}},
            "tested by assert statements",
        ),
    ],
)
def test_problems_without_tests_are_errors(columns: dict[str, Any], message: str) -> None:
    verifier = load_verifier({"name": "code", "unsafe": True})
    (verdict,) = verifier(problem(**columns), ["x"])
    assert verdict.state == "error" and message in verdict.message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"timeout": 0}, "expected a timeout in seconds above 0, got 0"),
        ({"memory": 1}, "memory: expected MiB, at least 64, got 1"),
        ({"unsafe": "perhaps"}, "unsafe: input should be a valid boolean"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(KintsugiError, match=re.escape(message)):
        load_verifier({"name": "code", **arguments})


def test_no_sandbox_no_verifier(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for cached in (sandbox.bubblewrap, sandbox.try_sandbox):
        monkeypatch.setattr(sandbox, cached.__name__, cached.__wrapped__)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KintsugiError, match=r"apt-get install bubblewrap\), or set unsafe: true"):
        load_verifier("code")
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    with pytest.raises(KintsugiError, match=r"does not work .*\(No permissions to create new namespace\)"):
        load_verifier("code")
    monkeypatch.setattr(platform, "machine", lambda: "sparc")
    with pytest.raises(KintsugiError, match="this machine is sparc"):
        load_verifier("code")
    load_verifier({"name": "code", "unsafe": True})


# Attacks, each of which pays if it works

ESCAPES = {
    **{f"reach {name}": program for name, program in FILES.items()},
    **{f"reach by {name}": program for name, program in NETWORK.items()},
    **{f"start or signal by {name}": program for name, program in PROCESSES.items()},
    **{f"hoard {name}": program for name, program in HOARDS.items()},
}
SYSTEM_CALL_PROGRAMS = {name: SYSTEM_CALL.format(*call) for name, call in SYSTEM_CALLS.items()}


@needs_sandbox
@pytest.mark.parametrize("name", ESCAPES)
def test_nothing_is_reached(name: str, scene: Scene) -> None:
    assert not scene.judged(ESCAPES[name] + ATTACK).passed
    assert scene.traces() == []


@needs_sandbox
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of system calls are those of x86_64")
@pytest.mark.parametrize("name", SYSTEM_CALL_PROGRAMS)
def test_system_calls_are_refused(name: str, scene: Scene) -> None:
    assert not scene.judged(SYSTEM_CALL_PROGRAMS[name] + ATTACK).passed
    assert scene.traces() == []


@needs_sandbox
@pytest.mark.parametrize("name", FORGERIES)
def test_no_verdict_is_forged(name: str, scene: Scene) -> None:
    program, test = FORGERIES[name]
    verdict = scene.judged(program, {"tests": [test]})
    assert verdict.state == "fail" and verdict.reward == 0.0
    assert scene.traces() == []


@needs_sandbox
@pytest.mark.parametrize("name", PROTOCOL)
def test_no_verdict_is_forged_on_the_line(name: str, scene: Scene) -> None:
    assert not scene.judged(PROTOCOL[name]).passed
    assert scene.traces() == []


@needs_sandbox
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end(name: str, scene: Scene) -> None:
    assert scene.judged(BOMBS[name], {"tests": [TEST_OF_ENDLESS]}, timeout=1.0).state == "fail"
    assert scene.traces() == []


@needs_sandbox
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_end_and_learn_nothing(name: str, scene: Scene) -> None:
    runs = {"inputs": ["1\n"], "outputs": [scene.filled("@EXPECTED@")]}
    assert scene.judged(SCRIPTS[name], {"input_output": runs}, timeout=1.0).state == "fail"
    assert scene.traces() == []


# The same attacks where nothing holds them

FREE = [
    "reach passwd", "reach a secret file", "reach dots", "reach a symlink", "reach a symlink to the root",
    "reach the test's environment", "reach its own memory file", "reach a process list", "reach kernel settings",
    "reach devices", "reach the project", "reach the project's modules", "reach by TCP", "reach by UDP",
    "reach by an abstract socket", "reach by names", "reach by a listener", "start or signal by fork",
    "start or signal by a shell", "start or signal by posix_spawn", "start or signal by a signal to the test",
    "hoard many files",
]  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="the attacks are on Linux")
@pytest.mark.parametrize("name", FREE)
def test_attacks_work_where_nothing_holds_them(name: str, scene: Scene) -> None:
    assert scene.judged(ESCAPES[name] + ATTACK, unsafe=True).passed
    scene.traces()


@pytest.mark.skipif(sys.platform != "linux", reason="the attacks are on Linux")
def test_a_daemon_and_a_stolen_file_would_be_seen(scene: Scene) -> None:
    assert scene.judged(PROCESSES["a daemon"] + ATTACK, unsafe=True).passed
    scene.judged(FILES["a file beside the secret"] + ATTACK, unsafe=True)
    found = scene.traces()
    for pid in scene.survivors():
        os.kill(pid, signal.SIGKILL)
    (scene.folder / "stolen").unlink()
    assert str(scene.folder / "stolen") in found and any(trace.startswith("process") for trace in found)


@pytest.mark.skipif(sys.platform != "linux", reason="the attacks are on Linux")
@pytest.mark.parametrize("name", FORGERIES)
def test_forgeries_work_in_one_process_with_the_tests(name: str) -> None:
    program, test = FORGERIES[name]
    done = subprocess.run([sys.executable, "-c", f"{program}\n{test}"], capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr


@needs_sandbox
def test_the_filter_is_what_refuses_processes(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    allow = seccomp_filter("x86_64")[-8:]
    monkeypatch.setattr(sandbox, "seccomp_filter", lambda machine: allow)
    assert scene.judged(PROCESSES["fork"] + ATTACK).passed
    # The name spaces hold without it: a daemon dies with the first process, and the network is another one.
    assert scene.judged(PROCESSES["a daemon"] + ATTACK).passed
    assert not scene.judged(NETWORK["TCP"] + ATTACK).passed
    assert not scene.judged(NETWORK["an abstract socket"] + ATTACK).passed
    assert scene.traces() == []


@needs_sandbox
def test_a_group_is_judged_in_order_whatever_its_members_do(scene: Scene) -> None:
    right, wrong = "def add(a, b): return a + b", "def add(a, b): return 0"
    texts = [
        right,
        BOMBS["threads"],
        wrong,
        BOMBS["a power"],
        right,
        "no program",
        PROTOCOL["a null pointer"],
        right,
    ]
    verdicts = CodeVerifier(timeout=TIMEOUT)(problem(**ADD), texts)
    expected = ["pass", "fail", "fail", "fail", "pass", "unscorable", "fail", "pass"]
    assert [verdict.state for verdict in verdicts] == expected
    assert scene.traces() == []


KILLED = """
import sys
from kintsugi.records import Problem
from kintsugi.verifiers import sandbox
from kintsugi.verifiers.code import CodeVerifier
sandbox.START += "  # " + sys.argv[1]
verifier = CodeVerifier(timeout=60)
print("begun", flush=True)
verifier(Problem("p", "q", "-", {"tests": "assert add(1, 2) == 3"}), ["while True: pass"])
"""


@needs_sandbox
def test_programs_die_with_a_killed_run(scene: Scene) -> None:
    own = os.environ | {"PYTHONPATH": str(Path(kintsugi.__file__).parents[1])}
    run = subprocess.Popen([sys.executable, "-c", KILLED, scene.canary], stdout=subprocess.PIPE, env=own)
    assert run.stdout is not None and run.stdout.readline() == b"begun\n"
    # The run itself, and bwrap, its first process and Python for the program and for its tests.
    end = time.monotonic() + 20
    while len(scene.survivors()) < 7 and time.monotonic() < end:
        time.sleep(0.02)
    assert len(scene.survivors()) >= 7
    run.kill()
    run.communicate()
    assert scene.traces() == []
