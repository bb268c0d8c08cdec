"""A run ends with a checkpoint, whatever ends it; and no text ends one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import ROOT, SMALL, metrics, recipe, result, start, train

from kintsugi.assembly import assemble
from kintsugi.compare.run import free
from kintsugi.config import Recipe
from kintsugi.files import lock, locked
from kintsugi.records import KintsugiError
from kintsugi.run.checkpoint import Progress
from kintsugi.run.console import Reporter
from kintsugi.trainer import train as train_here


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The result of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    train_here(Recipe.load(recipe(folder)))
    return result(folder / "run")


def steps_saved(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_half_a_surrogate_pair_in_a_verdict_ends_neither_a_run_nor_a_resume(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def score(completions, **columns):\n    raise ValueError('\\ud800')\n")
    verifier = {"name": f"{tmp_path / 'mine.py'}:score", "on_error": "continue"}
    path = recipe(tmp_path, verifier=verifier, steps=1)
    for words in ((), ("--resume", "steps=2")):
        done = train(path, *words)
        assert done.returncode == 0, done.stderr
    assert "\ufffd" in (tmp_path / "run" / "rollouts" / "step-000002.parquet").read_bytes().decode(
        "utf-8", "ignore"
    )


@pytest.mark.parametrize("output", ["closed", "full"])
def test_an_output_that_is_lost_ends_no_run(output: str, tmp_path: Path) -> None:
    """`| head -1`, and a log on a full disk: the run goes on to its end, and its report is written."""
    path = recipe(tmp_path, steps=1)
    if output == "full":
        with Path("/dev/full").open("w") as full, start(path, stdout=full) as process:
            err = process.communicate(timeout=120)[1]
    else:
        with start(path) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            err = process.stderr.read()
            process.wait(timeout=120)
    assert process.returncode == 0, err
    assert err.count("\n") == 1 and "the run goes on in silence" in err
    assert steps_saved(tmp_path / "run") == ["step-000001"] and (tmp_path / "run" / "report.html").is_file()


DURING = """
import os, signal, time
import kintsugi.run.evaluation as m
judge, count = m.judge_one, 0
def judging(*arguments):
    global count
    count += 1
    if count == {when}:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(3600)
    return judge(*arguments)
m.judge_one = judging
"""


@pytest.mark.parametrize(("when", "step"), [(2, 0), (6, 2), (10, 4)])  # four problems an evaluation
def test_ctrl_c_in_an_evaluation_ends_at_once_with_a_checkpoint(
    when: int, step: int, whole: dict[str, str], tmp_path: Path
) -> None:
    path = recipe(tmp_path)
    done = train(path, code=DURING.format(when=when))
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr and "writing a checkpoint" in done.stdout
    assert steps_saved(tmp_path / "run")[-1] == f"step-{step:06d}"
    train_here(Recipe.load(path), resume=True)
    after = result(tmp_path / "run")
    assert after == whole


def test_an_error_of_a_later_step_costs_no_earlier_one(
    whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kintsugi.trainer import Reinforcement

    made = Recipe.load(recipe(tmp_path, save_every=0))
    batch = Reinforcement.batch

    def failing(self: Reinforcement, parts: Any, learner: Any, progress: Progress, meter: Any) -> Any:
        if progress.step == 2:
            raise RuntimeError("out of something")
        return batch(self, parts, learner, progress, meter)

    monkeypatch.setattr(Reinforcement, "batch", failing)
    with pytest.raises(RuntimeError, match="out of something"):
        train_here(made)
    assert steps_saved(tmp_path / "run") == ["step-000002"]
    monkeypatch.undo()
    train_here(made, resume=True)
    weights = [name for name in whole if "safetensors" in name or name == "metrics.jsonl"]
    after = result(tmp_path / "run")
    assert {name: after[name] for name in weights} == {name: whole[name] for name in weights}


class Said(Reporter):
    """A reporter that keeps what is said."""

    def __init__(self) -> None:
        super().__init__(1)
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_resume_says_what_it_discards(tmp_path: Path) -> None:
    made = Recipe.load(recipe(tmp_path, steps=3, save_every=0))
    train_here(made)
    for name in ("rollouts", "seams", "rows"):  # steps 4 and 5 of a run that was killed after them
        for step in (4, 5):
            (tmp_path / "run" / name / f"step-{step:06d}.parquet").write_bytes(b"")
    out = Said()
    train_here(made.model_copy(update={"steps": 4}), resume=True, reporter=out)
    assert (
        "note: going on after step 3: what was written of later steps, up to 5, is discarded and made again"
        in out.lines
    )


OWN = """
from kintsugi import Problem
class Mine:
    verifier = "exact"
    def train(self): return [Problem(f"t/{i}", f"a={i}+1", str(i + 1)) for i in range(4)]
    def evaluation(self):
        long = [Problem(f"long/{i}", "9" * 200_000, "1") for i in range(LONG)]
        return [*long, *(Problem(f"e/{i}", f"b={i}+1", str(i + 1)) for i in range(SHORT))]
