"""docs/images/headline.svg, the README's figure: where every method of `fair` ends, in the mean of its three tasks.

    python -m benchmarks.headline        # `make results`

A dot is the mean over seeds, a bar its 95% interval.
"""

from __future__ import annotations

from pathlib import Path

from kintsugi.compare.overall import means, shared
from kintsugi.compare.plots import STYLE, pyplot
from kintsugi.compare.results import Curve, Interval, interval, latest_runs, read_rows

ROOT = Path(__file__).parents[1]
OURS = "kintsugi"
NAMES = {
    "exact_labels": "true error labels (upper bound)",
    "kintsugi random seams": "kintsugi, seams at random tokens",
    "kintsugi without seams": "kintsugi, without seams",
}


def ends(rows: Path) -> dict[str, Interval]:
    """Label -> the mean over tasks of what its runs end with, over seeds; the best first."""
    curves, _ = latest_runs(row for row in read_rows(rows) if row.comparison == "fair")
    by_task: dict[str, list[Curve]] = {}
    for curve in curves:
        by_task.setdefault(curve.head.task, []).append(curve)
    tasks = shared(by_task)
    found = {label: interval(list(means(tasks, label).values())) for label in next(iter(tasks.values()))}
    return dict(sorted(found.items(), key=lambda item: -item[1].mean))


def draw(path: Path, found: dict[str, Interval]) -> None:
    with pyplot().rc_context(STYLE):
        figure, axes = pyplot().subplots(figsize=(6.6, 3.6), layout="constrained")
        for y, (label, end) in enumerate(found.items()):
            colour = "#c8961e" if label == OURS else "#23262b" if label in NAMES else "#6b7078"
            axes.errorbar(end.mean, y, xerr=end.half, fmt="o", color=colour, elinewidth=2, markersize=7)
            axes.text(1.08, y, f"{end.mean:.2f}", ha="right", va="center", color=colour)
        axes.set_yticks(range(len(found)), [NAMES.get(label, label) for label in found])
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.set_xlim(0.18, 1.0)
        axes.set_xlabel("held-out accuracy after 80,000 generated tokens")
        figure.savefig(path, metadata={"Date": None}, dpi=150)
        pyplot().close(figure)


if __name__ == "__main__":
    draw(ROOT / "docs" / "images" / "headline.svg", ends(ROOT / "benchmarks" / "results" / "learning.jsonl"))
