"""docs/results.md with its pictures, and benchmarks/results/details.md, from committed result files alone.

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
from textwrap import fill

from benchmarks.law import Setting, draw_law, forecast_table, law_table, settings

from kintsugi.compare.overall import overall_table, shared, speed_table
from kintsugi.compare.plots import draw_comparison
from kintsugi.compare.report import failure_line
from kintsugi.compare.results import Curve, ResultRow, latest_runs, read_rows
from kintsugi.compare.tables import (
    comparison_table,
    dynamics_table,
    markdown,
    seeds_table,
    standing,
    thousands,
    tuning_table,
)
from kintsugi.look.doctor.trial import ENOUGH
from kintsugi.records import KintsugiError

TITLES = {
    "sizes": "Word problems in plain English, three sizes of model, sure of their errors",
    "sizes-rates": "Word problems with sixteen updates a batch",
    "words": "The same on a model that is less sure",
    "sparse": "Where hardly any rollout passes",
    "fair": "Three small tasks",
    "parts": "Parts of kintsugi, one changed at a time",
    "iop": "Parts of the published algorithm, one changed at a time",
    "smollm2-long": "A pretrained model on long solutions: SmolLM2-135M on sums of products",
    "smollm2-cosine": "The same model on short sums, one update per batch",
    "smollm2-gpu": "The same on a GPU, one update per batch",
}
"""The comparisons that are shown, in the order of the page, with their headings. Rows of others stay in the file."""
WIDTH = 120
"""Characters of a line of the page."""
HOW_TO_READ = """\
Every run of a comparison generates the same number of tokens: rollouts, repairs, audits and checks all count, held-out
evaluation does not. Accuracy is held-out pass@1 at the budget.

