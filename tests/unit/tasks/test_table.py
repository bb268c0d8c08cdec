"""Problems from tables: what becomes of a row, a file, a folder and a data set of the Hub."""

from __future__ import annotations

import datetime
import gzip
import json
import sys
import types
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, feather, ipc, parquet

from kintsugi.records import KintsugiError, Problem
from kintsugi.tasks import as_task, evaluation_problems, load_task, training_problems
from kintsugi.tasks.base import Task, in_evaluation
from kintsugi.tasks.sources import Line
from kintsugi.tasks.table import Columns, TableTask, gold_answer


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
    return TableTask(path, eval_path, **arguments).train()[0]


# ---- what becomes of a row


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
    other = write_lines(tmp_path / "e.jsonl", rows(1))
    task = TableTask(str(path), other, prompt=["Body", "Question"], answer="Answer", id="ID")
    with pytest.raises(KintsugiError, match="no column 'Body'; there are prompt, answer"):
        task.evaluation()
    problem = Columns(("Body", "Question"), "Answer", "ID").problem(Line("x", "here", row))
    assert problem == Problem("chal-1", "A pack costs 76. And two?", "152", row)
    # The held-out share of a one-row file is that row or nothing.
    assert TableTask(str(path), prompt=["Body", "Question"], answer="Answer", eval_share=0).train() == [
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
        (
            {"prompt": "2+2?", "reply": "4"},
            r"line 1: which column is the answer\? .*found prompt, reply; name it",
        ),
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
        TableTask(path).train()
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


# ---- what becomes of a file


def test_split_by_text(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "t.jsonl", [*rows(400), *rows(50)])
    task = TableTask(path, eval_share=0.25)
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
    task = TableTask(write_lines(path, rows(10)), write_lines(eval_path, held_out))
    assert [p.answer for p in task.train()] == ["1", "2", "3", "4", "5", "6"]
    assert [p.answer for p in task.evaluation()] == ["7", "8", "9", "10", "11", "12"]
    # Limits keep the first of a split, and what they leave out of evaluation stays out of training.
    task = TableTask(str(path), str(eval_path), limit=20, eval_limit=1)
    assert (len(task.train()), len(task.evaluation())) == (6, 1)
    assert len(TableTask(str(path), str(eval_path), limit=2).train()) == 2


def test_read_once(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "t.jsonl", rows(30))
    task = TableTask(path)
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
    task = TableTask(str(path), eval_share=0)
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
        ("t.json", '{"data": [\n]}', "line 1: not valid JSON"),
        ("t.json", '{"data": []}', r"line 1: which column is the prompt\? .*found data"),
        ("t.json", '[\n{"prompt": }]', "line 2: not valid JSON"),
        ("t.json", '[{"prompt": "a", "answer": 1}, 5]', "row 2: expected an object, found int"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(KintsugiError, match=message) as caught:
        TableTask(str(path)).train()
    assert str(caught.value).startswith(str(path))


def test_unreadable_and_missing_files(tmp_path: Path) -> None:
    binary = tmp_path / "t.jsonl"
    binary.write_bytes(b"PAR1\xff\xfe")
    with pytest.raises(KintsugiError, match="cannot be read"):
        TableTask(str(binary)).train()
    with pytest.raises(KintsugiError, match="path: no such file 'nowhere"):
        TableTask("nowhere.jsonl")
    with pytest.raises(KintsugiError, match="eval_path: no such file"):
        TableTask(str(binary), "nowhere.jsonl")
    with pytest.raises(KintsugiError, match="path: expected a file, a folder or a Hub id, got 7"):
        TableTask(7)  # type: ignore[arg-type]
    (tmp_path / "t.txt").write_text("1+1?")
    with pytest.raises(
        KintsugiError, match=r"path: .*t\.txt: expected a file that ends in \.csv, \.tsv, \.parq"
    ):
        TableTask(str(tmp_path / "t.txt"))
    with pytest.raises(KintsugiError, match=r"path: no such file '\./data/train'"):
        TableTask("./data/train")


def test_ids_must_differ(tmp_path: Path) -> None:
    table = [dict(row, uid=1) for row in rows(2)]
    path = write_lines(tmp_path / "t.jsonl", table)
    with pytest.raises(KintsugiError, match=r"line 2: id '1' is already that of .*line 1"):
        TableTask(path, id="uid").train()
    # A repeated row is no second problem.
    assert (
        len(TableTask(write_lines(tmp_path / "t.jsonl", [table[0]] * 2), id="uid", eval_share=0).train()) == 1
    )


def test_an_empty_split_says_why(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "t.jsonl", rows(3))
    with pytest.raises(KintsugiError, match=r"evaluation problems \(eval_share 0 of the texts\).*found none"):
        TableTask(path, eval_share=0).evaluation()
    with pytest.raises(KintsugiError, match="training problems: expected at least one"):
        TableTask(path, path).train()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": 0}, "limit: expected a whole number of at least 1, got 0"),
        ({"eval_limit": "ten"}, "eval_limit: expected a whole number"),
        ({"eval_share": 2}, "eval_share: expected a number between 0 and 1, got 2"),
        ({"prompt": []}, "prompt: expected a column name or a list of them"),
        ({"prompt": 3}, "prompt: expected a column name"),
        ({"answer": 3}, "answer: expected a column name, got 3"),
        ({"id": ["a"]}, "id: expected a column name"),
    ],
)
def test_bad_table_arguments(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(KintsugiError, match=message):
        TableTask(write_lines(tmp_path / "t.jsonl", rows(1)), **arguments)


def test_one_question_after_two_conversations_is_two_problems(tmp_path: Path) -> None:
    lines = [
        {"prompt": [{"role": role, "content": text}, {"role": "user", "content": "And then?"}], "answer": "4"}
        for role, text in (("system", "Count."), ("system", "Add."), ("system", "Count."))
    ]
    found = TableTask(write_lines(tmp_path / "t.jsonl", lines), eval_share=0).train()
    assert [p.before for p in found] == [(("system", "Count."),), (("system", "Add."),)]


def test_equal_texts_with_different_answers_are_counted_and_said(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    cells = [("1+1?", "2"), ("1+1?", "2"), ("1+1?", "3"), ("2+2?", "4"), ("2+2?", "5")]
    path.write_text("\n".join(json.dumps({"prompt": p, "answer": a}) for p, a in cells))
    task = TableTask(str(path), eval_share=0)
    assert [(p.prompt, p.answer) for p in task.train()] == [("1+1?", "2"), ("2+2?", "4")]
    (note,) = task.notes
    assert note == (
        f"task table: {path}: 2 rows ask what another row asks and answer otherwise: left out "
        f"(such as {path}, line 3, after {path}, line 1)"
    )
    path.write_text(path.read_text().replace('"3"', '"2"').replace('"5"', '"4"'))
    again = TableTask(str(path), eval_share=0)
    again.train()
    assert again.notes == []


@pytest.mark.parametrize(
    ("cell", "gold"),
    [
        (Decimal("51.00"), "51"),
        (Decimal("1.50"), "1.5"),
        (Decimal("1E+2"), "100"),
        (Decimal("-0.0010"), "-0.001"),
        (Decimal("123456789012345678901234567.10"), "123456789012345678901234567.1"),
        (0.1, "0.1"),
        (51.0, "51"),
    ],
)
def test_a_number_becomes_the_shortest_text_that_names_it(cell: Any, gold: str) -> None:
    made = Columns.named("t", "prompt", "answer", None).problem(
        Line("1", "row 1", {"prompt": "?", "answer": cell, "also": cell})
    )
    assert made.answer == gold
    assert json.loads(json.dumps(made.columns["also"])) == made.columns["also"]


# ---- every kind of file


TABLE = [
    {"prompt": 'Say "a, b"\nand stop.', "answer": "007", "level": 3, "share": 0.5},
    {"prompt": "What is 2 + 2?", "answer": "4", "level": None, "share": 1.25},
]


def arrow_file(path: Path, table: pa.Table) -> None:
    with ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


def arrow_stream(path: Path, table: pa.Table) -> None:
    """As `datasets` saves to disk."""
    with ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


WRITERS: dict[str, Any] = {
    "t.csv": lambda path, table: csv.write_csv(table, path),
    "semicolons.csv": lambda path, table: csv.write_csv(table, path, csv.WriteOptions(delimiter=";")),
    "t.tsv": lambda path, table: csv.write_csv(table, path, csv.WriteOptions(delimiter="\t")),
    "t.CSV.gz": lambda path, table: path.write_bytes(gzip.compress(written(table, "x.csv", path))),
    "t.parquet": lambda path, table: parquet.write_table(table, path),
    "t.feather": lambda path, table: feather.write_feather(table, path),
    "t.arrow": arrow_file,
    "stream.arrow": arrow_stream,
    "t.jsonl": lambda path, table: write_lines(path, table.to_pylist()),
    "t.ndjson": lambda path, table: write_lines(path, table.to_pylist()),
    "t.jsonl.gz": lambda path, table: path.write_bytes(gzip.compress(written(table, "x.jsonl", path))),
    "list.json": lambda path, table: path.write_text(json.dumps(table.to_pylist(), indent=1)),
    "lines.json": lambda path, table: write_lines(path, table.to_pylist()),
}


def written(table: pa.Table, name: str, beside: Path) -> bytes:
    WRITERS[f"t.{name.partition('.')[2]}"](beside.with_name(name), table)
    return beside.with_name(name).read_bytes()


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_the_same_problems(name: str, tmp_path: Path) -> None:
    place = tmp_path / "data" / name
    place.parent.mkdir()
    WRITERS[name](place, pa.Table.from_pylist(TABLE))
    found = TableTask(str(place), eval_share=0).train()
    stem = name.partition(".")[0]
    assert [p.id for p in found] == [f"data/{stem}/1", f"data/{stem}/2"]
    assert [(p.prompt, p.answer) for p in found] == [(row["prompt"], row["answer"]) for row in TABLE]
    assert [(p.columns["level"], p.columns["share"]) for p in found] == [(3, 0.5), (None, 1.25)]


def test_cells_of_text_tables_are_numbers_where_they_are_no_question_and_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = (
        "Question,Answer,id,when,tolerance",
        "1 + 1?,1e3,01,2026-01-31,0.5",
        "2?,null,02,2026-02-01,1",
        "",
    )
    path.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    asked = lambda question, answer, id: {"Question": question, "Answer": answer, "id": id}  # noqa: E731
    task = TableTask(str(path), eval_share=0, id="id")
    assert task.train() == [
        Problem(
            "01", "1 + 1?", "1e3", asked("1 + 1?", "1e3", "01") | {"when": "2026-01-31", "tolerance": 0.5}
        ),
        Problem("02", "2?", "null", asked("2?", "null", "02") | {"when": "2026-02-01", "tolerance": 1.0}),
    ]
    assert task.notes == [f"task table: {path}: prompts from column Question, answers from Answer"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t.csv",
            b"prompt,answer\na,1\nb,2,3\n",
            r"cannot be read \(CSV parse error: Row #3: Expected 2 col",
        ),
        ("t.csv", b"", r"cannot be read \(Empty CSV file\)"),
        ("t.csv", b"prompt,answer\n", "expected at least one row, found none"),
        ("t.csv", b"prompt,answer\n\xe9,1\n", "cannot be read .*invalid UTF8 data"),
        ("t.csv", b"prompt,answer\na,1\nb,\n", r"row 2: missing answer \(column 'answer'\)"),
        ("t.parquet", b"PAR1 not really", "cannot be read"),
        ("t.arrow", b"not really", "cannot be read"),
        ("t.jsonl.gz", b"not really", "cannot be read"),
    ],
)
def test_malformed_tables_are_one_line(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(KintsugiError, match=message) as caught:
        TableTask(str(tmp_path / name)).train()
    assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "written", "gold"),
    [
        (np.float32, 0.1, "0.1"),
        (np.float32, 16777216.0, "16777216"),
        (np.float32, 2.5, "2.5"),
        # 1/3 in single precision lies 1e-8 above it, and neighbours are 3e-8 apart: eight digits tell it, seven do not.
        (np.float32, 1 / 3, "0.33333334"),
        (np.float16, 0.1, "0.1"),
        (np.float64, 0.1, "0.1"),
    ],
)
def test_a_column_below_double_precision_is_not_widened(
    kind: Any, written: float, gold: str, tmp_path: Path
) -> None:
    answers = pa.array(np.array([written, written], kind))
    also = pa.array([None, written], pa.float32())
    table = pa.table({"prompt": ["?", "!"], "answer": answers, "also": also})
    parquet.write_table(table, tmp_path / "t.parquet")
    first, second = TableTask(str(tmp_path / "t.parquet"), eval_share=0).train()
    assert (first.answer, second.answer) == (gold, gold)
    assert first.columns["also"] is None and np.float32(second.columns["also"]) == np.float32(written)


