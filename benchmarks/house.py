"""The house in one picture: rooms as boxes, imports as arrows. docs/images/house.svg is made from the source.

    python -m benchmarks.house

An arrow leads from a room to one that it imports. Arrows that follow from others are left out: where `run` imports
`assembly`, and `assembly` imports `learning`, there is none from `run` to `learning`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "kintsugi"
PICTURE = ROOT / "docs" / "images" / "house.svg"

ORDER = (
    "records", "names", "files", "yamls", "plugins", "prompts", "config", "verifiers", "tasks", "models",
    "sampling", "learning", "mending", "algorithms", "assembly", "run", "trackers", "loop", "trainer",
    "coldstart", "mender", "look", "notebook", "compare", "bridges", "cli_errors", "cli_solutions", "cli",
)  # fmt: skip
"""Rooms and single files, each of which may import those before it."""
JOINED = dict.fromkeys(ORDER[:7], "records") | dict.fromkeys(("cli_errors", "cli_solutions"), "cli")
"""Files that share the box of another."""
BOXES = {
    "cli": (1, "cli.py, cli_*.py", "one function a command"),
    "notebook": (1, "notebook.py", "the same for Python"),
    "compare": (0, "compare/", "algorithms at equal tokens"),
    "look": (1, "look/", "report, show, doctor"),
    "bridges": (2, "bridges/", "TRL and verl"),
    "trainer": (1, "trainer.py", "a batch to rows, by asks"),
    "coldstart": (0, "coldstart.py", "examples to rows"),
    "loop": (1, "loop.py", "rows to a trained model"),
    "trackers": (1, "trackers/", "metrics, sent elsewhere"),
    "mender": (3, "mender.py", "repairs without training"),
    "run": (1, "run/", "a run's folder on disk"),
    "algorithms": (2, "algorithms/", "what is sampled, its credit"),
    "assembly": (1, "assembly.py", "a recipe's names to objects"),
    "mending": (2, "mending/", "repair, audit, align"),
    "learning": (1, "learning/", "rows to optimizer steps"),
    "sampling": (1, "sampling/", "asks to rollouts, engines"),
    "tasks": (0, "tasks/", "where problems come from"),
    "models": (2, "models/", "weights and tokenizer"),
    "verifiers": (1, "verifiers/", "texts to verdicts"),
    "records": (1, "records.py, config.py, plugins.py, …", "the records, the recipe, the one door for names"),
}
"""Column, title and purpose of each box; the row follows from the imports."""

WIDTH, HEIGHT, GAP, DROP, EDGE = 196, 42, 36, 26, 24
STYLE = """
.page { fill: #fbfaf7 } .box { fill: #fff; stroke: #c9c6be } .name { fill: #23262b; font-weight: 600 }
.what { fill: #5f656d } .way { fill: none; stroke: #a8812a; stroke-width: 1.5 } .tip { fill: #a8812a }
@media (prefers-color-scheme: dark) {
.page { fill: #1b1d21 } .box { fill: #26292e; stroke: #4a4e56 } .name { fill: #eceae4 } .what { fill: #a9aeb6 }
.way { stroke: #d9ae4f } .tip { fill: #d9ae4f } }
"""


def imports(path: Path, source: Path = SOURCE) -> Iterator[str]:
    """Every module that a file imports, wherever in it: at the top, in a function, by import_module."""
    package = ["kintsugi", *path.relative_to(source).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*home, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            name = ast.unparse(node.func).rpartition(".")[2]
            argument = node.args[0]
            if name in ("import_module", "__import__") and isinstance(argument, ast.Constant):
                yield str(argument.value)


def room_imports(source: Path = SOURCE) -> dict[str, set[str]]:
    """The boxes that the files of each box import. Code that runs in the sandbox lives in a world of its own."""
    found: dict[str, set[str]] = {}
    for path in sorted(source.rglob("*.py")):
        room = path.relative_to(source).with_suffix("").parts[0]
        if room == "__init__" or "inside" in path.parts:
            continue
        box = JOINED.get(room, room)
        names = [module.split(".")[1] for module in imports(path, source) if module.startswith("kintsugi.")]
        boxes = {JOINED.get(name, name) for name in names if name in ORDER}
        found.setdefault(box, set()).update(boxes - {box})
    return found


def reduced(edges: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Those edges of a graph without circles that do not follow from others."""

    def reach(start: str) -> set[str]:
        return {start}.union(*(reach(after) for after in edges.get(start, set())))

    return {
        start: {end for end in ends if not any(end in reach(other) for other in ends - {end})}
        for start, ends in edges.items()
    }


def levels(edges: Mapping[str, set[str]]) -> dict[str, int]:
    """Each box above all that it imports: the number of arrows of the longest way down."""

    def level(name: str) -> int:
        return max((1 + level(below) for below in edges.get(name, set())), default=0)

    return {name: level(name) for name in edges}


def way(start: tuple[int, int], end: tuple[int, int], taken: set[tuple[int, int]]) -> str:
    """A path between two boxes, given as (column, level): down the end's column, or beside it where boxes stand."""

    def centre(column: float) -> float:
        return EDGE + column * (WIDTH + GAP) + WIDTH / 2

    def bent(x1: float, x2: float, y1: float, y2: float) -> str:
        middle = (y1 + y2) / 2
        return f"C{x1:g} {middle:g} {x2:g} {middle:g} {x2:g} {y2:g}"

    y1, y2 = HEIGHT - (start[1] + 1) * (HEIGHT + DROP), -(end[1] + 1) * (HEIGHT + DROP)
    x1, x2 = centre(start[0]), centre(end[0])
    between = range(end[1] + 1, start[1])
    lane = x2 if not {(end[0], level) for level in between} & taken else centre(max(start[0], end[0]) - 0.5)
    last = f"{bent(lane, x2, y2 - DROP, y2 - 8)}V{y2 - 5}"
    return (
        f"M{x1:g} {y1}{bent(x1, lane, y1, y1 + DROP)}V{y2 - DROP}{last}"
        if between
        else (f"M{x1:g} {y1}{bent(x1, x2, y1, y2 - 8)}V{y2 - 5}")
    )


def picture(edges: Mapping[str, set[str]]) -> str:
    """SVG of the boxes and their arrows, in the colours that the reader's system asks for."""
    high = levels(edges)
    top = (max(high.values()) + 1) * (HEIGHT + DROP) + EDGE
    wide, tall = 4 * (WIDTH + GAP) - GAP + 2 * EDGE, top + EDGE - DROP
    taken = {(BOXES[name][0], level) for name, level in high.items()}
    parts = []
    for name in sorted(edges, key=ORDER.index):
        for below in sorted(edges[name], key=ORDER.index):
            path = way((BOXES[name][0], high[name]), (BOXES[below][0], high[below]), taken)
            parts.append(f'<path class="way" d="{path}" marker-end="url(#tip)"/>')
    for name in sorted(edges, key=ORDER.index):
        column, title, purpose = BOXES[name]
        across = 2 * WIDTH + GAP if name == "records" else WIDTH
        x = EDGE + column * (WIDTH + GAP) - (across - WIDTH) / 2
        y = -(high[name] + 1) * (HEIGHT + DROP)
        at = f'x="{x + across / 2:g}" text-anchor="middle"'
        parts += [
            f'<rect class="box" x="{x:g}" y="{y}" width="{across}" height="{HEIGHT}" rx="8"/>',
            f'<text class="name" {at} y="{y + 18}" font-size="14">{escape(title)}</text>',
            f'<text class="what" {at} y="{y + 34}" font-size="12">{escape(purpose)}</text>',
        ]
    told = "; ".join(
        f"{name} imports {', '.join(sorted(ends))}" for name, ends in sorted(edges.items()) if ends
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {tall}" role="img" '
            f'aria-labelledby="t d" font-family="system-ui, sans-serif">',
            '<title id="t">The rooms of the package and what they import</title>',
            f'<desc id="d">{escape(told)}.</desc>',
            f"<style>{STYLE}</style>",
            '<marker id="tip" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path class="tip" d="M0 0L8 4L0 8z"/></marker>',
            f'<rect class="page" width="{wide}" height="{tall}" rx="14"/>',
            f'<g transform="translate(0 {top})">',
            *parts,
            "</g>",
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(reduced(room_imports())), encoding="utf-8")
    print(PICTURE)
