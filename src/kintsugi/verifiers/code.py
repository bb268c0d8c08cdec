"""`verifier: code`: programs as answers, run against the problem's tests in a sandbox."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from kintsugi.records import KintsugiError, Problem, Verdict
from kintsugi.verifiers.base import UNKNOWN, Sampled
from kintsugi.verifiers.extract import spoken
from kintsugi.verifiers.guard import MESSAGE_LIMIT
from kintsugi.verifiers.inside.script import UNREADABLE
from kintsugi.verifiers.inside.suite import Task
from kintsugi.verifiers.sandbox import Ran, Sandbox

TEST_COLUMNS = ("tests", "test_list", "test")
SETUP_COLUMNS = ("test_imports", "test_setup_code")
LANGUAGES = ("python", "python3", "py")
SMALLEST = 64
"""MiB: the interpreter, the tests and their messages need some of it."""
ROOM = 2**20
"""Bytes that a program may write beyond twice what is expected of it, before it is stopped."""
START = 0.25
"""Seconds that the start of a program may take, beside its time limit: for each input on stdin, it is started anew."""
NO_PROGRAM = Verdict(
    "unscorable", message="no program: expected a fenced block ```python, or nothing but Python"
)


class Pairs(NamedTuple):
    """The stdin that a program is given and the stdout that it must write, run by run."""

    inputs: Sequence[str]
    outputs: Sequence[str]


class CodeVerifier:
    """Passes iff the program passes all of the problem's tests; passing some of them pays nothing.

    The program is the last ```python block of a text after its thoughts, else its last fenced block, else all of it if
    that is Python. Tests are in a column of the problem: assertions or Python code in `tests`, `test_list` or `test`
    (beside `entry_point`, `test_imports` and `test_setup_code`), or texts for stdin and stdout in `input_output`.

    timeout: seconds that a program may take for all of its tests, beside a quarter of a second for each time that it
    is started (once for assertions, once for each text for stdin). memory: MiB that it may use.

    The program runs in a sandbox (kintsugi.verifiers.sandbox). Expected results never get there, nor does
    the verdict: stdout is compared out here, and assertions run in a second sandbox, where the program's functions
    are proxies that send arguments one way and get values back (kintsugi.verifiers.inside). So no code of the
    program can touch the tests, the values it is compared with, or what is reported. Three things are left to it:

    - Everything that its tests let through: it may know the tests' inputs and answer them by a table.
    - Names that tests use but neither define nor import are the program's, unless Python or the gold answer
      says what they are. A tolerance computed by a helper of the program is the program's to choose.
    - Faults of the kernel or of Python's JSON reader. Kernel memory (of small files, pipes) is bounded by the
      time limit only.

    The price: tests see values of built-in types and the standard library as copies, and other objects through
    proxies, which equal no plain value unless they derive from a plain type. Only the standard library is there to
    import. Tests are read a little more strictly than by Python (kintsugi.verifiers.inside.rewriting): a nan against a
    tolerance, a `zip` cut short, an object equal to anything and an expected value computed from a changed argument
    do not pass.

    unsafe: a plain process with limits and a clock instead of the sandbox. A program then can do to the machine
    what you can, and can get at the verdict by way of the parent. KintsugiError where no sandbox can be made.
    """

    def __init__(self, timeout: float = 10.0, memory: int = 512, unsafe: bool = False) -> None:
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < 1e6:
            raise KintsugiError(f"verifier code: expected a timeout in seconds above 0, got {timeout!r}")
        if isinstance(memory, bool) or not isinstance(memory, int) or memory < SMALLEST:
            raise KintsugiError(f"verifier code: memory: expected MiB, at least {SMALLEST}, got {memory!r}")
        if not isinstance(unsafe, bool):
            raise KintsugiError(f"verifier code: unsafe: expected true or false, got {unsafe!r}")
        self.sandbox = Sandbox(float(timeout), memory * 2**20, unsafe)
        self.sandbox.check()

    def __call__(self, problem: Problem, texts: Sequence[str], sampled: Sampled = UNKNOWN) -> list[Verdict]:
        tests = tests_of(problem)
        # A program and its tests wait for each other: one core per program is enough, and leaves clocks fair.
        pool = ThreadPoolExecutor(min(len(texts), max(1, (os.cpu_count() or 2) // 2)) or 1)
        try:
            return list(pool.map(lambda text: self.judge(tests, text), texts))
        finally:
            pool.shutdown(cancel_futures=True)

    def judge(self, tests: Task | Pairs, text: str) -> Verdict:
        """The verdict on one completion."""
        answer = spoken(text) or ""
        program = fenced(answer)
        bare = program is None
        program = answer if program is None else program
        if not program.strip():
            return NO_PROGRAM
        if isinstance(tests, Pairs):
            state, why = self.compared(program, tests)
        else:
            state, why = self.sandbox.tests(program, tests, time.monotonic() + self.sandbox.timeout + START)
        why = printable(why)[:MESSAGE_LIMIT]
        if state == "unreadable":
            return NO_PROGRAM if bare else Verdict("fail", message=why)
        if state == "error":
            return Verdict("error", message=why)
        return Verdict.scored(float(state == "pass"), why)

    def compared(self, program: str, tests: Pairs) -> tuple[str, str]:
        """Runs the program on each input, up to the first whose output is not the expected one."""
        timeout = self.sandbox.timeout
        end = time.monotonic() + timeout + START * len(tests.inputs)
        for number, (given, expected) in enumerate(zip(tests.inputs, tests.outputs, strict=True), 1):
            ran = self.sandbox.script(
                program,
                given.encode(errors="replace"),
                2 * len(expected) + ROOM,
                min(end, time.monotonic() + timeout + START),
            )
            if why := why_failed(ran, expected):
                state = "unreadable" if ran.code == UNREADABLE and not ran.stopped else "fail"
                return state, f"test {number} of {len(tests.inputs)}: {why}"
        return "pass", ""


def why_failed(ran: Ran, expected: str) -> str:
    """The failure of a run, or "". Space around lines and around the whole does not matter."""
    if ran.stopped:
        return ran.stopped
    if ran.code:
        words = ran.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return f"exit code {ran.code}: {words}"
    written = trimmed(ran.stdout.decode(errors="replace"))
    return "" if written == trimmed(expected) else "another output than expected"


def printable(text: str) -> str:
    """`text` for logs and terminals, with a replacement character for what a program may have made to break them."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in text)


def trimmed(text: str) -> list[str]:
    return [line.strip() for line in text.strip().split("\n")]


def fenced(text: str) -> str | None:
    """The last block marked as Python, else the last fenced block, else None. A block may lack its end."""
    found: dict[bool, str] = {}
    lines: list[str] = []
    fence, language, indent = "", "", 0
    for line in [*text.split("\n"), None]:
        bare = "" if line is None else line.strip()
        ticks = bare[: len(bare) - len(bare.lstrip("`"))]
        if not fence:
            if len(ticks) >= 3 and line is not None:
                fence, language, lines = ticks, bare[len(ticks) :].strip().lower(), []
                indent = len(line) - len(line.lstrip())
        elif line is None or (ticks == bare and len(ticks) >= len(fence)):
            found[language.partition(" ")[0] in LANGUAGES] = "\n".join(lines)
            fence = ""
        else:
            lines.append(line[indent:] if line[:indent].isspace() else line)
    return found.get(True, found.get(False))


