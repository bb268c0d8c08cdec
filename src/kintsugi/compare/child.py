"""One run of a comparison in a process of its own. The processes are forked from one that has loaded torch already."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from kintsugi.records import KintsugiError


def context() -> ForkServerContext:
    """Where runs are started from: the first one loads torch, once for all. One thread each."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read when the libraries are loaded
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([__name__, "kintsugi.trainer"])
    return found


def start(recipe: Path, log: Path, *, resume: bool) -> ForkServerProcess:
    """A process that makes the run of a recipe file and says what it has to say in `log`.

    Exit codes are those of `kintsugi train`: 0 done, 2 bad input, 130 or 143 interrupted; 1 for any other error.
    """
    process = context().Process(target=make, args=(recipe, log, resume))
    process.start()
    return process


def make(recipe: Path, log: Path, resume: bool) -> None:
    os.setsid()  # a Ctrl-C at the terminal is passed on by the parent, once
    file = os.open(log, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if resume else os.O_TRUNC), 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    from kintsugi.config import Recipe
    from kintsugi.trainer import train

    try:
        result = train(Recipe.load(recipe), resume=resume, overwrite=not resume)
    except KintsugiError as error:
        print(f"kintsugi: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(128 + result.interrupted if result.interrupted else 0)
