"""Tasks by name: reasoning-gym generators, and classes of the user's own."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kintsugi.plugins import Spec
from kintsugi.records import KintsugiError
from kintsugi.tasks import evaluation_problems, gym, load_task, training_problems
from kintsugi.tasks.base import Task, in_evaluation
from kintsugi.tasks.gym import GymTask


def write_lines(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"prompt": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(start, start + count)]


# ---- reasoning-gym, with generators of our own


@dataclasses.dataclass
class ToyConfig:
    texts: int = 10**9
    seed: int | None = None
    size: int = 500

    def validate(self) -> None:
        assert self.texts > 0, "texts must be positive"


class Toy:
    """Entry i of seed s asks for s + i modulo `texts`, as reasoning-gym's generators draw from s + i."""

    def __init__(self, config: ToyConfig) -> None:
        self.config = config

    def __getitem__(self, index: int) -> dict[str, Any]:
        assert self.config.seed is not None
        number = (self.config.seed + index) % self.config.texts
        return {"question": f"{number}?", "answer": number, "metadata": {"index": index}}


def toy_task(monkeypatch: pytest.MonkeyPatch, generator: type, **arguments: Any) -> GymTask:
    monkeypatch.setattr(gym, "find_generator", lambda name: (generator, ToyConfig))
    return GymTask("toy", **arguments)


def test_gym_sizes_splits_and_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    task = toy_task(monkeypatch, Toy, problems=700, evaluation_problems=60, config={"texts": 10**6})
    train, evaluation = task.train(), task.evaluation()
    assert (len(train), len(evaluation)) == (700, 60)
    assert len({p.prompt for p in [*train, *evaluation]}) == len({p.id for p in [*train, *evaluation]}) == 760
    assert not any(in_evaluation(p.prompt, 0.1) for p in train)
    assert all(in_evaluation(p.prompt, 0.1) for p in evaluation)
    assert set(train[0].columns) == {"entry", "dataset", "config"}
    assert train[0].columns["dataset"] == "toy"
    assert train[0].columns["config"] == {"texts": 10**6}
    assert set(train[0].columns["entry"]) == {"question", "answer", "metadata"}
    assert train[0].prompt == f"{train[0].answer}?"
    assert task.train() is train
    assert task.verifier == "gym"
    assert isinstance(task, Task)


def test_gym_splits_do_not_depend_on_sizes_or_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    held_out = toy_task(monkeypatch, Toy, problems=10, evaluation_problems=100, texts=2000).evaluation()
    train = toy_task(monkeypatch, Toy, problems=2000, evaluation_problems=1, texts=2000, seed=3).train()
    assert not {p.prompt for p in held_out} & {p.prompt for p in train}


def test_gym_seeds_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    one = toy_task(monkeypatch, Toy, problems=100, evaluation_problems=1).train()
    other = toy_task(monkeypatch, Toy, problems=100, evaluation_problems=1, seed=1).train()
    again = toy_task(monkeypatch, Toy, problems=100, evaluation_problems=1).train()
    assert not {p.prompt for p in one} & {p.prompt for p in other}
    assert one == again


def test_gym_small_space_gives_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    task = toy_task(monkeypatch, Toy, problems=200, evaluation_problems=200, texts=60)
    assert len(task.train()) + len(task.evaluation()) == 60


