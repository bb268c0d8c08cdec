"""Training from Python: plain objects in place of names, a callback, and what a recipe's file knows of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, tiny

from kintsugi import KintsugiError, Problem, Recipe, Verdict, evaluate, report, sft, show, train
from kintsugi.algorithms.base import Algorithm, outcome_rows, run_rollouts
from kintsugi.look.doctor import examine
from kintsugi.loop import Step
from kintsugi.run.reading import Run
from kintsugi.tasks.dag import DagTask
from kintsugi.verifiers import load_verifier
from kintsugi.yamls import read_yaml


class Sums:
    """A task without a verifier of its own: the first sums of the built-in one."""

    def train(self) -> list[Problem]:
        return list(DagTask().train()[:12])

    def evaluation(self) -> list[Problem]:
        return list(DagTask().evaluation()[:8])


def ends_right(completions: list[str], answer: list[str]) -> list[float]:
    return [float(c.rstrip().endswith(f"#### {a}")) for c, a in zip(completions, answer, strict=True)]


def refused(problem: Problem, texts: list[str]) -> list[Verdict]:
    return [Verdict("fail", message="never") for _ in texts]


def told(directory: Path, **changes: Any) -> dict[str, Any]:
    """The tiny recipe as a mapping that names no task."""
    return {k: v for k, v in TINY.items() if k != "task"} | {"output_dir": str(directory), **changes}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[Step]]:
    """A run of four steps on plain objects that its callback ended after two."""
    steps: list[Step] = []

    def on_step(step: Step) -> bool:
        steps.append(step)
        return len(steps) == 2

    recipe = told(tmp_path_factory.mktemp("plain") / "run", steps=4)
    return train(recipe, task=Sums(), verifier=ends_right, on_step=on_step), steps


def test_a_run_ends_with_its_report_and_says_where_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train(told(tmp_path / "run", steps=1), task=Sums(), verifier=ends_right)
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {result.directory / 'report.html'}"
    assert "<title>" in (result.directory / "report.html").read_text()


def test_a_callback_sees_each_step_and_ends_the_run(stopped: tuple[Any, list[Step]]) -> None:
    result, steps = stopped
    assert (result.steps, result.interrupted) == (2, 0)
    assert result.before is not None and result.after is not None  # its end is an end: it is evaluated
    assert (result.directory / "checkpoints/step-000002").is_dir()
    assert [step.metrics["accuracy"] for step in steps] == [
        line["accuracy"] for line in Run.open(result).steps
    ]
    # Four problems of four rollouts each, judged by the function: their last line decides.
    rollouts = [r for e in steps[0].episodes for r in e.rollouts]
    assert len(rollouts) == 16 and steps[0].rows
    for episode in steps[0].episodes:
        for r in episode.rollouts:
            assert r.verdict.passed == r.text.rstrip().endswith(f"#### {episode.problem.answer}")


def test_what_was_given_has_a_name_in_the_recipe_and_must_be_given_again(
    stopped: tuple[Any, list[Step]],
) -> None:
    result, _ = stopped
    path = result.directory / "recipe.yaml"
    written = read_yaml(path)
    assert (written["task"], written["verifier"]) == ("python:Sums", "python:ends_right")
    with pytest.raises(KintsugiError, match=r"task 'python:Sums': .* give it again \(task=\.\.\.\)"):
        train(path, resume=True)
    with pytest.raises(KintsugiError, match=r"verifier \('python:ends_right' -> 'python:refused'\)"):
        train(path, task=Sums(), verifier=refused, resume=True)
    again = train(
        Recipe.load(path, ["steps=3"]),
        task=Sums(),
        verifier=ends_right,
        resume=True,
    )
    assert again.steps == 3


def test_a_verifier_may_take_problem_and_texts(tmp_path: Path) -> None:
    found = evaluate(told(tmp_path), task=Sums(), verifier=refused)
    assert found.pass_at_1.value == 0 and found.states == {"fail": 16}  # 8 problems, 2 samples
    assert {v.message for row in found.verdicts for v in row} == {"never"}


def test_several_functions_are_weighed(tmp_path: Path) -> None:
    """The first decides what passes; the second only adds to the reward."""

    def short(completions: list[str], **columns: Any) -> list[float]:
        return [float(len(c) < 10) for c in completions]

    recipe = Recipe.of(told(tmp_path), task=Sums(), verifier=[ends_right, {"name": short, "weight": 0.5}])
    assert recipe.model_dump()["verifier"] == [
        "python:ends_right",
        {"name": "python:short", "weight": 0.5},
    ]
    problem = Problem("a", "b", "3")
    verdicts = load_verifier(recipe.verifier)(problem, ["long enough\n#### 3", "#### 3", "#### 4"])
    assert [v.passed for v in verdicts] == [True, True, False]
    assert [v.total for v in verdicts] == [1.0, 1.5, 0.5]  # right + half of short


def test_an_evaluation_may_name_another_model(stopped: tuple[Any, list[Step]]) -> None:
    result, _ = stopped
    again = evaluate(
        told(result.directory),
        task=Sums(),
        verifier=ends_right,
        model=result.directory / "checkpoints/step-000002",
    )
    assert again.pass_at_1.value == result.after


def test_an_algorithm_may_be_an_object(tmp_path: Path) -> None:
    mine = Algorithm("mine", run_rollouts, outcome_rows, level="token")
    result = train(tiny(tmp_path / "run", steps=1), algorithm=mine)
    assert read_yaml(result.directory / "recipe.yaml")["algorithm"] == "python:mine"
    assert {reason for line in Run.open(result).table("rows", 1) for reason, _ in line["credit"]} == {"group"}


def test_a_cold_start_takes_objects_and_a_callback(tmp_path: Path) -> None:
    recipe = told(tmp_path / "run", steps=3, sft={"batch": 4, "repair_share": 0.0})
    result = sft(recipe, task=Sums(), verifier=ends_right, on_step=lambda step: "loss" in step.metrics)
    assert result.steps == 1


def test_a_callback_that_raises_keeps_the_steps_that_were_made(tmp_path: Path) -> None:
    def on_step(step: Step) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(tiny(tmp_path / "run"), on_step=on_step)
    assert (tmp_path / "run/checkpoints/step-000001").is_dir()


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ({"task": object(), "verifier": ends_right}, r"task python:object: .* lacks train, evaluation$"),
        ({"task": Sums()}, r"task python:Sums: .* lacks verifier \(a string\)"),
        ({"task": Sums(), "verifier": lambda x: x}, r"verifier 'python:<lambda>': expected a parameter"),
        ({"task": Sums(), "verifier": 5}, "verifier: expected a name or a mapping with `name`, got 5"),
        (
            {"task": Sums(), "verifier": ends_right, "algorithm": len},
            r"algorithm 'python:len': expected an Algor",
        ),
    ],
)
def test_an_object_of_another_kind_is_refused(tmp_path: Path, objects: dict[str, Any], message: str) -> None:
    with pytest.raises(KintsugiError, match=message):
        train(told(tmp_path / "run"), **objects)


def test_the_doctor_takes_a_recipe_with_objects(tmp_path: Path) -> None:
    recipe = Recipe.of(told(tmp_path / "run"), task=Sums(), verifier=refused)
    assert {c.name: c.state for c in examine(recipe)}["gold answers"] == "fail"


def test_report_and_seams_show_themselves(
    stopped: tuple[Any, list[Step]], capsys: pytest.CaptureFixture[str]
) -> None:
    result, _ = stopped
    page = report(result)
    frame = page._repr_html_()
    assert page.path == result.directory / "report.html"
    assert frame.startswith('<iframe sandbox="allow-scripts"') and frame.count("<") == 2
    show(result, step=1, limit=1)
    said = capsys.readouterr().out
    assert "step 1 of" in said and "failed (fail)" in said and "mended (pass)" in said


def test_a_notebook_shows_an_error_as_one_line() -> None:
    assert KintsugiError("no such file")._render_traceback_() == ["kintsugi: no such file"]