def test_dates_and_decimals_are_plain_data(tmp_path: Path) -> None:
    when = datetime.datetime(2026, 1, 31, 12, 30)
    row = {"prompt": "?", "answer": Decimal("51.00"), "when": when, "took": datetime.timedelta(seconds=90)}
    parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "t.parquet")
    (problem,) = TableTask(str(tmp_path / "t.parquet"), eval_share=0).train()
    assert problem.answer == "51"
    assert problem.columns == {"prompt": "?", "when": "2026-01-31 12:30:00", "took": "0:01:30"}


# ---- columns that nobody named


@pytest.mark.parametrize(
    ("row", "prompt", "answer"),
    [
        ({"question": "1?", "answer": "#### 1"}, "question", "answer"),
        ({"Problem": "1?", "solution": "so 1", "Answer": "1"}, "Problem", "Answer"),
        ({"text": "1?", "label": 1}, "text", "label"),
        ({"input": "1?", "target": "1"}, "input", "target"),
        ({"prompt": "1?", "reward_model": {"style": "rule", "ground_truth": "1"}, "ability": "math"}, "prompt",
         "reward_model.ground_truth"),
    ],
)  # fmt: skip
def test_usual_names_are_found(row: dict[str, Any], prompt: str, answer: str, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "t.jsonl", [row])
    task = TableTask(path, eval_share=0)
    (problem,) = task.train()
    assert (problem.prompt, problem.answer) == ("1?", "1")
    assert set(problem.columns) == set(row) - {"answer"}
    assert task.notes == [f"task table: {path}: prompts from column {prompt}, answers from {answer}"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"frage": "1?", "answer": "1"}, r"which column is the prompt\? .*found frage, answer; name it, as in task"),
        ({"prompt": "1?", "antwort": "1"}, r"which column is the answer\? .*found prompt, antwort; name it"),
        # A question that may need what stands beside it is not guessed.
        ({"Body": "A pack.", "Question": "And two?", "Answer": 1}, r"which column is the prompt\?"),
    ],
)  # fmt: skip
def test_unusual_names_are_asked_for(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(KintsugiError, match=message):
        TableTask(write_lines(tmp_path / "t.jsonl", [row]), eval_share=0).train()


def test_the_two_tables_may_name_their_columns_differently(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "t.jsonl", [{"question": "1?", "answer": "1"}])
    eval_path = write_lines(tmp_path / "e.jsonl", [{"problem": "2?", "answer": "2"}])
    task = TableTask(path, eval_path)
    assert ([p.prompt for p in task.train()], [p.prompt for p in task.evaluation()]) == (["1?"], ["2?"])


# ---- folders


def folder_of(folder: Path, files: dict[str, list[Any]]) -> str:
    for name, table in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.Table.from_pylist(table), folder / name)
    return str(folder)


