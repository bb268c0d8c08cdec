"""benchmarks/results/engine.jsonl: one line per measurement, with the machine and the commit it was made at."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.engine.pipes import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "engine.jsonl"
MEASURED = ("src", "benchmarks/engine")
"""What a figure depends on: commits that touch nothing of it do not make the figure old."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Book:
    """The file of rows, and what every new row says about where it was made."""

    path: Path
    machine: str
    commit: str
    threads: int
    dtype: str

    def has(self, bench: str, size: str) -> bool:
        """Whether this was measured already: same machine, commit, threads and type."""
        mine = self._row(bench, size, {})
        return any(all(named(row).get(key) == mine[key] for key in mine) for row in read(self.path))

    def add(self, bench: str, size: str, found: Mapping[str, Any]) -> Row:
        """Appends a row and returns it."""
        row = self._row(bench, size, found)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        return row

    def _row(self, bench: str, size: str, found: Mapping[str, Any]) -> Row:
        where = {
            "threads": self.threads,
            "dtype": self.dtype,
            "machine": self.machine,
            "commit": self.commit,
        }
        return {"bench": bench, "size": size, **found, **where}


def read(path: Path = RESULTS) -> list[Row]:
    """Every row, oldest first."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def named(row: Row) -> Row:
    """The row with the name that its bench has in the plan for its size, where those differ."""
    return {**row, "size": row.get("name", row["size"])}


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Row:
    """Median seconds of both sides, and the median of the pairs' own ratios with their range.

    The ratio of a pair is taken first, so that what slows the machine down for a while slows both sides.
    """
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    return {
        "ours_s": rounded(median(ours)),
        "theirs_s": rounded(median(theirs)),
        "ratio": rounded(median(ratios)),
        "ratios": [rounded(ratios[0]), rounded(ratios[-1])],
        "pairs": len(ratios),
    }


def compared(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> Row:
    """`paired` of the wall seconds, with the ratio of CPU seconds beside it."""
    wall, cpu = (paired([a[key] for a in ours], [b[key] for b in theirs]) for key in ("seconds", "cpu"))
    return {**wall, "cpu_ratio": cpu["ratio"]}


def medians(answers: Sequence[Mapping[str, Any]]) -> Row:
    """The median of every number that all answers have, one level of mappings deep."""
    found: Row = {}
    for key, value in answers[0].items():
        if isinstance(value, Mapping):
            found[key] = medians([answer[key] for answer in answers])
        elif isinstance(value, int | float):
            found[key] = rounded(median(answer[key] for answer in answers))
    return found


def rounded(value: float) -> float:
    """Four significant digits: more would say more than was measured."""
    return float(f"{value:.4g}")


def commit() -> str:
    """The last commit that touched what is measured, with `-dirty` when there are changes since."""
    name = git("log", "-1", "--format=%h", "--", *MEASURED)
    return f"{name}-dirty" if git("status", "--porcelain", "--", *MEASURED) else name


def git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def machine(device: str) -> str:
    """Processor (or GPU), cores and memory, in words."""
    from kintsugi.models.loading import hardware

    if device == "cuda":
        return hardware(device)
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    facts = {line.split(":")[0].strip(): line.split(":")[-1].strip() for line in lines if ":" in line}
    widths = ("avx512_bf16", "avx512f", "avx2")
    width = next((w for w in widths if w in facts.get("flags", "").split()), "no AVX2")
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{hardware(device)} ({width}), {os.cpu_count()} cores, {gib:.0f} GiB"