"""


def test_a_held_out_problem_that_is_too_long_is_named_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"LONG, SHORT = 4, 2\n{OWN}")
    (tmp_path / "none.py").write_text(f"LONG, SHORT = 1, 0\n{OWN}")
    parts = assemble(Recipe.parse({**SMALL, "task": f"{tmp_path / 'mine.py'}:Mine", "eval": {"problems": 9}}))
    assert [p.id for p in parts.eval_problems] == ["e/0", "e/1"]
    (note,) = [note for note in parts.notes if "held-out" in note]
    assert note.startswith("4 held-out problems do not fit ")
    assert note.endswith(" tokens: left out (long/0, long/1, long/2, ...)")
    with pytest.raises(KintsugiError, match=r"held-out problems of at most .* found none"):
        assemble(Recipe.parse({**SMALL, "task": f"{tmp_path / 'none.py'}:Mine"}))


def test_a_verifiers_own_file_is_part_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score = "def score(completions, **columns):\n    return [1.0] * len(completions)\n"
    (tmp_path / "mine.py").write_text(score)
    monkeypatch.chdir(tmp_path)
    made = Recipe.load(recipe(tmp_path, verifier="mine.py:score", steps=1))
    train_here(made)
    (tmp_path / "mine.py").write_text(score.replace("1.0", "0.0"))
    with pytest.raises(KintsugiError, match="--resume: the verifier's file has changed"):
        train_here(made.model_copy(update={"steps": 2}), resume=True)
    (tmp_path / "mine.py").write_text(score)
    train_here(made.model_copy(update={"steps": 2}), resume=True)


def comparison(folder: Path) -> Path:
    """Two runs side by side, each of more tokens than it makes before it is stopped."""
    plan = {
        "name": "ends", "recipe": str(recipe(folder, eval={"problems": 2, "samples": 1})), "algorithms": ["grpo"],
        "budget": 3000, "seeds": [0], "evaluations": 1, "tuning": None, "jobs": 1, "keep": True,
        "output_dir": str(folder / "out"), "results": str(folder / "rows.jsonl"),
    }  # fmt: skip
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan))
    return path


def until(done: Any, what: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def test_the_runs_of_a_comparison_end_with_it(tmp_path: Path) -> None:
    """kill -9 of `kintsugi compare`: its runs write a checkpoint and end, and leave their directories free."""
    path = comparison(tmp_path)
    command = [sys.executable, "-m", "kintsugi.cli", "compare", str(path), "budget=100000000"]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        try:
            until(lambda: list((tmp_path / "out").rglob("rows/step-000001.parquet")), "no step was made")
            (place,) = (path.parent for path in (tmp_path / "out").rglob("versions.json"))
            assert locked(place)
        finally:
            process.send_signal(signal.SIGKILL)
    until(lambda: not locked(place), "the run goes on without its parent", 60)
    last = metrics(place)[-1]["step"]
    assert steps_saved(place)[-1] == f"step-{last:06d}"


def test_a_directory_that_is_still_written_in_is_waited_for(tmp_path: Path) -> None:
    from kintsugi.compare import child

    found = [SimpleRun(tmp_path / name) for name in ("a", "b", "c")]
    said: list[str] = []
    told: set[str] = set()
    with lock(tmp_path / "a"):
        for _ in range(2):
            assert free(found, 1, told, said.append) == [found[1]]  # type: ignore[arg-type]
        assert said == [f"grpo: another process is still writing in {tmp_path / 'a'}; it is waited for"]
        # One that finds it locked after all says so by its exit code, and is put back into the queue.
        place = recipe(tmp_path, output_dir=str(tmp_path / "a"), steps=1, eval={"problems": 1, "samples": 1})
        process = child.start_run(place, tmp_path / "log", resume=False)
        process.join(120)
    assert process.exitcode == child.BUSY
    assert "another run is writing there" in (tmp_path / "log").read_text()
    assert free(found, 2, told, said.append) == found[:2]  # type: ignore[arg-type]


class SimpleRun:
    """As much of a run of a comparison as its place in the queue needs."""

    label = "grpo"

    def __init__(self, place: Path) -> None:
        place.mkdir()
        self.recipe = Recipe.parse({"model": "nano", "task": "dag", "output_dir": str(place)})
