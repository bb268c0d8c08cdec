"""What `make` installs: every pin of constraints.txt with its hash in locks/, and no other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
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


def audit(tmp_path: Path, found: dict[str, object] | None) -> subprocess.CompletedProcess[str]:
    """`.ci/audit` beside a pip-audit that answers so, or nothing at all."""
    answer = "" if found is None else f"pathlib.Path('found.json').write_text({json.dumps(found)!r})"
    (tmp_path / "pip_audit.py").write_text(
        f"import pathlib, sys\n{answer}\nsys.exit('no way to the service')\n"
    )
    return subprocess.run(
        [sys.executable, ROOT / ".ci" / "audit"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )


def test_a_known_vulnerability_of_a_pin_fails_the_audit(tmp_path: Path) -> None:
    hole = {"id": "PYSEC-1", "fix_versions": ["2.0"]}
    packages = [
        {"name": "rich", "version": "1.0", "vulns": [hole]},
        {"name": "typer", "version": "1.0", "vulns": []},
        {"name": "mine", "skip_reason": "not on the index"},
    ]
    done = audit(tmp_path, {"dependencies": packages})
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "audit: rich 1.0: PYSEC-1, mended in 2.0",
        "audit: 1 of 2 pins have a known vulnerability; 1 could not be asked about",
    ]
    assert audit(tmp_path, {"dependencies": packages[1:]}).returncode == 0


def test_an_audit_that_can_ask_nobody_says_so_and_fails_nothing(tmp_path: Path) -> None:
    done = audit(tmp_path, None)
    assert (done.returncode, done.stdout) == (0, "audit: nobody could be asked (no way to the service)\n")
