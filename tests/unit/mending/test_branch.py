"""Branches: a group without a pass looks for one where its failures were in doubt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from fakes import LOGPROB, STOP, encode, make_context, run

from kintsugi.algorithms import load_algorithm
from kintsugi.algorithms.base import believed
from kintsugi.mending.branch import in_doubt
from kintsugi.records import Episode, Problem, Rival
from kintsugi.run.metrics import repair_metrics
from kintsugi.run.reading import why
from kintsugi.run.tables import episode_of, rollout_lines, seam_lines
from kintsugi.sampling.base import Rivals

PROBLEM = Problem("p1", "Q", "4")
WRONG, OTHER_WRONG = "1+1=3 3+2=5 #### 5", "two, then five #### 5"
CERTAIN = Rival(ord("z"), math.log(1e-4))
DOUBTED: Mapping[str, tuple[int, Rival]] = {
    WRONG: (4, Rival(ord("2"), math.log(0.1))),
    OTHER_WRONG: (10, Rival(ord("t"), math.log(0.2))),
}
"""The place and the rival in doubt, of each text: "1+1=" goes on with 2, "two, then " with t."""


def told(asked: Sequence[Rivals]) -> list[tuple[Rival, ...]]:
    """The rivals of the two texts: certain of all tokens but one."""
    found = []
    for rivals in asked:
        text = "".join(map(chr, rivals.completion_ids[:-1]))
        at, rival = DOUBTED[text]
        found.append(tuple(rival if t == at else CERTAIN for t in range(len(rivals.completion_ids))))
    return found


def branched(
    script: Mapping[str, Sequence[str]], answers: Any = None, **options: Any
) -> tuple[Episode, list[str]]:
    """The episode of a group of as many rollouts as the script has, and what the sampler was asked."""
    ctx, sampler = make_context(script, sampling={"group_size": len(script["[Q]"]), "max_new_tokens": 40})
    algorithm = load_algorithm({"name": "kintsugi", "branches": 4} | options)
    answers = {Rivals: told} if answers is None else answers
    return run(algorithm.run(PROBLEM, ctx), ctx, answers), sampler.prompts()


SCRIPT = {
    "[Q]": [WRONG, OTHER_WRONG, WRONG],
    "[Q]1+1=2": [" 2+2=4 #### 4"],
    "[Q]two, then t": ["wo #### 2"],
}


def test_the_first_token_in_doubt() -> None:
    """In a group of four: from 0.01 on, and below 1/4, which a group of four has likely drawn."""
    rivals = [Rival(7, math.log(p)) for p in (0.25, 0.009, 0.3, 0.2, 0.02)]
    assert in_doubt(rivals, 4) == 3
    assert in_doubt(rivals, 8) == 4  # 0.2 is above 1/8
    assert in_doubt(rivals, 100) is None  # 0.02 is above 1/100
    assert in_doubt([Rival(7, math.log(0.0101))], 4) == 0
    assert in_doubt([], 4) is None


def test_a_group_without_a_pass_is_branched() -> None:
    episode, asked = branched(SCRIPT)
    # The third rollout has the text of the first, and is not branched again.
    assert asked == ["[Q]", "[Q]1+1=2", "[Q]two, then t"]
    assert [(r.failed, r.branched, r.rollout.text, r.rollout.verdict.state) for r in episode.repairs] == [
        (0, 4, "1+1=2 2+2=4 #### 4", "pass"),
        (1, 10, "two, then two #### 2", "fail"),
    ]
    first = episode.repairs[0]
    assert not first.written
    assert (first.rollout.prompt_ids, first.anchor_text) == (encode("[Q]"), None)
    assert first.ids == (*encode("1+1=2 2+2=4 #### 4"), STOP)
    # What came before keeps its log-probabilities, and so does what was drawn after the rival's own.
    assert first.rollout.completion.logprobs == (*[LOGPROB] * 4, math.log(0.1), *[LOGPROB] * 14)
    (seam,) = episode.seams
    assert (seam.failed, seam.repair, seam.edits[0].failed_at, seam.edits[0].repaired_at) == (0, 0, 4, 4)
    assert episode.skipped == ""
    # Tokens with stop tokens: rollouts 19 + 22 + 19; " 2+2=4 #### 4" is 13 + 1, and "wo #### 2" 9 + 1.
    assert episode.tokens == {"rollout": 60, "repair": 24, "check": 0}


def test_the_credit_of_a_branch() -> None:
    """The failure is blamed at token 4 and praised for the first 70% of four tokens, 2; the fix is praised. A branch
    was not written in repair mode, so that it trains no repairing."""
    episode, _ = branched(SCRIPT)
    rows = load_algorithm({"name": "kintsugi", "branches": 4}).rows(episode)
    assert [(r.kind, r.index, r.term) for r in rows] == [
        ("rollout", 0, "policy"), ("repair", 0, "policy"), ("rollout", 1, "policy"), ("rollout", 2, "policy"),
    ]  # fmt: skip
    failed, fixed, *others = rows
    assert failed.advantages == (1.0, 1.0, 0.0, 0.0, -10.0, *[0.0] * 14)
    assert fixed.advantages == (*[0.0] * 4, 10.0, *[0.0] * 14)
    assert fixed.prompt_ids == encode("[Q]")
    assert fixed.sampling_logprobs == episode.repairs[0].rollout.completion.logprobs
    assert not any(any(r.advantages) for r in others)


def test_branches_count_apart_from_repairs() -> None:
    episode, _ = branched(SCRIPT)
    metrics = repair_metrics([episode])
    assert (metrics["branch/tried"], metrics["branch/passed"]) == (2, 1)
    assert (metrics["repair/tried"], metrics["repair/samples"]) == (0, 0)
    assert metrics["repair/success_per_failure"] is None
    assert metrics["repair/skipped_all_failed"] == 0
    assert metrics["length/repair"] is None


def test_no_more_failures_are_branched_than_asked_for() -> None:
    _, asked = branched(SCRIPT, branches=1)
    assert asked == ["[Q]", "[Q]1+1=2"]


def test_a_group_with_a_pass_is_not_branched() -> None:
    episode, asked = branched({"[Q]": ["1+1=2, 2+2=4 #### 4", WRONG]}, source="sibling")
    assert asked == ["[Q]"]
    assert all(r.branched is None for r in episode.repairs)


@pytest.mark.parametrize(
    ("answers", "options"),
    [
        ({}, {}),  # nobody tells the rivals
        (None, {"branches": 0}),
        ({Rivals: lambda asked: [(CERTAIN,) * len(a.completion_ids) for a in asked]}, {}),
        ({Rivals: lambda asked: [(Rival(STOP, math.log(0.1)),) * 3 for _ in asked]}, {}),  # an early end
    ],
)
def test_nothing_to_branch(answers: Any, options: Any) -> None:
    episode, asked = branched({"[Q]": [WRONG, OTHER_WRONG]}, answers, **options)
    assert asked == ["[Q]"]
    assert (episode.repairs, episode.seams, episode.skipped) == ((), (), "all failed")


def test_a_branch_that_pastes_the_answer_is_rejected() -> None:
    """WRONG with its answer alone changed, 5 to 4 at token 17: the audit's rule answer_only."""

    def at_the_answer(asked: Sequence[Rivals]) -> list[tuple[Rival, ...]]:
        fix = Rival(ord("4"), math.log(0.1))
        return [tuple(fix if t == 17 else CERTAIN for t in range(len(a.completion_ids))) for a in asked]

    episode, _ = branched({"[Q]": [WRONG, WRONG], "[Q]1+1=3 3+2=5 #### 4": [""]}, {Rivals: at_the_answer})
    assert [(r.rollout.verdict.state, r.audit) for r in episode.repairs] == [("pass", "answer_only")]
    assert (episode.seams, episode.skipped) == ((), "all failed")


def test_a_branch_is_a_lone_pass() -> None:
    """With two witnesses a group whose only pass is a branch has no credit."""
    episode, _ = branched(SCRIPT)
    algorithm = load_algorithm({"name": "kintsugi", "branches": 4})
    assert any(any(r.advantages) for r in believed(algorithm, 1).rows(episode))
    assert not any(any(r.advantages) for r in believed(algorithm, 2).rows(episode))


def test_tables_keep_branches() -> None:
    episode, _ = branched(SCRIPT)
    kept = episode_of(list(rollout_lines(1, episode)), list(seam_lines(1, episode)))
    assert (kept.repairs, kept.seams) == (episode.repairs, episode.seams)
    assert why(kept.repairs[0], selected=True).endswith("(a branch at token 4)")
