"""docs/results.md and its pictures, from committed result files alone.

    python -m benchmarks.page            # `make results`

benchmarks/results/learning.jsonl    the rows that `kintsugi compare` writes; the page shows the comparisons in TITLES
benchmarks/results/credit.jsonl      lines of task, algorithm, seed and any measures of credit accuracy, if it is there
benchmarks/results/surprises.md      paragraphs written by hand, if it is there; they are taken over as they stand
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.law import draw_law, law_table, settings

from kintsugi.compare.overall import overall_table, shared, speed_table
from kintsugi.compare.plots import draw
from kintsugi.compare.report import failure
from kintsugi.compare.results import Curve, ResultRow, latest, read_rows
from kintsugi.compare.tables import (
    comparison_table,
    dynamics_table,
    markdown,
    standing,
    thousands,
    tuning_table,
)
from kintsugi.records import KintsugiError

TITLES = {
    "fair": "Main comparison",
    "parts": "Parts of kintsugi, one changed at a time",
    "smollm2-cosine": "A pretrained model on a CPU: SmolLM2-135M, one update per batch",
    "smollm2-gpu": "The same on a GPU, one update per batch",
}
"""The comparisons that are shown, in the order of the page, with their headings. Rows of others stay in the file."""
HOW_TO_READ = """\
Every run of a comparison generates the same number of tokens: rollouts, repairs, audits and checks all count, held-out
evaluation does not. Accuracy is held-out pass@1; pass@8 is estimated from 8 samples a problem. The last step of a run
may overshoot the budget, so accuracy at the budget lies on the straight line between the evaluations before and after.

