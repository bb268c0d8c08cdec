"""The run directory: recipe, versions, metrics, and every rollout, repair, seam and row as parquet.

    recipe.yaml  versions.json  trackers.json  .kintsugi
    metrics.jsonl                  one line per step and evaluation; the same, byte for byte, when a run is repeated
    seconds.jsonl                  what each of them took, line by line: wall time differs from run to run
    examples.jsonl                 of a cold start: solutions and repair pairs that the model wrote for itself
    tokenizer/                     turns the token ids below into text
    rollouts/step-000001.parquet   one line per text: rollout, repair, check or extra, with verdict
    seams/step-000001.parquet      one line per mended failure: edits, K*, gates
    rows/step-000001.parquet       one line per training row: gate, credit by reason, log-probabilities, loss
    checkpoints/step-000050/       loads with AutoModelForCausalLM

Each folder reads as one table: `pyarrow.parquet.read_table("run/rows")`.
"""

from __future__ import annotations

import json
import math
import platform
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from kintsugi.config import Recipe
from kintsugi.files import LOCK, clean, cleaned, lock, numbered, partial_of, write_whole, writing
from kintsugi.plugins import spec_name
from kintsugi.records import Episode, KintsugiError, Row
from kintsugi.run.owned import MARK, mark, may_replace, remove
from kintsugi.run.tables import TABLES, rollout_lines, row_lines, seam_lines
from kintsugi.sampling.base import RowStats

PACKAGES = (
    "kintsugi-rl",
    "torch",
    "transformers",
    "numpy",
    "rapidfuzz",
    "pyarrow",
    "math-verify",
    "reasoning-gym",
)
OTHER_FOLDERS = ("tokenizer", "tensorboard", "wandb")
FOLDERS = (*TABLES, "checkpoints", *OTHER_FOLDERS)
STEP_OF_OURS = re.compile(r"\.?step-\d+(\.parquet)?(\.partial)?")
MARKS = ("recipe.yaml", "versions.json")
BESIDE = "kintsugi"
"""The folder in which a bridge keeps the run directory, beside another trainer's checkpoints."""
METRICS, SECONDS, EXAMPLES = "metrics.jsonl", "seconds.jsonl", "examples.jsonl"
FILES = (METRICS, SECONDS, EXAMPLES, "trackers.json", *MARKS)
BEGUN = {LOCK, MARK, "versions.json", ".versions.json.partial", ".recipe.yaml.partial", f".{MARK}.partial"}
"""All that a run killed at its very beginning may have left."""
"""MARKS are the files that make a folder a run directory; FOLDERS and FILES all that a run may leave in it."""
NOTHING: Mapping[str, str] = MappingProxyType({})


