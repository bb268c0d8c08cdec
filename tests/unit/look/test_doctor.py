"""Every check of the doctor finds the fault it is there for, and passes what is well."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from fakes import make_recipe

from kintsugi.look.doctor.check import CheckUp
from kintsugi.look.doctor.probes import probe
from kintsugi.look.doctor.trial import TrialStep, largest_gap, step_checks
from kintsugi.records import Completion, Problem, Rollout, Row, Verdict
from kintsugi.verifiers import load_verifier

PROBLEMS = [Problem(f"p/{i}", f"{i}+{i}?", str(2 * i + 10)) for i in range(20)]


def probed(verifier: Any, problems: Sequence[Problem] = PROBLEMS) -> dict[str, CheckUp]:
    return {check.name: check for check in probe(verifier, problems)}


def says(rule: Any) -> Any:
    """A verifier from a function of (problem, text)."""
    return lambda problem, texts: [rule(problem, text) for text in texts]


def test_a_good_verifier_is_well() -> None:
    found = probed(load_verifier("exact"))
    assert {c.state for c in found.values()} == {"ok"}
    assert "100% of 20 pass" in found["gold answers"].seen
    # Twenty answers, all different: each passes one problem in twenty.
    assert found["constant answers"].seen.endswith("passes 5% of the problems")


def test_gold_answers_that_fail_are_found() -> None:
    found = probed(says(lambda p, t: Verdict.scored(0.0)))["gold answers"]
    assert (found.state, found.seen.split(" pass")[0]) == ("fail", "0% of 20")


def test_a_verifier_that_passes_everything_is_found() -> None:
    found = probed(says(lambda p, t: Verdict.scored(1.0)))
    bad = ("empty answers", "garbage", "other answers", "all answers at once", "constant answers")
    assert {name: found[name].state for name in bad} == dict.fromkeys(bad, "fail")
    assert found["gold answers"].state == "ok"
    assert found["empty answers"].detail == "problem p/0: '': pass"


def test_a_scorer_that_looks_for_the_answer_anywhere_is_found() -> None:
    found = probed(says(lambda p, t: Verdict.scored(float(p.answer in t))))
    assert (found["all answers at once"].state, found["garbage"].state) == ("fail", "ok")


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("answers", [["3", "5"], [str(i) for i in range(20)]])
def test_a_scorer_that_reads_one_number_is_honest(place: int, answers: list[str]) -> None:
    problems = [Problem(f"p/{i}", "?", answer) for i, answer in enumerate(answers)]

    def rule(problem: Problem, text: str) -> Verdict:
        numbers = re.findall(r"\d+", text)
        return Verdict.scored(float(bool(numbers) and numbers[place] == problem.answer))

    assert probed(says(rule), problems)["all answers at once"].state == "ok"


def test_a_constant_that_is_often_right_is_found() -> None:
    # 12 of 20 answers are 1: 60%.
    problems = [replace(p, answer="1" if i < 12 else p.answer) for i, p in enumerate(PROBLEMS)]
    found = probed(load_verifier("exact"), problems)["constant answers"]
    assert (found.state, found.seen) == ("fail", "'1' passes 60% of the problems")


def test_partial_pay_and_errors_are_told() -> None:
    def rule(problem: Problem, text: str) -> Verdict:
        if text == "?":
            return Verdict("error", message="raised")
        right = text == f"#### {problem.answer}"
        return Verdict("pass", 1.0) if right else Verdict("fail", 0.05)

    found = probed(says(rule))
    assert (found["other answers"].state, "0.05" in found["other answers"].seen) == ("warn", True)
    # One of the four pieces of garbage.
    assert (found["verifier errors"].state, found["verifier errors"].seen) == ("warn", "25% of garbage")
    assert found["verifier errors"].detail == "problem p/0: '?': error: raised"


def test_gold_answers_that_raise_say_what_was_raised() -> None:
    found = probed(says(lambda p, t: Verdict("error", message="KeyError in line 2 of own.py: 'level'")))
    assert found["gold answers"].state == "fail"
    for name in ("gold answers", "verifier errors"):
        assert found[name].detail.endswith(": error: KeyError in line 2 of own.py: 'level'")


TRIAL = TrialStep(
    recipe=make_recipe(sampling={"max_new_tokens": 80}, steps=100, save_every=10),
    metrics={
        "truncated": 0, "accuracy": 0.5, "groups/mixed": 6, "groups/all_passed": 1, "groups/all_failed": 1,
        "repair/tried": 10, "repair/success_per_failure": 0.5, "tokens/generated": 1000,
        "seconds/rollout": 1.0, "seconds/train": 0.5, "reach/known": 5, "reach/open": 0.8, "reach/failed": 0.6,
        "reach/fix": 0.3, "reach/entropy": 0.7,
    },
    lengths=(10, 11, 80, 45), verdicts=(("p/1", Verdict("pass", 1.0)), ("p/1", Verdict("fail"))), held_out=20,
    prompt="Q\x1b", dtype="torch.float32", parameters=1_000_000,
    table_bytes=10_000, peak_bytes=10**9, memory_bytes=10**10, free_bytes=10**10, same_seed_same_text=True, gap=1e-6,
    notes=(),
)  # fmt: skip


def trialled(metrics: dict[str, Any] | None = None, **changes: Any) -> dict[str, CheckUp]:
    trial = replace(TRIAL, metrics={**TRIAL.metrics, **(metrics or {})}, **changes)
    return {check.name: check for check in step_checks(trial)}


def test_a_good_step_is_well() -> None:
    found = trialled()
    assert {c.state for c in found.values()} == {"ok"}
    # 100 steps of 1,000 tokens and 1.5 s: 150 s. A rollout takes 1 s / 4, and an evaluation asks 20 x (4 + 1) times:
    # 25 s, before and after training. 150 + 2 x 25 = 200 s.
    assert found["the run"].seen == (
        "1,000 tokens and 1.5 s a step; 100 steps: 100,000 tokens, about 2:30; 2 evaluations, about 0:25 each: "
        "3:20 in all"
    )
    assert "evaluation: 20 problems x (4 samples + 1 greedy) = 100 completions; " in found["the run"].detail
    # 1 + 100 / 10 checkpoints of 12 bytes a parameter; 100 steps of 10 kB.
    assert "11 checkpoints 132 MB, tables 1.0 MB" in found["disk"].seen
    assert "\x1b" not in found["prompt"].detail


def test_mended_failures_promise_more_than_grpo_whatever_their_reach_and_their_groups() -> None:
    for opened, mixed in ((0.8, 4), (0.1, 4), (0.8, 2)):
        counts = {"groups/mixed": mixed, "groups/all_failed": 7 - mixed}
        found = trialled({"reach/open": opened, **counts})["forecast"]
        # 5 of 10 failures are mended: 40% and more.
        assert (found.state, found.seen) == (
            "ok",
            f"failures are mended here: expect more than GRPO: {mixed} of 8 groups mixed, 50% of 10 failures mended, "
            f"{opened:.0%} of 5 seams open (failed token p 0.60, fix p 0.30, entropy 0.70 nats)",
        )


def test_lengths_are_counted_in_bins() -> None:
    lines = trialled()["completion lengths"].detail.splitlines()
    # Bins of 80 / 8 = 10 tokens: 10 in the first, 11 in the second, 45 in the fifth, 80 in the last.
    assert [line.split()[-1] for line in lines] == ["1", "1", "0", "0", "1", "0", "0", "1"]


@pytest.mark.parametrize(
    ("name", "state", "said", "changes"),
    [
        ("completion lengths", "fail", "50% cut off", {"metrics": {"truncated": 2}}),
        ("verdicts at the start", "fail", "error 1, pass 1",
         {"verdicts": (("p/1", Verdict("error", message="KeyError: 'level'")), ("p/2", Verdict("pass", 1.0)))}),
        ("groups at the start", "fail", "0 mixed, 0 all pass, 8 all fail",
         {"metrics": {"groups/mixed": 0, "groups/all_passed": 0, "groups/all_failed": 8}}),
        ("groups at the start", "warn", "1 mixed", {"metrics": {"groups/mixed": 1, "groups/all_passed": 7}}),
        ("repairs at the start", "warn", "0% of 10", {"metrics": {"repair/success_per_failure": 0.0}}),
        ("forecast", "warn", "few failures are mended: expect no gain from repairs: 6 of 8 groups mixed, 39% of 10",
         {"metrics": {"repair/success_per_failure": 0.39}}),
        ("forecast", "warn", "too few failures tried to say", {"metrics": {"repair/tried": 4}}),
        ("sampler and learner", "fail", "0.3 nats", {"gap": 0.3}),
        ("seeds", "fail", "two texts", {"same_seed_same_text": False}),
        ("memory", "fail", "99", {"peak_bytes": 99 * 10**8}),
        ("disk", "fail", "133 MB of 100 MB", {"free_bytes": 10**8}),
        ("disk", "warn", "133 MB of 200 MB", {"free_bytes": 2 * 10**8}),
    ],
)  # fmt: skip
def test_a_fault_is_found(name: str, state: str, said: str, changes: dict[str, Any]) -> None:
    found = trialled(**changes)[name]
    assert found.state == state and found.fix
    assert said in found.seen.replace("9.9", "99")


@pytest.mark.parametrize(
    ("top_p", "gap"),
    [
        # |-0.5 - -0.5|, |-1.0 - -1.2|, |-2.0 - -1.9|: the second is the largest.
        (1.0, 0.2),
        # The sampler may say log 2 = 0.69 more than the learner: 0.2 - 0.69 is less than nothing, and 0.1 stays.
        (0.5, 0.1),
    ],
)
def test_sampler_and_learner_are_compared_on_every_rollout(top_p: float, gap: float) -> None:
    told = {(7,): (-0.5,), (8, 9): (-1.0, -2.0)}
    scores = {(7,): (-0.5,), (8, 9): (-1.2, -1.9)}

    class Learner:
        def logprobs(self, rows: Sequence[Row]) -> list[tuple[float, ...]]:
            return [scores[row.completion_ids] for row in rows]

    rollouts = [
        Rollout((1,), Completion(ids, logprobs, "stop", 0), "", Verdict("fail"))
        for ids, logprobs in told.items()
    ]
    assert largest_gap(rollouts, Learner(), top_p) == pytest.approx(gap)  # type: ignore[arg-type]


def test_a_step_of_nothing_but_errors_is_told() -> None:
    lost = dict.fromkeys(("groups/mixed", "groups/all_passed", "groups/all_failed"), 0)
    found = trialled({**lost, "accuracy": None, "repair/tried": 0})["groups at the start"]
    assert (found.state, found.seen) == ("fail", "0 mixed, 0 all pass, 0 all fail")


def test_an_algorithm_without_repairs_is_not_asked_for_them() -> None:
    assert "repairs at the start" not in trialled({"repair/tried": 0})


GYM = {
    # What each is known for, and the check that finds it.
    "game_of_life_halting": ("garbage", "fail"),
    "graph_color": ("gold answers", "fail"),
    "propositional_logic": ("gold answers", "fail"),
    "rubiks_cube": ("gold answers", "fail"),
    "rush_hour": ("gold answers", "fail"),
    "prime_factorization": ("verifier errors", "warn"),
    "countdown": ("garbage", "warn"),
    "fraction_simplification": ("garbage", "warn"),
    "sentence_reordering": ("garbage", "warn"),
}


SLOW = {"game_of_life_halting", "countdown", "rubiks_cube"}
"""Half a minute each: their scorers, or the making of their problems, take that long."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in GYM])
def test_scorers_of_reasoning_gym_that_can_be_fooled_are_found(name: str) -> None:
    pytest.importorskip("reasoning_gym")
    from kintsugi.tasks import load_task, training_problems

    task = load_task({"name": "reasoning_gym", "dataset": name})
    check, state = GYM[name]
    assert probed(load_verifier(task.verifier), training_problems(task)[:8])[check].state == state


def test_counting_letters_in_one_word_has_a_constant_answer() -> None:
    pytest.importorskip("reasoning_gym")
    from kintsugi.tasks import load_task, training_problems

    task = load_task({"name": "reasoning_gym", "dataset": "letter_counting", "min_words": 1, "max_words": 1})
    found = probed(load_verifier(task.verifier), training_problems(task))["constant answers"]
    assert found.state == "fail" and found.seen.startswith("'1' passes 8")
