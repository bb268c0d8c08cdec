"""The law's table and picture: what a seam gains against its reach, and against the share of failures mended.

For each base (task and slip rate) of the comparison `law`, from result rows alone: the start, what the seams of
`kintsugi` are like in its first step and in the first half of its runs, how many failures it mends there, where each
algorithm ends, and two differences, taken seed by seed: seams less none, and random seams less none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from kintsugi.compare.plots import FAINT, STYLE, head, pyplot
from kintsugi.compare.results import Curve, Interval, paired
from kintsugi.compare.tables import main_runs, markdown, signed
from kintsugi.look.doctor.trial import expects_gain

SEAMS, NONE, RANDOM = "kintsugi", "kintsugi without seams", "kintsugi random seams"
OTHERS = (
    NONE,
    RANDOM,
    "kintsugi open seams",
    "grpo",
    "raft",
    "iop",
    "exact_labels",
    "exact_labels of mixed groups",
)
LOOKS = {"brackets": ("#0072B2", "o", "right"), "dot": ("#D55E00", "s", "left")}
"""Colour and marker of a task's points, and the side of its labels that touches them."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One base: its name, its start, its seams in the first step (None: not on record) and before the first evaluation,
    where each label ends, and the two gains."""

    name: str
    start: float
    first_open: float | None
    first_fix: float | None
    open_share: float
    fix: float
    mended: float
    mixed: float
    ends: Mapping[str, float]
    gain: Interval
    control: Interval | None

    @property
    def promised(self) -> bool:
        """True if doctor's forecast, given the repairs before the first evaluation of a run, expects a gain."""
        return expects_gain(self.mended)

    @property
    def gained(self) -> bool:
        """True if the whole interval lies above 0."""
        return self.gain.mean - (self.gain.half or 0.0) > 0


def settings(by_task: Mapping[str, Sequence[Curve]]) -> list[Setting]:
    """The bases on which seams and none were run, by name."""
    found = []
    for task, curves in sorted(by_task.items()):
        runs = main_runs(curves)
        if SEAMS not in runs or NONE not in runs:
            continue
        ends = {label: {c.head.seed: c.final() for c in of_label} for label, of_label in runs.items()}
        gain = paired(ends[SEAMS], ends[NONE])
        if gain is None:
            continue
        found.append(
            Setting(
                name=task,
                start=fmean(c.rows[0].accuracy or 0.0 for c in runs[SEAMS]),
                first_open=early(runs[SEAMS], "first_open_share"),
                first_fix=early(runs[SEAMS], "first_fix_probability"),
                open_share=early(runs[SEAMS], "open_share") or 0.0,
                fix=early(runs[SEAMS], "fix_probability") or 0.0,
                mended=early(runs[SEAMS], "repair_success") or 0.0,
                mixed=early(runs[SEAMS], "groups_mixed") or 0.0,
                ends={label: fmean(by_seed.values()) for label, by_seed in ends.items()},
                gain=gain,
                control=paired(ends.get(RANDOM, {}), ends[NONE]),
            )
        )
    return found


def early(curves: Sequence[Curve], what: str) -> float | None:
    """The mean over runs of a measure of the steps before the first evaluation after the start; None: not on record."""
    values = [value for c in curves if (value := c.rows[1].dynamics.get(what)) is not None]
    return fmean(values) if values else None


def both(first: float | None, later: float) -> str:
    """The value in the first step, where it is on record, and that of the steps before the first evaluation."""
    return f"{later:.2f}" if first is None else f"{first:.2f}, {later:.2f}"


def law_table(found: Sequence[Setting]) -> str:
    labels = [label for label in OTHERS if any(label in s.ends for s in found)]
    lines = [
        [
            s.name, str(s.gain.n), f"{s.start:.3f}", both(s.first_open, s.open_share), both(s.first_fix, s.fix),
            f"{s.mended:.2f}", f"{s.ends[SEAMS]:.3f}", *(f"{s.ends[x]:.3f}" if x in s.ends else "" for x in labels),
            signed(s.gain), "" if s.control is None else signed(s.control),
        ]
        for s in found
    ]  # fmt: skip
    heads = [
        "base",
        "seeds",
        "start",
        "open seams",
        "p(fix)",
        "mended",
        f"`{SEAMS}`",
        *(f"`{x}`" for x in labels),
    ]
    return markdown([*heads, "seams less none", "random seams less none"], lines)


def forecast_table(found: Sequence[Setting]) -> str:
    """Does `kintsugi doctor` say rightly whether seams gain? A line per setting."""
    lines = [
        [
            s.name, f"{s.mixed:.2f}", f"{s.mended:.2f}", "gain" if s.promised else "no gain", signed(s.gain),
            "yes" if s.promised == s.gained else "no",
        ]
        for s in found
    ]  # fmt: skip
    return markdown(["task", "mixed groups", "mended", "forecast", "seams less none", "right"], lines)


def draw_law(path: Path, found: Sequence[Setting]) -> None:
    """Writes the picture: gain with its 95% interval against p(fix), and against the share of failures mended."""
    with pyplot().rc_context(STYLE):
        figure, panels = pyplot().subplots(ncols=2, sharey=True, figsize=(10.4, 4.6))
        for axes, what, label in zip(
            panels,
            ("fix", "mended"),
            ("probability of the fix at a seam", "share of failures mended"),
            strict=True,
        ):
            axes.axhline(0, color="#888888", linewidth=1)
            for s in found:
                point(axes, getattr(s, what), s)
            axes.set_xlim(0, 0.9)
            axes.set_xlabel(f"{label}, first half of a run")
            axes.grid(axis="y", color=FAINT, linewidth=0.8)
            axes.set_axisbelow(True)
        panels[0].set_ylabel("held-out accuracy over no seams")
        counts = sorted({s.gain.n for s in found})
        seeds = "–".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        head(
            panels[0],
            "Gain of seams (filled) and of random seams (hollow)",
            f"{seeds} seeds, 95% intervals",
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None}, bbox_inches="tight", pad_inches=0.15)
    pyplot().close(figure)


def point(axes: Any, x: float, s: Setting) -> None:
    """One base: the gain of its seams, named, and beside it that of random ones."""
    colour, marker, align = LOOKS.get(s.name.split("-")[0], ("#009E73", "^", "left"))
    axes.errorbar(x, s.gain.mean, yerr=s.gain.half, fmt=marker, color=colour, capsize=3, elinewidth=1.5)
    beside = (6 if align == "left" else -6, 4)
    axes.annotate(
        s.name, (x, s.gain.mean), beside, ha=align, textcoords="offset points", fontsize=8, color=colour
    )
    if s.control is not None:
        axes.errorbar(
            x, s.control.mean, yerr=s.control.half, fmt=marker, color=colour, mfc="white", alpha=0.6
        )
