"""Driver and workers: one JSON line asks, one answers. Needs the standard library alone, so TRL's environment
can import it too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20


class Channel:
    """A worker's end. What anything else prints goes to standard error, so that it cannot garble an answer."""

    def __init__(self) -> None:
        self.out: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def receive(self) -> dict[str, Any] | None:
        """The next command, or None when the driver has hung up."""
        line = sys.stdin.readline()
        return json.loads(line) if line else None

    def reply(self, **answer: Any) -> None:
        print(json.dumps(answer), file=self.out, flush=True)

    def fail(self) -> None:
        """Sends the exception that is being handled, as text."""
        self.reply(error=traceback.format_exc())


class Worker:
    """The driver's end: a process of its own. `python -m module`, with this many threads."""

    def __init__(self, python: Path, module: str, threads: int) -> None:
        self.name = module.rpartition(".")[2]
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (closed with the worker)
        paths = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
        self.process = subprocess.Popen(
            [str(python), "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            encoding="utf-8",
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"},
        )

    def ask(self, do: str, **arguments: Any) -> Mapping[str, Any]:
        """The answer to one command; RuntimeError with the worker's own words if it failed or died."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            print(json.dumps({"do": do, **arguments}), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"error": f"died with {self.process.wait()}\n{self._said()}"}
        if "error" in answer:
            raise RuntimeError(f"worker {self.name}, command {do}: {answer['error']}")
        return answer

    def _said(self) -> str:
        self.log.seek(0)
        return self.log.read()[-3000:]

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        if error is None:
            self.process.stdin.close()
        else:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


def memory(device: str) -> dict[str, float]:
    """MiB of this process: `resident` now, `peak` since `reset_peak` (on a GPU: allocated by torch)."""
    if device == "cuda":
        import torch

        now, peak = torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
        return {"resident": now / MIB, "peak": peak / MIB}
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    kib = {line.split(":")[0]: float(line.split()[1]) for line in lines if line.startswith("Vm")}
    return {"resident": kib["VmRSS"] / 1024, "peak": kib["VmHWM"] / 1024}


def reset_peak(device: str) -> None:
    """Makes the peak start again from what is held now (Linux: proc(5), clear_refs)."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


class Watch:
    """Starts when it is made. A GPU has finished what came before, and, at `read`, what came since."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._settle()
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """`seconds` of the wall clock and `cpu` seconds of this process, which other processes disturb less."""
        self._settle()
        return {"seconds": time.perf_counter() - self.wall, "cpu": time.process_time() - self.cpu}

    def _settle(self) -> None:
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()
