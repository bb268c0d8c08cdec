"""How long a report of many rollouts takes to write, and to open in headless Chromium.

The steps of a real run are repeated under new numbers until there are enough rollouts.

    python benchmarks/report.py runs/quickstart 20000
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kintsugi.look.report import write_report
from kintsugi.run.directory import MARKS
from kintsugi.run.reading import Run
from kintsugi.run.tables import TABLES

OPENINGS = 5


def grown(run: Run, rollouts: int, place: Path) -> Path:
    """A run directory of at least so many rollouts (as evenly spaced steps are chosen beyond 20,000)."""
    for name in MARKS:
        shutil.copy(run.directory / name, place / name)
    shutil.copytree(run.directory / "tokenizer", place / "tokenizer")
    lines, step, made = [], 0, 0
    while made < rollouts:
        old = run.written[step % len(run.written)]
        step += 1
        for table in TABLES:
            (place / table).mkdir(exist_ok=True)
            found = pq.read_table(run.directory / table / f"step-{old:06d}.parquet")
            numbers = pa.array([step] * found.num_rows, pa.int32())
            pq.write_table(found.set_column(0, "step", numbers), place / table / f"step-{step:06d}.parquet")
        made += sum(len(p.episode.rollouts) for p in run.problems(old))
        lines.append(dict(run.steps[old - 1]) | {"step": step, "tokens/total": 5000 * step})
    (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return place


def opening(page: Path) -> list[float]:
    """Seconds until the first seams stand there, each in a fresh context."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        found = []
        for _ in range(OPENINGS):
            context = browser.new_context()
            tab = context.new_page()
            start = time.perf_counter()
            tab.goto(page.as_uri())
            tab.wait_for_selector("html[data-ready]")
            found.append(time.perf_counter() - start)
            said = tab.inner_text("#count")
            context.close()
        print(said)
        browser.close()
    return found


def main() -> None:
    run, rollouts = Run.open(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        place = grown(run, rollouts, Path(folder))
        start = time.perf_counter()
        page = write_report(place)
        print(f"written in {time.perf_counter() - start:.1f} s, {page.stat().st_size / 1e6:.1f} MB")
        found = opening(page)
    print(
        f"opened in {statistics.median(found):.2f} s ({min(found):.2f} to {max(found):.2f}, {OPENINGS} times)"
    )


if __name__ == "__main__":
    main()
