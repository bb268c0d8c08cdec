"""Sets the limits, takes the text to run from stdin, and runs it in one of three roles."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

FILE_LIMIT = 16 * 2**20
"""Bytes of one file. The sandbox's tmpfs holds no more than this in all."""
OPEN_FILES = 64
OWN_FRAMES = 20
"""Calls that a program's own are made within."""


def main(role: str, memory: int, seconds: int, tasks: int) -> None:
    """`role` is script, program or tests; `memory` in bytes; `tasks` is how many threads there may be, 0: any.

    stdin begins with the length of the text and a line break. The tests say (outcome, why) on stderr.
    """
    limit(memory, seconds, tasks)
    text = read_text()
    path = like_python(text) if role != "tests" else ""
    if role == "script":
        from .script import run_script

        run_script(text, path)
        return
    receive, send, report = os.dup(0), os.dup(1), os.dup(2) if role == "tests" else -1
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(nothing, fd)
    os.close(nothing)
    if role == "program":
        from .program import Program
        from .wire import Gone

        with suppress(Gone):
            Program(text, receive, send, path).serve()
        return
    from .suite import report_on

    report_on(text, receive, send, report)


def limit(memory: int, seconds: int, tasks: int) -> None:
    try:
        import resource
    except ImportError:  # Windows, where a program only runs outside of a sandbox
        return
    limits = {"CPU": seconds, "AS": memory, "FSIZE": FILE_LIMIT, "NOFILE": OPEN_FILES, "CORE": 0}
    for name, value in (limits | ({"NPROC": tasks} if tasks else {})).items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with suppress(ValueError, OSError):  # macOS refuses AS
            resource.setrlimit(kind, (value, value))


def like_python(program: str) -> str:
    """Gives a program what `python program.py` does: its file, the folder to import from, `exit()` and the like."""
    import site

    site.setquit()
    site.setcopyright()
    site.sethelper()
    sys.setrecursionlimit(sys.getrecursionlimit() + OWN_FRAMES)
    sys.argv = ["program.py"]
    folder = os.getcwd()  # noqa: PTH109 - pathlib takes as long to import as all of this
    sys.path.insert(0, folder)
    path = f"{folder}/program.py"
    with suppress(OSError), open(path, "wb") as file:  # noqa: PTH123
        file.write(program.encode(errors="surrogatepass"))
    return path


def read_text() -> str:
    """The text at the start of stdin, and not a byte more: the rest is for the program."""
    length = b""
    while not length.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit("stdin ended before the text began")
        length += byte
    rest, data = int(length), []
    while rest:
        data.append(os.read(0, min(rest, 2**20)))
        if not data[-1]:
            sys.exit("stdin ended within the text")
        rest -= len(data[-1])
    return b"".join(data).decode(errors="surrogatepass")
