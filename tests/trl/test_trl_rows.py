"""Rows as TRL's batch, with numbers derived by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from kintsugi.bridges.replay import Lockstep
from kintsugi.bridges.trl_rows import Layout, dealt, idle_row, unpadded
from kintsugi.learning.objective import Objective
from kintsugi.records import Row

OBJECTIVE = Objective("token", reduction="token")
LAYOUT = Layout(9, None, torch.device("cpu"))
FILLER = idle_row(9)


def row(completion: tuple[int, ...], mask: tuple[int, ...], credit: float) -> Row:
    return Row((1, 2), completion, None, "p", "rollout", 0, mask).add("group", [credit * g for g in mask])


WHOLE, SEAM, NOTHING = (
    row((3, 4), (1, 1), 1.0),
    row((5, 6, 7), (0, 1, 0), -2.0),
    row((8, 8, 8), (1, 1, 1), 0.0),
)
ROWS = [WHOLE, SEAM, NOTHING]


def share(rank: int, world: int, steps: int, uncredited: bool = False) -> tuple[list[Row], int]:
    def never(_: Any) -> Any:
        raise AssertionError("all processes hold all rows: nothing is gathered")

    mine, items = dealt(ROWS, OBJECTIVE, Lockstep(never, rank, world), steps, FILLER, uncredited)
    assert all(i == -1 if row is FILLER else ROWS[i].completion_ids == row.completion_ids for i, row in mine)
    return [row for _, row in mine], items


def test_every_process_has_as_many_rows_as_every_step_of_it_needs() -> None:
    # Two rows have credit. Two processes get one each, and a filler, as a batch is cut into two steps.
    (first, items), (second, same) = share(0, 2, 2), share(1, 2, 2)
    assert [r.completion_ids for r in first] == [(3, 4), (9,)]
    assert [r.completion_ids for r in second] == [(5, 6, 7), (9,)]
    assert items == same == 2 + 1  # gated tokens of both
    # The loss is the mean over the 2 + 1 + 3 gated tokens of all three rows: 1/6 of each token's.
    assert first[0].advantages == pytest.approx((1 / 6, 1 / 6))
    assert second[0].advantages == pytest.approx((0, -2 / 6, 0))
    # Three processes: the third has nothing but fillers.
    assert share(2, 3, 1)[0] == [FILLER]


def test_rows_without_credit_stay_where_a_kl_needs_them() -> None:
    rows, items = share(0, 1, 1, uncredited=True)
    assert [r.completion_ids for r in rows] == [(3, 4), (5, 6, 7), (8, 8, 8)]
    assert items == 6


def test_a_batch_without_credit_is_fillers() -> None:
    rows, items = dealt([NOTHING], OBJECTIVE, Lockstep(list, 0, 1), 4, FILLER, False)
    assert (rows, items) == ([(-1, FILLER)] * 4, 1)


def test_tensors_are_padded_as_trl_pads_and_credit_undoes_its_division() -> None:
    rows, items = share(0, 1, 1)
    batch = LAYOUT.batch([*rows, replace(FILLER, prompt_ids=(7, 7, 7), completion_ids=(7,))], items, "token")
    assert batch["prompt_ids"].tolist() == [[9, 1, 2], [9, 1, 2], [7, 7, 7]]
    assert batch["prompt_mask"].tolist() == [[0, 1, 1], [0, 1, 1], [1, 1, 1]]
    assert batch["completion_ids"].tolist() == [[3, 4, 9], [5, 6, 7], [7, 9, 9]]
    assert batch["completion_mask"].tolist() == [[1, 1, 0], [1, 1, 1], [1, 0, 0]]
    assert batch["tool_mask"].tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    # TRL divides the sum by 3 tokens, so 1/6 stands there as 3/6, and -2/6 as -1.
    assert torch.allclose(batch["advantages"], torch.tensor([[0.5, 0.5, 0], [0, -1, 0], [0, 0, 0]]))
    assert int(batch["num_items_in_batch"]) == 3


def test_a_ratio_of_the_sequence_has_one_credit() -> None:
    rows, items = share(0, 1, 1)
    batch = LAYOUT.batch([*rows, FILLER], items, "sequence")
    assert torch.allclose(batch["advantages"], torch.tensor([0.5, -1.0, 0.0]))
    mixed = row((2, 3), (1, 1), 1.0).add("seam", (0.0, 1.0))
    with pytest.raises(ValueError, match="a sequence-level ratio takes one advantage"):
        LAYOUT.batch([mixed], 2, "sequence")


def test_padding_is_taken_off_again() -> None:
    batch = LAYOUT.sequences(ROWS)
    assert unpadded(batch["prompt_ids"], batch["prompt_mask"]) == [(1, 2)] * 3
    assert unpadded(batch["completion_ids"], batch["completion_mask"]) == [(3, 4), (5, 6, 7), (8, 8, 8)]
    multiple = Layout(9, 4, torch.device("cpu")).sequences(ROWS)
    assert multiple["prompt_ids"].shape == multiple["completion_ids"].shape == (3, 4)
