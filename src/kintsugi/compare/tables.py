"""Markdown tables of result rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from kintsugi.compare.results import (
    Curve,
    Interval,
    ResultRow,
    censored_median,
    interval,
    paired,
)
from kintsugi.compare.tuning import Point, Tuned, choose, point_of, point_words, short_key

PAPER = {"repair_success": (0.384, 0.731), "train_accuracy": (0.521, 0.835), "active_ratio": (0.246, 0.098)}
"""IOP on Qwen3-32B, start -> end of training, as published (arXiv:2605.05226)."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One algorithm on one task, with the settings of its runs (`points`) and its mean accuracy on the way.

    `tokens` and `seconds` are medians over seeds to the target; None: not reached.
    """

    label: str
    outcome_only: bool
    points: tuple[Point, ...]
    choice: Tuned | None
    quarter: float
    half: float
    final: Interval
    pass_at_8: Interval | None
    versus: Interval | None
    tokens: float | None
    seconds: float | None
    reached: int
    failed: int


@dataclass(frozen=True, slots=True)
class Standing:
    """All algorithms of one comparison on one task, best first. `target` is the mean final accuracy of `reference`."""

    budget: int
    reference: str | None
    target: float | None
    summaries: tuple[Summary, ...]


def by_label(curves: Iterable[Curve]) -> dict[str, list[Curve]]:
    found: dict[str, list[Curve]] = {}
    for curve in curves:
        found.setdefault(curve.head.algorithm, []).append(curve)
    return found


def main_runs(curves: Iterable[Curve]) -> dict[str, list[Curve]]:
    """The main runs by label; algorithms whose runs all came out the same have one, such as `grpo = gspo`.

    With one update per batch no ratio leaves 1, so nothing that acts on ratios tells two algorithms apart.
    """
    main = by_label(c for c in curves if c.head.stage == "main")
    found: dict[tuple[object, ...], list[str]] = {}
    for label, curves in main.items():
        points = sorted((c.head.seed, r.generated_tokens, r.accuracy) for c in curves for r in c.rows)
        found.setdefault(tuple(points), []).append(label)
    return {" = ".join(labels): main[labels[0]] for labels in found.values()}


def standing(curves: Sequence[Curve], errors: Sequence[ResultRow] = ()) -> Standing:
    """The standing of one comparison on one task, from its finished runs."""
    main = main_runs(curves)
    tuning = tuned_choices([c for c in curves if c.head.stage == "tuning"])
    means = {label: fmean(c.final() for c in found) for label, found in main.items()}
    reference = pick_reference(main, means)
    target = means[reference] if reference else None
    finals = {label: {c.head.seed: c.final() for c in found} for label, found in main.items()}
    summaries = []
    for label, found in main.items():
        times = [None if target is None else c.tokens_to_reach(target) for c in found]
        versus = None if reference in (None, label) else paired(finals[label], finals[str(reference)])
        summaries.append(
            Summary(
                label=label,
                outcome_only=found[0].head.outcome_only,
                points=tuple(sorted({point_of(c) for c in found})),
                choice=tuning.get(found[0].head.algorithm),
                quarter=fmean(c.at(c.head.budget / 4) for c in found),
                half=fmean(c.at(c.head.budget / 2) for c in found),
                final=interval(list(finals[label].values())),
                pass_at_8=pass_at_8(found),
                versus=versus,
                tokens=censored_median(times),
                seconds=censored_median(
                    [None if t is None else c.seconds_at(t) for c, t in zip(found, times, strict=True)]
                ),
                reached=sum(t is not None for t in times),
                failed=sum((e.algorithm, e.stage) == (found[0].head.algorithm, "main") for e in errors),
            )
        )
    budget = max(c.head.budget for found in main.values() for c in found)
    return Standing(budget, reference, target, tuple(sorted(summaries, key=lambda s: -s.final.mean)))


def pass_at_8(curves: Sequence[Curve]) -> Interval | None:
    """The interval of pass@8 at the budget; None where runs drew fewer samples."""
    if any(row.pass_at_8 is None for c in curves for row in c.rows):
        return None
    return interval([c.final("pass_at_8") for c in curves])


def pick_reference(main: Mapping[str, Sequence[Curve]], means: Mapping[str, float]) -> str | None:
    """The label marked as reference, or the outcome-only one with the best final accuracy; None without either."""
    marked = [label for label, found in main.items() if found[0].head.reference]
    outcome_only = [label for label, found in main.items() if found[0].head.outcome_only]
    return max(marked or outcome_only, key=lambda label: means[label], default=None)


def tuned_choices(tuning: Sequence[Curve]) -> dict[str, Tuned]:
    """The point chosen for each label, from its tuning runs at its latest budget."""
    found = {}
    for label, curves in by_label(tuning).items():
        budget = curves[-1].head.budget
        if choice := choose(c for c in curves if c.head.budget == budget):
            found[label] = choice
    return found


def comparison_table(s: Standing) -> str:
    """One line per algorithm: accuracy at a quarter, half and all of the budget; tokens and time to a score."""
    goal = "" if s.target is None else f" to {s.target:.3f}"
    head = [
        "algorithm",
        "settings",
        "seeds",
        "at 1/4",
        "at 1/2",
        "accuracy",
        f"less `{s.reference}`",
        "pass@8",
        f"tokens{goal}",
        f"s{goal}",
    ]
    lines = []
    for a in s.summaries:
        seeds = f"{a.final.n}" + (f" ({a.failed} failed)" if a.failed else "")
        settings = "; ".join(point_words(point) for point in a.points) + edge_mark(a)
        half_way = [f"{a.quarter:.3f}", f"{a.half:.3f}"]
        pass_8 = "" if a.pass_at_8 is None else str(a.pass_at_8)
        versus = "" if a.versus is None else signed(a.versus)
        tokens = seconds = ""
        if s.target is not None:
            share = "" if a.reached == a.final.n else f" ({a.reached} of {a.final.n})"
            tokens = (f"> {thousands(s.budget)}" if a.tokens is None else thousands(a.tokens)) + share
            seconds = "" if a.seconds is None else f"{a.seconds:.0f}"
        name = f"`{a.label}`" + (" (outcome only)" if a.outcome_only else "")
        lines.append([name, settings, seeds, *half_way, str(a.final), versus, pass_8, tokens, seconds])
    if s.reference is None:
        keep = [i for i in range(len(head)) if i not in (6, 8, 9)]
        head, lines = [head[i] for i in keep], [[line[i] for i in keep] for line in lines]
    return markdown(head, lines)


def edge_mark(a: Summary) -> str:
    """` (minibatches highest of its grid)`, where the runs took a point at an edge."""
    edges = a.choice.edges() if a.choice and a.points == (a.choice.point,) else {}
    return f" ({edge_words(edges)} of its grid)" if edges else ""


def edge_words(edges: Mapping[str, str]) -> str:
    return ", ".join(f"{short_key(key)} {side}" for key, side in edges.items())


def tuning_table(tuning: Sequence[Curve]) -> str:
    """The surface of each algorithm: a column for each value of the first key, a line for the others' values.

    The chosen point is bold, a point of several seeds says how many, and a best point at an edge is marked.
    """
    found = tuned_choices(tuning)
    columns = sorted({point[0][1] for choice in found.values() for point in choice.scores})
    first = short_key(next(iter(found.values())).point[0][0]) if found else ""
    lines = []
    for label, choice in sorted(found.items()):
        for others in sorted({point[1:] for point in choice.scores}):
            cells = [tuning_cell(choice, point) for point in surface_row(choice, others, columns)]
            mine = others == choice.point[1:]
            mark = edge_words(choice.edges()) if mine else ""
            lines.append([f"`{label}`", point_words(others), *cells, f"{mark} of its grid" if mark else ""])
    keep = [0, *([1] if any(line[1] for line in lines) else []), *range(2, 3 + len(columns))]
    head = ["algorithm", "other settings", *(f"{first} {value:g}" for value in columns), ""]
    return markdown([head[i] for i in keep], [[line[i] for i in keep] for line in lines])


def surface_row(choice: Tuned, others: Point, columns: Sequence[float]) -> list[Point]:
    """The points of one line of a surface."""
    key = choice.point[0][0]
    return [((key, value), *others) for value in columns]


def tuning_cell(choice: Tuned, point: Point) -> str:
    if point not in choice.scores:
        return ""
    score = f"{choice.scores[point]:.3f}"
    seeds = f" ({choice.seeds[point]} seeds)" if choice.seeds[point] > min(choice.seeds.values()) else ""
    return (f"**{score}**" if point == choice.point else score) + seeds


DYNAMICS = {
    "train_accuracy": "accuracy of rollouts",
    "repair_success": "repair success",
    "active_ratio": "active tokens",
    "entropy": "entropy",
    "groups_mixed": "mixed groups",
}


def dynamics_table(curves: Sequence[Curve]) -> str:
    """One line per algorithm and measure at the first and the last evaluation, means over seeds; the paper's on top."""
    head = ["algorithm", *DYNAMICS.values(), "tokens not spent on rollouts"]
    paper = ["IOP as published", *(arrow(*PAPER[key]) if key in PAPER else "" for key in DYNAMICS), ""]
    lines = [paper]
    for label, found in main_runs(curves).items():
        cells = [arrow(*ends(found, key)) for key in DYNAMICS]
        rollouts = ends(found, "share_rollout")
        rest = tuple(None if share is None else 1 - share for share in rollouts)
        lines.append([f"`{label}`", *cells, arrow(*rest)])
    return markdown(head, lines)


