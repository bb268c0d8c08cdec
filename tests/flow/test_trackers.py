"""Trackers for real: each library's local or offline mode, read back with the library's own reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kintsugi import KintsugiError
from kintsugi.config import Recipe
from kintsugi.trackers import load_trackers, tracking
from kintsugi.trackers.base import Beginning, flat

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
SMALL = [
    "sampling.problems=2", "sampling.group_size=4", "eval.problems=4", "eval.samples=1", "threads=1", "save_every=1",
]  # fmt: skip


def train(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kintsugi.cli", "train", "recipes/quickstart.yaml", *SMALL, *words]
    own = os.environ | {"TRACKIO_DIR": str(folder / "trackio"), "WANDB_SILENT": "true"} | environment
    output = f"output_dir={folder / 'run'}"
    return subprocess.run([*command, output], capture_output=True, text=True, timeout=300, cwd=ROOT, env=own)


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def written(run: Path, name: str) -> dict[int, float]:
    """Step -> value of a metric, as the run directory has it."""
    return {line["step"]: line[name] for line in lines(run) if line.get(name) is not None}


def agree(tracked: Path, name: str, found: dict[int, float]) -> None:
    """A tracker has what the run directory has, to the float32 of some; and the evaluation at the end of two steps,
    which the run, once it is resumed, has no more: it goes on as if it had never ended there."""
    extra = {2} if name.startswith("eval/") else set()
    assert {step: value for step, value in found.items() if step not in extra} == pytest.approx(
        written(tracked / "run", name)
    )
    assert extra <= set(found)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps on all four trackers, then resumed for a third."""
    for package in ("tensorboard", "wandb", "mlflow", "trackio"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("tracked")
    mlflow = f"{{name: mlflow, tracking_uri: 'sqlite:///{folder}/mlflow.db'}}"
    trackers = f"trackers=[tensorboard, {{name: wandb, mode: offline}}, {mlflow}, trackio]"
    for words in (["steps=2"], ["steps=3", "--resume"]):
        done = train(folder, trackers, *words)
        assert done.returncode == 0, done.stderr
        assert "dropped" not in done.stdout
    return folder


def test_tensorboard_has_the_numbers_of_the_run_and_its_recipe(tracked: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tracked / "run" / "tensorboard"))
    events.Reload()
    for name in ("accuracy", "eval/pass@1", "tokens/total"):
        agree(tracked, name, {e.step: e.value for e in events.Scalars(name)})
    text = events.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "algorithm: kintsugi" in text


