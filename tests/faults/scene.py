"""Where attacks on `verifier: code` take place: what they are after, and where traces of them would show."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import sysconfig
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import kintsugi
from kintsugi.records import Problem, Verdict
from kintsugi.verifiers import sandbox
from kintsugi.verifiers.code import CodeVerifier

TIMEOUT = 2.0
MARGIN = 8.0
"""Seconds beyond the time limit: two interpreters start and end, on a machine that may be busy."""
ADD = {"tests": ["assert add(1, 2) == 3"]}


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def problem(answer: str = "-", **columns: Any) -> Problem:
    return Problem("p/1", "Add two numbers.", answer, columns)


@dataclass
class Scene:
    """What attacks are after, and where traces of them would show."""

    folder: Path
    canary: str
    victim: subprocess.Popen[bytes]
    tcp: socket.socket
    udp: socket.socket
    abstract: socket.socket

    def filled(self, program: str) -> str:
        words = {
            "HOME": str(Path.home()), "PROJECT": str(Path(kintsugi.__file__).parent), "CANARY": self.canary,
            "SECRET": str(self.folder / "secret"), "FOLDER": str(self.folder), "PID": str(self.victim.pid),
            "PORT": str(self.tcp.getsockname()[1]), "EXPECTED_START": "token-",
            "PACKAGES": sysconfig.get_paths()["purelib"], "EXPECTED": f"token-{int(self.canary, 16)}",
        }  # fmt: skip
        return re.sub("@([A-Z_]+)@", lambda found: words[found[1]], program)

    def judged(self, program: str, columns: dict[str, Any] = ADD, **arguments: Any) -> Verdict:
        """The verdict; it came in time, what it ran is gone, and it left the verifier no open file."""
        verifier = CodeVerifier(**({"timeout": TIMEOUT, "memory": 256} | arguments))
        open_before = open_files()
        start = time.monotonic()
        verdict = verifier(problem(**columns), [f"```python\n{self.filled(program)}\n```"])[0]
        assert time.monotonic() - start < verifier.sandbox.timeout + MARGIN
        assert open_files() == open_before
        return verdict

    def survivors(self) -> list[int]:
        """Processes of a program: their command line holds the canary."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if self.canary.encode() in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
        return found

    def traces(self) -> list[str]:
        """What an attack has left. Asked for at once after the verdict, so a process may still be dying."""
        end = time.monotonic() + 2
        while self.survivors() and time.monotonic() < end:
            time.sleep(0.02)
        found = [f"process {pid}" for pid in self.survivors()]
        places = [
            self.folder,
            Path.home(),
            Path("/"),
            Path("/dev/shm"),
            Path(os.__file__).parent,
            Path("/tmp"),
        ]
        found += [str(path) for place in places for path in place.glob("*stolen*")]
        found += [str(path) for place in places for path in place.glob(f"*-{self.canary}*")]
        for name in ("tcp", "abstract"):
            with suppress(BlockingIOError):
                getattr(self, name).accept()[0].close()
                found.append(name)
        with suppress(BlockingIOError):
            found.append(f"udp {self.udp.recv(100)!r}")
        if self.victim.poll() is not None:
            found.append("the victim is dead")
        return found


@contextmanager
def prepared(folder: Path) -> Iterator[Scene]:
    canary = uuid.uuid4().hex
    (folder / "secret").write_text(canary)
    tcp = socket.create_server(("127.0.0.1", 0))
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(tcp.getsockname())
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0kintsugi-{canary}")
    abstract.listen()
    for line in (tcp, udp, abstract):
        line.setblocking(False)
    victim = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={"CANARY": canary}
    )
    with pytest.MonkeyPatch.context() as patch, tcp, udp, abstract:
        patch.setattr(sandbox, "START", f"{sandbox.START}  # {canary}")
        yield Scene(folder, canary, victim, tcp, udp, abstract)
        victim.kill()
        victim.communicate()
