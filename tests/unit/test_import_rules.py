"""The import rules of the house, held by reading its source and by looking at what gets loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kintsugi

SOURCE = Path(kintsugi.__file__).parent
HEAVY = {"torch", "transformers", "trl", "verl", "vllm"}
LIGHT_ROOMS = ("mending", "algorithms", "tasks", "verifiers", "compare")
LIGHT_FILES = {
    "records.py",
    "names.py",
    "yamls.py",
    "plugins.py",
    "config.py",
    "prompts.py",
    "files.py",
    "learning/objective.py",
    "run/tables.py",
    "run/reading.py",
    "run/card.py",
    "run/harvest.py",
    "run/solutions.py",
    "look/show.py",
    "look/diagnose.py",
    "look/view.py",
    *(
        f"look/report/{name}.py"
        for name in ("__init__", "blocks", "figures", "foreign", "page", "reasons", "watch")
    ),
}
ORDER = (
    "records", "names", "yamls", "plugins", "prompts", "config", "files", "verifiers", "tasks", "models",
    "sampling", "learning", "mending", "algorithms", "assembly", "run", "trackers", "loop", "trainer",
    "coldstart", "mender", "look", "notebook", "compare", "bridges", "cli_errors", "cli_solutions", "cli",
)  # fmt: skip
"""Rooms and single files, each of which may import those before it."""
OUTERMOST = ("kintsugi.cli", "kintsugi.bridges")


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it: at the top, in a function, by import_module."""
    package = ["kintsugi", *path.relative_to(SOURCE).parts[:-1]]
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


def within(module: str, roots: tuple[str, ...]) -> bool:
    return any(module == root or module.startswith(f"{root}.") for root in roots)


def files() -> list[Path]:
    found = sorted(SOURCE.rglob("*.py"))
    assert len(found) > 20
    return found


def light_files() -> list[Path]:
    places = {p: p.relative_to(SOURCE) for p in files()}
    return [
        p for p, place in places.items() if place.parts[0] in LIGHT_ROOMS or place.as_posix() in LIGHT_FILES
    ]


def test_the_reader_finds_every_kind_of_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        "import torch.nn as nn\nfrom . import align\nfrom ..loss import Objective\n"
        "def f():\n    from transformers import AutoModel\n"
        "    import_module('trl')\n    importlib.import_module('verl.x')\n"
    )
    path = tmp_path / "mending" / "room.py"
    path.parent.mkdir()
    path.write_text(source, encoding="utf-8")
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", tmp_path)
    assert sorted(imports(path)) == [
        "kintsugi.loss.Objective",
        "kintsugi.mending.align",
        "torch.nn",
        "transformers.AutoModel",
        "trl",
        "verl.x",
    ]


@pytest.mark.parametrize("path", light_files(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_light_rooms_never_import_a_heavy_library(path: Path) -> None:
    assert {module for module in imports(path) if module.partition(".")[0] in HEAVY} == set()


def test_light_rooms_do_not_import_rooms_that_load_torch() -> None:
    """Nor by way of others: learner, loss, models and what is built on them stay out of the light rooms."""
    heavy_rooms = tuple(
        "kintsugi." + ".".join(p.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        for p in files()
        if any(module.partition(".")[0] in HEAVY for module in imports(p))
    )
    assert {"kintsugi.learning.loss", "kintsugi.learning.learner"} <= set(heavy_rooms)
    wrong = {(p.name, m) for p in light_files() for m in imports(p) if within(m, heavy_rooms)}
    assert wrong == set()


def test_rooms_import_one_way() -> None:
    wrong = []
    for path in files():
        home = path.relative_to(SOURCE).with_suffix("").parts[0]
        for module in imports(path):
            parts = module.split(".")
            if home == "__init__" or "inside" in path.parts or parts[0] != "kintsugi" or len(parts) < 2:
                continue
            if parts[1] in ORDER and ORDER.index(parts[1]) > ORDER.index(home):
                wrong.append((str(path.relative_to(SOURCE)), module))
    assert wrong == []


def test_every_room_says_what_it_is_for() -> None:
    rooms = [p for p in files() if p.name == "__init__.py" and len(p.relative_to(SOURCE).parts) == 2]
    assert len(rooms) > 8
    assert [p.parent.name for p in rooms if not (ast.get_docstring(ast.parse(p.read_text())) or "")] == []


def test_no_class_has_the_name_of_another() -> None:
    """What a user's program may hold inside the sandbox lives in a world of its own."""
    homes: dict[str, set[str]] = {}
    for path in files():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and "inside" not in path.parts:
                homes.setdefault(node.name, set()).add(str(path.relative_to(SOURCE)))
    assert len(homes) > 100
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_nothing_imports_the_command_line_or_a_bridge() -> None:
    outside = [p for p in files() if p.relative_to(SOURCE).parts[0] not in ("cli.py", "bridges")]
    assert {(p.name, m) for p in outside for m in imports(p) if within(m, OUTERMOST)} == set()


# ---- what gets loaded

REPORT = f"import sys; print('LOADED', sorted({HEAVY!r} & set(sys.modules)))"
HELP = (
    "import runpy, sys\nsys.argv = ['kintsugi', '--help']\n"
    "try:\n    runpy.run_module('kintsugi.cli', run_name='__main__')\n"
    "except SystemExit as end:\n    assert not end.code\n"
)


@pytest.mark.parametrize(
    "code",
    [
        "import kintsugi",
        "from kintsugi import Recipe, Problem, Verdict, Episode, Row, KintsugiError",
        "import kintsugi.algorithms, kintsugi.mending.repair, kintsugi.tasks, kintsugi.verifiers",
        "import kintsugi.compare.run, kintsugi.compare.report",
        HELP,
    ],
    ids=["package", "records", "light rooms", "compare", "help"],
)
def test_no_torch_is_loaded(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{REPORT}"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED []"
    if code == HELP:
        assert "train" in done.stdout
