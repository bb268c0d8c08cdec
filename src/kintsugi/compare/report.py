"""The table and the picture that end a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kintsugi.compare.plots import draw_comparison
from kintsugi.compare.results import ResultRow, latest_runs
from kintsugi.compare.tables import comparison_table, standing, tuning_table
from kintsugi.compare.tuning import point_words
from kintsugi.records import KintsugiError


def write_summary(rows: Sequence[ResultRow], directory: Path, name: str) -> tuple[str, Path]:
    """(table, picture) of one comparison on one task, written as NAME.md and NAME.svg; KintsugiError without a run."""
    curves, errors = latest_runs(rows)
    if not any(c.head.stage == "main" for c in curves):
        reasons = "; ".join(failure_line(e) for e in errors[:1]) or "none was made"
        raise KintsugiError(f"{name}: no run has finished ({reasons})")
    found = standing(curves, errors)
    table = comparison_table(found)
    tuning = [c for c in curves if c.head.stage == "tuning"]
    text = "\n\n".join([table, *([tuning_table(tuning)] if tuning else [])])
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    picture = directory / f"{name}.svg"
    draw_comparison(picture, f"{curves[0].head.task}: accuracy at equal tokens", curves, found)
    return text, picture


def failure_line(row: ResultRow) -> str:
    settings = point_words(tuple(row.settings.items())) or f"lr {row.lr:g}"
    return f"`{row.algorithm}`, {row.stage}, {settings}, seed {row.seed}: {row.error}"
