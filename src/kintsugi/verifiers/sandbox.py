"""Runs a program where it can reach nothing: bubblewrap's name spaces, a filter of system calls, limits, a clock.

Within, there are Python's standard library and the system's libraries (read-only), a tmpfs of 16 MiB to work
in, /dev/null, and nothing else: no other files, no network, no /proc, no environment, no processes but the
program's own, which may start threads but no process.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from kintsugi.records import KintsugiError
from kintsugi.verifiers.inside.main import FILE_LIMIT
from kintsugi.verifiers.inside.suite import Outcome, Task
from kintsugi.verifiers.seccomp import ARCHITECTURES, seccomp_filter

Process = subprocess.Popen[bytes]

INSIDE = Path(__file__).with_name("inside")
START = "import sys; sys.path.append({!r}); from inside.main import main; main(sys.argv[1], *map(int, sys.argv[2:]))"
FLAGS = ("-B", "-P", "-s", "-S")
ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "MALLOC_ARENA_MAX": "1"}
"""Sets keep their order, so that a verdict repeats; malloc's arenas would each reserve address space."""
LIBRARIES = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache")
NOBODY = "65534"
TASKS = 64
"""Threads that a program may have."""
TICK = 0.05
"""Seconds between two looks at clock and threads."""
STDERR_LIMIT = 2**20
REPORT_LIMIT = 2**16
"""Bytes of what the tests say."""
PROBE_TIMEOUT = 30.0


class Ran(NamedTuple):
    """The result of a script. `stopped` says why it was ended early, or is ""."""

    code: int
    stdout: bytes
    stderr: bytes
    stopped: str


class StreamReader(threading.Thread):
    """Reads a stream to its end, or to more than `limit` bytes (`over`), into `data`."""

    def __init__(self, stream: IO[bytes] | None, limit: int) -> None:
        super().__init__(daemon=True)
        assert stream is not None
        self.stream, self.limit = stream, limit
        self.data, self.over = b"", False
        self.start()

    def run(self) -> None:
        chunks, size = [], 0
        with suppress(OSError), self.stream:
            while size <= self.limit and (chunk := os.read(self.stream.fileno(), 2**16)):
                chunks.append(chunk)
                size += len(chunk)
            self.over = size > self.limit
        self.data = b"".join(chunks)


