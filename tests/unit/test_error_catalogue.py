"""docs/errors.md says what to do about every error a user can mend, and about none that does not exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import kintsugi

SOURCE = Path(kintsugi.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
HOLE = "\0"
NAMES = {"KintsugiError", "Locked"}
OURS = {"models/ship.py"}
"""Raised to those who rebuild the shipped models only."""


def template(node: ast.expr) -> str:
    """A message with a hole for whatever varies."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return template(node.left) + template(node.right)
    return HOLE


def raised() -> Iterator[tuple[str, str]]:
    """(place, message) of each KintsugiError in the source."""
    for path in sorted(SOURCE.rglob("*.py")):
        name = str(path.relative_to(SOURCE))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in NAMES and name not in OURS:
                yield f"{name}:{node.lineno}", template(node.args[0])


def rows(section: bool) -> list[str]:
    """The messages of the page: errors, or (not `section`) warnings and notes."""
    errors, _, warnings = PAGE.read_text(encoding="utf-8").partition("## Warnings and notes")
    return re.findall(r"^\| `([^`]+)`", errors if section else warnings, re.MULTILINE)


def says(row: str, message: str) -> bool:
    """Whether what is fixed in a row of the page occurs, in its order, in a message; holes stand for anything."""
    if not any(map(str.isalpha, row)):  # nothing but holes: it stands for messages that are made elsewhere
        return not any(map(str.isalpha, message))
    parts = [part for part in row.split("…") if part]
    at = 0
    for i, part in enumerate(parts):
        found = message.find(part, at)
        if found < 0 or (i == 0 and not row.startswith("…") and found > 0):
            return False
        at = found + len(part)
    return True


def test_every_error_is_in_the_catalogue() -> None:
    found = list(raised())
    assert len(found) > 100
    pages = rows(True)
    missing = [(place, message) for place, message in found if not any(says(row, message) for row in pages)]
    assert missing == []


def test_a_row_fixes_what_it_says() -> None:
    assert says("…: no step …; try", f"{HOLE}: no step {HOLE}; try another")
    assert not says("no step …", f"{HOLE}: no step {HOLE}")  # begins otherwise
    assert not says("…: try …; no step", f"{HOLE}: no step {HOLE}; try another")  # another order
    assert says("…: …", f"{HOLE}: {HOLE}") and not says("…: …", f"{HOLE}: no step {HOLE}")


def test_every_row_is_an_error_that_exists() -> None:
    messages = [message for _, message in raised()]
    assert [row for row in rows(True) if not any(says(row, message) for message in messages)] == []


def test_every_warning_of_the_page_is_said_somewhere() -> None:
    texts = [
        template(node)
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.JoinedStr | ast.Constant)
    ]
    assert len(rows(False)) > 5
    assert [row for row in rows(False) if not any(says(row, text) for text in texts)] == []
