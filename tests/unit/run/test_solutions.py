"""Solutions that exist already, as people and other trainers keep them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kintsugi.mender import mend
from kintsugi.records import KintsugiError, Turn
from kintsugi.run.solutions import read_solutions


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def found(place: Path, data: Path | None = None, **names: str) -> list[tuple[str, str, list[str]]]:
    """(prompt, answer, texts) of each problem."""
    return [
        (given.problem.prompt, given.problem.answer, given.texts)
        for given in read_solutions(place, data, **names).values()
    ]


def test_rows_of_one_prompt_are_one_problem_and_each_text_counts_once(tmp_path: Path) -> None:
    place = lines(
        tmp_path / "failures.jsonl",
        {"prompt": "2+2?", "completion": "#### 5", "answer": "so 4\n#### 4"},
        {"prompt": "2+2?", "completion": "#### 4", "answer": "4"},
        {"prompt": "2+2?", "completion": "#### 5", "answer": "4"},
        {"prompt": "3+3?", "completion": "#### 6", "answer": 6},
    )
    assert found(place) == [("2+2?", "4", ["#### 5", "#### 4"]), ("3+3?", "6", ["#### 6"])]
    assert list(read_solutions(place)) == [f"{tmp_path.name}/failures/1", f"{tmp_path.name}/failures/4"]


def test_conversations_and_lists_of_completions_are_read(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "Think."}, {"role": "user", "content": "2+2?"}]
    place = lines(
        tmp_path / "talks.jsonl",
        {"prompt": talk, "completions": [[{"role": "assistant", "content": "5"}], "4"], "answer": "4"},
    )
    (given,) = read_solutions(place).values()
    assert given.problem.before == (Turn("system", "Think."),) and given.texts == ["5", "4"]


def test_columns_may_be_named(tmp_path: Path) -> None:
    place = lines(tmp_path / "odd.jsonl", {"ask": "2+2?", "said": "5", "truth": "4", "prompt": "no"})
    assert found(place, prompt="ask", completion="said", answer="truth") == [("2+2?", "4", ["5"])]


def test_trl_keeps_completions_in_a_folder_of_its_output(tmp_path: Path) -> None:
    """It logs the prompt under its chat template and no answer: the data set knows both."""
    (tmp_path / "completions").mkdir()
    lines(tmp_path / "trainer_state.json", {"not": "a table of completions"})
    for step, text in ((1, "#### 5"), (2, "#### 4")):
        row = {"step": step, "prompt": "user\n2+2?\nassistant\n", "completion": text, "advantage": 0.1}
        table = pa.Table.from_pylist([row])
        pq.write_table(table, tmp_path / "completions" / f"completions_{step:05d}.parquet")
    assert found(tmp_path) == [("user\n2+2?\nassistant", "", ["#### 5", "#### 4"])]
    rows = [
        {"prompt": p, "answer": a, "unit": "eggs"} for p, a in (("2+2?", "4"), ("12+2?", "14"), ("3+3?", "6"))
    ]
    data = lines(tmp_path / "data" / "train.jsonl", *rows)
    (given,) = read_solutions(tmp_path, data).values()
    assert (given.problem.prompt, given.problem.answer) == ("2+2?", "4")
    assert given.problem.columns["unit"] == "eggs" and given.texts == ["#### 5", "#### 4"]


def test_of_problems_that_a_prompt_holds_the_longest_is_meant(tmp_path: Path) -> None:
    rows = [{"prompt": p, "answer": a} for p, a in (("2+2?", "4"), ("12+2?", "14"), ("3+3?", "6"))]
    data = lines(tmp_path / "data" / "train.jsonl", *rows)
    place = lines(tmp_path / "said.jsonl", {"prompt": "user\n12+2?\nassistant", "completion": "15"})
    assert found(place, data) == [("12+2?", "14", ["15"])]
    lost = lines(tmp_path / "lost.jsonl", {"prompt": "9+9?", "completion": "15"})
    with pytest.raises(KintsugiError, match=r"no problem of .* is asked in '9\+9\?'"):
        found(lost, data)


def test_verl_dumps_say_their_answer(tmp_path: Path) -> None:
    for step in (1, 2):
        lines(
            tmp_path / f"{step}.jsonl", {"input": "2+2?", "output": f"#### {step}", "gts": "4", "score": 0.0}
        )
    assert found(tmp_path) == [("2+2?", "4", ["#### 1", "#### 2"])]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "2+2?", "answer": "4"}, "which column is the completion"),
        ({"prompt": "2+2?", "completion": 5}, "expected a completion as text or messages"),
        ({"prompt": [], "completion": "5"}, "the conversation is empty"),
    ],
)
def test_what_is_no_solution_is_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(KintsugiError, match=message):
        read_solutions(lines(tmp_path / "bad.jsonl", row))


def test_a_place_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KintsugiError, match="mend: no such file or folder"):
        read_solutions(tmp_path / "nowhere")


def test_columns_that_cannot_be_found_are_asked_for_by_the_options_of_mend(tmp_path: Path) -> None:
    with pytest.raises(KintsugiError, match=r"name it, as in --completion NAME$"):
        read_solutions(lines(tmp_path / "a.jsonl", {"question": "2+2?", "said": "5", "answer": "4"}))
    given = read_solutions(
        lines(tmp_path / "b.jsonl", {"question": "2+2?", "response": "5", "solution": "4"})
    )
    for verifier in ("math", [{"name": "exact", "weight": 2}]):
        recipe = {"model": "nano", "verifier": verifier, "output_dir": str(tmp_path / "run")}
        with pytest.raises(KintsugiError, match="found response, solution; name it with --answer NAME"):
            mend(given, recipe)
    assert not (tmp_path / "run").exists()
