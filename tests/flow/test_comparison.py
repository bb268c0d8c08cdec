"""The comparison at toy size: tuned, run, tabled and drawn; resumed; its errors kept; stopped by Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from benchmarks.page import write

from kintsugi import train
from kintsugi.compare.plan import Plan, load_plan
from kintsugi.compare.results import latest_runs, read_rows
from kintsugi.compare.run import compare

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
SMOKE = ROOT / "benchmarks" / "comparisons" / "smoke.yaml"


def here(directory: Path) -> list[str]:
    return [
        f"recipe={ROOT / 'recipes' / 'quickstart.yaml'}",
        f"results={directory / 'learning.jsonl'}",
        f"output_dir={directory}",
    ]


def command(directory: Path, *overrides: str) -> list[str]:
    return [sys.executable, "-m", "kintsugi.cli", "compare", str(SMOKE), *here(directory), *overrides]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(folder, what was said) of the smoke comparison."""
    directory = tmp_path_factory.mktemp("smoke")
    done = subprocess.run(command(directory), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory, done.stdout


def test_the_smoke_comparison_makes_rows_a_table_and_a_plot(smoke: tuple[Path, str]) -> None:
    directory, said = smoke
    curves, errors = latest_runs(read_rows(directory / "learning.jsonl"))
    assert errors == []
    main = [c for c in curves if c.head.stage == "main"]
    assert {(c.head.algorithm, c.head.seed) for c in main} == {
        (a, s) for a in ("grpo", "iop") for s in (0, 1)
    }
    assert len(curves) - len(main) == 2 * 2 * 1  # tuning: two rates, two algorithms, one seed
    for c in main:
        tokens = [r.generated_tokens for r in c.rows]
        assert tokens[0] == 0 and tokens[-1] >= 2000  # the budget is spent ...
        assert sum(t >= 2000 for t in tokens) == 1  # ... and nothing follows
        assert all(r.pass_at_8 is not None and r.accuracy is not None for r in c.rows)
        assert c.rows[-1].wall_s > 0
    iop = [c.rows[-1].dynamics for c in main if c.head.algorithm == "iop"]
    assert all(d["share_repair"] > 0 and d["active_ratio"] < 1 for d in iop)
    table = (directory / "dag-smoke.md").read_text()
    assert table.strip() in said
    assert {"`grpo`", "`iop`"} <= set(table.replace("|", " ").split())
    assert "held-out accuracy" in (directory / "dag-smoke.svg").read_text()
    (directory / "docs").mkdir(exist_ok=True)
    assert "dag" in write(directory, directory / "docs", {"smoke": "Smoke"}).read_text()


def test_each_algorithm_runs_at_the_rate_its_own_tuning_chose(smoke: tuple[Path, str]) -> None:
    curves, _ = latest_runs(read_rows(smoke[0] / "learning.jsonl"))
    for name in ("grpo", "iop"):
        scores = {
            c.head.lr: c.score() for c in curves if (c.head.algorithm, c.head.stage) == (name, "tuning")
        }
        best = min(lr for lr in scores if scores[lr] == max(scores.values()))
        rates = {c.head.lr for c in curves if (c.head.algorithm, c.head.stage) == (name, "main")}
        assert rates == {best}


def plan_of(directory: Path, *overrides: str) -> Plan:
    return load_plan(SMOKE, [*here(directory), *overrides])


def test_finished_runs_are_skipped_and_the_same_run_under_another_name_is_copied(
    smoke: tuple[Path, str],
) -> None:
    before = (smoke[0] / "learning.jsonl").read_text()
    said: list[str] = []
    compare(plan_of(smoke[0]), said.append)
    assert (smoke[0] / "learning.jsonl").read_text() == before
    assert sum("are in" in line for line in said) == 2  # tuning and main
    rows = compare(plan_of(smoke[0], "name=again"), said.append)
    assert {r.comparison for r in rows} == {"again"}
    assert len(rows) == len(before.splitlines())


def test_a_run_that_fails_leaves_its_reason_and_stops_no_other(tmp_path: Path) -> None:
    own = "from kintsugi.algorithms.base import Algorithm, run_rollouts\n"
    own += (
        "BAD = Algorithm('bad', run_rollouts, lambda e: 1 / 0, level='token', clip_low=0.2, clip_high=0.2)\n"
    )
    (tmp_path / "own.py").write_text(own)
    entries = f"algorithms=['{tmp_path}/own.py:BAD', grpo]"
    rows = compare(plan_of(tmp_path, entries, "tuning=null", "seeds=[0]", "budget=500"), lambda _: None)
    curves, (error,) = latest_runs(rows)
    assert [c.head.algorithm for c in curves] == ["grpo"]
    assert (error.algorithm, error.accuracy) == ("bad", None)
    assert "ZeroDivisionError" in str(error.error)


def test_an_interrupted_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    # The run's first step is made here and left as a killed process leaves it; the comparison makes the rest.
    found = plan_of(tmp_path, "algorithms=[grpo]", "tuning=null", "seeds=[0]", "keep=true", "budget=1500")
    (run,) = found.main_runs({})
    train(run.recipe.model_copy(update={"steps": 1}))
    place = Path(run.recipe.output_dir)
    (place / "recipe.yaml").write_text(run.recipe.to_yaml())
    first = (place / "metrics.jsonl").read_text().splitlines()[1]
    rows = compare(found, lambda _: None)
    assert rows[-1].generated_tokens >= 1500
    log = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    assert json.loads(first) in log  # the same line, seconds and all: that step was not made again
    assert [m["step"] for m in log if "accuracy" in m] == list(range(1, rows[-1].step + 1))


def hear_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for_step_1(place: Path, running: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while not any("step    1" in log.read_text() for log in place.glob("grpo-*.log")):
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.2)


def test_ctrl_c_stops_every_run_and_the_same_command_goes_on(tmp_path: Path) -> None:
    settings = ["algorithms=[grpo]", "tuning=null", "budget=10000000", "evaluations=1", "seeds=[0]"]
    # A shell's background job ignores SIGINT, and its children inherit that: give Ctrl-C its meaning back.
    started = {"stdout": subprocess.PIPE, "text": True, "preexec_fn": hear_ctrl_c}
    with subprocess.Popen(command(tmp_path, *settings), **started) as running:
        try:
            wait_for_step_1(tmp_path / "dag-smoke" / "main", running)
        finally:  # or a failure above would wait for ten million tokens
            os.kill(running.pid, signal.SIGINT)
        assert running.stdout is not None
        said = running.stdout.read()
    assert running.returncode == 130, said
    assert "the same command goes on from there" in said
    assert list((tmp_path / "dag-smoke" / "main").glob("grpo-*/checkpoints/step-*"))
    assert read_rows(tmp_path / "learning.jsonl") == []


def test_a_bad_comparison_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"recipe": "none.yaml", "algorithms": ["grpo"], "budget": 10}))
    done = subprocess.run(
        [sys.executable, "-m", "kintsugi.cli", "compare", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("kintsugi: none.yaml: no such recipe file")


def test_every_shipped_comparison_resolves() -> None:
    for path in sorted(SMOKE.parent.glob("*.yaml")):
        recipe = yaml.safe_load(path.read_text())["recipe"]
        assert load_plan(path, [f"recipe={ROOT / recipe}"]).entries