def tests_of(problem: Problem) -> Task | Pairs:
    """The tests that the problem's columns hold; KintsugiError says what was expected there."""
    columns = problem.columns
    for name in TEST_COLUMNS:
        if value := columns.get(name):
            setup = [
                text for column in SETUP_COLUMNS for text in codes(problem, column, columns.get(column) or [])
            ]
            entry = columns.get("entry_point") or ""
            return Task(setup, codes(problem, name, value), str(entry), problem.answer)
    if value := columns.get("input_output"):
        return pairs(problem, value)
    raise KintsugiError(
        f"problem {problem.id}: verifier code expects tests in a column {', '.join(TEST_COLUMNS)} or input_output; "
        f"there are {', '.join(columns) or 'none'}"
    )


def codes(problem: Problem, column: str, value: Any) -> list[str]:
    """Python texts: a list of them, or one."""
    value = from_json(value)
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, Sequence) or not all(isinstance(text, str) for text in found):
        raise KintsugiError(
            f"problem {problem.id}: {column}: expected Python code or a list of assert statements, found {value!r:.80}"
        )
    return list(found)


def pairs(problem: Problem, value: Any) -> Pairs:
    """Runs from `{"inputs": [...], "outputs": [...]}`; a run given as a list of lines is joined."""
    value = from_json(value)
    if isinstance(value, Mapping) and value.get("fn_name"):
        raise KintsugiError(
            f"problem {problem.id}: input_output: calls of a function (fn_name) are tested by assert statements in "
            "a column tests"
        )
    lists = [value.get(key) if isinstance(value, Mapping) else None for key in ("inputs", "outputs")]
    found = [
        ["\n".join(map(str, item)) if isinstance(item, list | tuple) else str(item) for item in items]
        for items in lists
        if isinstance(items, Sequence) and not isinstance(items, str)
    ]
    if len(found) < 2 or not found[0] or len(found[0]) != len(found[1]):
        raise KintsugiError(
            f"problem {problem.id}: input_output: expected inputs and outputs, lists of one length, found {value!r:.80}"
        )
    return Pairs(*found)


def from_json(value: Any) -> Any:
    """The value of a text as JSON, where it is a list or an object; else the value itself."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