- **±** is the half width of the 95% interval of the mean over seeds (Student's t). Differences are taken seed by seed.
- **Tokens to a score**: where a run's curve, straight between evaluations, first reaches the mean final accuracy of the
  reference (the best outcome-only algorithm, unless one is named). The median over seeds, where a run that never got
  there counts as later than all others; "> budget (2 of 5)": only two of five seeds did. Seconds are those of sampling
  and training in the same runs, two or more of which may have shared a machine.
- **Tuning**: the same grid for each algorithm, on seeds of their own, first coarse, then around the best point. It has
  the learning rate, the optimizer steps per batch (`minibatches`) and, for ratios of whole sequences, the clip range.
  The score of a point is the mean accuracy of a run's last two evaluations after the start; the best one is bold.
  A best point at the edge of its grid is marked: a better one may lie beyond."""

LAW = """\
Bases that slip on the same facts, more or less surely. A base that slips surely slips on fewer facts, so that all
start alike. `brackets-50` shows the wrong result in half of its chances, `brackets-95` nearly always. Gains are taken
seed by seed."""


def page(results: Path, images: Path, titles: Mapping[str, str] = TITLES) -> str:
    """The whole page; draws its pictures into `images`, which it expects beside itself."""
    rows = read_rows(results / "learning.jsonl")
    if not rows:
        raise KintsugiError(
            f"{results / 'learning.jsonl'}: no result rows there; `kintsugi compare` writes them"
        )
    curves, errors = latest(row for row in rows if row.comparison in titles)
    rows_of_law, _ = latest(row for row in rows if row.comparison == "law")
    parts = [
        "# Results",
        f"Made from `{results.as_posix()}` by `make results`; do not edit. {made_by(curves)}",
    ]
    if law := settings({task: pick(rows_of_law, "law", task) for task in tasks_of(rows_of_law)}):
        draw_law(images / "law.svg", law)
        parts += [
            "## When a seam pays",
            LAW,
            "![Gain of seams by the share of open seams](images/law.svg)",
            law_table(law),
        ]
    parts += ["## How to read this", HOW_TO_READ]
    for name, title in titles.items():
        found = {task: runs for task in tasks_of(curves) if (runs := pick(curves, name, task))}
        if found:
            parts += [f"## {title}", *over_tasks(found)]
        for task, mine in found.items():
            parts += section(name, task, mine, errors, images)
    surprises = results / "surprises.md"
    if surprises.exists():
        parts += ["## Surprises", surprises.read_text(encoding="utf-8").strip()]
    if (results / "credit.jsonl").exists():
        parts += ["## Where credit goes", credit_table(results / "credit.jsonl")]
    first = next(iter(titles), "")
    moving = [(task, mine) for task in tasks_of(curves) if (mine := pick(curves, first, task))]
    if moving:
        parts += [
            "## Training dynamics",
            "First → last evaluation, means over the steps before it and over seeds.",
        ]
    for task, mine in moving:
        parts += [f"### {task}", dynamics_table(mine)]
    return "\n\n".join(parts) + "\n"


def over_tasks(curves: Mapping[str, Sequence[Curve]]) -> list[str]:
    """The tables over all tasks of a comparison; nothing where there is one task, or no algorithm was run on all."""
    tasks = shared(curves)
    if len(tasks) < 2 or not all(tasks.values()):
        return []
    names = ", ".join(tasks)
    return [
        "### all tasks",
        overall_table(tasks),
        f"Tokens to each outcome-only algorithm's final accuracy, as a share of the budget, on {names}:",
        speed_table(tasks),
    ]


def tasks_of(curves: Iterable[Curve]) -> list[str]:
    return sorted({c.head.task for c in curves})


def pick(curves: Sequence[Curve], name: str, task: str) -> list[Curve]:
    """The runs that count of one comparison on one task, with its tuning runs if any of them counts."""
    found = [c for c in curves if (c.head.comparison, c.head.task) == (name, task)]
    return found if any(c.head.stage == "main" for c in found) else []


def section(
    name: str, task: str, curves: Sequence[Curve], errors: Sequence[ResultRow], images: Path
) -> list[str]:
    """Table, picture and learning rates of one comparison on one task."""
    mine = [e for e in errors if (e.comparison, e.task) == (name, task)]
    found = standing(curves, mine)
    picture = images / f"{name}-{task}.svg"
    draw(picture, f"{task}: accuracy at equal tokens", curves, found)
    parts = [
        f"### {task}",
        f"{thousands(found.budget)} tokens a run{computed_on(curves)}.",
        comparison_table(found),
        f"![Accuracy against generated tokens on {task}](images/{picture.name})",
    ]
    tuning = [c for c in curves if c.head.stage == "tuning"]
    if tuning:
        parts += [f"Tuning, {thousands(tuning[-1].head.budget)} tokens a run:", tuning_table(tuning)]
    if mine:
        parts += ["Runs that failed:", "\n".join(f"- {failure(e)}" for e in mine)]
    return parts


def computed_on(curves: Sequence[Curve]) -> str:
    """` on MACHINE`, as far as the rows name any."""
    machines = sorted({c.head.machine for c in curves} - {""})
    return f" on {' and '.join(machines)}" if machines else ""


def made_by(curves: Sequence[Curve]) -> str:
    """Which code made the rows."""
    commits = sorted({c.head.commit for c in curves})
    return f"{len(curves)} runs; code at {', '.join(commits)} (`+`: with changes not committed)."


def credit_table(path: Path) -> str:
    """Means over seeds of every measure in the file, one line per task and algorithm."""
    groups: dict[tuple[str, str], list[dict[str, float]]] = {}
    measures: dict[str, None] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        data = json.loads(line)
        key = data.pop("task"), data.pop("algorithm")
        numbers = {k: v for k, v in data.items() if isinstance(v, int | float) and k not in ("seed", "step")}
        measures |= dict.fromkeys(numbers)
        groups.setdefault(key, []).append(numbers)

    def cell(found: Sequence[dict[str, float]], measure: str) -> str:
        values = [f[measure] for f in found if measure in f]
        return f"{fmean(values):.3f}" if values else ""

    lines = [
        [task, f"`{algorithm}`", *(cell(found, m) for m in measures)]
        for (task, algorithm), found in sorted(groups.items())
    ]
    return markdown(["task", "algorithm", *(m.replace("_", " ") for m in measures)], lines)


def write(results: Path, docs: Path, titles: Mapping[str, str] = TITLES) -> Path:
    """Writes docs/results.md and docs/images/*.svg; returns the page's path."""
    target = docs / "results.md"
    text = page(results, docs / "images", titles)
    target.write_text(text, encoding="utf-8")
    return target


def main(arguments: Sequence[str]) -> int:
    """`report [RESULTS [DOCS]]`: benchmarks/results and docs unless they are named."""
    results, docs = [*arguments, *("benchmarks/results", "docs")[len(arguments) :]]
    print(write(Path(results), Path(docs)))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KintsugiError as error:
        print(f"kintsugi: {error}", file=sys.stderr)
        sys.exit(2)