def test_a_folder_is_split_by_the_names_in_it(tmp_path: Path) -> None:
    files = {
        "main/train-00000-of-00002.parquet": rows(2),
        "main/train-00001-of-00002.parquet": rows(2, 2),
        "main/test-00000-of-00001.parquet": rows(3, 3),
        "other/train.parquet": rows(9, 50),
        "main/.cache/train.parquet": rows(1, 90),
    }
    path = folder_of(tmp_path / "gsm8k", files)
    (tmp_path / "gsm8k" / "main" / "README.md").write_text("# Sums")
    (tmp_path / "gsm8k" / "main" / "dataset_info.json").write_text("{}")
    task = TableTask(path, subset="main")
    # The text of row 3 is in both: it is held out.
    assert [p.id for p in task.train()] == [
        "gsm8k/main/train-00000-of-00002/1",
        "gsm8k/main/train-00000-of-00002/2",
        "gsm8k/main/train-00001-of-00002/1",
    ]
    assert [p.answer for p in task.evaluation()] == ["4", "5", "6"]
    assert len(TableTask(path).train()) == 3 + 9
    with pytest.raises(KintsugiError, match=r"no file is named as of split 'dev'; there are test, train"):
        TableTask(path, subset="main", eval_split="dev").train()
    with pytest.raises(KintsugiError, match=r"none: expected files that end in \.csv.*found none"):
        TableTask(path, subset="none")


