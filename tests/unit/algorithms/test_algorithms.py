"""Credit: which rows an algorithm makes of an episode, with which gates and advantages."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import LOGPROB, STOP, encode, make_repair, make_rollout, part_of

from kintsugi.algorithms import ALGORITHMS, load_algorithm
from kintsugi.algorithms.base import group_advantages
from kintsugi.records import Edit, Episode, KintsugiError, Problem, Row, Seam, Verdict

PROBLEM = Problem("gsm8k/412", "Q", "4")
ROOT2 = math.sqrt(2)


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        # mean 1/3; variance (4/9 + 1/9 + 1/9) / 3 = 2/9, std sqrt(2)/3: (2/3) / std = sqrt(2), and
        # (-1/3) / std = -1 / sqrt(2)
        ([1, 0, 0], [ROOT2, -1 / ROOT2, -1 / ROOT2]),
        ([1, 0], [1, -1]),
        # mean 0.5; std 0.25: only the order and the spread count, not the size
        ([0.25, 0.75], [-1, 1]),
        # mean 0.6; variance (0.16 + 0.01 + 0.09) / 3 = 0.26 / 3
        (
            [0.2, 0.7, 0.9],
            [-0.4 / math.sqrt(0.26 / 3), 0.1 / math.sqrt(0.26 / 3), 0.3 / math.sqrt(0.26 / 3)],
        ),
        ([1, 1, 1], [0, 0, 0]),
        ([0.1, 0.1, 0.1], [0, 0, 0]),  # 0.1 * 3 / 3 is not 0.1: rounding must not be divided by itself
        ([1], [0]),
        ([], []),
    ],
)
def test_group_advantages(rewards: list[float], expected: list[float]) -> None:
    assert group_advantages(rewards) == pytest.approx(expected, abs=1e-12)


# ---- outcome-only algorithms


@pytest.mark.parametrize("name", ["grpo", "gspo"])
def test_outcome_rows_of_two_failures_and_a_pass(name: str) -> None:
    rollouts = (make_rollout("no", 0.0), make_rollout("yes", 1.0), make_rollout("", Verdict("unscorable")))
    rows = load_algorithm(name).rows(Episode(PROBLEM, rollouts))
    # Rewards 0, 1, 0 (unscorable pays nothing): advantages as derived above, on every token, the stop
    # token's included: 3, 4 and 1 tokens.
    low = -1 / ROOT2
    expected = [[low] * 3, [ROOT2] * 4, [low]]
    for row, advantages in zip(rows, expected, strict=True):
        assert row.advantages == pytest.approx(advantages)
    assert [row.mask for row in rows] == [(1, 1, 1), (1, 1, 1, 1), (1,)]
    assert [row.completion_ids for row in rows] == [(*encode("no"), STOP), (*encode("yes"), STOP), (STOP,)]
    assert rows[1].sampling_logprobs == (LOGPROB,) * 4
    assert {(row.term, row.weight, row.prompt_ids, row.problem_id) for row in rows} == {
        ("policy", 1.0, encode("[Q]"), "gsm8k/412")
    }
    assert [(row.kind, row.index, set(row.credit)) for row in rows] == [
        ("rollout", i, {"group"}) for i in range(3)
    ]


@pytest.mark.parametrize("name", ["grpo", "gspo"])
def test_rollouts_without_a_verdict_leave_the_group(name: str) -> None:
    rollouts = (make_rollout("a", Verdict("error")), make_rollout("b", 1.0), make_rollout("c", 0.0))
    rows = load_algorithm(name).rows(Episode(PROBLEM, rollouts))
    # Rewards 1 and 0 are left: +1 and -1. With the error counted as 0 they would be sqrt(2) and -1/sqrt(2).
    assert [row.completion_ids for row in rows] == [(*encode("b"), STOP), (*encode("c"), STOP)]
    assert [row.advantages for row in rows] == [(1.0, 1.0), (-1.0, -1.0)]


@pytest.mark.parametrize(
    ("name", "level", "low", "high", "widen"),
    [
        ("grpo", "token", 0.2, 0.2, False),
        ("gspo", "sequence", 3e-4, 4e-4, False),
        ("iop", "sequence", 3e-4, 4e-4, True),
    ],
)
def test_objectives(name: str, level: str, low: float, high: float, widen: bool) -> None:
    algorithm = load_algorithm(name)
    assert (algorithm.name, algorithm.level, algorithm.widen) == (name, level, widen)
    assert (algorithm.clip_low, algorithm.clip_high) == (low, high)


def test_unknown_algorithm_names_the_nearest() -> None:
    with pytest.raises(KintsugiError, match="unknown 'gsop'; did you mean 'gspo'"):
        load_algorithm("gsop")


@pytest.mark.parametrize("name", sorted(ALGORITHMS.built_in))
def test_every_algorithm_has_words_for_its_credit(name: str) -> None:
    algorithm = load_algorithm(name)
    assert algorithm.name == name and all(algorithm.reasons.values())
    rows = algorithm.rows(Episode(PROBLEM, (make_rollout("no", 0.0), make_rollout("yes", 1.0))))
    assert {reason for row in rows for reason in row.credit} <= set(algorithm.reasons)


OWN = """
from kintsugi.algorithms.base import Algorithm, outcome_rows, run_rollouts

