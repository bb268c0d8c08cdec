"""Algorithm kintsugi: what is credited in a group of three with one failure, each switch by itself.

One token per character and a stop token. The failure and its repair differ at 1, 4 and 10 of 12 tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from fakes import LOGPROB, encode, make_context, run

from kintsugi.algorithms import load_algorithm
from kintsugi.algorithms.base import settled
from kintsugi.records import Episode, Problem, Row

PROBLEM = Problem("p", "Q", "4")
FAILED, MENDED, GOOD = "a3 b3#### 5", "a4 b4#### 4", "so 4#### 4"
REPAIR = f"[Q\nwrong:\n{FAILED}\nright:\n{GOOD}\nmend:\n]"
SCRIPT = {
    "[Q]": [FAILED, GOOD, GOOD],
    REPAIR: [MENDED, FAILED],
    "[Q]a4": [" b4#### 4", " b3#### 5"],
}


def rows_of(script: Any = SCRIPT, **options: Any) -> tuple[Episode, list[Row]]:
    whole = {
        "check": "continue",
        "candidates": 2,
        "lambda_rep": 0.2,
        "failures": 2,
        "capped": True,
        "rest": "praise",
        "seam": 1.0,
        "prefix": 0.0,
    }
    spec = {"name": "kintsugi", "audit": False, **whole, **options}
    ctx, _ = make_context(script, algorithm=spec, sampling={"group_size": 3, "max_new_tokens": 20})
    algorithm = load_algorithm(spec)
    episode = run(algorithm.run(PROBLEM, ctx))
    return episode, algorithm.rows(episode)


def by_role(rows: Sequence[Row], role: str) -> list[Row]:
    return [row for row in rows if row.role == role]


def places(row: Row) -> dict[int, float]:
    """Token place -> credit, where there is any."""
    return {t: a for t, (a, m) in enumerate(zip(row.advantages, row.mask, strict=True)) if m and a}


def test_a_mended_failure_by_hand() -> None:
    episode, rows = rows_of()
    (failed,), (repaired,) = by_role(rows, "failed"), by_role(rows, "repaired")
    assert places(failed) == {1: -1.0}  # the first of the three edits: K = 1 and a continuation passes
    assert places(repaired) == {1: 1.0}
    assert repaired.behaviour_logprobs == (LOGPROB,) * 12  # as repair mode drew it, the anchor in view
    # Two of three pass: each pass is praised by 1 - 2/3. The continuations' rewards 1 and 0 are a group of
    # their own, +1 and -1, and what they continue is prompt: no gradient there.
    policy = by_role(rows, "policy")
    assert [row.prompt_ids for row in policy] == [encode("[Q]")] * 2 + [encode("[Q]a4")] * 2
    assert [row.advantages[0] for row in policy] == pytest.approx([1 / 3, 1 / 3, 1.0, -1.0])
    # s_rep is 1 - 0.2 * 3 / 12 = 0.95 and 0, less their mean, at lambda_rep.
    repair = by_role(rows, "repair")
    assert [row.advantages[0] for row in repair] == pytest.approx([0.475, -0.475])
    assert [row.weight for row in repair] == [0.2, 0.2]
    assert episode.tokens == {"rollout": 12 + 11 + 11, "repair": 24, "check": 20}


def test_by_default_a_failure_has_one_repair_and_its_first_edit_is_kept_untried() -> None:
    script = {"[Q]": [FAILED, GOOD, GOOD], REPAIR: [MENDED]}
    ctx, _ = make_context(script, sampling={"group_size": 3, "max_new_tokens": 20})
    algorithm = load_algorithm("kintsugi")
    episode = run(algorithm.run(PROBLEM, ctx))
    rows = algorithm.rows(episode)
    assert episode.tokens == {"rollout": 12 + 11 + 11, "repair": 12, "check": 0}
    # The seam weighs ten tokens. The passes keep their advantage of rewards 0, 1, 1: mean 2/3, std sqrt(2)/3.
    assert places(by_role(rows, "failed")[0]) == {1: -10.0}  # 70% of the one token before it is none
    assert places(by_role(rows, "repaired")[0]) == {1: 10.0}
    assert [row.advantages[0] for row in by_role(rows, "policy")] == pytest.approx([1 / math.sqrt(2)] * 2)
    assert by_role(rows, "repaired")[0].behaviour_logprobs is None
    assert [row.weight for row in by_role(rows, "repair")] == [1.0]  # alone in its group: no credit
    assert by_role(rows, "repair")[0].advantages[0] == 0.0


def test_a_fix_whose_continuations_all_fail_is_no_cause() -> None:
    lost = {**SCRIPT, "[Q]a4": ["#### 5"] * 2, "[Q]a4 b4": ["#### 5"] * 2}
    _, rows = rows_of(lost)
    assert not by_role(rows, "failed") and not by_role(rows, "repaired")
    assert places(by_role(rows, "policy")[0]) == {}  # the failure counts, without credit
    _, rows = rows_of(lost, causal=False)
    (failed,) = by_role(rows, "failed")
    assert places(failed) == {1: -1.0, 4: -1.0, 10: -1.0}  # K* is all: neither K nor 2K was enough


def test_switches() -> None:
    _, rows = rows_of(resets=False, praise=0.0, capped=False, lambda_rep=0.0)
    assert [places(row) for row in by_role(rows, "policy")] == [{}, {}]
    assert by_role(rows, "repaired")[0].behaviour_logprobs is None
    assert {row.weight for row in by_role(rows, "repair")} == {0.0}


def test_what_precedes_a_seam_may_be_praised() -> None:
    # The only edit is at 10, the answer: 70% of the ten tokens before it are praised.
    script = {**SCRIPT, REPAIR: ["a3 b3#### 4", FAILED]}
    _, rows = rows_of(script, prefix=0.5, praise=0.0)
    (failed,) = by_role(rows, "failed")
    assert places(failed) == {**dict.fromkeys(range(7), 0.5), 10: -1.0}


def test_what_is_outside_of_a_seam_may_keep_a_share_of_the_group_advantage() -> None:
    # Rewards 0, 1, 1: the failure's advantage is (0 - 2/3) / (sqrt(2) / 3) = -sqrt(2). The only edit is at 10 of 12.
    script = {**SCRIPT, REPAIR: ["a3 b3#### 4", FAILED]}
    _, rows = rows_of(script, rest="group", soft=0.5, check="none")
    half = -math.sqrt(2) / 2
    (failed,) = by_role(rows, "failed")
    assert failed.advantages == pytest.approx([half] * 10 + [-1.0, half])
    assert failed.mask == (1,) * 12
    _, rows = rows_of(script, rest="group", soft=0.5, check="none", prefix=0.3)
    (failed,) = by_role(rows, "failed")
    assert failed.advantages == pytest.approx([0.3] * 7 + [half] * 3 + [-1.0, half])
    _, rows = rows_of(script, rest="praise", soft=0.5, check="none")
    assert places(by_role(rows, "failed")[0]) == {10: -1.0}  # without group credit there is none to share


def test_a_failure_that_was_not_mended_keeps_its_group_advantage() -> None:
    script = {**SCRIPT, "[Q]": [FAILED, GOOD, FAILED], REPAIR: [MENDED]}
    _, rows = rows_of(script, rest="group", failures=1, candidates=1, check="none")
    # Rewards 0, 1, 0: mean 1/3, std sqrt(2)/3; the first failure has a seam instead.
    whole = [row.advantages[0] for row in by_role(rows, "policy")]
    assert whole == pytest.approx([math.sqrt(2), -1 / math.sqrt(2)])
    assert len(by_role(rows, "failed")) == 1


def test_repairs_are_compared_within_the_problem_and_not_scaled_to_one() -> None:
    script = {**SCRIPT, "[Q]": [FAILED, GOOD, FAILED], REPAIR: [MENDED, FAILED]}
    _, rows = rows_of(script, candidates=1, check="none")
    # One repair of each failure; s_rep 1 - 0.2 * 3 / 12 = 0.95 and 0, less their mean.
    assert [row.advantages[0] for row in by_role(rows, "repair")] == pytest.approx([0.475, -0.475])


def test_a_patch_is_continued_and_its_continuations_are_the_reset_group() -> None:
    ask = f"[Q\nwrong:\n{FAILED}\nright:\n{GOOD}\npatch:\n]"
    script = {"[Q]": [FAILED, GOOD, GOOD], ask: ["a3\n=>\na4", "no patch"], "[Q]a4": SCRIPT["[Q]a4"]}
    _, rows = rows_of(script, form="patch")
    (repaired,) = by_role(rows, "repaired")
    assert places(repaired) == {1: 1.0}
    assert repaired.behaviour_logprobs is None  # repair mode never drew these tokens in this place
    assert [row.advantages[0] for row in by_role(rows, "policy")] == pytest.approx([1 / 3, 1 / 3, 1.0, -1.0])


def test_at_most_so_many_failures_are_mended() -> None:
    script = {**SCRIPT, "[Q]": [FAILED, GOOD, FAILED], REPAIR: [MENDED, FAILED]}
    episode, _ = rows_of(script, failures=1)
    assert {r.failed for r in episode.repairs} == {0}


def test_credit_is_capped_by_what_the_policy_makes_of_the_fix() -> None:
    # pi / rho: e^(-0.5 + 2) = 4.48 is capped at 2; e^(-1.5 + 0.5) = e^-1; outside the gate there is no credit.
    _, rows = rows_of()
    (repaired,) = by_role(rows, "repaired")
    row = Row(
        repaired.prompt_ids, (7, 8, 9), (1, 1, 0), (1.0, -1.0, 0.0), None, "repaired", "p", "g",
        behaviour_logprobs=(-2.0, -0.5, -9.0),
    )  # fmt: skip
    (done,) = settled([row], lambda scored: [(-0.5, -1.5, -0.1)])
    assert done.advantages == pytest.approx([2.0, -math.exp(-1), 0.0])


def test_the_rows_of_a_seam_whole() -> None:
    """Gates and nothing but gates: in a token mean a token that is open without credit would still divide."""
    _, rows = rows_of(seam=10.0, prefix=1.0)
    (failed,), (repaired,) = by_role(rows, "failed"), by_role(rows, "repaired")
    assert (failed.prompt_ids, repaired.prompt_ids) == (encode("[Q]"), encode("[Q]"))
    assert failed.completion_ids == (*encode(FAILED), 0)
    assert repaired.completion_ids == (*encode(MENDED), 0)
    only_the_edit = tuple(int(t == 1) for t in range(12))  # 70% of the one token before it is none
    assert (failed.mask, repaired.mask) == (only_the_edit, only_the_edit)
    assert failed.advantages == tuple(-10.0 * gate for gate in only_the_edit)
    assert failed.sampling_logprobs == (LOGPROB,) * 12
    assert repaired.sampling_logprobs is None  # nobody sampled it given x alone
    assert {failed.group_id, repaired.group_id} == {"p/seam/0"}
    groups = {row.group_id for row in by_role(rows, "policy")}
    assert groups == {"p/rollouts", "p/reset/0"}


def test_a_sibling_that_serves_as_the_repair_was_sampled_given_x_alone() -> None:
    sibling = "a3 b3#### 4"
    script = {"[Q]": [FAILED, sibling, sibling]}
    _, rows = rows_of(script, form="either", check="none", capped=False)
    (repaired,) = by_role(rows, "repaired")
    assert repaired.completion_ids == (*encode(sibling), 0)
    assert repaired.sampling_logprobs == (LOGPROB,) * 12


def test_the_loss_that_the_options_ask_for() -> None:
    for reduction in ("token", "row"):
        algorithm = load_algorithm({"name": "kintsugi", "reduction": reduction})
        assert (algorithm.name, algorithm.level, algorithm.reduction) == ("kintsugi", "token", reduction)
    assert load_algorithm({"name": "kintsugi", "failures": 0}).note.startswith(
        "all failures of a group mended"
    )


# ---- scouts and witnesses


@pytest.mark.parametrize(
    ("texts", "drawn"),
    [
        ([FAILED, FAILED, GOOD, GOOD], 2),  # no scout passes: the others are never asked for
        ([FAILED, GOOD, GOOD, FAILED], 4),
    ],
)
def test_a_group_that_its_scouts_all_fail_is_left_at_that(texts: list[str], drawn: int) -> None:
    spec = {"name": "kintsugi", "form": "sibling", "failures": 0, "scouts": 2}
    ctx, sampler = make_context({"[Q]": texts}, algorithm=spec, sampling={"group_size": 4})
    episode = run(load_algorithm(spec).run(PROBLEM, ctx))
    assert [r.text for r in episode.rollouts] == texts[:drawn]
    assert [call.n for call in sampler.calls] == [2] * (drawn // 2)
    assert len({call.params.seed for call in sampler.calls}) == drawn // 2  # others draw otherwise


def test_as_many_scouts_as_rollouts_are_all_at_once() -> None:
    spec = {"name": "kintsugi", "form": "sibling", "scouts": 3}
    ctx, sampler = make_context({"[Q]": [FAILED] * 2}, algorithm=spec, sampling={"group_size": 2})
    run(load_algorithm(spec).run(PROBLEM, ctx))
    assert [call.n for call in sampler.calls] == [2]


def test_a_lone_pass_is_no_witness() -> None:
    options = {"form": "sibling", "check": "none", "rest": "group", "capped": False}
    script = {"[Q]": [FAILED, "a3 b3#### 5", GOOD]}
    _, rows = rows_of(script, witnesses=2, **options)
    assert [sum(map(abs, row.advantages)) for row in rows] == [0.0] * 3  # they count, without credit
    _, rows = rows_of(script, **options)
    assert {"failed", "repaired"} < {row.role for row in rows}
    # Two passes bear each other out: rewards 0, 1, 1 have mean 2/3 and spread sqrt(2)/3, a pass gets 1/sqrt(2).
    _, rows = rows_of({"[Q]": [FAILED, GOOD, GOOD]}, witnesses=2, **options)
    assert [row.advantages[0] for row in by_role(rows, "policy")] == pytest.approx([1 / math.sqrt(2)] * 2)


def test_a_fix_that_mends_two_failures_may_be_praised_once() -> None:
    options = {"form": "sibling", "check": "none", "rest": "group", "capped": False, "seam": 3.0}
    script = {"[Q]": [FAILED, FAILED, "a3 b3#### 4"]}
    _, rows = rows_of(script, once=True, **options)
    # Both differ from the sibling at token 10 alone: blame 3 each, praise 3 / 2 in each of its two rows.
    assert [places(row) for row in by_role(rows, "failed")] == [{10: -3.0}] * 2
    assert [places(row) for row in by_role(rows, "repaired")] == [{10: 1.5}] * 2
    _, rows = rows_of(script, **options)
    assert [places(row) for row in by_role(rows, "repaired")] == [{10: 3.0}] * 2