def test_splits_lie_in_folders_too_and_validation_is_held_out_where_there_is_no_test(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "d", {"train/0.parquet": rows(4), "dev/0.parquet": rows(2, 8)})
    task = TableTask(path)
    assert ([p.answer for p in task.train()], [p.answer for p in task.evaluation()]) == (
        ["1", "2", "3", "4"],
        ["9", "10"],
    )
    # The split itself as eval_split: a share of its texts is held out.
    assert len(TableTask(path, eval_split="train", eval_share=0).train()) == 4
    # Names that say nothing are training data; a share of them is held out.
    alone = TableTask(folder_of(tmp_path / "e", {"part-0.parquet": rows(40)}), eval_share=0.5)
    assert len(alone.train()) + len(alone.evaluation()) == 40


def test_what_datasets_saves_to_disk_is_a_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    saved = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(rows(3)), "test": datasets.Dataset.from_list(rows(2, 5))}
    )
    saved.save_to_disk(tmp_path / "sums")
    task = TableTask(str(tmp_path / "sums"))
    assert ([p.answer for p in task.train()], [p.answer for p in task.evaluation()]) == (
        ["1", "2", "3"],
        ["6", "7"],
    )


def test_an_evaluation_folder_has_its_own_splits(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "t.jsonl", rows(2))
    held_out = folder_of(tmp_path / "h", {"test.parquet": rows(1, 7), "validation.parquet": rows(1, 8)})
    assert [p.answer for p in TableTask(path, held_out).evaluation()] == ["8"]
    assert [p.answer for p in TableTask(path, held_out, eval_split="validation").evaluation()] == ["9"]


