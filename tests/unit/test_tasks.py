"""Tasks by name: tables, Hub data sets, reasoning-gym generators, and classes of the user's own."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from kintsugi.plugins import Spec
from kintsugi.records import KintsugiError, Problem
from kintsugi.tasks import evaluation_problems, gym, load_task, training_problems
from kintsugi.tasks.base import Task, in_evaluation
from kintsugi.tasks.gym import GymTask
from kintsugi.tasks.hub import HubTask
from kintsugi.tasks.jsonl import Columns, JsonlTask, Line, gold_answer


def write_lines(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"prompt": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(start, start + count)]


def one_problem(tmp_path: Path, row: Any, **arguments: Any) -> Problem:
    """The one problem of a file with this row, given its own evaluation file."""
    other = dict.fromkeys(row, "other") if isinstance(row, dict) else row
    path = write_lines(tmp_path / "t.jsonl", [row])
    eval_path = write_lines(tmp_path / "e.jsonl", [other])
    return JsonlTask(path, eval_path, **arguments).train()[0]


# ---- jsonl: what becomes of a row


def test_gsm8k_row(tmp_path: Path) -> None:
    row = {"question": "How many clips? ", "answer": "48/2 = <<48/2=24>>24\n#### 24 is not it\n#### 1,234"}
    problem = one_problem(tmp_path, row, prompt="question")
    assert problem == Problem(
        f"{tmp_path.name}/t/1", "How many clips?", "1234", {"question": row["question"]}
    )


@pytest.mark.parametrize(
    ("cell", "gold"),
    [
        ("so\n#### 42", "42"),
        ("#### 1,234,567.5", "1234567.5"),
        ("#### $-1,080", "$-1080"),
        ("#### 1,23", "1,23"),  # not a thousands separator
        ("####7", "7"),
        ("(1,234)", "(1,234)"),  # without the marker text stays as it is: this may be a pair
        (" \\frac{1}{2} ", "\\frac{1}{2}"),
        (7, "7"),
        (51.0, "51"),
        (0.25, "0.25"),
        (-3, "-3"),
        (0, "0"),
        (True, "True"),
    ],
)
def test_gold_answer(cell: Any, gold: str) -> None:
    assert gold_answer(cell, "here", "answer") == gold


@pytest.mark.parametrize("cell", [None, "", "  ", "a solution\n#### ", float("nan")])
def test_missing_answer(cell: Any) -> None:
    with pytest.raises(KintsugiError, match=r"^t.jsonl, line 3: missing answer \(column 'gold'\)$"):
        gold_answer(cell, "t.jsonl, line 3", "gold")


def test_columns_are_kept_as_they_are_and_answer_is_the_gold_answers_name(tmp_path: Path) -> None:
    row = {"q": "1+1?", "answer": "1+1=2\n#### 2", "level": 3, "tags": ["sum"], "uid": 17}
    problem = one_problem(tmp_path, row, prompt="q", id="uid")
    assert problem.id == "17"
    assert problem.columns == {"q": "1+1?", "level": 3, "tags": ["sum"], "uid": 17}
    row = {"q": "1+1?", "solution": "1+1=2\n#### 2"}
    problem = one_problem(tmp_path, row, prompt="q", answer="solution")
    assert (problem.answer, problem.columns) == ("2", row)


def test_joined_columns_and_json_list(tmp_path: Path) -> None:
    row = {
        "ID": "chal-1",
        "Body": "A pack costs 76. ",
        "Question": "And two?",
        "Answer": 152.0,
        "Type": "Sum",
    }
    path = tmp_path / "SVAMP.json"
    path.write_text(json.dumps([row]))
    task = JsonlTask(
        str(path), write_lines(tmp_path / "e.jsonl", rows(1)), ["Body", "Question"], "Answer", "ID"
    )
    with pytest.raises(KintsugiError, match="no column 'Body'; there are prompt, answer"):
        task.evaluation()
    problem = Columns(("Body", "Question"), "Answer", "ID").problem(Line("x", "here", row))
    assert problem == Problem("chal-1", "A pack costs 76. And two?", "152", row)
    # The held-out share of a one-row file is that row or nothing.
    assert JsonlTask(str(path), prompt=["Body", "Question"], answer="Answer", eval_share=0).train() == [
        Problem(f"{tmp_path.name}/SVAMP/1", problem.prompt, "152", problem.columns)
    ]


def test_a_conversation_asks_its_last_message_after_the_turns_before(tmp_path: Path) -> None:
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "What is 2 + 2?"},
    ]
    problem = one_problem(tmp_path, {"prompt": chat, "answer": "4"})
    assert problem.prompt == "What is 2 + 2?"
    assert problem.before == (("system", "Be brief."), ("user", "Hello"), ("assistant", "Hello!"))
    assert one_problem(tmp_path, {"prompt": "What is 2 + 2?", "answer": "4"}).before is None
    parts = [{"role": "user", "content": [{"type": "text", "text": "What is"}, {"text": "3 + 3?"}]}]
    assert one_problem(tmp_path, {"prompt": parts, "answer": "6"}).prompt == "What is\n3 + 3?"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "  ", "answer": "4"}, r"line 1: empty prompt \(column 'prompt'\)"),
        ({"prompt": "2+2?", "answer": None}, r"line 1: missing answer \(column 'answer'\)"),
        ({"prompt": "2+2?", "answer": ["4", "four"]}, "line 1: column 'answer': expected text or a number"),
        ({"prompt": "2+2?", "gold": "4"}, "line 1: no column 'answer'; there are prompt, gold"),
        ({"prompt": 5, "answer": "4"}, "line 1: expected a prompt as text or chat messages, found 5"),
        (
            {"prompt": [{"role": "system", "content": "x"}], "answer": "4"},
            "ends with a message of the system",
        ),
        ({"prompt": [], "answer": "4"}, "line 1: the conversation is empty; expected the user's question at"),
        ({"prompt": [{"role": "tool", "content": "x"}], "answer": "4"}, "one of the roles system, user, ass"),
        ({"prompt": [{"role": "user", "content": [{"type": "image"}]}], "answer": "4"}, "is not text"),
        ([1, 2], "line 1: expected an object, found list"),
    ],
)
def test_bad_rows(tmp_path: Path, row: Any, message: str) -> None:
    path = write_lines(tmp_path / "t.jsonl", [row])
    with pytest.raises(KintsugiError, match=message) as caught:
        JsonlTask(path).train()
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


# ---- jsonl: what becomes of a file


def test_split_by_text(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "t.jsonl", [*rows(400), *rows(50)])
    task = JsonlTask(path, eval_share=0.25)
    train, evaluation = task.train(), task.evaluation()
    texts, held_out = {p.prompt for p in train}, {p.prompt for p in evaluation}
    assert not texts & held_out
    assert len(train) + len(evaluation) == 400  # the 50 repeated rows are gone
    assert 70 < len(evaluation) < 130  # 100 expected, standard deviation sqrt(400 * 0.25 * 0.75) = 8.7
    assert all(in_evaluation(text, 0.25) for text in held_out)
    assert task.verifier == "math"
    assert isinstance(task, Task)


def test_evaluation_file_is_kept_out_of_training(tmp_path: Path) -> None:
    # Rows 6 to 9 occur in both; row 6 with another line break.
    held_out = rows(6, start=6)
    held_out[0]["prompt"] = held_out[0]["prompt"].replace(" + ", " +\n")
    path, eval_path = tmp_path / "t.jsonl", tmp_path / "e.jsonl"
    task = JsonlTask(write_lines(path, rows(10)), write_lines(eval_path, held_out))
    assert [p.answer for p in task.train()] == ["1", "2", "3", "4", "5", "6"]
    assert [p.answer for p in task.evaluation()] == ["7", "8", "9", "10", "11", "12"]
    # Limits keep the first of a split, and what they leave out of evaluation stays out of training.
    task = JsonlTask(str(path), str(eval_path), limit=20, eval_limit=1)
    assert (len(task.train()), len(task.evaluation())) == (6, 1)
    assert len(JsonlTask(str(path), str(eval_path), limit=2).train()) == 2


def test_read_once(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "t.jsonl", rows(30))
    task = JsonlTask(path)
    train = task.train()
    Path(path).unlink()
    assert list(task.train()) == list(train)
    assert task.evaluation()


def test_blank_lines_byte_order_mark_and_line_separators(tmp_path: Path) -> None:
    # U+2028 may stand unescaped in JSON text; it ends a line for str.splitlines but not in JSON Lines.
    path = tmp_path / "t.jsonl"
    path.write_text(
        '\ufeff{"prompt": "a\u2028b", "answer": "1"}\r\n\r\n{"prompt": "c", "answer": 2}\n', "utf-8"
    )
    task = JsonlTask(str(path), eval_share=0)
    assert [(p.id.rsplit("/")[-1], p.prompt, p.answer) for p in task.train()] == [
        ("1", "a\u2028b", "1"),
        ("3", "c", "2"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.jsonl", '{"prompt": "a", "answer": "1"}\n{"prompt": \n', "line 2: not valid JSON"),
        ("t.jsonl", "", "expected at least one row, found none"),
        ("t.json", "[]", "expected at least one row, found none"),
        ("t.json", '{"prompt": "a"}', "expected a list of objects, found dict"),
        ("t.json", '[\n{"prompt": }]', "line 2: not valid JSON"),
        ("t.json", '[{"prompt": "a", "answer": 1}, 5]', "row 2: expected an object, found int"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(KintsugiError, match=message) as caught:
        JsonlTask(str(path)).train()
    assert str(caught.value).startswith(str(path))


def test_unreadable_and_missing_files(tmp_path: Path) -> None:
    binary = tmp_path / "t.jsonl"
    binary.write_bytes(b"PAR1\xff\xfe")
    with pytest.raises(KintsugiError, match="cannot be read"):
        JsonlTask(str(binary)).train()
    with pytest.raises(KintsugiError, match="path: no such file 'nowhere"):
        JsonlTask("nowhere.jsonl")
    with pytest.raises(KintsugiError, match="eval_path: no such file"):
        JsonlTask(str(binary), "nowhere.jsonl")
    with pytest.raises(KintsugiError, match="path: expected a file name, got 7"):
        JsonlTask(7)  # type: ignore[arg-type]


def test_ids_must_differ(tmp_path: Path) -> None:
    table = [dict(row, uid=1) for row in rows(2)]
    path = write_lines(tmp_path / "t.jsonl", table)
    with pytest.raises(KintsugiError, match=r"line 2: id '1' is already that of .*line 1"):
        JsonlTask(path, id="uid").train()
    # A repeated row is no second problem.
    assert (
        len(JsonlTask(write_lines(tmp_path / "t.jsonl", [table[0]] * 2), id="uid", eval_share=0).train()) == 1
    )


def test_an_empty_split_says_why(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "t.jsonl", rows(3))
    with pytest.raises(KintsugiError, match=r"evaluation problems \(eval_share 0 of the texts\).*found none"):
        JsonlTask(path, eval_share=0).evaluation()
    with pytest.raises(KintsugiError, match="training problems: expected at least one"):
        JsonlTask(path, path).train()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": 0}, "limit: expected a whole number of at least 1, got 0"),
        ({"eval_limit": "ten"}, "eval_limit: expected a whole number"),
        ({"eval_share": 2}, "eval_share: expected a number between 0 and 1, got 2"),
        ({"prompt": []}, "prompt: expected a column name or a list of them"),
        ({"prompt": 3}, "prompt: expected a column name"),
        ({"answer": None}, "answer: expected a column name, got None"),
        ({"id": ["a"]}, "id: expected a column name"),
    ],
)
def test_bad_table_arguments(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(KintsugiError, match=message):
        JsonlTask(write_lines(tmp_path / "t.jsonl", rows(1)), **arguments)


def test_one_question_after_two_conversations_is_two_problems(tmp_path: Path) -> None:
    lines = [
        {"prompt": [{"role": role, "content": text}, {"role": "user", "content": "And then?"}], "answer": "4"}
        for role, text in (("system", "Count."), ("system", "Add."), ("system", "Count."))
    ]
    found = JsonlTask(write_lines(tmp_path / "t.jsonl", lines), eval_share=0).train()
    assert [p.before for p in found] == [(("system", "Count."),), (("system", "Add."),)]


# ---- hub


def fake_hub(monkeypatch: pytest.MonkeyPatch, tables: dict[str, list[Any]]) -> list[tuple[Any, ...]]:
    """Puts a `datasets` package in place that serves `tables` by split; returns the calls it gets."""
    calls: list[tuple[Any, ...]] = []

    def load_dataset(path: str, subset: str | None, *, split: str) -> list[Any]:
        calls.append((path, subset, split))
        if split not in tables:
            raise ValueError(f"Unknown split {split!r}.\nShould be one of {list(tables)}.")
        return tables[split]

    package = types.ModuleType("datasets")
    package.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", package)
    return calls


def test_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    table = [{"question": f"{i}?", "answer": f"so\n#### {i}"} for i in range(3)]
    calls = fake_hub(monkeypatch, {"train": table, "test": table[2:], "bad": [{"question": "x?"}]})
    task = load_task({"name": "hub", "path": "openai/gsm8k", "subset": "main", "prompt": "question"})
    assert calls == []  # nothing is fetched before it is needed
    assert list(training_problems(task)) == [
        Problem("openai/gsm8k/train/1", "0?", "0", {"question": "0?"}),
        Problem("openai/gsm8k/train/2", "1?", "1", {"question": "1?"}),
    ]
    assert list(evaluation_problems(task)) == [Problem("openai/gsm8k/test/1", "2?", "2", {"question": "2?"})]
    assert sorted(calls) == [("openai/gsm8k", "main", "test"), ("openai/gsm8k", "main", "train")]
    alone = HubTask("openai/gsm8k", eval_split=None, prompt="question", eval_share=0)
    assert len(alone.train()) == 3
    with pytest.raises(KintsugiError, match="split bad, row 1: no column 'answer'; there are question"):
        HubTask("openai/gsm8k", split="bad", eval_split=None, prompt="question").train()


def test_hub_errors_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, {"train": rows(2), "empty": []})
    with pytest.raises(
        KintsugiError, match=r"a/b, subset s, split test: ValueError: Unknown split.*\]\.$"
    ) as e:
        HubTask("a/b", "s").train()
    assert "\n" not in str(e.value)
    with pytest.raises(KintsugiError, match="split empty: expected at least one row"):
        HubTask("a/b", split="empty", eval_split=None).train()


def test_hub_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(KintsugiError, match=r"pip install kintsugi-rl\[hub\]"):
        load_task({"name": "hub", "path": "openai/gsm8k"})


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
    with pytest.raises(KintsugiError, match=r"pip install kintsugi-rl\[gym\]"):
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
    assert len(training_problems(load_task({"name": "jsonl", "path": path, "limit": 3}))) == 3


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("dags", "task: unknown 'dags'; did you mean 'dag'"),
        ("reasoning-gym", "did you mean 'reasoning_gym'"),
        ("data/train.jsonl", "did you mean 'jsonl'"),
        ({"steps": 7}, "task: expected a name or a mapping with `name`"),
        (
            {"name": "dag", "step": 7},
            "task dag: unknown argument 'step'; did you mean 'steps'.* It takes steps, chains",
        ),
        ("jsonl", "task jsonl: missing argument 'path'; it takes path, eval_path, prompt"),
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
        ("MyTask", {"size": 3}, "unknown argument 'size'; .*It takes count, word"),
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
        "import kintsugi.tasks.jsonl, kintsugi.tasks.hub, kintsugi.tasks.gym\n"
        "heavy = {'torch', 'transformers', 'datasets', 'reasoning_gym', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    source = str(Path(gym.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": source}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
