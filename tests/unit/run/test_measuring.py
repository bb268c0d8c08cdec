"""Before and after on the same problems: gains, flips, and what is written down; numbers worked out by hand."""

from __future__ import annotations

import json
from collections import Counter
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from kintsugi import KintsugiError, Recipe
from kintsugi.records import Problem, Verdict
from kintsugi.run.console import Reporter
from kintsugi.run.evaluation import EvalResult, bootstrap, scores
from kintsugi.run.measuring import (
    Measured,
    Seen,
    change,
    flips,
    gain,
    measure,
    read_sample,
    record,
    save_records,
    summary,
)
from kintsugi.run.perplexity import Fit

RIGHT, WRONG = Verdict("pass", 1.0), Verdict("fail")
PROBLEMS = tuple(Problem(f"p{i}", f"question {i}", "7") for i in range(4))


def result(*rows: str, k: int = 2) -> EvalResult:
    """An evaluation from the answers to each problem, k samples and then the greedy one; 7 is right."""
    verdicts = tuple(tuple(RIGHT if answer == "7" else WRONG for answer in row) for row in rows)
    texts = tuple(tuple(f"#### {answer}" for answer in row) for row in rows)
    return EvalResult(
        **{name: bootstrap(values) for name, values in scores(verdicts, texts, k).items()},
        k=k, problems=len(rows), tokens=0, seconds=0.0, verdicts=verdicts, texts=texts,
        states=dict(Counter(v.state for row in verdicts for v in row[:k])),
    )  # fmt: skip


def test_one_sample_a_problem_has_no_figures_of_k() -> None:
    """pass@1 and maj@1 would say once more what pass@1 says."""
    before, after = result("11", "77", k=1), result("77", "71", k=1)
    alone = summary(Measured("r.yaml", PROBLEMS[:2], Seen("new", after, None), None)).splitlines()
    assert [line.split()[0] for line in alone] == ["model", "problems", "pass@1", "greedy", "verdicts"]
    assert alone[1].startswith("problems 2, 1 sample each, ")
    both = summary(Measured("r.yaml", PROBLEMS[:2], Seen("new", after, None), Seen("old", before, None)))
    assert [line.split()[0] for line in both.splitlines()].count("pass@1") == 1
    assert "maj@1" not in both


BEFORE = result("123", "727", "117", "773")
AFTER = result("777", "727", "771", "773")


def test_what_changed_is_the_mean_difference_over_the_same_problems() -> None:
    found = change(BEFORE, AFTER)
    # pass@1 of each problem: 0, 1/2, 0, 1 before; 1, 1/2, 1, 1 after; differences 1, 0, 1, 0.
    assert found["pass_at_1"].value == 0.5
    # pass@2: 0, 1, 0, 1 and 1, 1, 1, 1
    assert found["pass_at_k"].value == 0.5
    # maj@2 is pass@1 where the two samples agree or differ alike: 7 and 2 tie, which is 1/2
    assert found["maj_at_k"].value == 0.5
    # greedy: 0, 1, 1, 0 (the third characters 3, 7, 7, 3) and 1, 1, 0, 0
    assert found["greedy"].value == 0.0


def test_the_interval_of_a_gain_is_that_of_the_differences() -> None:
    # 50 easy problems and 50 hard ones, of which one more is solved afterwards: each share is uncertain by
    # 1.96 * sqrt(0.25/100) = 0.098, but the difference is 1 in a single problem of 100 and 0 in all others: a
    # resample holds it Poisson(1) times, so 95% of the means lie between 0 and 3/100 (P(X <= 3) = 0.981).
    estimate = gain([1.0] + [0.0] * 99)
    assert estimate.value == 0.01
    assert estimate.low == 0.0
    assert estimate.high == pytest.approx(0.03, abs=0.01)


def test_where_all_changed_alike_the_interval_is_wilsons_of_none() -> None:
    # Wilson at 0 of 10 reaches up to 0.2775 (see test_evaluation)
    same, better, all_right = gain([0.0] * 10), gain([0.5] * 10), gain([1.0] * 10)
    assert (same.value, better.value, all_right.value) == (0.0, 0.5, 1.0)
    assert (same.low, same.high) == (pytest.approx(-0.2775, abs=1e-3), pytest.approx(0.2775, abs=1e-3))
    assert (better.low, better.high) == (pytest.approx(0.2225, abs=1e-3), pytest.approx(0.7775, abs=1e-3))
    assert all_right.high == 1.0