# ---- the Hub


class Batches:
    """A data set as `datasets` gives it, as far as it is asked."""

    def __init__(self, table: list[Any]) -> None:
        self.table = table

    def with_format(self, name: str) -> Batches:
        assert name == "arrow"
        return self

    def iter(self, size: int) -> Any:
        return iter([pa.Table.from_pylist(self.table)])


def fake_hub(monkeypatch: pytest.MonkeyPatch, tables: dict[str, list[Any]]) -> list[tuple[Any, ...]]:
    """Puts a `datasets` package in place that serves `tables` by split; returns the calls it gets."""
    calls: list[tuple[Any, ...]] = []

    def load_dataset(path: str, subset: str | None, *, split: str) -> Batches:
        calls.append((path, subset, split))
        if split not in tables:
            raise ValueError(f"Unknown split {split!r}.\nShould be one of {list(tables)}.")
        return Batches(tables[split])

    package = types.ModuleType("datasets")
    package.load_dataset = load_dataset  # type: ignore[attr-defined]
    package.get_dataset_split_names = lambda path, subset: list(tables)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", package)
    return calls


def test_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    table = [{"question": f"{i}?", "answer": f"so\n#### {i}"} for i in range(3)]
    tables = {"train": table, "test": table[2:], "bad": [{"question": "x?"}]}
    calls = fake_hub(monkeypatch, tables)
    task = load_task({"name": "table", "path": "openai/gsm8k", "subset": "main"})
    assert calls == []  # nothing is fetched before it is needed
    assert list(training_problems(task)) == [
        Problem("openai/gsm8k/train/1", "0?", "0", {"question": "0?"}),
        Problem("openai/gsm8k/train/2", "1?", "1", {"question": "1?"}),
    ]
    assert list(evaluation_problems(task)) == [Problem("openai/gsm8k/test/1", "2?", "2", {"question": "2?"})]
    assert sorted(calls) == [("openai/gsm8k", "main", "test"), ("openai/gsm8k", "main", "train")]
    with pytest.raises(KintsugiError, match=r"split bad, row 1: which column is the answer\?"):
        TableTask("openai/gsm8k", split="bad", eval_split="bad").train()
    del tables["test"], tables["bad"]
    assert len(TableTask("openai/gsm8k", eval_share=0).train()) == 3
    tables["other"] = tables.pop("train")
    assert len(TableTask("openai/gsm8k", eval_share=0).train()) == 3  # the only split there is
    tables["another"] = table
    with pytest.raises(
        KintsugiError, match=r"which split.*Expected train, there are other, another; name it"
    ):
        TableTask("openai/gsm8k").train()


