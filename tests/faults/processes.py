"""Runs in processes of their own, which can be killed, and what they leave behind."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {
    "model": "nano",
    "task": "dag",
    "prompts": "terse-v1",
    "algorithm": {"name": "iop", "k": 1},
    "steps": 4,
    "save_every": 1,
    "dtype": "float32",
    "threads": 1,
    "sampling": {"problems": 3, "group_size": 4, "max_new_tokens": 80},
    "optim": {"lr": 1e-4, "warmup": 1, "minibatches": 2},
    "eval": {"problems": 4, "samples": 2, "every": 2},
}
"""Every phase in a second or two: sampling, repair, check, update, evaluation, checkpoint."""


def recipe(folder: Path, **changes: Any) -> Path:
    """A recipe file whose run directory is `folder`/run."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**SMALL, "output_dir": str(folder / "run"), **changes}))
    return path


LISTENS = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
"""
"""Signals as a terminal leaves them: tests started in the background, or under nohup, hand on that they are ignored."""


def start(path: Path, *words: str, code: str = "", **more: Any) -> subprocess.Popen[str]:
    """`kintsugi train` on a recipe; `code` runs before it in the same process."""
    main = (
        f"{LISTENS}{code}\nimport sys\nfrom kintsugi.cli import main\n"
        "sys.argv = ['kintsugi', *sys.argv[1:]]\nmain()"
    )
    command = [sys.executable, "-c", main, "train", str(path), *words]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    own = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, text=True, cwd=ROOT, env=own, **(pipes | more))


def train(path: Path, *words: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """The same, to its end."""
    with start(path, *words, code=code) as process:
        out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def result(run: Path) -> dict[str, str]:
    """What must be the same, byte for byte, however the run came about: metrics, tables and weights, hashed."""
    files = [run / "metrics.jsonl", *sorted(run.glob("*/step-*.parquet"))]
    last = sorted((run / "checkpoints").glob("step-*"))[-1]
    files += [last / name for name in ("model.safetensors", "optimizer.safetensors")]
    return {str(file.relative_to(run)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def metrics(run: Path) -> Sequence[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
