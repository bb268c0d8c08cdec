"""The curves of a report, as SVG that takes its colours from the page and whose points lead to their steps."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from kintsugi.look.report.blocks import Shown

LINKED = 120
"""Points of a curve that are links, at most: more than that cannot be hit with a finger anyway."""
COLOURS = {
    "#010101": "ink",
    "#020202": "faint",
    "#030303": "gold",
    "#040404": "blue",
    "#050505": "orange",
    "#060606": "green",
}
"""Stand-ins in what matplotlib writes: the page's own colours take their place, for light and dark."""
INK, FAINT, GOLD, BLUE, ORANGE, GREEN = COLOURS
STYLE = {
    "font.family": "sans-serif", "font.size": 11, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": FAINT,
    "axes.spines.top": False, "axes.spines.right": False, "xtick.color": INK, "ytick.color": INK, "axes.grid": True,
    "axes.grid.axis": "y", "axes.axisbelow": True, "grid.color": FAINT, "grid.linewidth": 0.6,
    "xtick.major.size": 0, "ytick.major.size": 0, "xtick.major.pad": 7,
    "svg.fonttype": "none", "legend.frameon": False, "lines.linewidth": 2,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figure:
    """One picture: its title, what it shows in words, and the SVG element ("": the words say all that it would)."""

    title: str
    about: str
    svg: str


@dataclass(frozen=True, slots=True)
class Trace:
    label: str
    key: str
    colour: str
    look: str = "-"


@dataclass(frozen=True, slots=True)
class Panel:
    """A figure of curves over the run; `share` where values lie between 0 and 1."""

    title: str
    about: str
    curves: tuple[Trace, ...]
    share: bool = False


PANELS = (
    Panel(
        "Repair success",
        "share of the failures tried that were mended",
        (Trace("mended", "repair/success_per_failure", GOLD),),
        share=True,
    ),
    Panel(
        "Active tokens",
        "share of the rollouts' tokens that are trained on",
        (Trace("active", "active_ratio", GOLD),),
        share=True,
    ),
    Panel(
        "Open seams",
        "share of the step's seams whose fix is within the policy's reach",
        (Trace("open", "reach/open", GREEN),),
        share=True,
    ),
    Panel("Entropy", "of sampled tokens, estimated, in nats", (Trace("entropy", "entropy", BLUE),)),
    Panel("Clip fraction", "share of ratios that were clipped", (Trace("clipped", "clip_fraction", ORANGE),)),
    Panel(
        "Length",
        "mean tokens of a rollout and of a repair",
        (Trace("rollout", "length/rollout", BLUE), Trace("repair", "length/repair", GOLD, "--")),
    ),
    Panel("Gradient norm", "before clipping", (Trace("gradient norm", "grad_norm", ORANGE),)),
    Panel("Reward", "mean over the step's rollouts", (Trace("reward", "reward", GOLD),)),
)
KSTAR = ("K", "2K", "all")
PHASES = {"rollout": BLUE, "repair": GOLD, "audit": GREEN, "check": ORANGE, "train": INK}


def figures(source: Shown) -> list[Figure]:
    """Every figure that the source has numbers for."""
    found = [accuracy_figure(source)] if source.evals or has(source.steps, "accuracy") else []
    for panel in PANELS:
        shown = [c for c in panel.curves if has(source.steps, c.key)]
        values = {line[c.key] for c in shown for line in source.steps if line.get(c.key) is not None}
        if values == {0}:
            found.append(Figure(panel.title, "0 in every step", ""))
        elif shown:
            draw = partial(curves_on, source=source, curves=shown)
            found.append(drawn(panel.title, panel.about, source, draw, panel.share))
    for name, what in (("tokens", "Generated tokens"), ("seconds", "Seconds")):
        if has(source.steps, f"{name}/rollout"):
            draw = partial(by_phase, source=source, name=name)
            if len(source.steps) > 1:
                about = f"{what.lower()} of each step by phase, stacked"
                found.append(drawn(f"{what} by phase", about, source, draw))
            else:
                about = f"{what.lower()} of step {source.steps[0]['step']} by phase"
                found.append(drawn(f"{what} by phase", about, None, draw))
    kept = {name: sum(line.get(f"kstar/{name}") or 0 for line in source.steps) for name in KSTAR}
    if len(used := {name: count for name, count in kept.items() if count}) == 1:
        ((name, count),) = used.items()
        found.append(Figure("Edits trained on (K*)", f"those of all {count:,} seams by {name}", ""))
    elif used:
        about = "seams by how many of their edits are trained on: the first K, 2K or all"
        found.append(drawn("Edits trained on (K*)", about, None, partial(kstar, counts=list(kept.values()))))
    return found


def has(lines: Sequence[Mapping[str, Any]], key: str) -> bool:
    return any(line.get(key) is not None for line in lines)


def along(line: Mapping[str, Any]) -> float:
    """The place of a line on the horizontal axis: tokens generated so far in thousands, or else its step."""
    tokens = line.get("tokens/total")
    return float(line["step"]) if tokens is None else tokens / 1000


def accuracy_figure(source: Shown) -> Figure:
    def draw(axes: Any) -> None:
        if has(source.steps, "accuracy"):
            curves_on(axes, source, [Trace("training rollouts", "accuracy", BLUE)])
        if source.evals:
            xs = [along(e) for e in source.evals]
            ys = [e["eval/pass@1"] for e in source.evals]
            if all("eval/pass@1_ci" in e for e in source.evals):
                low, high = zip(*(e["eval/pass@1_ci"] for e in source.evals), strict=True)
                axes.vlines(xs, low, high, color=GOLD, linewidth=2)
            axes.plot(
                xs,
                ys,
                {1: "D", 2: "D--"}.get(len(xs), "D-"),
                color=GOLD,
                label="held out, with 95% interval",
                markersize=6,
            )
        if has(source.steps, "accuracy") and source.evals:
            above(axes)

    return drawn("Accuracy", "share of rollouts that pass the verifier", source, draw, True)


def curves_on(axes: Any, source: Shown, curves: Sequence[Trace]) -> None:
    """Lines with points; some of the points are links to their step."""
    for curve in curves:
        lines = [line for line in source.steps if line.get(curve.key) is not None]
        xs, ys = [along(line) for line in lines], [line[curve.key] for line in lines]
        axes.plot(xs, ys, curve.look if len(xs) > 1 else ".", color=curve.colour, label=curve.label)
        every = max(1, -(-len(lines) // LINKED))
        dots = axes.scatter(xs[::every], ys[::every], s=22, color=curve.colour, zorder=3)
        dots.set_urls([f"#step={line['step']}" for line in lines[::every]])
    if len(curves) > 1:
        above(axes)


def by_phase(axes: Any, source: Shown, name: str) -> None:
    """Areas over the run, a bar for each phase where the run has one step."""
    xs = [along(line) for line in source.steps]
    phases = [
        p for p in PHASES if has(source.steps, f"{name}/{p}") and not (p == "train" and name == "tokens")
    ]
    values = [[line.get(f"{name}/{phase}") or 0 for line in source.steps] for phase in phases]
    used = [(p, v) for p, v in zip(phases, values, strict=True) if any(v)]
    if used and len(xs) > 1:
        axes.stackplot(
            xs,
            [v for _, v in used],
            labels=[p for p, _ in used],
            colors=[PHASES[p] for p, _ in used],
            alpha=0.85,
        )
    elif used:
        axes.bar([p for p, _ in used], [v[0] for _, v in used], color=[PHASES[p] for p, _ in used])
    if used and len(xs) > 1:
        above(axes)


def above(axes: Any) -> None:
    """The legend over the plot, where it covers nothing."""
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5, columnspacing=1.2, handlelength=1.4)


def kstar(axes: Any, counts: Sequence[int]) -> None:
    axes.bar(KSTAR, counts, color=GOLD, width=0.6)
    for i, count in enumerate(counts):
        axes.annotate(f"{count:,}", (i, count), ha="center", va="bottom")


def drawn(
    title: str, about: str, source: Shown | None, draw: Callable[[Any], None], share: bool = False
) -> Figure:
    """The figure; `source` where the horizontal axis is the run's, `share` where values lie between 0 and 1."""
    import matplotlib
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import PercentFormatter

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": title}):
        canvas = Canvas(figsize=(5.6, 3.1))
        axes = canvas.subplots()
        draw(axes)
        if share:
            axes.set_ylim(-0.03, 1.03)
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        else:
            axes.set_ylim(bottom=0 if axes.dataLim.y0 >= 0 else None)
        if source is not None:
            tokens = has(source.steps, "tokens/total") or has(source.evals, "tokens/total")
            axes.set_xlabel("thousand generated tokens" if tokens else "step")
            if axes.dataLim.x0 == axes.dataLim.x1:  # matplotlib would spread ticks around a single place
                axes.set_xticks([axes.dataLim.x0], [f"{axes.dataLim.x0:g}"])
        out = io.StringIO()
        canvas.savefig(
            out, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None, "Creator": None}
        )
    return Figure(title, about, own(out.getvalue(), title, about))


def own(svg: str, title: str, about: str) -> str:
    """The SVG element alone, with ids of its own, the page's colours, and a name that is read out."""
    name = re.sub(r"\W", "", title)
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)(?!step=)', rf"\g<1>{name}-", svg)
    for stand_in, colour in COLOURS.items():
        svg = svg.replace(stand_in, f"var(--{colour})")
    svg = re.sub(r'<a xlink:href="#step=(\d+)"', r'<a href="#step=\1" aria-label="step \1"', svg)
    svg = svg.replace(' target="_blank"', "")  # a link within the page
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    return svg.replace("<svg", f'<svg role="group" aria-label="{title}: {about}"', 1)
