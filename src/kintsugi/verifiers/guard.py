"""The guards that keep a verifier from harming a run: `Guarded` turns every mishap into `error` verdicts, and
`Worker` judges in a process of its own that can be killed.

Python cannot interrupt `9**9**9**9`: it is one C call, which no signal handler or thread gets into.
Only another process can end it, hence the worker.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

from kintsugi.plugins import is_file_spec, load_object
from kintsugi.records import KintsugiError, Part, Problem, Verdict, VerdictState
from kintsugi.verifiers.base import UNKNOWN, Sampled, Verifier

Judge = Callable[[str], Verdict]
Prepare = Callable[[Any], Judge]

START_LIMIT = 120.0
"""Seconds a worker may take to import what it judges with (a second or two on an idle machine)."""
MEMORY_LIMIT = 4 * 2**30
"""Bytes of address space: a huge power eats the machine's memory faster than its time limit runs out."""
MESSAGE_LIMIT = 500
PREPARED = "prepared"
"""A worker's first reply to a batch; any other is the message of an error."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""NumPy's threads would each reserve address space, which counts against MEMORY_LIMIT."""
STARTS = (
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.kill",
    "subprocess.",
    "socket.",
)
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "shutil.")


def error_verdict(error: BaseException) -> Verdict:
    """An `error` verdict that names the exception's type and text."""
    return Verdict("error", message=f"{type(error).__name__}: {error}"[:MESSAGE_LIMIT])


class Guarded:
    """One verdict per text, whatever `verifier` does: a wrong count is an `error` for all. Where it raises, each text
    is judged alone, and those on which it raises again are errors."""

    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier

    def __call__(self, problem: Problem, texts: Sequence[str], sampled: Sampled = UNKNOWN) -> list[Verdict]:
        try:
            verdicts = list(self.verifier(problem, texts, sampled))
        except (Exception, SystemExit) as error:
            if len(texts) == 1:
                return [error_verdict(error)]
            return [
                verdict for i, text in enumerate(texts) for verdict in self(problem, [text], sampled.of(i))
            ]
        if len(verdicts) != len(texts):
            message = f"expected {len(texts)} verdicts, the verifier gave {len(verdicts)}"
            return [Verdict("error", message=message)] * len(texts)
        return verdicts


class Worker:
    """Judges texts in a process of its own, which is killed when one text takes longer than `timeout`.

    `target` names a function `module:prepare`; `prepare(payload)` returns what judges one text. Payloads
    are pickled. `package` is what it judges with: imported before the first text's clock starts, and named
    in messages. The process starts with the first batch, is kept for the next ones, ends with its parent,
    imports no torch and reads nothing from the parent's stdin.

    `trusted` code (a user's own file or package) may write, open sockets and print; `memory` limits its
    address space in bytes, None does not. Where the machine runs out of memory, the kernel ends the worker first.
    """

    def __init__(
        self,
        target: str,
        package: str,
        timeout: float,
        *,
        trusted: bool = False,
        memory: int | None = MEMORY_LIMIT,
    ) -> None:
        self.what = package if is_file_spec(package) else package.replace("_", "-")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < 1e6:
            raise KintsugiError(f"{self.what}: expected a timeout in seconds above 0, got {timeout!r}")
        self.timeout = float(timeout)
        self.command = (target, package, str(self.timeout), str(memory or 0), "trusted" if trusted else "")
        self.child: Child | None = None
        self.lock = threading.Lock()

    def judge(self, payload: Any, texts: Sequence[str]) -> list[Verdict]:
        """One verdict per text. A text that hangs or kills the worker is `unscorable`, the others are judged.

        A failure before any text is read (the worker does not start, the payload cannot be prepared) is an `error`.
        """
        return [
            reply if isinstance(reply, Verdict) else read_verdict(*reply)
            for reply in self._all(payload, texts)
        ]

    def ask(self, payload: Any, texts: Sequence[str]) -> list[Verdict]:
        """The verdicts of what judges all texts in one call, within one `timeout`; an `error` for all if it fails."""
        (reply,) = self._all(payload, [list(texts)])
        return [reply] * len(texts) if isinstance(reply, Verdict) else [read_verdict(*said) for said in reply]

    def _all(self, payload: Any, items: Sequence[Any]) -> list[Any]:
        """One reply per item: what the worker said, or the `error` that it cost."""
        replies: list[Any] = []
        with self.lock:
            try:
                while len(replies) < len(items):
                    replies += self._batch(payload, items[len(replies) :])
            except BaseException:
                # Answers still on their way would be taken for those of the next batch.
                self.close()
                raise
        return replies

    def close(self) -> None:
        """Ends the process. The next batch starts another."""
        if self.child is not None:
            self.child.end()
            self.child = None

    def _batch(self, payload: Any, items: Sequence[Any]) -> Iterator[Any]:
        """Replies up to and including the first item that costs the worker its life."""
        if self.child is None or not self.child.alive():
            self.close()
            try:
                self.child = Child(self.command)
            except (OSError, RuntimeError) as error:
                yield from [error_verdict(error)] * len(items)
                return
        child = self.child
        try:
            child.send((payload, list(items)))
        except Exception as error:  # what the data set holds cannot be pickled: nothing was sent yet
            yield from [error_verdict(error)] * len(items)
            return
        if (failed := self._reply(child)) != PREPARED:
            yield from [Verdict("error", message=failed)] * len(items)
            return
        for item in items:
            reply = self._reply(child)
            if isinstance(reply, str):
                # A text did it, so the text is judged; what judges all texts at once is at fault itself.
                yield Verdict("error" if isinstance(item, list) else "unscorable", message=reply)
                return
            yield reply

    def _reply(self, child: Child) -> Any:
        """The worker's next answer, or in words how it failed to give one; it is closed then."""
        try:
            line = child.receive(self.timeout)
        except queue.Empty:
            self.close()
            return f"{self.what} took longer than {self.timeout:g} s"
        if line is None:
            message = f"{self.what}: its process died ({child.last_words()})"
            self.close()
            return message[:MESSAGE_LIMIT]
        return json.loads(line)