def test_hub_errors_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, {"train": rows(2), "empty": []})
    with pytest.raises(
        KintsugiError, match=r"a/b, subset s, split test: ValueError: Unknown split.*\]\. \(no file or folder"
    ) as e:
        TableTask("a/b", subset="s", eval_split="test").train()
    assert "\n" not in str(e.value)
    with pytest.raises(KintsugiError, match="split empty: expected at least one row"):
        TableTask("a/b", split="empty", eval_split="empty").train()


def test_hub_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(KintsugiError, match=r"no file or folder 'openai/gsm8k'.*pip install -e '\.\[hub\]'"):
        load_task({"name": "table", "path": "openai/gsm8k"})


def test_a_list_of_rows_or_problems_is_a_task_split_by_text() -> None:
    given = as_task([{"question": f"{i}+1?", "answer": i + 1} for i in range(100)])
    train, held_out = training_problems(given), evaluation_problems(given)
    assert len(train) + len(held_out) == 100
    assert held_out and all(in_evaluation(p.prompt, 0.1) for p in held_out)
    assert not any(in_evaluation(p.prompt, 0.1) for p in train)
    assert train[0].answer == str(int(train[0].prompt.split("+")[0]) + 1)
    again = as_task([*train, *held_out])
    assert (training_problems(again), evaluation_problems(again)) == (train, held_out)
    with pytest.raises(KintsugiError, match=r"^task, row 1: expected an object, found int$"):
        training_problems(as_task([1, 2]))
    with pytest.raises(KintsugiError, match=r"^task, row 1: which column is the prompt\?"):
        training_problems(as_task([{"frage": "1+1?", "answer": 2}]))
