"""The import rules of the house, held by reading its source and by looking at what gets loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.house import ORDER, PICTURE, SOURCE, imports, levels, picture, reduced, room_imports

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
OUTERMOST = ("kintsugi.cli", "kintsugi.bridges")


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


def test_the_reader_finds_every_kind_of_import(tmp_path: Path) -> None:
    source = (
        "import torch.nn as nn\nfrom . import align\nfrom ..loss import Objective\n"
        "def f():\n    from transformers import AutoModel\n"
        "    import_module('trl')\n    importlib.import_module('verl.x')\n"
    )
    path = tmp_path / "mending" / "room.py"
    path.parent.mkdir()
    path.write_text(source, encoding="utf-8")
    assert sorted(imports(path, tmp_path)) == [
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


def test_the_picture_leaves_out_the_arrows_that_follow() -> None:
    """d imports c, b and a; c imports b; b imports a: only the chain is left, and d stands three above a."""
    edges = {"d": {"c", "b", "a"}, "c": {"b"}, "b": {"a"}, "a": set[str]()}
    assert reduced(edges) == {"d": {"c"}, "c": {"b"}, "b": {"a"}, "a": set()}
    assert levels(edges) == {"d": 3, "c": 2, "b": 1, "a": 0}


def test_the_picture_of_the_house_is_its_imports() -> None:
    """`make house` draws it again."""
    assert PICTURE.read_text(encoding="utf-8") == picture(reduced(room_imports()))


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
