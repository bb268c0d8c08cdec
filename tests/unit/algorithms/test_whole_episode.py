"""The shipped defaults, from texts to gradient: one episode of each algorithm, every number by hand.

One token per character and a stop token, ids below 128. The policy is uniform: every token has probability 1/128, so
the gradient of log p(token) with respect to the token's own logit is 1 - 1/128 = 127/128. One update: ratios are 1.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from fakes import make_context, part_of, run
from torch import Tensor

from kintsugi.learning.loss import LOSSES, token_logprobs
from kintsugi.learning.objective import row_scales
from kintsugi.records import Problem, Row
from kintsugi.trainer import check_algorithm

VOCABULARY = 128
OWN = 127 / 128
# The failure and its repair differ at tokens 1, 4 and 10 of 12; the passes have 11 tokens.
FAILED, MENDED, GOOD = "a3 b3#### 5", "a4 b4#### 4", "so 4#### 4"
REPAIR = f"[Q\nwrong:\n{FAILED}\nright:\n{GOOD}\nmend:\n]"
EDITS = (1, 4, 10)


def played(algorithm: str, *repairs: str) -> tuple[list[Row], float, list[Tensor]]:
    """(rows of an episode of one failure and two passes, their loss, its gradient (T, V) in the logits of each row)."""
    ctx, _ = make_context(
        {"[Q]": [FAILED, GOOD, GOOD], REPAIR: list(repairs)},
        algorithm=algorithm,
        sampling={"group_size": 3, "max_new_tokens": 20},
    )
    chosen = check_algorithm(ctx.recipe)
    rows = chosen.rows(run(chosen.run(Problem("p", "Q", "4"), ctx), ctx))
    objective = chosen.objective(20)
    logits = [torch.zeros(len(row.mask), VOCABULARY, requires_grad=True) for row in rows]
    total: Any = 0.0
    for row, own, scale in zip(rows, logits, row_scales(rows, objective), strict=True):
        now = token_logprobs(own, torch.tensor(row.completion_ids), 1.0)[None]
        tensors = [torch.tensor([values], dtype=torch.float32) for values in (row.mask, row.advantages)]
        losses = LOSSES[objective.level](
            now, now.detach(), *tensors, objective, torch.tensor([len(row.mask)])
        )
        total = total + scale * losses.loss_B[0]
    total.backward()
    return rows, float(total.detach()), [own.grad for own in logits if own.grad is not None]


def own_token(row: Row, gradient: Tensor) -> list[float]:
    """The gradient in the logit of each token that was written."""
    return [float(gradient[t, token]) for t, token in enumerate(row.completion_ids)]


def at(places: tuple[int, ...], value: float, length: int = 12) -> Any:
    return pytest.approx([value if t in places else 0.0 for t in range(length)], abs=1e-7)


def test_kintsugi() -> None:
    rows, loss, gradients = played("kintsugi", MENDED)
    assert [part_of(row) for row in rows] == ["failed", "repaired", "policy", "policy", "repair"]
    # Gated: one token of either side of the seam and 2 x 11 of the passes, 24 in all; the loss is a mean over them.
    # Credit -10, +10, and 1/sqrt(2) for each token of a pass (rewards 0, 1, 1: mean 2/3, deviation sqrt(2)/3).
    # Repair mode's one row is alone in its group: no credit.
    assert loss == pytest.approx(-(-10 + 10 + 22 / math.sqrt(2)) / 24, rel=1e-6)
    failed, repaired, one, other, repair = map(own_token, rows, gradients)
    assert failed == at((1,), 10 / 24 * OWN)
    assert repaired == at((1,), -10 / 24 * OWN)
    assert one == other == at(tuple(range(11)), -1 / math.sqrt(2) / 24 * OWN, 11)
    assert repair == at((), 0.0)


def test_iop() -> None:
    rows, loss, gradients = played("iop", MENDED, FAILED)
    assert [part_of(row) for row in rows] == ["failed", "repaired", "policy", "policy", "repair", "repair"]
    # All three edits are kept (fewer than K = 8). A ratio of the sequence is the mean over its three gated tokens, the
    # loss the mean over four policy rows, two of which have no credit: 1/4 of 1/3 for each token.
    failed, repaired, one, other, good, bad = map(own_token, rows, gradients)
    assert failed == at(EDITS, 1 / 12 * OWN)
    assert repaired == at(EDITS, -1 / 12 * OWN)
    assert one == other == at((), 0.0, 11)
    # Repairs: scores 1 - 0.2 * 3/12 = 0.95 and 0, so +1 and -1 within their group, each over 12 tokens; the mean of
    # two rows, weighted by lambda_rep = 0.2.
    assert good == at(tuple(range(12)), -0.2 / 2 / 12 * OWN)
    assert bad == at(tuple(range(12)), 0.2 / 2 / 12 * OWN)
    assert loss == pytest.approx(0.0, abs=1e-6)  # +1 and -1 twice