def test_flips_are_of_greedy_answers() -> None:
    # greedy answers 3, 7, 7, 3 before and 7, 7, 1, 3 after
    assert flips(BEFORE, AFTER) == ([0], [2])
    assert flips(AFTER, BEFORE) == ([2], [0])


MEASURED = Measured(
    "my.yaml", PROBLEMS, after=Seen("new", AFTER, Fit(10, 2.0)), before=Seen("old", BEFORE, Fit(10, 1.0))
)


def test_the_table_has_both_models_and_the_gain() -> None:
    lines = summary(MEASURED).splitlines()
    assert lines[:3] == ["before   old", "after    new", "problems 4, 2 samples each"]
    row = next(line for line in lines if line.startswith("pass@1"))
    assert row.split()[1] == "0.375" and row.split()[4] == "0.875" and "+0.500 [" in row
    assert "flips    greedy answers: 1 newly right, 1 newly wrong" in lines
    assert "text     before: 1.0000 nats a token, perplexity 2.72, 10 tokens" in lines  # e^1
    assert "text     after: 2.0000 nats a token, perplexity 7.39, 10 tokens" in lines  # e^2


def test_the_record_holds_every_figure_and_answer(tmp_path: Path) -> None:
    path = tmp_path / "new" / "figures.json"
    save_records(None, path)
    save_records([record(MEASURED)], path)
    (found,) = json.loads(path.read_text())
    assert (found["recipe"], found["k"]) == ("my.yaml", 2)
    assert (found["before"]["model"], found["after"]["pass_at_1"]["value"]) == ("old", 0.875)
    assert found["before"]["verdicts"] == {"fail": 5, "pass": 3}
    assert found["after"]["text"] == {"tokens": 10, "nats": 2.0, "perplexity": pytest.approx(7.389, abs=1e-3)}
    assert found["change"]["greedy"]["value"] == 0.0
    assert (found["newly_right"], found["newly_wrong"]) == (["p0"], ["p2"])
    third = found["problems"][2]
    assert (third["id"], third["question"], third["answer"]) == ("p2", "question 2", "7")
    assert third["after"]["greedy"] == {"text": "#### 1", "verdict": "fail"}
    assert [sample["verdict"] for sample in third["before"]["samples"]] == ["fail", "fail"]


def test_without_another_model_there_is_no_change() -> None:
    alone = Measured("my.yaml", PROBLEMS, after=Seen("new", AFTER, None), before=None)
    assert set(record(alone)) == {"recipe", "k", "after", "problems"}
    assert summary(alone).splitlines()[0] == "model    new"
    assert "text" not in summary(alone)


def test_files_that_cannot_be_read_or_written_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(KintsugiError, match=r"^--text .*absent.txt: cannot be read"):
        read_sample(tmp_path / "absent.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(KintsugiError, match=r"^--text .*binary: cannot be read"):
        read_sample(tmp_path / "binary")
    with pytest.raises(KintsugiError, match=r"^--output .*: cannot be written"):
        save_records(None, tmp_path)


def test_trying_whether_a_file_can_be_written_leaves_it_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text('[{"recipe": 1}]')
    save_records(None, path)
    assert path.read_text() == '[{"recipe": 1}]'
    path.write_text("precious")  # no record of an earlier evaluation: it is not overwritten
    with pytest.raises(KintsugiError, match="is no record of kintsugi eval"):
        save_records([], path)
    assert path.read_text() == "precious"


def test_a_model_against_itself_changes_nothing() -> None:
    recipe = Recipe.parse(
        {
            "model": "nano", "task": "dag", "prompts": "terse-v1", "threads": 1, "dtype": "float32",
            "sampling": {"max_new_tokens": 80}, "eval": {"problems": 6, "samples": 2},
        }
    )  # fmt: skip
    said = StringIO()
    found = measure(
        recipe, "dag", before="nano", text="a=1+2,b=a+3", out=Reporter(console=Console(file=said))
    )
    assert found.before is not None
    # Each of the two models is said before and after it is loaded; there is nothing to be noted.
    assert [line.split()[0] for line in said.getvalue().splitlines()] == ["loading", "model"] * 2
    assert found.before.result.texts == found.after.result.texts
    assert found.before.fit == found.after.fit
    assert flips(found.before.result, found.after.result) == ([], [])
    assert all(gained.value == 0.0 for gained in change(found.before.result, found.after.result).values())
    assert [problem.id for problem in found.problems] == [row["id"] for row in record(found)["problems"]]