class Feeder(threading.Thread):
    """Writes a text with its length before it, then `more`; closes the stream if told to."""

    def __init__(self, stream: IO[bytes] | None, text: str, more: bytes = b"", close: bool = False) -> None:
        super().__init__(daemon=True)
        assert stream is not None
        data = text.encode(errors="surrogatepass")
        self.stream, self.data, self.close = stream, b"%d\n" % len(data) + data + more, close
        self.start()

    def run(self) -> None:
        rest = memoryview(self.data)
        with suppress(OSError, ValueError):  # the other side has ended, or this one has been closed
            while rest:
                rest = rest[os.write(self.stream.fileno(), rest) :]
        if self.close:
            with suppress(OSError):
                self.stream.close()


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Runs programs one by one, within `memory` bytes. Safe to use from several threads.

    unsafe: no sandbox at all, but a plain process with the same limits and clock, which sees and may do
    whatever the user may. Only for programs that are trusted.
    """

    timeout: float
    memory: int
    unsafe: bool = False

    def check(self) -> None:
        """KintsugiError where no sandbox can be made on this machine."""
        if not self.unsafe:
            try_sandbox()

    def script(self, program: str, stdin: bytes, limit: int, deadline: float) -> Ran:
        """Runs a program on `stdin`; it is ended when it writes more than `limit` bytes."""
        pipe = subprocess.PIPE
        with self.running("script", stdin=pipe, stdout=pipe, stderr=pipe) as process:
            Feeder(process.stdin, program, stdin, close=True)
            readers = [StreamReader(process.stdout, limit), StreamReader(process.stderr, STDERR_LIMIT)]
            stopped = self.watch(process, readers, process, deadline)
        for reader in readers:
            reader.join(1)
        return Ran(process.returncode, readers[0].data, readers[1].data, stopped)

    def tests(self, program: str, task: Task, deadline: float) -> Outcome:
        """Runs tests in one sandbox on a program in another, with nothing but a pipe each way between them."""
        with ExitStack() as stack:
            (asked, ask), (told, tell) = (
                [
                    stack.enter_context(os.fdopen(fd, mode, 0))
                    for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True)
                ]
                for _ in range(2)
            )
            streams = {"stdin": told, "stdout": ask, "stderr": subprocess.PIPE}
            tests = stack.enter_context(self.running("tests", **streams))
            told.close()
            report = StreamReader(tests.stderr, REPORT_LIMIT)
            # All of it is with the tests before the program starts, which writes to the same pipe.
            Feeder(tell, json.dumps(task._asdict())).join(max(0.0, deadline - time.monotonic()))
            streams = {"stdin": asked, "stdout": tell, "stderr": subprocess.DEVNULL}
            tried = stack.enter_context(self.running("program", **streams))
            Feeder(ask, program).join(max(0.0, deadline - time.monotonic()))
            for end in (asked, ask, tell):
                end.close()
            stopped = self.watch(tests, [report], tried, deadline)
        report.join(1)
        if stopped:
            return "fail", stopped
        try:
            state, why = json.loads(report.data)
        except ValueError:
            words = report.data.decode(errors="replace").strip().rpartition("\n")[2]
            return "error", f"the tests' process died (exit code {tests.returncode}): {words}"
        return state, why

    @contextmanager
    def running(self, role: str, **streams: Any) -> Iterator[Process]:
        """A process that runs what its stdin begins with. It has ended, and all it started, at the end."""
        words = [role, str(self.memory), str(math.ceil(self.timeout) + 1)]
        with ExitStack() as stack:
            if self.unsafe:
                folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
                start = [str(interpreter()), *FLAGS, "-c", START.format(str(INSIDE.parent)), *words, "0"]
                given: dict[str, Any] = {"env": ENVIRONMENT, "cwd": folder}
            else:
                filter_fd = stack.enter_context(filter_pipe())
                start = [
                    *bubblewrap(),
                    "--seccomp",
                    str(filter_fd),
                    *inner_command(),
                    *words,
                    str(task_limit()),
                ]
                given = {"env": {}, "cwd": "/", "pass_fds": (filter_fd,)}
            # A session of its own: Ctrl-C is for the run, which may want to finish its step.
            process = subprocess.Popen(start, start_new_session=True, **given, **streams)
            try:
                yield process
            finally:
                end(process, self.unsafe)

    def watch(
        self, process: Process, readers: Sequence[StreamReader], tried: Process, deadline: float
    ) -> str:
        """Waits until `process` has ended; returns the reason why it must be ended before, or ""."""
        while process.poll() is None:
            open_ones = [reader for reader in readers if reader.is_alive()]
            if open_ones:
                open_ones[0].join(TICK)
            else:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(TICK)
            if any(reader.over for reader in readers):
                return "the program wrote too much"
            if time.monotonic() > deadline:
                return f"the program took longer than {self.timeout:g} s"
            if threads(tried.pid) > TASKS:
                return f"the program started more than {TASKS} threads"
        return ""


def end(process: Process, group: bool) -> None:
    """Ends a process and all it started: the first process of a name space takes the others with it."""
    if process.poll() is None:  # else its number may be another's by now
        for pid in [*family(process.pid)[1:], process.pid]:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    if group:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def family(pid: int) -> list[int]:
    """A process and those it started, elders first, as far as /proc tells."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for task in islice(Path(f"/proc/{parent}/task").iterdir(), TASKS):
                found += map(int, (task / "children").read_text().split())
    return found