class Moody(Toy):
    """Prints, draws from the global generator, has no single answer, and breaks at every fifth entry."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        print("working", end="")
        if index % 5 == 4:
            raise IndexError(f"Dataset exhausted at index {index}.")
        return {"question": f"{random.random()}?", "answer": None, "metadata": {}}


def test_gym_contains_a_moody_generator(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    random.seed(5)
    expected = random.random()
    random.seed(5)
    task = toy_task(monkeypatch, Moody, problems=30, evaluation_problems=3)
    train = task.train()
    assert random.random() == expected  # the global generator was left as it was
    assert capsys.readouterr().out == ""
    assert len(train) == 30
    assert {p.answer for p in train} == {""}
    assert train == toy_task(monkeypatch, Moody, problems=30, evaluation_problems=3).train()


class Broken(Toy):
    def __getitem__(self, index: int) -> dict[str, Any]:
        raise RuntimeError("Failed to find\na valid pair")


def test_gym_generator_that_never_works(monkeypatch: pytest.MonkeyPatch) -> None:
    task = toy_task(monkeypatch, Broken)
    with pytest.raises(KintsugiError, match="toy made no problem: RuntimeError: Failed to find a valid pair"):
        task.train()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config": {"text": 3}}, "toy: unknown option 'text'; accepted: texts, problems"),
        ({"problem": 3}, "unknown option 'problem'"),
        ({"config": {"texts": 0}}, "config rejected: AssertionError: texts must be positive"),
        ({"config": {"texts": "x"}}, "config rejected: TypeError"),
        ({"config": {"seed": 1}}, "config cannot hold seed"),
        ({"config": 5}, "config: expected a mapping, got 5"),
        ({"problems": 0}, "problems: expected a whole number of at least 1"),
        ({"evaluation_problems": "x"}, "evaluation_problems: expected"),
        ({"seed": -1}, "seed: expected"),
    ],
)
def test_gym_bad_arguments(monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(KintsugiError, match=message):
        toy_task(monkeypatch, Toy, **arguments)


def test_gym_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(KintsugiError, match=r"pip install -e '\.\[gym\]'"):
        load_task({"name": "reasoning_gym", "dataset": "chain_sum"})


# ---- reasoning-gym itself


def test_chain_sum() -> None:
    pytest.importorskip("reasoning_gym")
    spec = {"name": "reasoning_gym", "dataset": "chain_sum", "problems": 50, "evaluation_problems": 5}
    task = load_task({**spec, "config": {"min_terms": 2, "max_terms": 3, "max_digits": 2}})
    train, evaluation = training_problems(task), evaluation_problems(task)
    assert (len(train), len(evaluation)) == (50, 5)
    for problem in [*train, *evaluation]:
        entry = problem.columns["entry"]
        assert (problem.prompt, problem.answer) == (entry["question"], entry["answer"])
        terms = entry["metadata"]["expression"].split(" ")
        value, signs = int(terms[0]), {"+": 1, "-": -1}
        for op, term in zip(terms[1::2], terms[2::2], strict=True):
            value += signs[op] * int(term)
        assert problem.answer == str(value)


def test_chain_sum_of_a_small_space() -> None:
    # Two terms of one digit: 10 * 2 * 10 = 200 questions. A few may be missed, none is made twice.
    pytest.importorskip("reasoning_gym")
    task = GymTask("chain_sum", min_terms=2, max_terms=2, max_digits=1)
    texts = [p.prompt for p in [*task.train(), *task.evaluation()]]
    assert 190 <= len(texts) == len(set(texts)) <= 200


def test_real_gym_names_and_options() -> None:
    pytest.importorskip("reasoning_gym")
    with pytest.raises(KintsugiError, match="unknown dataset 'chain_sums'; did you mean 'chain_sum'"):
        load_task({"name": "reasoning_gym", "dataset": "chain_sums"})
    with pytest.raises(KintsugiError, match="dataset: input should be a valid string, got 7"):
        load_task({"name": "reasoning_gym", "dataset": 7})
    with pytest.raises(KintsugiError, match="unknown option 'max_term'; accepted: min_terms, max_terms"):
        load_task({"name": "reasoning_gym", "dataset": "chain_sum", "config": {"max_term": 3}})
    with pytest.raises(
        KintsugiError, match="config rejected: AssertionError: max_terms must be >= min_terms"
    ):
        load_task({"name": "reasoning_gym", "dataset": "chain_sum", "max_terms": 1})


# ---- load_task


def test_load_task_by_name(tmp_path: Path) -> None:
    assert len(training_problems(load_task("dag"))) == 4000
    assert len(training_problems(load_task({"name": "dag", "steps": 5, "problems": 7}))) == 7
    path = write_lines(tmp_path / "t.jsonl", rows(20))
    assert len(training_problems(load_task({"name": "table", "path": path, "limit": 3}))) == 3


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("dags", "task: unknown 'dags'; did you mean 'dag'"),
        ("reasoning-gym", "did you mean 'reasoning_gym'"),
        ("jsonl", "task: unknown 'jsonl'; did you mean 'table'"),
        ("Hub", "did you mean 'table'"),
        ({"steps": 7}, "task: expected a name or a mapping with `name`"),
        (
            {"name": "dag", "step": 7},
            "task dag: unknown argument 'step'; did you mean 'steps'.* It takes steps, chains",
        ),
        ("table", "task table: missing argument 'path'; it takes path, eval_path, subset"),
        ("reasoning_gym", "task reasoning_gym: missing argument 'dataset'; it takes dataset, problems"),
        ("nowhere.py:MyTask", "no such file 'nowhere.py'"),
    ],
)
def test_bad_specs(spec: Spec, message: str) -> None:
    with pytest.raises(KintsugiError, match=message):
        load_task(spec)


OWN = """
from kintsugi.records import Problem

class MyTask:
    verifier = "exact"
    def __init__(self, count=2, *, word="a"):
        self.problems = [Problem(str(i), word * (i + 1), "1") for i in range(count)]
    def train(self): return self.problems[1:]
    def evaluation(self): return self.problems[:1]

class Half:
    def train(self): return []

class Raises(MyTask):
    def __init__(self): raise ValueError("no such table")

class Iterates(MyTask):
    def train(self): return iter(self.problems)

class Dicts(MyTask):
    def train(self): return [{"prompt": "x"}]

class Empty(MyTask):
    def evaluation(self): return ()

number = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own.py").write_text(OWN)
    return f"{tmp_path}/own.py"


def test_own_task(own: str) -> None:
    task = load_task({"name": f"{own}:MyTask", "count": 3, "word": "b"})
    assert [p.prompt for p in training_problems(task)] == ["bb", "bbb"]
    assert [p.prompt for p in evaluation_problems(task)] == ["b"]
    assert task.verifier == "exact"


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("MyTask", {"size": 3}, r"unknown argument 'size'\. It takes count, word"),
        ("Half", {}, r"it lacks evaluation, verifier \(a string\)"),
        ("Raises", {}, "making it raised ValueError: no such table"),
        ("Other", {}, "defines no 'Other'"),
        ("number", {}, r"it lacks train, evaluation, verifier"),
    ],
)
def test_own_task_errors(own: str, name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(KintsugiError, match=message):
        load_task({"name": f"{own}:{name}", **arguments})


def test_problems_are_checked(own: str) -> None:
    with pytest.raises(
        KintsugiError, match=r"Iterates.train\(\): expected a list of Problem, got list_iterator"
    ):
        training_problems(load_task(f"{own}:Iterates"))
    with pytest.raises(KintsugiError, match=r"Dicts.train\(\): item 0 is not a Problem but dict"):
        training_problems(load_task(f"{own}:Dicts"))
    with pytest.raises(
        KintsugiError, match=r"Empty.evaluation\(\): expected at least one problem, found none"
    ):
        evaluation_problems(load_task(f"{own}:Empty"))


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, kintsugi.tasks as t; t.load_task('dag')\n"
        "import kintsugi.tasks.table, kintsugi.tasks.gym\n"
        "heavy = {'torch', 'transformers', 'datasets', 'reasoning_gym', 'numpy', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    source = str(Path(gym.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": source}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