def seeds_table(curves: Sequence[Curve]) -> str:
    """One line per algorithm: the accuracy at the budget of each seed, and a run's tokens and seconds (medians)."""
    main = main_runs(curves)
    seeds = sorted({c.head.seed for found in main.values() for c in found})
    lines = []
    for label, found in main.items():
        finals = {c.head.seed: f"{c.final():.3f}" for c in found}
        last = [c.rows[-1] for c in found]
        spent = f"{median(r.generated_tokens for r in last):,.0f}", f"{median(r.wall_s for r in last):.0f}"
        lines.append([f"`{label}`", *(finals.get(seed, "") for seed in seeds), *spent])
    return markdown(["algorithm", *(f"seed {seed}" for seed in seeds), "tokens", "seconds"], lines)


def ends(curves: Sequence[Curve], key: str) -> tuple[float | None, float | None]:
    """The measure's mean over seeds at the first and at the last evaluation after some training."""
    pairs = []
    for curve in curves:
        values = [value for row in curve.rows if (value := row.dynamics.get(key)) is not None]
        if values:
            pairs.append((values[0], values[-1]))
    return (fmean(a for a, _ in pairs), fmean(b for _, b in pairs)) if pairs else (None, None)


def arrow(first: float | None, last: float | None) -> str:
    return "" if first is None or last is None else f"{first:.3f} → {last:.3f}"


def signed(value: Interval) -> str:
    return f"{value.mean:+.3f}" if value.half is None else f"{value.mean:+.3f} ± {value.half:.3f}"


def thousands(tokens: float) -> str:
    return f"{tokens / 1000:.0f}k"


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
