"""Exact labels as tokens, and gates judged by them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from benchmarks.exact_labels import LabelledEpisode, exact_row, mixed_rows

from kintsugi.records import Completion, Episode, Finish, Problem, Rollout, Verdict
from kintsugi.tasks.dag import DagTask
from kintsugi.tasks.labels import GateScore, score_gates, wrong_tokens

TASK = DagTask()
PROBLEM = "a=4+7,b=a-3"  # 4+7 = 1, 1-3 = 8
END = 0


def decode(ids: Sequence[int]) -> str:
    """Words of up to three characters; END is an end token, which is no text."""
    return "".join(WORDS[i] for i in ids)


WORDS = ["", "a=4", "+7", "=1\n", "=2\n", "b=", "1-3", "=8\n", "###", "# ", "8", "2-3", "=9\n", "9"]
RIGHT = [1, 2, 3, 5, 6, 7, 8, 9, 10, END]


@pytest.mark.parametrize(
    ("ids", "ended", "wrong"),
    [
        (RIGHT, True, ()),
        ([1, 2, 4, 5, 11, 12, 8, 9, 13, END], True, (2,)),  # 4+7 = 2, from which 2-3 = 9 follows
        ([1, 2, 4, 5, 6, 7, 8, 9, 10, END], True, (2, 4)),  # 4+7 = 2, and b starts from 1 nevertheless
        # b = 1-3 = 9, and then 8 as the answer
        ([1, 2, 3, 5, 6, 12, 8, 9, 10, END], True, (5, 8)),
        ([1, 2, 3, 5, END], True, (4,)),  # ends in the middle of a line: the end token is wrong
        ([1, 2, 3, 5], False, ()),  # cut off there: right as far as it goes
        ([1, 2, 3, 1, 2, 3, END], True, (3,)),  # a again: its first character stands in the fourth token
        ([END], True, (0,)),
        ([], False, ()),
    ],
)
def test_wrong_tokens(ids: list[int], ended: bool, wrong: tuple[int, ...]) -> None:
    assert wrong_tokens(TASK, PROBLEM, ids, decode, ended=ended) == wrong


def test_two_wrong_characters_in_one_token_are_one_wrong_token() -> None:
    whole = ["a=4+7=2\nb=1-3=8\n#### 8", ""]
    assert TASK.wrong_characters(PROBLEM, whole[0]) == (6, 10)
    assert wrong_tokens(TASK, PROBLEM, [0, 1], lambda ids: "".join(whole[i] for i in ids), ended=True) == (0,)


def test_gates_are_scored_by_hand() -> None:
    gates = [
        ((0, 1, 0, 0), (1,)),  # hit
        ((0, 1, 1, 0), (2, 3)),  # one of two found, the first; one active for nothing
        ((1, 0, 0, 0), (1,)),  # missed
        ((0, 0), ()),  # no failure by the labels
    ]
    # Active 1 + 2 + 1 = 4, of which wrong 2; wrong 1 + 2 + 1 = 4, of which active 2; first found in 2 of 3.
    assert score_gates(gates) == GateScore(precision=0.5, recall=0.5, first=2 / 3, failures=3)
    assert score_gates([]) == GateScore(1.0, 1.0, 1.0, 0)


@pytest.mark.parametrize(
    ("ids", "finish", "credit"),
    [
        (RIGHT, "stop", [1] * 10),
        # The third token is wrong; what follows it, right or wrong, is left alone.
        ([1, 2, 4, 5, 6, 7, 8, 9, 10, END], "stop", [1, 1, -1, 0, 0, 0, 0, 0, 0, 0]),
        ([1, 2, 3, 5], "length", [1, 1, 1, 1]),
        ([1, 2, 3, END], "stop", [1, 1, 1, -1]),
    ],
)
def test_exact_labels_credit_every_token_up_to_the_first_wrong_one(
    ids: list[int], finish: Finish, credit: list[int]
) -> None:
    completion = Completion(tuple(ids), (-0.5,) * len(ids), finish, 0)
    rollout = Rollout((7,), completion, decode(ids), Verdict.scored(0.0))
    row = exact_row(TASK, decode, Episode(Problem("p", PROBLEM, "8"), (rollout,)), 0)
    assert list(row.advantages) == credit
    assert list(row.mask) == [abs(c) for c in credit]
    assert (row.prompt_ids, row.sampling_logprobs, row.term) == ((7,), completion.logprobs, "policy")


def test_exact_labels_may_be_kept_to_mixed_groups() -> None:
    completion = Completion((1, 2, 3), (-0.5,) * 3, "stop", 0)
    failed, passed = (Rollout((7,), completion, "", Verdict.scored(reward)) for reward in (0.0, 1.0))
    problem = Problem("p", PROBLEM, "8")
    row = exact_row(TASK, decode, Episode(problem, (failed,)), 0)
    mixed = LabelledEpisode(problem, (failed, passed), labelled=(row, row))
    assert mixed_rows(mixed) == [row, row]
    lost = LabelledEpisode(problem, (failed, failed), labelled=(row, row))
    assert [r.advantages for r in mixed_rows(lost)] == [(0.0,) * 3] * 2
