"""K*: how many edits suffice, found by continuing or by grafting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from fakes import STOP, FakeSampler, FakeVerifier, encode, make_context, make_rollout, run

from kintsugi.mending.align import align
from kintsugi.mending.options import Mending, Trial
from kintsugi.mending.truncate import truncate
from kintsugi.records import Check, Edit, Problem

PROBLEM = Problem("p", "Q", "ok")
# Four substitutions, at 1, 3, 5 and 7; with k edits kept the text up to the last of them is "aX", "aXbY", ...
FAILED, REPAIRED = "a1b2c3d4", "aXbYcZdW"

Found = tuple[int, str, tuple[Check, ...]]


def settle(
    script: Mapping[str, Sequence[str]],
    k: int,
    *,
    failed: str = FAILED,
    repaired: str = REPAIRED,
    edits: Sequence[Edit] | None = None,
    check: Trial = "continue",
    max_new_tokens: int = 99,
    index: int = 0,
    **settings: Any,
) -> tuple[Found, FakeSampler]:
    """What `truncate` finds for the two texts (each with its stop token), and the sampler it asked."""
    ctx, sampler = make_context(
        script,
        sampling={"max_new_tokens": max_new_tokens, "temperature": 0.7, "top_p": 0.9},
        **settings,
    )
    rollout = make_rollout(failed)
    ids = (*encode(repaired), STOP)
    if edits is None:
        edits = align(rollout.completion.token_ids, ids)
    how = Mending(k=k, check=check)
    return run(truncate(PROBLEM, rollout, ids, edits, ctx, how, index), ctx), sampler


# ---- continue


def test_k_edits_suffice() -> None:
    (kept, kept_by, checks), sampler = settle({"[Q]aX": ["b9 #### ok"]}, k=1)
    assert (kept, kept_by, [c.edits for c in checks]) == (1, "K", [1])
    check = checks[0].rollout
    assert check.text == "aXb9 #### ok"  # judged whole: the edited head and what the policy made of it
    assert check.prompt_ids == encode("[Q]aX")
    assert check.completion.token_ids == (*encode("b9 #### ok"), STOP)  # only this was generated
    assert sampler.prompts() == ["[Q]aX"]


def test_k_fails_and_2k_suffices() -> None:
    script = {"[Q]aX": ["#### no"], "[Q]aXbY": ["#### ok"]}
    (kept, kept_by, checks), sampler = settle(script, k=1)
    assert (kept, kept_by, [c.edits for c in checks]) == (2, "2K", [1, 2])
    assert [c.rollout.verdict.state for c in checks] == ["fail", "pass"]
    assert sampler.prompts() == ["[Q]aX", "[Q]aXbY"]


def test_both_fail_so_all_are_kept() -> None:
    script = {"[Q]aX": ["#### no"], "[Q]aXbY": ["no answer"]}
    (kept, kept_by, checks), _ = settle(script, k=1)
    assert (kept, kept_by) == (4, "all")
    assert [c.rollout.verdict.state for c in checks] == ["fail", "unscorable"]


@pytest.mark.parametrize("k", [4, 5])
def test_nothing_is_checked_when_k_reaches_all_edits(k: int) -> None:
    (kept, kept_by, checks), sampler = settle({}, k=k)
    assert (kept, kept_by, checks, sampler.calls) == (4, "all", (), [])


@pytest.mark.parametrize("k", [2, 3])
def test_2k_is_not_checked_when_it_reaches_all_edits(k: int) -> None:
    script = {"[Q]aXbY": ["#### no"], "[Q]aXbYcZ": ["#### no"]}
    (kept, kept_by, checks), sampler = settle(script, k=k)
    assert (kept, kept_by, [c.edits for c in checks]) == (4, "all", [k])
    assert len(sampler.calls) == 1


def test_without_edits_nothing_is_kept() -> None:
    (kept, kept_by, checks), _ = settle({}, k=1, repaired=FAILED)
    assert (kept, kept_by, checks) == (0, "all", ())


@pytest.mark.parametrize(
    ("failed", "repaired", "prompt"),
    [
        ("ac 1", "abc 2", "[Q]ab"),  # an insertion: up to the inserted token
        ("abc 1", "ac 2", "[Q]a"),  # a deletion: up to where the deleted token stood
    ],
)
def test_the_policy_continues_after_the_last_edit(failed: str, repaired: str, prompt: str) -> None:
    (kept, kept_by, _), sampler = settle({prompt: ["#### ok"]}, k=1, failed=failed, repaired=repaired)
    assert (kept, kept_by) == (1, "K")
    assert sampler.prompts() == [prompt]


def test_the_prefix_counts_towards_the_longest_completion() -> None:
    # 20 tokens in all; the heads "aX" and "aXbY" have 2 and 4 of them.
    script = {"[Q]aX": ["#### no"], "[Q]aXbY": ["#### ok"]}
    _, sampler = settle(script, k=1, max_new_tokens=20)
    assert [call.params.max_new_tokens for call in sampler.calls] == [18, 16]


def test_a_prefix_as_long_as_a_completion_may_be_still_gets_one_token() -> None:
    _, sampler = settle({"[Q]aXbY": ["!"]}, k=2, max_new_tokens=3)
    assert [call.params.max_new_tokens for call in sampler.calls] == [1]


def test_checks_are_sampled_as_rollouts_are_each_with_its_own_seed() -> None:
    script = {"[Q]aX": ["#### no"], "[Q]aXbY": ["#### no"]}
    _, first = settle(script, k=1, index=0)
    _, second = settle(script, k=1, index=1)
    for call in first.calls:
        assert (call.params.temperature, call.params.top_p, call.params.stop_ids) == (0.7, 0.9, (STOP,))
        assert call.n == 1
    assert len({call.params.seed for call in (*first.calls, *second.calls)}) == 4


# ---- a head that is finished

# "#### 1xyz" -> "#### ok": all of the repair stands after three edits, its stop token included; what
# follows only deletes. (Written by hand: an aligner would match the two stop tokens.)
FINISHED = (
    Edit("replace", 5, 5),
    Edit("replace", 6, 6),
    Edit("replace", 7, 7),
    Edit("delete", 8, 8),
    Edit("delete", 9, 8),
)


@pytest.mark.parametrize(("answer", "found"), [("ok", (3, "K")), ("no", (5, "all"))])
def test_a_head_that_ends_in_the_stop_token_is_judged_as_it_stands(answer: str, found: object) -> None:
    verifier = FakeVerifier()
    (kept, kept_by, checks), sampler = settle(
        {}, k=3, failed="#### 1xyz", repaired=f"#### {answer}", edits=FINISHED, verifier=verifier
    )
    assert (kept, kept_by) == found
    assert sampler.calls == []
    assert verifier.judged == [f"#### {answer}"]
    assert checks[0].rollout.completion.token_ids == ()
    assert checks[0].rollout.prompt_ids == (*encode(f"[Q]#### {answer}"), STOP)


# ---- graft

# "a=1 #### 1" -> "a=2 #### 2 ": the step, the answer, a space at the end.
LATE_SPACE = (Edit("replace", 2, 2), Edit("replace", 9, 9), Edit("insert", 10, 10))


def graft_late_space(k: int, verifier: FakeVerifier) -> tuple[Found, FakeSampler]:
    texts = {"failed": "a=1 #### 1", "repaired": "a=2 #### 2 "}
    return settle({}, k=k, **texts, edits=LATE_SPACE, check="graft", verifier=verifier)


def test_graft_verifies_the_edited_text_as_it_stands() -> None:
    # With one edit the answer is still the wrong one, with two it is right.
    verifier = FakeVerifier(wanted="2")
    (kept, kept_by, checks), sampler = graft_late_space(1, verifier)
    assert (kept, kept_by) == (2, "2K")
    assert verifier.judged == ["a=2 #### 1", "a=2 #### 2"]
    assert [c.rollout.completion.token_ids for c in checks] == [(), ()]  # nothing was generated
    assert sampler.calls == []


def test_graft_passes_with_k_when_the_answer_lies_within() -> None:
    (kept, kept_by, _), _ = graft_late_space(2, FakeVerifier(wanted="2"))
    assert (kept, kept_by) == (2, "K")


def test_graft_fails_when_the_answer_comes_too_late() -> None:
    verifier = FakeVerifier(wanted="2")
    (kept, kept_by, checks), _ = settle(
        {}, k=1, failed="1+1+1 #### 1", repaired="2+2+2 #### 2", check="graft", verifier=verifier
    )
    assert (kept, kept_by) == (4, "all")
    assert [c.rollout.text for c in checks] == ["2+1+1 #### 1", "2+2+1 #### 1"]


# ---- none


@pytest.mark.parametrize(("k", "kept"), [(1, 1), (3, 3), (4, 4), (9, 4)])  # 4 edits in all
def test_without_a_check_the_first_k_edits_are_kept_at_no_cost(k: int, kept: int) -> None:
    found, sampler = settle({}, k=k, check="none")
    assert found == (kept, "K", ())
    assert sampler.calls == []
