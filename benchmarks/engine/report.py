"""The tables of docs/engines.md and benchmarks/performance.md, and their plots, from the rows. The words are written
by hand.

python -m benchmarks.engine.report
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.engine.pipes import ROOT
from benchmarks.engine.results import Row, named, read

DOCUMENTS = (ROOT / "docs" / "engines.md", ROOT / "benchmarks" / "performance.md")
IMAGES = ROOT / "docs" / "images"
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
CURVES = {"group": "group size", "length": "tokens per completion", "model": "parameters"}


def said(row: Row) -> str:
    """One row in one line, for whoever waits."""
    if row["ratio"] is None:
        size = row.get("step_mib", row.get("mib"))
        return f"{row['ours_s']:9.4g} s  {size:8.4g} MiB"
    low, high = row["ratios"]
    return (
        f"{row['ours_s']:9.4g} s  {row['theirs_s']:9.4g} s  ratio {row['ratio']:.3g} [{low:.3g}, {high:.3g}]"
    )


def newest(rows: Iterable[Row]) -> dict[tuple[str, str, str, str], Row]:
    """The last row of every bench and size on every machine and type."""
    return {(r["machine"], r["dtype"], r["bench"], named(r)["size"]): r for r in rows}


def table(head: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; "not measured yet" when it has no line."""
    body = [f"| {' | '.join(map(str, line))} |" for line in lines]
    if not body:
        return "*not measured yet*\n"
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *body]) + "\n"


def number(value: float | None, digits: int = 3) -> str:
    """`value` with this many significant digits and no exponent."""
    if value is None:
        return "–"
    if abs(value) >= 10**digits:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}" if abs(value) >= 1e-4 or not value else f"{value:.5f}"


def ratio(row: Mapping[str, Any]) -> str:
    """The median ratio with its range over the pairs."""
    low, high = row["ratios"]
    return f"**{row['ratio']:.2f}** [{low:.2f}, {high:.2f}]"


def steps(rows: Sequence[Row]) -> str:
    return table(
        (
            "model",
            "work",
            "ours, s",
            "TRL, s",
            "ratio [range]",
            "sampling",
            "training",
            "tokens/s",
            "step's memory, MiB",
        ),
        (
            (
                f"{r['size']} ({r['parameters'] / 1e6:.3g}M)",
                work(r),
                number(r["ours_s"]),
                number(r["theirs_s"]),
                ratio(r),
                f"{r['phases']['sampling']['ratio']:.2f}",
                f"{r['phases']['training']['ratio']:.2f}",
                " / ".join(number(v) for v in r["tokens_per_s"]),
                " / ".join(number(v) for v in r["step_mib"]),
            )
            for r in rows
        ),
    )


def work(row: Row) -> str:
    """The work of a row: problems x completions x tokens."""
    length = f"{row['prompt_tokens']} + {row['new_tokens']}" if row["prompt_tokens"] else "real lengths"
    return f"{row['problems']} x {row['group']}, {length}"


def pairs(rows: Sequence[Row]) -> str:
    return table(
        ("size", "ours, s", "peer, s", "ratio [range]", "peer"),
        ((r["size"], number(r["ours_s"]), number(r["theirs_s"]), ratio(r), r["peer"]) for r in rows),
    )


def samplers(rows: Sequence[Row]) -> str:
    return table(
        ("model", "prompts x continuations, tokens", "ours, s", "`generate`, s", "ratio [range]", "tokens/s"),
        (
            (
                r["size"],
                work(r),
                number(r["ours_s"]),
                number(r["theirs_s"]),
                ratio(r),
                " / ".join(number(v) for v in r["tokens_per_s"]),
            )
            for r in rows
        ),
    )


def mending(rows: Sequence[Row]) -> str:
    lines = []
    for r in rows:
        seconds, tokens = r["share_of_seconds"], r["share_of_tokens"]
        lines.append(
            (
                f"{r['algorithm']}, {r['size']}, {r['workload']}" + ", vllm" * (r["engine"] == "vllm"),
                ratio(r),
                r["peer"],
                " / ".join(number(v) for v in r["passes"]),
                *(f"{seconds[k]:.1%} / {tokens[k]:.1%}" for k in ("rollout", "repair", "check")),
                *(f"{seconds[k]:.1%}" for k in ("audit", "alignment", "train", "other")),
            )
        )
    head = (
        "step",
        "ratio [range]",
        "peer",
        "passes",
        "rollouts",
        "repairs",
        "checks",
        "audit",
        "alignment",
        "training",
    )
    return table((*head, "other"), lines)