MINE = Algorithm("mine", run_rollouts, outcome_rows, level="token", clip_low=0.2, clip_high=0.2)

def family(clip: float = 0.2) -> Algorithm:
    return Algorithm("kin", run_rollouts, outcome_rows, "token", clip, clip)
NEITHER = 1
"""


def test_an_algorithm_of_ones_own_is_named_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    assert load_algorithm(f"{path}:MINE").name == "mine"
    assert load_algorithm({"name": f"{path}:family", "clip": 0.5}).clip_high == 0.5
    with pytest.raises(KintsugiError, match=r"unknown argument 'clap'; did you mean 'clip'\? It takes clip"):
        load_algorithm({"name": f"{path}:family", "clap": 0.5})
    with pytest.raises(KintsugiError, match=r"family: clip: input should be a valid number.*, got 'wide'"):
        load_algorithm({"name": f"{path}:family", "clip": "wide"})
    with pytest.raises(KintsugiError, match="unknown argument 'clip'; it takes none"):
        load_algorithm({"name": f"{path}:MINE", "clip": 0.5})
    with pytest.raises(KintsugiError, match="expected an Algorithm, or a function that makes one, found int"):
        load_algorithm(f"{path}:NEITHER")
    with pytest.raises(KintsugiError, match="no such file"):
        load_algorithm(f"{path}.py:MINE")


# ---- iop


def iop_episode() -> Episode:
    """Failures 0 and 2 and a pass; only failure 0 was mended, by its second candidate ("ax").

    Its edits are b -> x (kept) and the stop token that moved (not kept): "ab." -> "axy.".
    """
    repairs = (
        make_repair(0, "ab", 0.0, distance=0.0, score=0.0, prompt="mend 0"),
        make_repair(0, "axy", 1.0, distance=0.5, score=0.9, prompt="mend 0"),
        make_repair(2, "cd", 0.0, distance=0.5, score=-0.1, prompt="mend 2"),
        make_repair(2, "ce", 0.0, distance=0.5, score=-0.3, prompt="mend 2"),
        make_repair(2, "cx", Verdict("error"), distance=0.5, score=-0.1, prompt="mend 2"),
    )
    seam = Seam(
        failed=0,
        repair=1,
        edits=(Edit("replace", 1, 1), Edit("insert", 2, 2)),
        kept=1,
        kept_by="K",
        checks=(),
        failed_mask=(0, 1, 0),
        repaired_mask=(0, 1, 0, 0),
    )
    rollouts = (make_rollout("ab", 0.0), make_rollout("ax", 1.0), make_rollout("cc", 0.0))
    return Episode(PROBLEM, rollouts, repairs, (seam,))


def iop_rows(role: str) -> list[Row]:
    rows = load_algorithm({"name": "iop", "lambda_rep": 0.3}).rows(iop_episode())
    return [row for row in rows if part_of(row) == role]


def test_iop_gates_the_seam_on_both_sides() -> None:
    (failed,), (repaired,) = iop_rows("failed"), iop_rows("repaired")
    assert failed.completion_ids == (*encode("ab"), STOP)
    assert (failed.mask, failed.advantages) == ((0, 1, 0), (0.0, -1.0, 0.0))
    assert repaired.completion_ids == (*encode("axy"), STOP)
    assert (repaired.mask, repaired.advantages) == ((0, 1, 0, 0), (0.0, 1.0, 0.0, 0.0))
    # Both condition on x alone. The failure was sampled from x; the repair was not, so it has no pi_old yet.
    assert failed.prompt_ids == repaired.prompt_ids == encode("[Q]")
    assert failed.sampling_logprobs == (LOGPROB,) * 3
    assert repaired.sampling_logprobs is None
    assert failed.weight == repaired.weight == 1.0
    assert (failed.kind, failed.index, repaired.kind, repaired.index) == ("rollout", 0, "repair", 1)


def test_iop_gives_no_credit_to_passing_rollouts_nor_to_unmended_failures() -> None:
    # They count in J_pol's mean and get no gradient: rollouts 1 (passed) and 2 (failed, not mended).
    rows = load_algorithm("iop").rows(iop_episode())
    on_x = [(row.completion_ids, any(row.advantages)) for row in rows if row.prompt_ids == encode("[Q]")]
    assert on_x == [
        ((*encode("ab"), STOP), True),
        ((*encode("axy"), STOP), True),
        ((*encode("ax"), STOP), False),
        ((*encode("cc"), STOP), False),
    ]


def test_a_rollout_whose_verifier_broke_down_does_not_count_in_the_mean() -> None:
    rollouts = (make_rollout("ab", Verdict("error")), make_rollout("ax", 1.0))
    rows = load_algorithm("iop").rows(Episode(PROBLEM, rollouts))
    assert [row.completion_ids for row in rows] == [(*encode("ax"), STOP)]


def test_with_one_candidate_each_the_repairs_of_a_problem_are_the_group() -> None:
    episode = iop_episode()
    single = replace(episode, repairs=(episode.repairs[1], episode.repairs[2]), seams=())
    rows = [r for r in load_algorithm({"name": "iop", "candidates": 1}).rows(single) if r.term == "repair"]
    # Scores 0.9 and -0.1 of two failures: mean 0.4, std 0.5, so +1 and -1.
    assert [row.advantages[0] for row in rows] == pytest.approx([1.0, -1.0])


def test_iop_trains_repair_mode_on_group_relative_scores() -> None:
    rows = iop_rows("repair")
    # Failure 0: scores 0 and 0.9, mean 0.45, std 0.45: -1 and +1. Failure 2: -0.1 and -0.3, mean -0.2,
    # std 0.1: +1 and -1 (neither passed: s_rep counts). The one without a verdict leaves the group.
    expected = [[-1.0] * 3, [1.0] * 4, [1.0] * 3, [-1.0] * 3]
    for row, advantages in zip(rows, expected, strict=True):
        assert row.advantages == pytest.approx(advantages)
    assert [row.mask for row in rows] == [(1,) * 3, (1,) * 4, (1,) * 3, (1,) * 3]
    assert [row.prompt_ids for row in rows] == [encode("[mend 0]")] * 2 + [encode("[mend 2]")] * 2
    assert {row.weight for row in rows} == {0.3}
    assert all(row.sampling_logprobs == (LOGPROB,) * len(row.mask) for row in rows)
    assert [(row.kind, row.index, set(row.credit)) for row in rows] == [
        ("repair", j, {"repair"}) for j in range(4)
    ]


def test_two_kept_edits_are_credited_and_nothing_else() -> None:
    """Failure 0, ten characters, mended at its fifth and at its last ("abcd?fghi?" -> "abcdEfghiJ")."""
    gate = (0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    edits = (Edit("replace", 4, 4), Edit("replace", 9, 9))
    seam = Seam(0, 0, edits, 2, "all", (), gate, gate)
    rollouts = (make_rollout("abcd?fghi?", 0.0), make_rollout("ok", 1.0), make_rollout("no", 0.0))
    episode = Episode(PROBLEM, rollouts, (make_repair(0, "abcdEfghiJ", score=0.9),), (seam,))
    rows = [row for row in load_algorithm("iop").rows(episode) if row.term != "repair"]
    assert all(row.prompt_ids == encode("[Q]") for row in rows)
    assert [(part_of(row), row.mask, row.advantages) for row in rows] == [
        ("failed", gate, tuple(-1.0 * g for g in gate)),
        ("repaired", gate, tuple(1.0 * g for g in gate)),
        ("policy", (1, 1, 1), (0.0, 0.0, 0.0)),
        ("policy", (1, 1, 1), (0.0, 0.0, 0.0)),
    ]


# ---- rows


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("mask", (1,), r"row of rollout 3 \(problem gsm8k/412\): 1 mask for 2 completion tokens"),
        (
            "credit",
            {"seam": (1.0,) * 3},
            r"row of rollout 3 \(problem gsm8k/412\): 3 seam for 2 completion tokens",
        ),
        (
            "sampling_logprobs",
            (),
            r"row of rollout 3 \(problem gsm8k/412\): 0 sampling_logprobs for 2 completion",
        ),
    ],
)
def test_rows_refuse_lengths_that_do_not_fit(field: str, value: Any, message: str) -> None:
    good: dict[str, Any] = {
        "prompt_ids": (1,),
        "completion_ids": (2, 3),
        "mask": (1, 1),
        "credit": {"group": (0.5, 0.5)},
        "sampling_logprobs": None,
        "kind": "rollout",
        "index": 3,
        "problem_id": "gsm8k/412",
    }
    assert Row(**good).active == 2
    with pytest.raises(ValueError, match=message):
        Row(**good | {field: value})


def test_credit_adds_up_by_reason() -> None:
    row = Row((1,), (2, 3, 4), None, "p", "rollout", 0, mask=(1, 1, 1))
    assert row.advantages == (0.0, 0.0, 0.0)
    both = row.add("group", 0.5).add("seam", (0, -10.0, 0))
    assert both.credit == {"group": (0.5, 0.5, 0.5), "seam": (0, -10.0, 0)}
    assert both.advantages == (0.5, -9.5, 0.5)
    assert row.credit == {}  # rows are never changed
    assert row.add("seam", (0, -10.0, 0)).credited().mask == (0, 1, 0)
