"""Gold answers as data sets hold them: after `####`, in a box, in a nested column, in a list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kintsugi.records import KintsugiError, Problem
from kintsugi.tasks.sources import Line
from kintsugi.tasks.table import Columns, TableTask, gold_answer
from kintsugi.verifiers import load_verifier


@pytest.mark.parametrize(
    ("cell", "gold"),
    [
        ("so\n#### (5,120)", "(5,120)"),  # a pair
        ("so\n#### [1,200, 3]", "[1,200, 3]"),
        ("so\n#### 1,200, 3", "1,200, 3"),  # a list, whose commas may be of either kind
        ("so\n#### 5,120", "5120"),
        ("so\n#### $5,120", "$5120"),
        ("so\n#### 5,120 eggs", "5120 eggs"),
        (r"Both are 3, so $\boxed{\frac{1}{2}}$ holds.", r"\frac{1}{2}"),
        (r"\boxed{3}, no: \boxed{(4,5)}", "(4,5)"),
        (r"so #### \boxed{7}", "7"),
        (["42"], "42"),
        ([42], "42"),
        ([["42"]], "42"),
    ],
)
def test_gold_answer(cell: Any, gold: str) -> None:
    assert gold_answer(cell, "here", "answer") == gold


def test_a_list_of_several_golds_is_refused() -> None:
    with pytest.raises(
        KintsugiError, match=r"here: column 'a': expected text or a number, found \['1', '2'\]"
    ):
        gold_answer(["1", "2"], "here", "a")


VERL = {
    "data_source": "gsm8k",
    "prompt": [{"role": "user", "content": "1+1?"}],
    "ability": "math",
    "reward_model": {"style": "rule", "ground_truth": ["2"]},
    "extra_info": {"index": 0},
}


def test_rows_in_verls_format_load_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(
        "\n".join(json.dumps({**VERL, "prompt": [{"role": "user", "content": f"{i}?"}]}) for i in "12")
    )
    task = TableTask(str(path), str(path))
    assert [(p.prompt, p.answer, p.columns["data_source"]) for p in task.evaluation()] == [
        ("1?", "2", "gsm8k"),
        ("2?", "2", "gsm8k"),
    ]


def test_a_dotted_column_that_is_there_by_that_name_comes_first_and_one_that_is_not_is_named() -> None:
    columns = Columns.named("task", "q", "a.b", None)
    assert columns.problem(Line("1", "here", {"q": "?", "a.b": "1", "a": {"b": "2"}})).answer == "1"
    with pytest.raises(KintsugiError, match=r"here: no column 'a\.b'; there are q, a"):
        columns.problem(Line("1", "here", {"q": "?", "a": {"c": "2"}}))


@pytest.mark.parametrize("verifier", ["exact", "math"])
def test_a_gold_solution_with_a_box_is_judged_by_what_the_box_holds(verifier: str) -> None:
    problem = Problem("p", "?", r"We add 3 and 4, so $\boxed{7}$.")
    verdicts = load_verifier(verifier)(problem, ["#### 7", r"\boxed{7}", "#### 3"])
    assert [verdict.passed for verdict in verdicts] == [True, True, False]