class RunLog:
    """Writes one run directory. Opening never overwrites a run unless told to."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lines = 0
        self.listener: Callable[[Mapping[str, Any]], None] | None = None
        self.lock: IO[str] | None = None

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *error: object) -> None:
        if self.lock is not None:
            self.lock.close()

    @staticmethod
    def found(directory: Path) -> Path:
        """The run directory that is meant: the folder itself, or the one that a bridge left in it."""
        inner = directory / BESIDE
        return inner if RunLog.is_run(inner) and not RunLog.is_run(directory) else directory

    @staticmethod
    def is_run(directory: Path) -> bool:
        """True if a folder is a run directory."""
        return all((directory / name).is_file() for name in MARKS)

    @staticmethod
    def check(recipe: Recipe, *, resume: bool = False, overwrite: bool = False) -> Path:
        """recipe.output_dir, if a run may be written there; else KintsugiError. Changes nothing."""
        directory = Path(recipe.output_dir)
        there = RunLog.is_run(directory)
        if not there and directory.exists() and not (directory.is_dir() and blank(directory)):
            raise KintsugiError(f"{directory}: exists and is not a run directory; choose another output_dir")
        if there and not resume and not overwrite:
            raise KintsugiError(
                f"{directory}: a run is there already; pass --resume, --overwrite or output_dir=..."
            )
        if there and not resume:
            may_replace(directory, "run", Path(spec_name(recipe.model)))
        return directory

    @classmethod
    def open(
        cls,
        recipe: Recipe,
        *,
        resume: bool = False,
        overwrite: bool = False,
        machine: Mapping[str, str] = NOTHING,
    ) -> RunLog:
        """The log at recipe.output_dir, made anew unless it is resumed; KintsugiError as in `check`, and where
        another process is writing there. Close it (`with`) to let go of the directory.

        `machine` says what the run computes on (device, dtype, threads); it is kept with the versions.
        Open it when everything else is ready: a recipe that cannot run must not cost an earlier run.
        """
        directory = cls.check(recipe, resume=resume, overwrite=overwrite)
        log = cls(directory)
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
            log.lock = lock(directory)
            if not resume:
                remove_run(directory)
            mark(directory, "run")
            write_whole(directory / "versions.json", json.dumps(versions() | dict(machine), indent=1) + "\n")
            write_whole(directory / "recipe.yaml", recipe.to_yaml())
            for table in TABLES:
                (directory / table).mkdir(parents=True, exist_ok=True)
        return log

    def metrics(self, record: Mapping[str, Any]) -> None:
        """Appends a line to metrics.jsonl and one to seconds.jsonl; then tells the listener, if there is one."""
        known = cleaned({key: finite(value) for key, value in record.items()})
        took = {key: known.pop(key) for key in record if is_seconds(key)}
        for name, line in ((SECONDS, took), (METRICS, known)):  # whoever has a line's metrics has its seconds
            path = self.directory / name
            with writing(path), path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        self.lines += 1
        if self.listener is not None:
            self.listener(record)

    def write(
        self, step: int, episodes: Sequence[Episode], rows: Sequence[Row], stats: Sequence[RowStats | None]
    ) -> None:
        """Writes the step's three tables."""
        self._table("rollouts", step, (line for e in episodes for line in rollout_lines(step, e)))
        self._table("seams", step, (line for e in episodes for line in seam_lines(step, e)))
        self._table("rows", step, row_lines(step, rows, stats))

    def rewind(self, step: int, lines: int) -> int:
        """Drops what was written after step `step` and the first `lines` metrics: a resumed run makes it again.

        Returns the last step that was dropped; `step` itself where there was none.
        """
        last = step
        with writing(self.directory):
            for table in TABLES:
                for number, file in numbered(self.directory / table, ".parquet").items():
                    if number > step:
                        file.unlink()
                        last = max(last, number)
            for path in (self.directory / METRICS, self.directory / SECONDS):
                if path.exists():
                    write_whole(path, b"".join(path.read_bytes().splitlines(keepends=True)[:lines]))
        self.lines = lines
        return last

    def _table(self, name: str, step: int, lines: Iterable[Mapping[str, Any]]) -> None:
        schema = TABLES[name]
        texts = [field.name for field in schema if field.type == pa.string()]
        made = [{**line, **{k: clean(line[k]) for k in texts if line.get(k) is not None}} for line in lines]
        path = self.directory / name / f"step-{step:06d}.parquet"
        with writing(path):
            partial = partial_of(path)
            pq.write_table(pa.Table.from_pylist(made, schema=schema), partial, compression="zstd")
            partial.replace(path)


def remove_run(directory: Path) -> None:
    """Removes what runs write, and nothing else that may lie in the folder.

    Of tables and checkpoints only what has a step's name goes; where the user linked such a folder to another disk,
    the link stays.
    """
    for name in (*TABLES, "checkpoints"):
        folder = directory / name
        if folder.is_dir():
            for path in folder.iterdir():
                if STEP_OF_OURS.fullmatch(path.name):
                    remove(path)
            if not folder.is_symlink() and not any(folder.iterdir()):
                folder.rmdir()
    for name in (*OTHER_FOLDERS, *FILES):
        remove(directory / name)


def blank(directory: Path) -> bool:
    """True if a folder holds nothing but links to empty folders that were laid for a run, or a run's first moments."""
    return all(
        path.name in BEGUN or (path.name in FOLDERS and path.is_symlink() and not any(path.glob("*")))
        for path in directory.iterdir()
    )


def is_seconds(key: str) -> bool:
    """True if a metric is wall time, which no two runs share."""
    return key.startswith("seconds/") or key == "eval/seconds"


def finite(value: Any) -> Any:
    """The value, or None where JSON has no word for it (NaN, infinity)."""
    if isinstance(value, list):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def versions() -> dict[str, str]:
    """Versions of Python, the platform and the packages that decide a result."""
    found = {"python": sys.version.split()[0], "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