- **±** is the half width of the 95% interval of the mean over seeds (Student's t). Differences are taken seed by seed;
  `benchmarks/pairs.py` prints those that no table has.
- **Tokens to a score**: where a run's curve first reaches the mean final accuracy of the reference, which is the best
  outcome-only algorithm unless another is named. It is the median over seeds; "> budget (2 of 5)": only two of five
  seeds got there. Seconds are those of sampling and training in the same runs, some of which shared a machine.
- **Settings** were tuned for each algorithm on seeds and problems of their own. A best point at the edge of its grid
  is marked: a better one may lie beyond. `{details}` has every seed, the grids,
  the course of training, and where credit fell."""
LAW = """\
These bases make errors on the same kinds of facts, more or less surely. One that is surer makes them on fewer facts,
so that all start between 0.28 and 0.36. `brackets-50` gives the wrong result half of the times it meets such a fact,
those named 99 in 99 of 100; these were taught for longer. Gains are taken seed by seed.

**The law that was to be tested does not hold.** It said that a seam gains where it is *open*: where the fix is among
the policy's five likeliest tokens, at an entropy above 0.056 nats. On `brackets-99` three seams in ten are open in
the first step, and the fix has a probability of 0.03. Seams gain most there. A repair is written beside a passing
solution, so it holds the right token that a rollout hardly ever does, and training on it opens the seam: three in
four are open over the first half of a run. Outcomes alone teach little there (`grpo` ends at 0.395, from 0.349).
Closed seams are no ballast: `kintsugi open seams`, which trains none of them, ends no higher (0.148 ± 0.174 lower).

**A simpler rule fits most of these settings, and was found on them: seams gain where failures are mended**, the more
so the less outcomes teach. A failure can be mended where its group holds a pass (or its problem has an earlier one)
and the model can write the repair. On `dot-99` every seam is closed in the first step, but only one group in eight is
mixed, and 38% of the failures tried are mended: no gain is sure there. `brackets-99` has mostly closed seams in the
first step too, but many mixed groups. On word problems it is the same: models of 1M and 3M parameters, which mend 71
and 93% of the failures tried, gain; for that of 0.3M, which mends 37%, no gain is sure. The exceptions are `dot-70`,
`words` and SmolLM2's two starts (`sums`, `sums-large`), which mend most and show no gain.

**The surest errors bring the largest gain, without a steady rise below that**: on `dot` 0.072, -0.008, 0.224 and 0.207
where the model errs in 50, 70, 85 and 95 of 100 chances, on `brackets` 0.127, 0.320, 0.168, 0.264 and 0.502 where it
errs in 50, 70, 85, 95 and 99. `dot-85` has sixteen seeds: after eight the gain was 0.171 ± 0.204, so eight more were
run. On `dot-70` tuning made the difference: on the one tuning seed four and sixteen updates a batch came to the same
for `kintsugi` (0.905 and 0.900). It got four; `kintsugi without seams` got sixteen. At equal updates the gain is 0.123
± 0.060 (four) and 0.086 ± 0.096, not sure (sixteen; rows `law-sixteen`), and `kintsugi` with sixteen ends at 0.906.

**Where passes are rare, seams do most.** `brackets-97` and `dot-97` slip in 97% of their chances on all of these
facts, so that they pass one time in seven. 160,000 tokens bring `kintsugi` to 0.639 and 0.884, and leave the same
without seams at 0.161 and 0.291, GRPO at 0.146 and 0.300, RAFT at 0.111 and 0.459 (eight seeds, rates tuned for each).
Seams gain 0.478 ± 0.034 and 0.594 ± 0.131; the lead over RAFT is 0.528 ± 0.069 and 0.425 ± 0.202. Of eight more
settings of GRPO and RAFT, with four and 64 updates a batch, the best ended at 0.205 and 0.468 (three seeds, rows
`sparse-rivals`). A group that holds one pass teaches outcomes a little, and seams the right token of every failure
that they mend. On `dot-99` too few hold one.

**Seams at random places** end below `kintsugi without seams` on three bases, cannot be told from it on six, and end
0.063 ± 0.056 above it on `dot-95`. Tuning gave them sixteen updates a batch there, and `kintsugi without seams` four,
though for that the two came to the same; with sixteen GRPO ended 0.077 ± 0.103 above it.

**RAFT is the rival on `dot`**: level with `kintsugi` or above it on three of four bases, sure or not. On `brackets-70`,
`-95` and `-99` it cannot be told from `kintsugi without seams`, and ends 0.27 to 0.52 below `kintsugi`. On `-50` and
`-85` it cannot be told from `kintsugi` (0.038 ± 0.067 and 0.088 ± 0.125 below).

**Exact labels say how much credit could do.** On `brackets` `kintsugi` cannot be told from them at 50, 70, 85 and 99,
and ends 0.170 ± 0.120 below them at 95; on `dot` it is level at 50 and 0.11 to 0.34 below from 70 to 95. `exact_labels
of mixed groups` gives credit only where some pass and some fail, which is all that seams can mend. On `brackets-85` it
ends 0.089 ± 0.051 below exact labels, and where `kintsugi` does (0.707 and 0.701): what is missing there are passes.
The published `iop` ends at 0.563 there, 0.138 ± 0.166 below `kintsugi`."""

FORECAST = """\
`kintsugi doctor` expects seams to gain where {enough:.0%} of the failures tried are mended. Here it is asked about
the steps before the first evaluation of the runs of `kintsugi`: half of a run of the law, the whole of SmolLM2's
(`sums` and `sums-large`), a quarter or less of the others. It is right in {right} of {all} settings: it said *gain*
and the interval lies above 0, or *no gain* and it does not. To say *gain* always would be right in {always}. Where it
is wrong it promised a gain that no interval shows.

**The rule was found on these settings**; no others have judged it. It asked for mixed groups as well, half of them at
first and then 40%, until `dot-97` gained most with a third: outcomes need a mixed group no less than seams do. The
share of mended failures was 30% before `words-0.3m`. Not in the table, for want of the control without seams: on the
quickstart's task it says *gain*, and `kintsugi` ends where GRPO does, since both solve the task."""
TWO_NUMBERS = """\
Where a cell has two numbers, the first is that of the first step, the second the mean of the first half of a run.
*Mended* is the share of the failures tried; *none* is `kintsugi without seams`."""


def page(results: Path, images: Path, titles: Mapping[str, str] = TITLES) -> str:
    """The whole page; draws its pictures into `images`, which it expects beside itself."""
    rows = read_rows(results / "learning.jsonl")
    if not rows:
        raise KintsugiError(
            f"{results / 'learning.jsonl'}: no result rows there; `kintsugi compare` writes them"
        )
    curves, errors = latest_runs(row for row in rows if row.comparison in titles)
    rows_of_law, _ = latest_runs(row for row in rows if row.comparison == "law")
    parts = [
        "# Results",
        f"Made from `{results.as_posix()}` by `make results`; do not edit.\n{made_by(curves)}",
    ]
    if law := settings({task: pick(rows_of_law, "law", task) for task in tasks_of(rows_of_law)}):
        draw_law(images / "law.svg", law)
        parts += [
            "## When a seam pays",
            LAW,
            "![Gain of seams by their reach, and by the share of failures mended](images/law.svg)",
            TWO_NUMBERS,
            law_table(law),
        ]
    if pairs := [*law, *pairs_of(curves, titles)]:
        right = sum(s.promised == s.gained for s in pairs)
        parts += [
            "## Does the forecast hold?",
            FORECAST.format(right=right, all=len(pairs), always=sum(s.gained for s in pairs), enough=ENOUGH),
            forecast_table(pairs),
        ]
    parts += ["## How to read the rest", HOW_TO_READ.format(details=(results / "details.md").as_posix())]
    for name, title in titles.items():
        found = {task: runs for task in tasks_of(curves) if (runs := pick(curves, name, task))}
        if found:
            parts += [f"## {title}", *over_tasks(found)]
        for task, mine in found.items():
            parts += section(name, task, mine, errors, images)
    surprises = results / "surprises.md"
    if surprises.exists():
        parts += ["## What else came out", surprises.read_text(encoding="utf-8").strip()]
    return "\n\n".join(parts) + "\n"


def pairs_of(curves: Sequence[Curve], titles: Iterable[str]) -> list[Setting]:
    """The tasks with runs of seams and of none; the first of these comparisons that has both on a task counts."""
    first: dict[str, Setting] = {}
    for name in titles:
        for setting in settings({task: pick(curves, name, task) for task in tasks_of(curves)}):
            first.setdefault(setting.name, setting)
    return list(first.values())


def details(results: Path, titles: Mapping[str, str] = TITLES) -> str:
    """Every seed, the course of training, tuning grids, and where credit fell."""
    curves, _ = latest_runs(
        row for row in read_rows(results / "learning.jsonl") if row.comparison in (*titles, "law")
    )
    parts = ["# Details of the results", "Made by `make results`; do not edit. The page is docs/results.md."]
    for name in dict.fromkeys(("law", *titles)):
        for task in tasks_of(curves):
            mine = pick(curves, name, task)
            tuning = [c for c in mine if c.head.stage == "tuning"]
            if mine:
                parts += [
                    f"## {name}, {task}",
                    "Accuracy at the budget, seed by seed; tokens and training seconds of a whole run (medians):",
                    seeds_table(mine),
                    "First → last evaluation, means over the steps before it and over seeds:",
                    dynamics_table(mine),
                ]
            if tuning:
                budget = thousands(tuning[-1].head.budget)
                parts += [
                    f"Tuning, {budget} tokens a run; a cell is the mean accuracy of a run's last two evaluations:"
                ]
                parts += [tuning_table(tuning)]
    if (results / "credit.jsonl").exists():
        parts += ["## Where credit fell", credit_table(results / "credit.jsonl")]
    return "\n\n".join(parts) + "\n"


def over_tasks(curves: Mapping[str, Sequence[Curve]]) -> list[str]:
    """The tables over all tasks of a comparison; nothing where there is one task, or one algorithm that ran on all."""
    tasks = shared(curves)
    if len(tasks) < 2 or any(len(runs) < 2 for runs in tasks.values()):
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
    draw_comparison(picture, f"{task}: accuracy at equal tokens", curves, found)
    parts = [
        f"### {task}",
        f"{thousands(found.budget)} tokens a run{computed_on(curves)}.",
        comparison_table(found),
        f"![Accuracy against generated tokens on {task}](images/{picture.name})",
    ]
    if mine:
        parts += ["Runs that failed:", "\n".join(f"- {failure_line(e)}" for e in mine)]
    return parts


def computed_on(curves: Sequence[Curve]) -> str:
    """` on MACHINE`, as far as the rows name any."""
    machines = sorted({c.head.machine for c in curves} - {""})
    return f" on {' and '.join(machines)}" if machines else ""


def made_by(curves: Sequence[Curve]) -> str:
    """Which code made the rows."""
    commits = sorted({c.head.commit for c in curves})
    code = fill(f"{len(curves)} runs; code at {', '.join(commits)}", WIDTH)
    return f"{code}\n(`+`: with changes not committed)."


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
    """Writes docs/results.md, docs/images/*.svg and details.md beside the rows; returns the page's path."""
    target = docs / "results.md"
    text = page(results, docs / "images", titles)
    target.write_text(text, encoding="utf-8")
    (results / "details.md").write_text(details(results, titles), encoding="utf-8")
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
