"""Exact labels by seams (benchmarks/seam_labels.py): right before the seam, wrong at it, nothing after."""

from __future__ import annotations

from benchmarks.seam_labels import RANDOM_LABELS, SEAM_LABELS, WITH_FIX, WITH_REPAIRS
from fakes import make_context, run

from kintsugi.algorithms import Algorithm
from kintsugi.records import Problem, Row

FAILED, LEFT, MENDED, GOOD = "a3 b3#### 5", "a9 b9#### 9", "a4 b4#### 4", "so 4#### 4"


def rows(group: list[str], algorithm: Algorithm = SEAM_LABELS) -> list[Row]:
    script = {
        "[Q]": group,
        f"[Q\nwrong:\n{FAILED}\nright:\n{GOOD}\nmend:\n]": [MENDED],
        f"[Q\nwrong:\n{LEFT}\nright:\n{GOOD}\nmend:\n]": [LEFT],
    }
    ctx, _ = make_context(script, sampling={"group_size": len(group), "max_new_tokens": 20})
    return algorithm.rows(run(algorithm.run(Problem("p", "Q", "4"), ctx), ctx))


def test_a_mended_failure_is_right_before_its_seam_and_wrong_at_it() -> None:
    failed, good, left = rows([FAILED, GOOD, LEFT])
    # A token is a character. The repair's first edit is the second one: a3 became a4.
    assert failed.advantages[:3] == (1.0, -1.0, 0.0)
    assert failed.active == 2
    # A pass is right throughout. A failure without a repair counts in the mean, without credit.
    assert set(good.advantages) == {1.0}
    assert set(left.advantages) == {0.0}
    assert left.active == len(left.mask)


def test_a_group_without_a_failure_teaches_nothing() -> None:
    assert [set(r.advantages) for r in rows([GOOD, GOOD])] == [{0.0}, {0.0}]


def test_the_control_blames_any_other_token() -> None:
    # +1 up to a place, -1 on it, 0 after it, as with seams; the place is any of the failure's eleven characters or its
    # end.
    group = [FAILED, GOOD, LEFT]
    moved, good, left = rows(group, RANDOM_LABELS)
    assert len(moved.mask) == 12
    at = moved.active - 1
    assert moved.advantages == (1.0,) * at + (-1.0,) + (0.0,) * (len(moved.mask) - at - 1)
    assert at != 1  # the seam's place: drawn for this group, the same in every run
    assert rows(group, RANDOM_LABELS)[0] == moved
    assert [set(good.advantages), set(left.advantages)] == [{1.0}, {0.0}]


def test_the_fix_or_repair_mode_is_trained_beside_the_labels() -> None:
    group = [FAILED, GOOD, LEFT]
    labels = rows(group)
    *same, fix = rows(group, WITH_FIX)
    assert same == labels
    # MENDED is twelve tokens with its end; its second is the fix. Nobody sampled it given the problem alone.
    assert (fix.advantages, fix.active, fix.sampling_logprobs) == ((0.0, 1.0, *[0.0] * 10), 12, None)
    *same, one, other = rows(group, WITH_REPAIRS)
    assert same == labels
    # One repair passes, with 3 of 12 tokens changed, the other does not: 1 - 0.2 * 3/12 = 0.95 and 0, less their mean.
    assert [r.term for r in (one, other)] == ["repair", "repair"]
    assert [round(set(r.advantages).pop(), 6) for r in (one, other)] == [0.475, -0.475]
