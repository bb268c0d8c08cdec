"""Algorithm kintsugi: what is credited in a group of three with one failure; and how groups are drawn.

One token per character and a stop token. The failure and its repair differ at 1, 4 and 10 of 12 tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from fakes import LOGPROB, encode, make_context, part_of, run

from kintsugi.algorithms import load_algorithm
from kintsugi.algorithms.kintsugi import kintsugi
from kintsugi.plugins import arguments_of
from kintsugi.records import Episode, KintsugiError, Problem, Reach, Row
from kintsugi.trainer import check_algorithm

PROBLEM = Problem("p", "Q", "4")
FAILED, MENDED, GOOD = "a3 b3#### 5", "a4 b4#### 4", "so 4#### 4"
REPAIR = f"[Q\nwrong:\n{FAILED}\nright:\n{GOOD}\nmend:\n]"
SCRIPT = {"[Q]": [FAILED, GOOD, GOOD], REPAIR: [MENDED, MENDED]}
# A failure that is right for its first seven tokens, and a pass that takes its steps.
LATE, LATE_GOOD = "a3 b3 c5#### 5", "a3 b3 c4#### 4"


def rows_of(
    script: Any = SCRIPT, sampling: dict[str, int] | None = None, **options: Any
) -> tuple[Episode, list[Row]]:
    ctx, _ = make_context(
        script,
        algorithm={"name": "kintsugi", **options},
        sampling={"group_size": 3, "max_new_tokens": 20, **(sampling or {})},
    )
    algorithm = check_algorithm(ctx.recipe)
    episode = run(algorithm.run(PROBLEM, ctx), ctx)
    return episode, algorithm.rows(episode)


def by_role(rows: Sequence[Row], role: str) -> list[Row]:
    return [row for row in rows if part_of(row) == role]


def places(row: Row) -> dict[int, float]:
    """Token place -> credit, where there is any."""
    return {t: a for t, (a, m) in enumerate(zip(row.advantages, row.mask, strict=True)) if m and a}


def test_the_shipped_defaults() -> None:
    """The setting that was measured; a change here wants a measurement."""
    assert {name: a.default for name, a in arguments_of(kintsugi)[0].items()} == {
        "source": "either", "failures": 3, "seam": 10.0, "lambda_rep": 1.0, "closed": "keep",
    }  # fmt: skip


def test_by_default_a_failure_has_one_repair_and_its_first_edit_is_kept_untried() -> None:
    episode, rows = rows_of()
    assert episode.tokens == {"rollout": 12 + 11 + 11, "repair": 12, "check": 0}
    # The seam weighs ten tokens. The passes keep their advantage of rewards 0, 1, 1: mean 2/3, std sqrt(2)/3.
    assert places(by_role(rows, "failed")[0]) == {1: -10.0}  # 70% of the one token before it is none
    assert places(by_role(rows, "repaired")[0]) == {1: 10.0}
    assert [row.advantages[0] for row in by_role(rows, "policy")] == pytest.approx([1 / math.sqrt(2)] * 2)
    assert [row.weight for row in by_role(rows, "repair")] == [1.0]  # alone in its group: no credit
    assert by_role(rows, "repair")[0].advantages[0] == 0.0


def test_the_rows_of_a_seam_whole() -> None:
    """Gates and nothing but gates: in a token mean a token that is open without credit would still divide."""
    _, rows = rows_of()
    (failed,), (repaired,) = by_role(rows, "failed"), by_role(rows, "repaired")
    assert (failed.prompt_ids, repaired.prompt_ids) == (encode("[Q]"), encode("[Q]"))
    assert failed.completion_ids == (*encode(FAILED), 0)
    assert repaired.completion_ids == (*encode(MENDED), 0)
    only_the_edit = tuple(int(t == 1) for t in range(12))
    assert (failed.mask, repaired.mask) == (only_the_edit, only_the_edit)
    assert failed.advantages == tuple(-10.0 * gate for gate in only_the_edit)
    assert failed.sampling_logprobs == (LOGPROB,) * 12
    assert repaired.sampling_logprobs is None  # nobody sampled it given x alone
    assert (failed.kind, failed.index, repaired.kind, repaired.index) == ("rollout", 0, "repair", 0)
    assert (set(failed.credit), set(repaired.credit)) == ({"seam"}, {"seam"})
    assert [(row.kind, row.index, set(row.credit)) for row in by_role(rows, "policy")] == [
        ("rollout", 1, {"group"}), ("rollout", 2, {"group"}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("closed", "entropy", "is_trained"), [("keep", 0.0, True), ("drop", 0.0, False), ("drop", 1.0, True)]
)
def test_closed_seams_are_kept_or_dropped(closed: str, entropy: float, is_trained: bool) -> None:
    """A failure whose seam is dropped keeps its group advantage: rewards 0, 1, 1, so -(2/3) / (sqrt(2)/3)."""
    episode, _ = rows_of()
    reached = replace(episode, seams=(replace(episode.seams[0], reach=Reach(-0.1, 1, -3.0, 2, entropy)),))
    rows = load_algorithm({"name": "kintsugi", "closed": closed}).rows(reached)
    assert [len(by_role(rows, role)) for role in ("failed", "repaired")] == [int(is_trained)] * 2
    if not is_trained:
        assert by_role(rows, "policy")[0].advantages == pytest.approx([-math.sqrt(2)] * 12)


def test_what_precedes_a_seam_is_praised() -> None:
    # The first edit is at 7: 70% of the seven tokens before it are int(4.9) = 4. The sibling takes the same steps.
    episode, rows = rows_of({"[Q]": [LATE, LATE_GOOD, LATE_GOOD]})
    assert [r.written for r in episode.repairs] == [False]
    assert places(by_role(rows, "failed")[0]) == {0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0, 7: -10.0}
    assert by_role(rows, "failed")[0].credit == {
        "seam": tuple(-10.0 * (t == 7) for t in range(15)), "prefix": tuple(1.0 * (t < 4) for t in range(15)),
    }  # fmt: skip


def test_a_failure_that_was_not_mended_keeps_its_group_advantage() -> None:
    episode, rows = rows_of({**SCRIPT, "[Q]": [FAILED, GOOD, FAILED]}, failures=1)
    assert {r.failed for r in episode.repairs} == {0}
    # Rewards 0, 1, 0: mean 1/3, std sqrt(2)/3; the first failure has a seam instead.
    whole = [row.advantages[0] for row in by_role(rows, "policy")]
    assert whole == pytest.approx([math.sqrt(2), -1 / math.sqrt(2)])
    assert len(by_role(rows, "failed")) == 1


def test_repairs_are_compared_within_the_problem_and_not_scaled_to_one() -> None:
    script = {"[Q]": [FAILED, GOOD, FAILED], REPAIR: [MENDED, FAILED]}
    _, rows = rows_of(script, lambda_rep=0.2)
    # One repair of each failure; s_rep 1 - 0.2 * 3 / 12 = 0.95 and 0, less their mean.
    assert [row.advantages[0] for row in by_role(rows, "repair")] == pytest.approx([0.475, -0.475])
    assert [row.weight for row in by_role(rows, "repair")] == [0.2, 0.2]


def test_a_sibling_that_serves_as_the_repair_was_sampled_given_x_alone() -> None:
    episode, rows = rows_of({"[Q]": [LATE, LATE_GOOD, LATE_GOOD]})
    (repaired,) = by_role(rows, "repaired")
    assert repaired.completion_ids == (*encode(LATE_GOOD), 0)
    assert repaired.sampling_logprobs == (LOGPROB,) * 15
    (repair,) = episode.repairs
    assert (repair.rollout, repair.sibling, repair.anchor_text) == (episode.rollouts[1], 1, None)
    assert not by_role(rows, "repair")  # nothing was written, so repair mode has nothing to learn from
    assert episode.tokens == {"rollout": 45, "repair": 0, "check": 0}


def test_where_repairs_come_from() -> None:
    # `either` writes where no sibling takes the failure's own steps; `sibling` never, `rewrite` always.
    assert [r.written for r in rows_of(SCRIPT)[0].repairs] == [True]
    assert [r.written for r in rows_of({"[Q]": [FAILED, GOOD, GOOD]}, source="sibling")[0].repairs] == [False]
    beside = f"[Q\nwrong:\n{LATE}\nright:\n{LATE_GOOD}\nmend:\n]"
    script = {"[Q]": [LATE, LATE_GOOD, LATE_GOOD], beside: [LATE_GOOD]}
    assert [r.written for r in rows_of(script, source="rewrite")[0].repairs] == [True]


def test_without_a_passing_sibling_there_is_none_to_take() -> None:
    ctx, _ = make_context(
        {"[Q]": [FAILED, FAILED]},
        memory={"p": GOOD},
        algorithm={"name": "kintsugi", "source": "sibling"},
        sampling={"group_size": 2},
    )
    assert run(check_algorithm(ctx.recipe).run(PROBLEM, ctx), ctx).skipped == "all failed"


def test_the_loss() -> None:
    algorithm = load_algorithm("kintsugi")
    assert (algorithm.name, algorithm.level, algorithm.reduction) == ("kintsugi", "token", "token")
    assert load_algorithm({"name": "kintsugi", "failures": 0}).note == "all failures of a group mended"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"source": "splice"}, "source: .*'rewrite', 'sibling' or 'either'"),
        ({"seam": 0}, "seam: .*greater than 0"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(KintsugiError, match=said):
        load_algorithm({"name": "kintsugi", **options})


# ---- scouts and witnesses, for any algorithm


@pytest.mark.parametrize("algorithm", ["kintsugi", "grpo"])
@pytest.mark.parametrize(
    ("texts", "drawn"),
    [
        ([LATE, LATE, LATE_GOOD, LATE_GOOD], 2),  # no scout passes: the others are never asked for
        ([LATE, LATE_GOOD, LATE_GOOD, LATE], 4),
    ],
)
def test_a_group_that_its_scouts_all_fail_is_left_at_that(
    algorithm: str, texts: list[str], drawn: int
) -> None:
    ctx, sampler = make_context({"[Q]": texts}, algorithm=algorithm, sampling={"group_size": 4, "scouts": 2})
    episode = run(load_algorithm(algorithm).run(PROBLEM, ctx), ctx)
    assert [r.text for r in episode.rollouts] == texts[:drawn]
    assert [call.n for call in sampler.calls] == [2] * (drawn // 2)
    assert len({call.params.seed for call in sampler.calls}) == drawn // 2  # others draw otherwise


def test_as_many_scouts_as_rollouts_are_all_at_once() -> None:
    ctx, sampler = make_context(
        {"[Q]": [FAILED] * 2}, algorithm="grpo", sampling={"group_size": 2, "scouts": 3}
    )
    run(load_algorithm("grpo").run(PROBLEM, ctx), ctx)
    assert [call.n for call in sampler.calls] == [2]


def test_a_lone_pass_is_no_witness() -> None:
    script = {"[Q]": [LATE, LATE, LATE_GOOD]}
    _, rows = rows_of(script, {"witnesses": 2})
    assert [row.credit for row in rows] == [{"lone pass": (0.0,) * 15}] * 3  # they count, without credit
    assert [row.mask for row in rows] == [(1,) * 15] * 3
    _, rows = rows_of(script)
    assert {"failed", "repaired"} < {part_of(row) for row in rows}
    # Two passes bear each other out: rewards 0, 1, 1 have mean 2/3 and spread sqrt(2)/3, a pass gets 1/sqrt(2).
    _, rows = rows_of({"[Q]": [LATE, LATE_GOOD, LATE_GOOD]}, {"witnesses": 2})
    assert [row.advantages[0] for row in by_role(rows, "policy")] == pytest.approx([1 / math.sqrt(2)] * 2)


def test_what_repair_mode_wrote_is_trained_without_witnesses_too() -> None:
    script = {"[Q]": [FAILED, GOOD, FAILED], REPAIR: [MENDED, FAILED]}
    _, rows = rows_of(script, {"witnesses": 2})
    assert [row.advantages[0] for row in by_role(rows, "repair")] == pytest.approx([0.475, -0.475])
    assert {a for row in rows if row.term != "repair" for a in row.advantages} == {0.0}


def test_witnesses_serve_outcome_algorithms() -> None:
    ctx, _ = make_context(
        {"[Q]": [FAILED, FAILED, GOOD]}, algorithm="grpo", sampling={"group_size": 3, "witnesses": 2}
    )
    algorithm = check_algorithm(ctx.recipe)
    rows = algorithm.rows(run(algorithm.run(PROBLEM, ctx), ctx))
    assert {a for row in rows for a in row.advantages} == {0.0}
