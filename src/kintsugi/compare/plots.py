"""Pictures of result rows, as SVG: legible on light and dark pages, and without telling colours apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kintsugi.compare.results import Curve, interval
from kintsugi.compare.tables import Standing, main_runs

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#B8578C", "#2F93CC", "#B07A00", "#6A3D9A", "#6B6B6B", "#8C5A2B")
"""After Okabe and Ito (2008), the light ones darkened so that labels can be read on white, and three more."""
COLOURS = {
    "iop": "#D55E00",
    "kintsugi": "#0072B2",
    "grpo": "#6B6B6B",
    "gspo": "#B8578C",
    "raft": "#B07A00",
    "extra_rollouts": "#2F93CC",
    "exact_labels": "#000000",
    "dapo": "#6A3D9A",
    "kintsugi without seams": "#009E73",
    "kintsugi random seams": "#8C5A2B",
}
"""The main table's algorithms look the same in every plot."""
INK, FAINT = "#222222", "#d8d8d8"
STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#888888",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "white",  # an opaque card: the same on light and dark pages
    "svg.hashsalt": "kintsugi",
    "svg.fonttype": "none",
}
FEW_SEEDS = 5
"""Seeds below which each is drawn."""
MOST_CURVES = 10
"""More algorithms than this are drawn as dots with intervals, not as curves."""


def draw_comparison(path: Path, title: str, curves: Sequence[Curve], standing: Standing) -> None:
    """Writes the picture of one comparison on one task; its file name's ending decides the format."""
    figure = (
        dots(title, standing) if len(standing.summaries) > MOST_CURVES else lines(title, curves, standing)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if path.suffix == ".svg" else {}
    with pyplot().rc_context(STYLE):
        figure.savefig(path, metadata=metadata, bbox_inches="tight", pad_inches=0.15, dpi=150)
    pyplot().close(figure)


def pyplot() -> Any:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    return plt


def lines(title: str, curves: Sequence[Curve], standing: Standing) -> Any:
    """Mean accuracy against all generated tokens with its 95% interval over seeds, labelled at the end of each line.

    Where all runs name the same machine, a second panel has the same means against their mean seconds.
    """
    main = main_runs(curves)
    colours = assign(sorted(main))
    timed = on_one_machine(curves)
    shape: dict[str, Any] = {"ncols": 2, "sharey": True, "width_ratios": (3, 2)} if timed else {}
    between = 0.6 + 0.085 * max(
        map(len, main)
    )  # inches for the labels between the panels; a letter has 0.085
    width = 8.8 + between if timed else 7.6
    with pyplot().rc_context(STYLE):
        figure, panels = pyplot().subplots(figsize=(width, 4.4), squeeze=False, **shape)
        axes, *clock = panels[0]
        ends = {}
        for s in standing.summaries:
            grid, mean, half = mean_curve(main[s.label])
            look = ":" if s.label.startswith("exact_labels") else "--" if s.outcome_only else "-"
            drawn = {"color": colours[s.label], "linewidth": 1.6 if s.outcome_only else 2.2}
            axes.plot(grid / 1000, mean, look, **drawn)
            if 1 < len(main[s.label]) < FEW_SEEDS:  # an interval over so few says little: each seed is drawn
                for curve in main[s.label]:
                    ys = [curve.at(x) for x in grid]
                    axes.plot(grid / 1000, ys, look, color=colours[s.label], linewidth=0.7, alpha=0.5)
            elif half is not None:
                low, high = np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1)
                axes.fill_between(grid / 1000, low, high, color=colours[s.label], alpha=0.12, linewidth=0)
            for beside in clock:
                seconds = [np.mean([c.seconds_at(x) for c in main[s.label]]) for x in grid]
                beside.plot(seconds, mean, look, **drawn)
            ends[s.label] = float(mean[-1])
        axes.set_ylabel("held-out accuracy")
        axes.set_ylim(0, 1)
        axes.set_xlim(0, standing.budget / 1000)
        axes.set_xlabel("generated tokens, all phases (thousands)")
        for beside in clock:
            beside.set_xlim(0)
            beside.set_xlabel("seconds of sampling and training")
        for panel in (axes, *clock):
            panel.grid(axis="y", color=FAINT, linewidth=0.8)
            panel.set_axisbelow(True)
        figure.subplots_adjust(
            wspace=2 * between / (0.775 * width - between)
        )  # of the mean width of the panels
        name_ends(axes, ends, colours)
        head(axes, title, note(standing) + "; dashed: outcome only")
    return figure


