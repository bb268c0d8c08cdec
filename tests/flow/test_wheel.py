"""The wheel in an environment of its own: what it holds is all that the README's Python example needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel that `make wheel` makes; the packages that it needs are those of this one."""
    folder = tmp_path_factory.mktemp("wheel")

    def run(*words: str | Path) -> None:
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=ROOT)
        assert done.returncode == 0, done.stderr

    pip = ("-m", "pip", "--disable-pip-version-check")
    run(sys.executable, *pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ".")
    (wheel,) = folder.glob("kintsugi_rl-*.whl")
    run(sys.executable, "-m", "venv", folder / "env")
    python = folder / "env/bin/python"
    run(python, *pip, "install", "-q", "--no-deps", "--no-index", wheel)
    # A path in a .pth file is only searched: the editable install that lies there is not taken for the wheel.
    (site,) = (folder / "env/lib").glob("python3.*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder


def within(fresh: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of that environment, run where no clone is."""
    place = fresh / "reader"
    place.mkdir(exist_ok=True)
    own = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [str(fresh / "env/bin" / words[0]), *words[1:]],
        capture_output=True, text=True, timeout=300, cwd=place, env=own,
    )  # fmt: skip


def example() -> str:
    """The README's first Python block, with two small steps."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    small, count = re.subn(r'"steps": 20', '"steps": 2, "eval": {"problems": 4, "samples": 1}', code)
    assert count == 1
    return small


def test_the_readmes_python_example_runs_there(fresh: Path) -> None:
    code = "import kintsugi\nprint(kintsugi.__file__)\n" + example()
    done = within(fresh, "python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith(str(fresh / "env"))
    assert "step    2  held-out pass@1" in done.stdout


def test_its_command_reports_on_that_run(fresh: Path) -> None:
    """The page is put together from files of the wheel."""
    assert within(fresh, "kintsugi", "--version").stdout.startswith("kintsugi ")
    (fresh / "reader/runs/mine/report.html").unlink()  # the one that training wrote
    done = within(fresh, "kintsugi", "report", "runs/mine")
    assert (done.returncode, done.stdout) == (0, "report: runs/mine/report.html\n"), done.stderr
