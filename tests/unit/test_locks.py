"""What `make` installs: every pin of constraints.txt with its hash in locks/, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"^([A-Za-z0-9_.\-]+)==([^ ;\\\n]+)", re.MULTILINE)


def pins(path: Path) -> dict[str, str]:
    """Version by name, names as the index spells them."""
    found = PIN.findall(path.read_text(encoding="utf-8"))
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


@pytest.mark.parametrize("path", sorted((ROOT / "locks").glob("*.txt")), ids=lambda p: p.stem)
def test_a_lock_holds_the_pinned_versions_each_with_a_hash(path: Path) -> None:
    pinned, locked = pins(ROOT / "constraints.txt"), pins(path)
    assert locked and {name: pinned.get(name) for name in locked} == locked
    entries = re.split(r"^(?=[A-Za-z0-9])", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked)
    assert [e.splitlines()[0] for e in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", e)] == []


def test_every_pin_is_locked_somewhere() -> None:
    locked = {name for path in (ROOT / "locks").glob("*.txt") for name in pins(path)}
    assert set(pins(ROOT / "constraints.txt")) - locked == {"torch"}