def name_ends(axes: Any, ends: Mapping[str, float], colours: Mapping[str, str]) -> None:
    """Writes each line's label and last value beside its end, apart from the others."""
    for label, y in moved_apart(ends, 0.055).items():
        # It starts at the label's left (relpos): else a slanted line runs through the letters.
        line = {"arrowstyle": "-", "color": colours[label], "linewidth": 0.8, "relpos": (0, 0.5)}
        line |= {"shrinkA": 1, "shrinkB": 0}
        axes.annotate(
            f"{label}  {ends[label]:.2f}",
            (1.0, ends[label]),
            (1.035, y),
            xycoords=axes.get_yaxis_transform(),
            textcoords=axes.get_yaxis_transform(),
            color=colours[label],
            va="center",
            fontweight="bold",
            annotation_clip=False,
            arrowprops=line,
        )


def on_one_machine(curves: Sequence[Curve]) -> bool:
    """True if the runs that count name the same machine. Their seconds can then be held against each other."""
    machines = {c.head.machine for c in curves if c.head.stage == "main"}
    return len(machines) == 1 and "" not in machines


def dots(title: str, standing: Standing) -> Any:
    """Accuracy at the budget with its 95% interval, one line of the picture per algorithm, best on top."""
    with pyplot().rc_context(STYLE):
        figure, axes = pyplot().subplots(figsize=(7.6, 0.9 + 0.3 * len(standing.summaries)))
        for y, s in enumerate(reversed(standing.summaries)):
            colour = "#D55E00" if s.label == standing.reference else "#0072B2"
            axes.errorbar(
                s.final.mean, y, xerr=s.final.half, fmt="o", color=colour, elinewidth=1.5, capsize=3
            )
        if standing.target is not None:
            axes.axvline(standing.target, color="#D55E00", linewidth=1, linestyle="--")
        axes.set_yticks(range(len(standing.summaries)), [s.label for s in reversed(standing.summaries)])
        axes.grid(axis="x", color=FAINT, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_xlabel("held-out accuracy")
        head(axes, title, note(standing) + f"; dashed: {standing.reference}")
    return figure


def head(axes: Any, title: str, subtitle: str) -> None:
    axes.annotate(title, (0, 1), (0, 22), "axes fraction", "offset points", fontsize=12, fontweight="bold")
    axes.annotate(subtitle, (0, 1), (0, 8), "axes fraction", "offset points", fontsize=9, color="#555555")


def note(standing: Standing) -> str:
    counts = sorted({s.final.n for s in standing.summaries})
    if counts == [1]:
        return "one seed"
    intervals = "each drawn thin" if counts[-1] < FEW_SEEDS else "with 95% intervals"
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"mean of {seeds} seeds, {intervals}"


def mean_curve(curves: Sequence[Curve]) -> tuple[Any, Any, Any]:
    """(tokens, mean, half width) on an even grid up to the budget; half width is None for a single seed."""
    points = max(len(c.rows) for c in curves)
    grid = np.linspace(0, min(c.head.budget for c in curves), points)
    found = [interval([c.at(x) for c in curves]) for x in grid]
    half = None if len(curves) < 2 else np.array([f.half for f in found])
    return grid, np.array([f.mean for f in found]), half


def assign(labels: Sequence[str]) -> dict[str, str]:
    """A colour for each label: its own if it has one, else the next that is free."""
    taken = {COLOURS[label] for label in labels if label in COLOURS}
    free = [colour for colour in PALETTE if colour not in taken] or list(PALETTE)
    others = [label for label in labels if label not in COLOURS]
    given = {label: free[i % len(free)] for i, label in enumerate(others)}
    return {label: COLOURS.get(label) or given[label] for label in labels}


def moved_apart(places: Mapping[str, float], gap: float) -> dict[str, float]:
    """The places moved as little as is needed for neighbours to lie `gap` apart, in the same order, within 0 and 1."""
    order = sorted(places, key=lambda label: places[label])
    groups: list[list[str]] = [[label] for label in order]

    def middle(group: Sequence[str]) -> float:
        half = gap * (len(group) - 1) / 2
        wanted = sum(places[label] for label in group) / len(group)
        return min(max(wanted, half), max(1 - half, half))

    i = 0
    while i + 1 < len(groups):
        low, high = groups[i], groups[i + 1]
        room = middle(high) - middle(low)
        if room < gap * (len(low) + len(high)) / 2 - 1e-9:
            groups[i : i + 2] = [[*low, *high]]
            i = max(0, i - 1)
        else:
            i += 1
    return {
        label: middle(group) + gap * (k - (len(group) - 1) / 2)
        for group in groups
        for k, label in enumerate(group)
    }
