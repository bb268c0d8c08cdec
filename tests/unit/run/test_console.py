"""The lines of a run: what stays, what is live, what comes every thirty seconds. The clock is a list."""

from __future__ import annotations

import re
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from kintsugi.assembly import default_problems
from kintsugi.config import EVALUATED, FEW, LARGE, Recipe, derived, evaluations_between
from kintsugi.run import console
from kintsugi.run.checkpoint import Progress
from kintsugi.run.console import Reporter, span
from kintsugi.run.session import expected_evaluations


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(console, "time", made)
    return made


def reporter(steps: int = 0, **settings: Any) -> tuple[Reporter, StringIO]:
    said = StringIO()
    return Reporter(steps, console=Console(file=said, width=100, highlight=False, **settings)), said


def metrics(step: int, seconds: float) -> dict[str, Any]:
    return {"step": step, "loss": 0.5, "lr": 1e-4, "seconds/rollout": seconds}


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0:00"), (7, "0:07"), (69.6, "1:10"), (750, "12:30"), (3599.6, "1:00:00"), (3900, "1:05:00")],
)
def test_seconds_are_said_as_a_clock_has_them(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_an_evaluation_in_a_file_has_a_line_every_thirty_seconds(clock: Clock) -> None:
    out, said = reporter()
    with out, out.working("evaluating", 200, "problems") as reach:
        reach(0, 64)
        for now, share in ((120.0, 0.25), (130.0, 0.5), (150.0, 0.75)):
            clock.now = now
            out.pulse(lambda share=share: share)
        reach(64, 128)
        clock.now = 164.0
        out.pulse(lambda: 0.0)
    clock.now = 300.0
    out.pulse(lambda: 0.5)  # nothing is being done: nothing is said
    # After 30 s half of the first 64 are done: 32, and the other 168 take 30 / 32 x 168 = 157.5 s. At 150 s only 20
    # have passed since. After 64 s all 64 are: a second each, 136 more.
    assert said.getvalue().splitlines() == [
        "evaluating: 32 of 200 problems, 2:38 left",
        "evaluating: 64 of 200 problems, 2:16 left",
    ]


def test_a_long_step_in_a_file_says_that_it_goes_on(clock: Clock) -> None:
    out, said = reporter(3)
    with out, out.working("step 2"):
        clock.now += 31
        out.pulse(lambda: 0.4)
    assert said.getvalue() == "step 2: sampling 40%, 0:31 so far\n"


def test_time_left_counts_steps_without_the_first_and_evaluations() -> None:
    out, said = reporter(10)
    out.evaluated(30.0)
    out.evaluations = 2
    with out:
        for step, seconds in enumerate((9.0, 2.0, 4.0), 1):
            out.step(metrics(step, seconds))
    # (2 + 4) / 2 s for each of the 7 steps to come, and two evaluations of 30 s: 81 s.
    assert said.getvalue().splitlines()[-1].endswith("  1:21 left")


def test_a_terminal_keeps_every_step_above_its_live_line() -> None:
    out, said = reporter(3, force_terminal=True)
    with out:
        with out.working("evaluating", 200, "problems") as reach:
            reach(64, 128)
            out.told = 0.0
            out.pulse(lambda: 0.5)
            assert out.live is not None
            out.live.refresh()
        for step in (1, 2, 3):
            out.step(metrics(step, 1.0))
            out.live.refresh()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.getvalue())
    kept = [line for line in text.replace("\r", "\n").splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in kept] == ["1", "2", "3"]
    assert "evaluating: 96 of 200 problems" in text and "2 of 3 steps, 0:01 left" in text


@pytest.mark.parametrize(
    ("settings", "first", "last", "tokens", "count"),
    [
        ({}, 0, 40, 0, 0),
        ({"every": 10}, 0, 40, 0, 3),  # after 10, 20, 30; the end evaluates anyway
        ({"every": 10}, 10, 40, 0, 2),
        ({"every": 10}, 0, 41, 0, 4),
        ({"every_tokens": 1000}, 0, 10, 500, 4),  # 5,000 tokens: past 1,000 to 4,000
        ({"every_tokens": 1000}, 4, 10, 500, 2),
        ({"every_tokens": 10}, 0, 10, 500, 9),  # more than one a step there cannot be
    ],
)
def test_evaluations_are_counted(
    settings: dict[str, int], first: int, last: int, tokens: float, count: int
) -> None:
    recipe = Recipe.parse({"model": "nano", "task": "dag", "eval": settings})
    assert evaluations_between(recipe, first, last, tokens) == count


def test_evaluations_to_come_hold_the_last() -> None:
    recipe = Recipe.parse({"model": "nano", "task": "dag", "steps": 40, "eval": {"every": 10}})
    assert expected_evaluations(recipe, Progress(step=10)) == 3  # after 20, 30 and 40


def test_an_estimate_counts_evaluations() -> None:
    # 20 problems x (2 + 1) answers = 60, of 50 tokens at most; before, after, and after 10, 20 and 30 of 40 steps.
    settings = {
        "steps": 40,
        "sampling": {"max_new_tokens": 50},
        "eval": {"every": 10, "problems": 20, "samples": 2},
    }
    said = derived(Recipe.parse({"model": "nano", "task": "dag", **settings}))
    assert (
        "evaluation: 20 problems x (2 samples + 1 greedy) = 60 completions; 5 evaluations: at most 15,000 tokens"
        in said
    )


@pytest.mark.parametrize(
    ("device", "parameters", "count"),
    [("cpu", LARGE, EVALUATED), ("cpu", LARGE + 1, FEW), ("cuda", 10 * LARGE, EVALUATED)],
)
def test_the_default_evaluation_of_a_large_model_on_a_cpu_is_small(
    device: str, parameters: int, count: int
) -> None:
    model = SimpleNamespace(device=SimpleNamespace(type=device), num_parameters=lambda: parameters)
    assert default_problems(SimpleNamespace(model=model)) == count  # type: ignore[arg-type]


def test_a_step_in_which_nothing_was_generated_has_no_speed() -> None:
    step = {
        "step": 1, "accuracy": 0.5, "repair/tried": 0, "verdict/error": 0, "repair/verdict_error": 0,
        "tokens/generated": 55, "seconds/rollout": 0.0,
    }  # fmt: skip
    assert console.step_line(step).endswith("accuracy  50%")
    # 55 tokens in half a second.
    assert console.step_line(step | {"seconds/rollout": 0.5}).endswith("110 tok/s")