def learners(rows: Sequence[Row]) -> str:
    return table(
        ("model", "tokens", "step, s", "GFLOP/s", "matmul, GFLOP/s", "fraction"),
        (
            (
                f"{r['size']} ({r['parameters'] / 1e6:.3g}M)",
                work(r),
                number(r["ours_s"]),
                number(r["gflops"]),
                number(r["matmul_gflops"]),
                f"**{r['fraction']:.2f}**",
            )
            for r in rows
        ),
    )


def memories(rows: Sequence[Row]) -> str:
    return table(
        ("micro-batch", "tokens", "step's memory, MiB", "a token, KiB", "whole process, MiB"),
        (
            (
                r["size"],
                number(r["tokens"], 6),
                number(r["step_mib"]),
                number(r["step_mib"] * 1024 / r["tokens"]),
                number(r["peak_mib"]),
            )
            for r in rows
        ),
    )


def alignments(rows: Sequence[Row]) -> str:
    return table(
        ("tokens", "edits", "seconds", "CPU seconds", "MiB"),
        (
            (
                number(r["length"], 6),
                number(r["edits"], 6),
                number(r["ours_s"]),
                number(r["cpu_s"]),
                number(r["mib"]),
            )
            for r in rows
        ),
    )


def curves(rows: Sequence[Row]) -> str:
    return table(
        ("curve", "at", "work", "ours, s", "TRL, s", "ratio [range]"),
        (
            (CURVES[r["bench"]], r["size"], work(r), number(r["ours_s"]), number(r["theirs_s"]), ratio(r))
            for r in rows
        ),
    )


TABLES: Mapping[str, tuple[tuple[str, ...], Callable[[Sequence[Row]], str]]] = {
    "step": (("step",), steps),
    "generate": (("generate",), samplers),
    "mending": (("mending",), mending),
    "learner": (("learner",), learners),
    "memory": (("memory",), memories),
    "align": (("align",), alignments),
    "curves": (tuple(CURVES), curves),
    "other": (("malloc", "continuous"), pairs),
}


def block(name: str, rows: Sequence[Row]) -> str:
    """The tables of one kind, one a machine, each under the machine's name."""
    benches, draw = TABLES[name]
    wanted = [r for r in rows if r["bench"] in benches]
    places = list(dict.fromkeys((r["machine"], r["threads"], r["dtype"]) for r in wanted))
    parts = []
    for place in places:
        mine = [r for r in wanted if (r["machine"], r["threads"], r["dtype"]) == place]
        commits = ", ".join(dict.fromkeys(f"`{r['commit']}`" for r in mine))
        parts.append(f"{place[0]}; threads: {place[1]}; {place[2]}; commit {commits}\n\n{draw(mine)}")
    return "\n".join(parts) or "*not measured yet*\n"


def plot(rows: Sequence[Row]) -> None:
    """docs/images/engine-*.svg: seconds of a step over group size, completion length and parameters."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "kintsugi"
    import matplotlib.pyplot as plt

    IMAGES.mkdir(parents=True, exist_ok=True)
    axes_of = {"group": "group", "length": "new_tokens", "model": "parameters"}
    for bench, along in axes_of.items():
        # The model curve ends in the whole-step bench of the largest model, which has the same work.
        mine = [
            r
            for r in rows
            if r["bench"] == bench or (bench, r["bench"], r["size"]) == ("model", "step", "135m")
        ]
        if not mine:
            continue
        last = mine[-1]["machine"]
        points = sorted((r for r in mine if r["machine"] == last), key=lambda r: r[along])
        figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
        for key, label in (("ours_s", "kintsugi"), ("theirs_s", "TRL")):
            axes.plot([r[along] for r in points], [r[key] for r in points], marker="o", label=label)
        axes.set(xscale="log", yscale="log", xlabel=CURVES[bench], ylabel="seconds a step")
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
        figure.savefig(IMAGES / f"engine-{bench}.svg", metadata={"Date": None})
        plt.close(figure)


def write() -> None:
    """Brings the documents' tables and the plots up to date."""
    rows = list(newest(read()).values())
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        text = BLOCK.sub(lambda m: f"{m[1]}{block(m[2], rows)}{m[3]}", text)
        document.write_text(text, encoding="utf-8")
    plot(rows)


if __name__ == "__main__":
    write()
