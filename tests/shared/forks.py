"""A process that has imported what commands need, and is forked for each: no command waits for torch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

LONGEST = 300
"""Seconds after which a command is ended."""


class Forks:
    """Commands and Python code, each in a fork of one process that runs in `folder`."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self.server = server

    def command(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """`kintsugi` with these words."""
        return self._ask({"words": list(words)})

    def code(self, text: str) -> subprocess.CompletedProcess[str]:
        return self._ask({"code": text})

    def _ask(self, wanted: Mapping[str, object]) -> subprocess.CompletedProcess[str]:
        assert self.server.stdin and self.server.stdout
        self.server.stdin.write(json.dumps(wanted) + "\n")
        self.server.stdin.flush()
        return subprocess.CompletedProcess([], **json.loads(self.server.stdout.readline()))


@contextmanager
def forking(folder: Path, env: Mapping[str, str]) -> Iterator[Forks]:
    """One thread: a fork of more could wait for ever for a lock of one that it lacks."""
    with subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder, env={**env, "OMP_NUM_THREADS": "1"},
    ) as server:  # fmt: skip
        yield Forks(server)
        assert server.stdin
        server.stdin.close()


def serve() -> None:
    """Reads a line of JSON for each command; answers with its exit code and what it said."""
    import kintsugi.cli
    import kintsugi.coldstart
    import kintsugi.trainer  # noqa: F401

    for line in sys.stdin:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if not child:
                become(json.loads(line), out.fileno(), err.fileno())
            _, status = os.waitpid(child, 0)
            said = []
            for file in (out, err):
                file.seek(0)
                said.append(file.read().decode())
        answer = {"returncode": os.waitstatus_to_exitcode(status), "stdout": said[0], "stderr": said[1]}
        print(json.dumps(answer), flush=True)


def become(wanted: Mapping[str, object], out: int, err: int) -> None:
    """The child: does what is wanted, and ends."""
    signal.alarm(LONGEST)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    code: object = 1
    try:
        if "code" in wanted:
            exec(compile(str(wanted["code"]), "page", "exec"), {"__name__": "__main__"})
        else:
            from kintsugi.cli import main

            sys.argv = ["kintsugi", *map(str, wanted["words"])]  # type: ignore[call-overload]
            main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    serve()
