"""The baselines: what each samples and the credit it gives, on groups of three worked out by hand.

One token per character and a stop token; `#### 4` passes, `#### 5` fails, a text with CRASH has no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from fakes import LOGPROB, STOP, encode, make_context, make_rollout, run

from kintsugi.algorithms import load_algorithm
from kintsugi.algorithms.base import step_starts
from kintsugi.algorithms.vineppo import spread
from kintsugi.records import Episode, Extra, KintsugiError, Problem, Row, Verdict
from kintsugi.sampling.base import Score

PROBLEM = Problem("p", "Q", "4")
ROOT2 = math.sqrt(2)
GOOD, BAD, WORSE = "#### 4", "#### 5", "so #### 5"


def group(*rewards: float | Verdict) -> Episode:
    """An episode of three rollouts with these rewards: 2, 3 and 4 tokens."""
    texts = ("a", "bb", "ccc")
    return Episode(PROBLEM, tuple(make_rollout(t, r) for t, r in zip(texts, rewards, strict=True)))


def sample(spec: Any, script: Any, size: int = 3, **more: Any) -> tuple[Episode, list[Row], list[str]]:
    """(episode, its rows, the prompts that were asked) of an algorithm on a scripted sampler."""
    settings = {"sampling": {"group_size": size, "max_new_tokens": 20}, "algorithm": spec}
    ctx, sampler = make_context(script, **settings, **more)
    algorithm = load_algorithm(spec)
    episode = run(algorithm.run(PROBLEM, ctx), ctx)
    return episode, algorithm.rows(episode), sampler.prompts()


def constant(row: Row) -> float:
    """The credit that all tokens of a row share."""
    assert set(row.mask) == {1}
    (credit,) = set(row.advantages)
    return credit


def credits(rows: Sequence[Row]) -> list[float]:
    return [constant(row) for row in rows]


@pytest.mark.parametrize(
    ("name", "level", "low", "high", "reduction"),
    [
        ("dr_grpo", "token", 0.2, 0.2, "constant"),
        ("dapo", "token", 0.2, 0.28, "token"),
        ("rloo", "nll", 0.2, 0.2, "constant"),
        ("raft", "token", 0.2, 0.2, "row"),
        ("extra_rollouts", "sequence", 3e-4, 4e-4, "row"),
        ("vineppo", "token", 0.2, 0.2, "token"),
        ("resets", "token", 0.2, 0.2, "row"),
        ("mgrpo", "token", 0.2, 0.2, "row"),
        ("sdpo", "token", 0.2, 0.2, "row"),
    ],
)
def test_objectives(name: str, level: str, low: float, high: float, reduction: str) -> None:
    made = load_algorithm(name)
    assert (made.name, made.level, made.reduction) == (name, level, reduction)
    assert (made.clip_low, made.clip_high) == (low, high)


# ---- one group, other credit


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dr_grpo", [2 / 3, -1 / 3, -1 / 3]),  # r - mean, the mean being 1/3
        ("rloo", [1 - 0, 0 - 1 / 2, 0 - 1 / 2]),  # the others' means: (0 + 0) / 2, (1 + 0) / 2, (1 + 0) / 2
        ("raft", [1 - 1 / 3]),  # the pass alone
    ],
)
def test_one_pass_in_three(name: str, expected: list[float]) -> None:
    rows = load_algorithm(name).rows(group(1.0, 0.0, 0.0))
    assert credits(rows) == pytest.approx(expected)
    assert [len(row.completion_ids) for row in rows] == [2, 3, 4][: len(rows)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # A verifier that broke down leaves rewards 1 and 0: mean 1/2.
        ("dr_grpo", [1 / 2, -1 / 2]),
        ("rloo", [1.0, -1.0]),
        ("raft", [1 / 2]),
    ],
)
def test_rollouts_without_a_verdict_leave_the_group(name: str, expected: list[float]) -> None:
    rows = load_algorithm(name).rows(group(1.0, Verdict("error"), 0.0))
    assert credits(rows) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["dr_grpo", "rloo", "raft"])
def test_a_group_of_equal_rewards_teaches_nothing(name: str) -> None:
    for reward in (0.0, 1.0):
        assert not any(credits(load_algorithm(name).rows(group(reward, reward, reward))))


def test_rloo_of_a_single_verdict_has_no_baseline_and_no_credit() -> None:
    assert credits(load_algorithm("rloo").rows(group(1.0, Verdict("error"), Verdict("error")))) == [0.0]


# ---- dapo


def test_dapo_does_not_train_on_truncated_rollouts_but_counts_them() -> None:
    # The third is cut off after 20 tokens: rewards 1, 0, 0, so sqrt(2) and -1/sqrt(2) as derived for GRPO.
    # Without the third they would be 1 and -1.
    episode, rows, _ = sample("dapo", {"[Q]": [GOOD, BAD, "x" * 30]})
    assert episode.rollouts[2].truncated
    assert credits(rows) == pytest.approx([ROOT2, -1 / ROOT2])


def test_dapo_draws_again_until_rewards_differ() -> None:
    script = {"[Q]": [BAD, BAD, WORSE, GOOD, BAD, GOOD]}
    episode, rows, asked = sample("dapo", script)
    assert asked == ["[Q]", "[Q]"]
    # Accuracy stays that of the first group; the second is trained on: rewards 1, 0, 1, mean 2/3, variance
    # (1/9 + 4/9 + 1/9) / 3 = 2/9, so (1/3) / (sqrt(2)/3) = 1/sqrt(2) and (-2/3) / (sqrt(2)/3) = -sqrt(2).
    assert [r.text for r in episode.rollouts] == [BAD, BAD, WORSE]
    assert credits(rows) == pytest.approx([1 / ROOT2, -ROOT2, 1 / ROOT2])
    assert [row.completion_ids for row in rows] == [(*encode(t), STOP) for t in (GOOD, BAD, GOOD)]
    # 7 + 7 + 10 tokens first, then 3 x 7: all of them count.
    assert episode.tokens == {"rollout": 24 + 21, "repair": 0, "check": 0}


def test_dapo_gives_up_after_its_draws_and_leaves_the_problem_out() -> None:
    episode, rows, asked = sample({"name": "dapo", "draws": 3}, {"[Q]": [BAD] * 9})
    assert (len(asked), len(episode.extras), rows) == (3, 6, [])


def test_dapo_keeps_a_mixed_first_group() -> None:
    episode, rows, asked = sample("dapo", {"[Q]": [BAD, GOOD, BAD]})
    assert (asked, episode.extras) == (["[Q]"], ())
    assert credits(rows) == pytest.approx([-1 / ROOT2, ROOT2, -1 / ROOT2])


# ---- extra rollouts


def test_extra_rollouts_replace_the_repairs_of_each_failure() -> None:
    # One failure, so two more rollouts. Rewards 1, 0, 1 and 0, 1: mean 3/5, variance 3/5 * 2/5 = 6/25.
    episode, rows, asked = sample("extra_rollouts", {"[Q]": [GOOD, BAD, GOOD, BAD, GOOD]})
    assert asked == ["[Q]", "[Q]"]
    assert len(episode.rollouts) == 3
    up, down = 2 / math.sqrt(6), -3 / math.sqrt(6)
    assert credits(rows) == pytest.approx([up, down, up, down, up])
    assert [(row.kind, row.index) for row in rows] == [
        ("rollout", 0), ("rollout", 1), ("rollout", 2), ("extra", 0), ("extra", 1),
    ]  # fmt: skip
    assert episode.tokens["rollout"] == 5 * 7


@pytest.mark.parametrize(
    ("first", "memory", "further"),
    [
        ([BAD, BAD, BAD], {}, 0),  # nothing to repair towards
        ([BAD, BAD, BAD], {"p": GOOD}, 6),  # an earlier pass is in memory
        ([GOOD, GOOD, GOOD], {}, 0),
        ([GOOD, BAD, "x" * 30], {}, 2),  # what was cut off is not repaired
        (["CRASH", GOOD, BAD], {}, 2),
    ],
)
def test_extra_rollouts_are_drawn_where_iop_would_repair(
    first: list[str], memory: dict[str, str], further: int
) -> None:
    episode, *_ = sample("extra_rollouts", {"[Q]": first + [BAD] * further}, memory=memory)
    assert len(episode.extras) == further


# ---- vineppo

STEPS = {
    "[Q]": ["a\nb\n#### 4", "a\nc\n#### 5", "d\n#### 5"],
    "[Q]a\n": ["b\n#### 4", "#### 5"],  # V = 1/2
    "[Q]a\nb\n": [GOOD, GOOD],  # V = 1
    "[Q]a\nc\n": [BAD, BAD],  # V = 0
    "[Q]d\n": [GOOD, BAD],  # V = 1/2
}


def test_vineppo_credits_a_step_with_what_it_changes() -> None:
    episode, rows, asked = sample({"name": "vineppo", "continuations": 2}, STEPS)
    # The first two rollouts begin alike: that beginning is valued once.
    assert sorted(asked) == sorted(STEPS)
    # V(x) is the others' mean: 0, 1/2, 1/2. Then V(next) - V(here) on every token of a step:
    # a: 1/2 - 0, b: 1 - 1/2, answer: 1 - 1 | a: 1/2 - 1/2, c: 0 - 1/2, answer: 0 - 0 | d: 1/2 - 1/2,
    # answer: 0 - 1/2. A step has 2 tokens, an answer 7 with its stop token.
    assert [row.advantages for row in rows] == [
        pytest.approx([0.5] * 2 + [0.5] * 2 + [0.0] * 7),
        pytest.approx([0.0] * 2 + [-0.5] * 2 + [0.0] * 7),
        pytest.approx([0.0] * 2 + [-0.5] * 7),
    ]
    assert {row.prompt_ids for row in rows} == {encode("[Q]")}
    # Continuations: 9 + 7, 7 + 7, 7 + 7, 7 + 7 tokens. They are not trained on.
    assert episode.tokens == {"rollout": 11 + 11 + 9, "repair": 0, "check": 58}
    assert len(rows) == 3


def test_vineppo_values_without_verdicts_do_not_count() -> None:
    # b\n: one of two continuations broke down, the other passes: 1. c\n: both did, so it has no value and
    # the steps c and answer share 0 - 1/2.
    script = STEPS | {"[Q]a\nb\n": ["CRASH", GOOD], "[Q]a\nc\n": ["CRASH", "CRASH"]}
    _, rows, _ = sample({"name": "vineppo", "continuations": 2}, script)
    assert rows[0].advantages == pytest.approx([0.5] * 4 + [0.0] * 7)
    assert rows[1].advantages == pytest.approx([0.0] * 2 + [-0.5] * 9)


def test_vineppo_values_at_most_so_many_steps() -> None:
    assert spread((2, 4, 6), 3) == (2, 4, 6)
    assert spread((1, 2, 3, 4, 5), 2) == (2, 4)
    assert spread((1, 2, 3, 4, 5), 1) == (3,)
    _, _, asked = sample({"name": "vineppo", "continuations": 2, "states": 1}, STEPS)
    assert sorted(asked) == sorted(["[Q]", "[Q]a\nb\n", "[Q]a\nc\n", "[Q]d\n"])


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ("ab", (0,)),
        ("a\nb\nc", (0, 2, 4)),
        ("a\n\nb", (0, 3)),  # an empty line is no step
        ("a\n", (0,)),  # nor is what only ends
        ("", (0,)),
    ],
)
def test_a_step_is_a_line(text: str, starts: tuple[int, ...]) -> None:
    ctx, _ = make_context({})
    assert step_starts((*encode(text), STOP), ctx.codec) == starts


# ---- resets

LOST, FOUND, OTHER = "a\nb\n#### 5", "x\n#### 4", "y\n#### 5"
MEND = f"[Q\nwrong:\n{LOST}\nright:\n{FOUND}\nmend:\n]"
AGAIN = ["c\n#### 4", "b\n#### 5", "b\n#### 5", "b\n#### 5"]


def test_resets_try_again_from_the_step_that_the_models_own_repair_changes() -> None:
    # The repair departs in the second line: back to its start, four tries from there.
    script = {"[Q]": [LOST, FOUND, OTHER], MEND: ["a\nc\n#### 4"], "[Q]a\n": AGAIN}
    episode, rows, asked = sample("resets", script)
    assert asked == ["[Q]", MEND, "[Q]a\n"]
    base, tries = rows[:3], rows[3:]
    assert credits(base) == pytest.approx([-1 / ROOT2, ROOT2, -1 / ROOT2])
    # Rewards 1, 0, 0, 0 of their own group: mean 1/4, variance 3/16: (3/4) / (sqrt(3)/4) and -1/sqrt(3).
    assert credits(tries) == pytest.approx([math.sqrt(3)] + [-1 / math.sqrt(3)] * 3)
    assert {row.prompt_ids for row in tries} == {encode("[Q]a\n")}  # the prefix is given, not trained
    assert tries[0].completion_ids == (*encode(AGAIN[0]), STOP)
    assert tries[0].sampling_logprobs == (LOGPROB,) * 9
    assert {reason for row in base for reason in row.credit} == {"group"}
    assert {reason for row in tries for reason in row.credit} == {"reset"}
    assert episode.tokens == {"rollout": 11 + 9 + 9, "repair": 11, "check": 4 * 9}


def test_random_resets_ask_for_no_repair_and_go_to_any_step() -> None:
    places = set()
    for seed in range(20):
        script = {"[Q]": [LOST, FOUND, OTHER, *AGAIN], "[Q]a\n": AGAIN, "[Q]a\nb\n": [GOOD, BAD, BAD, BAD]}
        episode, _, asked = sample({"name": "resets", "at": "random"}, script, seed=seed)
        assert len(asked) == 2
        (at,) = {e.at for e in episode.extras}
        places.add(at)
    assert places == {0, 2, 4}


def test_a_repair_that_changes_nothing_locates_nothing() -> None:
    script = {"[Q]": [LOST, FOUND, OTHER, *AGAIN], MEND: [LOST], "[Q]a\n": AGAIN, "[Q]a\nb\n": [BAD] * 4}
    episode, rows, asked = sample("resets", script)
    assert asked[1] == MEND
    assert len(episode.extras) == 5
    assert len(rows) == 7


def test_nothing_is_reset_without_a_failure_that_ended() -> None:
    episode, rows, _ = sample("resets", {"[Q]": [GOOD, "x" * 30, "CRASH"]})
    assert episode.extras == ()
    assert credits(rows) == pytest.approx([1.0, -1.0])


# ---- mgrpo


def test_mgrpo_corrects_failures_in_a_second_layer() -> None:
    def correct(text: str) -> str:
        return f"[Q\nwrong:\n{text}\nmend:\n]"

    script = {"[Q]": [BAD, GOOD, WORSE], correct(BAD): [GOOD, BAD], correct(WORSE): [BAD, BAD]}
    episode, rows, asked = sample("mgrpo", script)
    assert asked == ["[Q]", correct(BAD), correct(WORSE)]
    first, second = rows[:3], rows[3:]
    assert credits(first) == pytest.approx([-1 / ROOT2, ROOT2, -1 / ROOT2])
    # Groups of two: rewards 1 and 0 make +1 and -1, rewards 0 and 0 nothing.
    assert credits(second) == pytest.approx([1.0, -1.0, 0.0, 0.0])
    assert {(row.term, row.kind, row.weight, *row.credit) for row in second} == {
        ("repair", "extra", 1.0, "correction")
    }
    assert [row.prompt_ids for row in second] == [encode(correct(t)) for t in (BAD, BAD, WORSE, WORSE)]
    assert episode.tokens == {"rollout": 7 + 7 + 10, "repair": 4 * 7, "check": 0}


def test_mgrpo_needs_two_corrections_to_compare() -> None:
    with pytest.raises(KintsugiError, match=r"candidates: .*greater than or equal to 2, got 1"):
        load_algorithm({"name": "mgrpo", "candidates": 1})


# ---- sdpo


def test_sdpo_credits_a_failure_with_its_teachers_log_ratio() -> None:
    teacher = encode(f"[Q\nwrong:\n{BAD}\nright:\n{GOOD}\nmend:\n]")
    # The student gives every token of the failure log p = -0.5; its teacher finds the wrong digit unlikely
    # (-3) and the rest likelier (-0.1): credit -0.1 + 0.5 = 0.4, and -3 + 0.5 = -2.5 on the digit.
    told = [-0.1] * 5 + [-3.0] + [-0.1]
    given: list[tuple[int, ...]] = []

    def logprobs(scored: Sequence[Score]) -> list[Sequence[float]]:
        given.extend(score.prompt_ids for score in scored)
        return [told if score.prompt_ids == teacher else [-0.5] * 7 for score in scored]

    ctx, sampler = make_context(
        {"[Q]": [BAD, GOOD, "CRASH"]}, sampling={"group_size": 3, "max_new_tokens": 20}
    )
    algorithm = load_algorithm("sdpo")
    episode = run(algorithm.run(PROBLEM, ctx), ctx, logprobs)
    failed, passed = algorithm.rows(episode)
    assert sampler.prompts() == ["[Q]"]
    assert given == [encode("[Q]"), teacher]
    assert failed.credit == {"teacher": pytest.approx([0.4] * 5 + [-2.5] + [0.4])}
    # What is trained is the failure given x alone; the pass has no teacher and no credit.
    assert failed.prompt_ids == encode("[Q]")
    assert failed.completion_ids == (*encode(BAD), STOP)
    assert (passed.index, passed.credit) == (1, {})


def test_sdpo_needs_a_passing_sibling() -> None:
    episode, rows, _ = sample("sdpo", {"[Q]": [BAD, BAD, WORSE]})  # nobody is asked for a score
    assert episode.teachers == {}
    assert credits(rows) == [0.0, 0.0, 0.0]


def test_a_score_that_nobody_can_give_is_an_error() -> None:
    with pytest.raises(KintsugiError, match="asks for log-probabilities of the trainer"):
        sample("sdpo", {"[Q]": [BAD, GOOD, GOOD]})


# ---- prompts that leave no room


@pytest.mark.parametrize("name", ["resets", "mgrpo", "sdpo"])
def test_what_does_not_fit_the_model_is_not_asked(name: str) -> None:
    script = {"[Q]": [BAD, GOOD, BAD, *AGAIN]}  # a reset of a single line starts again
    ctx, sampler = make_context(script, sampling={"group_size": 3, "max_new_tokens": 20})
    episode = run(load_algorithm(name).run(PROBLEM, replace(ctx, max_prompt=10)), ctx)
    assert set(sampler.prompts()) == {"[Q]"}
    assert episode.teachers == {}
    assert {e.phase for e in episode.extras} == ({"check"} if name == "resets" else set())


# ---- extras


def test_every_generated_token_counts_once_and_in_its_phase() -> None:
    rollout = make_rollout("abc")  # 4 tokens with the stop token
    extras = tuple(Extra(phase, 0, 0, rollout) for phase in ("rollout", "check", "check", "repair"))
    episode = Episode(PROBLEM, (rollout, rollout), extras=extras)
    assert episode.tokens == {"rollout": 12, "repair": 4, "check": 8}