def test_wandb_has_the_numbers_of_the_run_and_its_recipe(tracked: Path) -> None:
    files = sorted((tracked / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2  # one a process; the server joins them by their id
    assert len({file.stem for file in files}) == 1
    records = []
    for file in files:
        read = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
        done = subprocess.run(read, capture_output=True, text=True, timeout=60, check=True)
        records += [json.loads(line) for line in done.stdout.splitlines()]
    history = [r["history"]["item"] for r in records if r["type"] == "history"]
    for name in ("accuracy", "eval/pass@1"):
        agree(tracked, name, {h["_step"]: h[name] for h in history if name in h})
    config = next(r["run"]["config"]["update"] for r in records if r["type"] == "run")
    assert config["sampling"]["problems"] == 2


def test_mlflow_has_the_numbers_of_the_run_and_its_recipe(tracked: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tracked}/mlflow.db")
    experiment = client.get_experiment_by_name("kintsugi")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["sampling.problems"] == "2"
    for name in ("accuracy", "eval/pass@1"):
        history = client.get_metric_history(run.info.run_id, name.replace("@", "_at_"))
        agree(tracked, name, {m.step: m.value for m in history})


def test_trackio_has_the_numbers_of_the_run_and_its_recipe(tracked: Path) -> None:
    code = (
        "import json, trackio\nfrom trackio.sqlite_storage import SQLiteStorage\n"
        "(run,) = trackio.Api().runs('kintsugi')\n"
        "print(json.dumps([run.config, SQLiteStorage.get_logs('kintsugi', run.name)]))"
    )
    own = os.environ | {"TRACKIO_DIR": str(tracked / "trackio")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=own)
    config, logs = json.loads(done.stdout.splitlines()[-1])
    assert config["sampling"]["problems"] == 2
    for name in ("accuracy", "eval/pass@1"):
        agree(tracked, name, {line["step"]: line[name] for line in logs if name in line})


def test_a_server_that_is_down_costs_a_warning_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    nobody = "trackers=[{name: mlflow, tracking_uri: 'http://127.0.0.1:9'}]"
    done = train(tmp_path, nobody, "steps=1", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("warning: tracker mlflow is dropped: ") == 1
    assert [line["step"] for line in lines(tmp_path / "run")] == [0, 1, 1]


# ---- the small interface


class Notes:
    """A tracker that keeps what it is told, and fails at a step of choice."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.fail_at = fail_at
        self.told: list[Any] = []

    def start(self, beginning: Beginning) -> str:
        self.told.append(beginning)
        return beginning.id or "first"

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step == self.fail_at:
            raise ConnectionError("no\nroute")
        self.told.append((step, dict(values)))

    def finish(self) -> None:
        self.told.append("finished")


class Log:
    """Stands in for RunLog: a directory and a listener."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.listener = directory, None


RECIPE = Recipe(model="nano", task="dag")


def test_numbers_arrive_finite_and_flat_and_the_id_comes_back(tmp_path: Path) -> None:
    log: Any = Log(tmp_path)
    notes, said = Notes(), list[str]()
    with tracking({"notes": notes}, log, RECIPE, 0, said.append):
        log.listener({"step": 1, "loss": float("nan"), "a": 2, "ci": [0.25, 0.5], "n": None, "kind": "x"})
    assert notes.told[1:] == [(1, {"a": 2.0, "ci_low": 0.25, "ci_high": 0.5}), "finished"]
    assert notes.told[0].recipe["sampling"]["group_size"] == 8 and notes.told[0].id is None
    again = Notes()
    with tracking({"notes": again}, log, RECIPE, 1, said.append):
        pass
    assert (again.told[0].id, again.told[0].step) == ("first", 1)
    assert log.listener is None and said == []


def test_a_tracker_that_fails_is_dropped_once_and_others_go_on(tmp_path: Path) -> None:
    log: Any = Log(tmp_path)
    bad, good, said = Notes(fail_at=2), Notes(), list[str]()
    with tracking({"bad": bad, "good": good}, log, RECIPE, 0, said.append):
        for step in (1, 2, 3):
            log.listener({"step": step, "a": 1.0})
    assert said == [
        f"warning: tracker bad is dropped: ConnectionError: no route; the numbers are in {tmp_path}"
    ]
    assert [t[0] for t in bad.told[1:]] == [1]  # neither step 3 nor finish
    assert good.told[1:] == [*((s, {"a": 1.0}) for s in (1, 2, 3)), "finished"]


def test_a_run_that_breaks_still_finishes_its_trackers(tmp_path: Path) -> None:
    log: Any = Log(tmp_path)
    notes = Notes()
    with pytest.raises(RuntimeError), tracking({"notes": notes}, log, RECIPE, 0, print):
        raise RuntimeError("out of memory")
    assert notes.told[-1] == "finished"


def test_a_tracker_of_ones_own_is_named_by_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("class Mine:\n    def __init__(self, path='x'): self.path = path\n")
    found = load_trackers([{"name": f"{file}:Mine", "path": "y"}])
    assert [t.path for t in found.values()] == ["y"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["tensorbord"], "tracker: unknown 'tensorbord'; did you mean 'tensorboard'?"),
        (
            [{"name": "wandb", "projekt": "x"}],
            "tracker wandb: unknown argument 'projekt'; did you mean 'project'? It takes project,",
        ),
        (["wandb", {"name": "wandb"}], "trackers: 'wandb' is named twice"),
    ],
)
def test_mistakes_are_told_before_the_run(specs: list[Any], message: str) -> None:
    pytest.importorskip("wandb")
    with pytest.raises(KintsugiError, match="^" + message.replace("?", r"\?")):
        load_trackers(specs)


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, "kintsugi.trackers.wandb", raising=False)
    with pytest.raises(KintsugiError, match=r"pip install -e '\.\[wandb\]'"):
        load_trackers(["wandb"])


def test_one_tracker_needs_no_list_and_nested_keys_become_dotted() -> None:
    assert Recipe.parse({"model": "nano", "task": "dag", "trackers": "wandb"}).trackers == ["wandb"]
    assert flat({"a": {"b": {"c": 1}}, "d": [2]}) == {"a.b.c": 1, "d": [2]}
