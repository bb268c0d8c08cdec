"""One run of a comparison in a process of its own. The processes are forked from one that has loaded torch already."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from kintsugi.files import Locked
from kintsugi.records import KintsugiError

BUSY = 75
"""The exit code for "try again later" (EX_TEMPFAIL of sysexits.h)."""


def context() -> ForkServerContext:
    """The context that runs are started from. The first one loads torch, once for all. Each has one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read when the libraries are loaded
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([__name__, "kintsugi.trainer"])
    return found


def start_run(recipe: Path, log: Path, *, resume: bool) -> ForkServerProcess:
    """A process that makes the run of a recipe file and says what it has to say in `log`.

    Exit codes are those of `kintsugi train`: 0 done, 2 bad input, 130 or 143 interrupted; 1 for any other error. BUSY
    where another process is writing in the run's directory. It ends, with a checkpoint, when its parent does.
    """
    process = context().Process(target=make_run, args=(recipe, log, resume))
    process.start()
    return process


def end_with_parent() -> None:
    """From now on the end of the parent, however it comes, is a SIGTERM to this process."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # it was started by `start`

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def make_run(recipe: Path, log: Path, resume: bool) -> None:
    os.setsid()  # a Ctrl-C at the terminal is passed on by the parent, once
    end_with_parent()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if resume else os.O_TRUNC), 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    from kintsugi.config import Recipe
    from kintsugi.trainer import train

    try:
        result = train(Recipe.load(recipe), resume=resume, overwrite=not resume)
    except KintsugiError as error:
        print(f"kintsugi: {error}", file=sys.stderr)
        sys.exit(BUSY if isinstance(error, Locked) else 2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(128 + result.interrupted if result.interrupted else 0)
