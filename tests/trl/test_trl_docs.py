"""The page and the example say what is so; the pages' other names are looked at by tests/flow/test_docs.py."""

from __future__ import annotations

import re
import runpy
from importlib import import_module
from pathlib import Path

import pytest
from trl import GRPOConfig

from kintsugi.bridges.trl_settings import NEEDED

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "trl.md").read_text(encoding="utf-8")


def test_every_name_of_the_bridge_exists() -> None:
    names = {
        n
        for page in (ROOT / "docs").glob("*.md")
        for n in re.findall(r"\bkintsugi\.bridges\.trl[.\w]*", page.read_text())
    }
    assert names
    for name in names:
        module, _, rest = name.rstrip(".").partition(".trl")
        found = import_module(f"{module}.trl")
        assert not rest or hasattr(found, rest.removeprefix("."))


def test_every_setting_of_the_table_is_one_of_trls_and_every_refused_one_is_there() -> None:
    section = PAGE.partition("## Settings of TRL")[2].partition("\n## ")[0]
    named = {
        name
        for line in section.splitlines()
        for name in re.findall(r"`(\w+)`", line.split("|")[1] if "|" in line else "")
    }
    others = {"GRPOConfig", "environment_factory", "rollout_func"}  # the trainer's own arguments
    assert named - others <= set(GRPOConfig.__dataclass_fields__)
    assert set(NEEDED) <= named
    # What is needed is TRL's default, so that nobody has to set it.
    fields = GRPOConfig.__dataclass_fields__
    assert {name: fields[name].default for name in NEEDED} == {
        name: wanted[0] for name, (wanted, _) in NEEDED.items()
    }


def test_the_three_lines_are_the_examples() -> None:
    example = (ROOT / "examples" / "trl_grpo.py").read_text(encoding="utf-8")
    added = [line[1:].strip() for line in PAGE.splitlines() if line.startswith("+")]
    assert len(added) == 4  # the import is two lines
    for line in added:
        assert any(own.strip().startswith(line) for own in example.splitlines()), line


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main = runpy.run_path(str(ROOT / "examples" / "trl_grpo.py"))["main"]
    before, after = main(steps=1)
    assert 0 < before < 0.6 and 0 < after <= 1