def threads(pid: int) -> int:
    """The number of threads of a process and those it started. RLIMIT_NPROC does not bind root's."""
    count = 0
    for member in family(pid):
        with suppress(OSError):
            count += len(list(Path(f"/proc/{member}/task").iterdir()))
    return count


@contextmanager
def filter_pipe() -> Iterator[int]:
    """A file descriptor to read the system calls' filter from (it is read once)."""
    read, write = os.pipe()
    try:
        os.write(write, seccomp_filter(platform.machine()))  # shorter than any pipe
        os.close(write)
        yield read
    finally:
        os.close(read)


def interpreter() -> Path:
    """The Python that runs this, not the link to it in a virtual environment."""
    return Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()


@cache
def bubblewrap() -> Sequence[str]:
    """The command and all of its options but the filter; KintsugiError where it is not installed."""
    command = shutil.which("bwrap")
    if command is None:
        raise KintsugiError(
            "verifier code: needs bubblewrap to keep programs from the machine, and found no bwrap; install it "
            "(apt-get install bubblewrap), or set unsafe: true where every program is trusted"
        )
    words = [
        command,
        "--unshare-all",
        "--unshare-user",
        "--uid",
        NOBODY,
        "--gid",
        NOBODY,
        "--cap-drop",
        "ALL",
    ]
    words += ["--die-with-parent", "--new-session", "--clearenv"]
    for name, value in (ENVIRONMENT | {"LD_LIBRARY_PATH": "/python/lib", "HOME": "/tmp"}).items():
        words += ["--setenv", name, value]
    for path, place in mounts():
        if path.is_symlink():
            words += ["--symlink", str(path.readlink()), place]
        elif path.exists():
            words += ["--ro-bind", str(path), place]
            for packages in path.glob("python3*/*-packages"):  # what is installed beside Python stays outside
                words += [
                    "--tmpfs",
                    hidden := f"{place}/{packages.relative_to(path)}",
                    "--remount-ro",
                    hidden,
                ]
    words += ["--dev-bind", "/dev/null", "/dev/null", "--size", str(FILE_LIMIT), "--tmpfs", "/tmp"]
    return (*words, "--remount-ro", "/", "--chdir", "/tmp")


def mounts() -> list[tuple[Path, str]]:
    """Paths outside and inside: Python under a name that tells nothing, and the system's libraries."""
    python, prefix = interpreter(), Path(sys.base_prefix)
    found = [(python, f"/python/bin/{python.name}"), (INSIDE, "/python/own/inside")]
    found += [((prefix / name).resolve(), f"/python/{name}") for name in {"lib", sys.platlibdir}]
    return found + [(Path(path), path) for path in LIBRARIES]


def inner_command() -> Sequence[str]:
    return (f"/python/bin/{interpreter().name}", *FLAGS, "-c", START.format("/python/own"))


def task_limit() -> int:
    """RLIMIT_NPROC within the sandbox, 0 for none: before Linux 5.14 it counts all of the user's threads."""
    version = tuple(map(int, re.findall(r"\d+", platform.release())[:2]))
    return TASKS if version >= (5, 14) else 0


@cache
def try_sandbox() -> None:
    """Runs a trivial program in a sandbox; KintsugiError says why that does not work here."""
    bubblewrap()
    if platform.machine() not in ARCHITECTURES:
        raise KintsugiError(
            f"verifier code: has a sandbox for {' and '.join(ARCHITECTURES)}, this machine is {platform.machine()}; "
            "set unsafe: true where every program is trusted"
        )
    sandbox = Sandbox(PROBE_TIMEOUT, 2**29)
    ran = sandbox.script("print(6 * 7)", b"", 2**16, time.monotonic() + PROBE_TIMEOUT)
    if ran.stdout != b"42\n":
        words = ran.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise KintsugiError(
            f"verifier code: bubblewrap does not work on this machine ({ran.stopped or words or 'it said nothing'}); "
            "it needs version 0.8 and user name spaces, which containers often forbid; or set unsafe: true where every "
            "program is trusted"
        )