class Child:
    """A running worker process and the thread that reads its answers (pipes have no timeout on Windows)."""

    def __init__(self, command: Sequence[str]) -> None:
        # Not multiprocessing: its spawn would run the user's main script again, torch and all, and its
        # fork would copy a process that holds GPU contexts and threads.
        code = "import sys; from kintsugi.verifiers.guard import serve; serve(*sys.argv[1:])"
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        own = command[-1] == "trusted"  # what a user's function prints is for the user to see
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if own else self.errors,
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self.lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=pump, args=(self.process.stdout, self.lines), daemon=True).start()
        # Also runs when the child is collected and when the interpreter exits.
        self.end = weakref.finalize(self, end_process, self.process, self.errors)
        try:
            ready = self.receive(START_LIMIT) is not None
        except queue.Empty:
            ready = False
        if not ready:
            words = self.last_words()
            self.end()
            raise RuntimeError(f"the worker process of {command[0]} did not start ({words})")

    def alive(self) -> bool:
        return self.process.poll() is None

    def send(self, request: Any) -> None:
        # The worker is idle and reads the whole request before it judges, so this cannot block on a hang.
        assert self.process.stdin is not None
        data = pickle.dumps(request)
        with suppress(BrokenPipeError):  # it died just now: `receive` says so
            self.process.stdin.write(data)
            self.process.stdin.flush()

    def receive(self, timeout: float) -> bytes | None:
        """The next line, or None when the process is gone. Raises queue.Empty after `timeout` seconds."""
        return self.lines.get(timeout=timeout)

    def last_words(self) -> str:
        """Exit code and last line of stderr."""
        try:
            code = self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:  # it closed its stdout but lives on
            self.process.kill()
            code = self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return f"exit code {code}: {said}"


def pump(stream: IO[bytes], lines: queue.SimpleQueue[bytes | None]) -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


def end_process(process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    process.kill()
    process.wait()
    errors.close()
    with suppress(OSError):
        assert process.stdin is not None
        process.stdin.close()


def serve(target: str, package: str, timeout: str, memory: str, trusted: str) -> None:
    """The worker's main loop: pickled (payload, texts) on stdin; on stdout a JSON line for the payload and
    one per text."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which may want to finish a step
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what libraries print must not be taken for answers
    first_to_go()
    module, _, name = target.partition(":")
    if not trusted:
        logging.disable(logging.CRITICAL)
    if is_file_spec(package):
        load_object(package, "verifier")
    else:
        importlib.import_module(package)
    prepare: Prepare = getattr(importlib.import_module(module), name)
    limit_memory(int(memory))
    watch = Watch(not trusted)
    sys.addaudithook(watch.hook)
    print("ready", file=answers, flush=True)
    with suppress(EOFError):  # the parent is gone or has closed the pipe
        while True:
            payload, texts = pickle.load(sys.stdin.buffer)
            for reply in judge_all(prepare, payload, texts, float(timeout), watch):
                print(json.dumps(reply, default=spelled_verdict), file=answers, flush=True)


def spelled_verdict(verdict: Verdict) -> list[Any]:
    return [verdict.state, verdict.reward, verdict.message, verdict.parts, verdict.logged]


def read_verdict(
    state: VerdictState, reward: float, message: str, parts: Sequence[Any], logged: dict[str, Any]
) -> Verdict:
    """The verdict that was spelled so."""
    return Verdict(state, reward, message, tuple(Part(*part) for part in parts), logged)


def judge_all(
    prepare: Prepare, payload: Any, texts: Sequence[Any], timeout: float, watch: Watch
) -> Iterator[Any]:
    """PREPARED and one verdict per text, or the error of the payload alone."""
    try:
        with time_limit(timeout):
            judge: Any = prepare(payload)
    except (Exception, SystemExit) as error:
        yield error_verdict(error).message
        return
    yield PREPARED
    for text in texts:
        try:
            with time_limit(timeout):
                watch.on = watch.wanted
                verdict = judge(text)
        except (Exception, SystemExit) as error:
            failed = error_verdict(error)
            verdict = [failed] * len(text) if isinstance(text, list) else failed
        finally:
            watch.on = False
        yield verdict


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """The parent kills at `seconds`. Should it be gone by then, a C thread ends the process a second later, so that
    a hang does not outlive the run."""
    faulthandler.dump_traceback_later(seconds + 1, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


class Watch:
    """Refuses, while a text is judged, to start processes, open sockets, or write and remove files.

    Some scorers evaluate what the model wrote (reasoning-gym's countdown calls sympy's parse_expr). This
    stops the plain `__import__("os").system(...)`. It is no sandbox: CPython's audit hooks cannot be one.
    """

    on = False

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes or event.startswith(STARTS + CHANGES):
            raise PermissionError(f"a text tried {event} while it was judged")


def first_to_go() -> None:
    """Asks the kernel to end this process rather than the trainer where memory runs out (Linux)."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
        file.write("1000")


def limit_memory(most: int) -> None:
    if not most:
        return
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
    with suppress(ValueError, OSError):  # macOS refuses it
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
