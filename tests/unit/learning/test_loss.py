"""The objectives against numbers derived by hand. d = log pi_theta - log pi_old throughout."""

from __future__ import annotations

import math

import pytest
import torch
from fakes import make_row
from torch import Tensor

from kintsugi.learning.loss import LOSSES, RowLosses, token_logprobs
from kintsugi.learning.objective import Objective, flattened, row_scales, row_share
from kintsugi.records import Row

E = math.exp
WIDE = Objective("sequence", clip_low=0.2, clip_high=0.3)


def losses(
    level: str,
    d: list[list[float]],
    mask: list[list[int]],
    advantages: list[list[float]],
    objective: Objective = WIDE,
    lengths: list[int] | None = None,
) -> tuple[RowLosses, Tensor]:
    """The row losses where log pi_old is -2 everywhere, and the gradient of their sum for log pi_theta."""
    old = torch.full((len(d), len(d[0])), -2.0, dtype=torch.float64)
    now = (old + torch.tensor(d, dtype=torch.float64)).requires_grad_()
    found = LOSSES[level](
        now,
        old,
        torch.tensor(mask, dtype=torch.float64),
        torch.tensor(advantages, dtype=torch.float64),
        objective,
        torch.tensor(lengths or [len(row) for row in d]),
    )
    (gradient,) = torch.autograd.grad(found.loss_B.sum(), now)
    return RowLosses(found.loss_B.detach(), found.ratio_B.detach(), found.clipped_B.detach()), gradient


def sequence(
    d: list[float], mask: list[int], advantage: float, **more: object
) -> tuple[float, float, float, list[float]]:
    """(loss, ratio, clipped, gradient) of one row under the gated sequence loss."""
    result, gradient = losses("sequence", [d], [mask], [[advantage * g for g in mask]], **more)
    return float(result.loss_B), float(result.ratio_B), float(result.clipped_B), gradient[0].tolist()


# ---- gated sequence loss


def test_unclipped_row_and_its_gradient() -> None:
    # d = 0.2 and -0.1 on the gate: w = exp(0.1 / 2) = exp(0.05). loss = -w A with A = 2.
    # d loss / d log pi_t = -A w g_t / sum g = -2 exp(0.05) / 2 on the gate; exactly 0 off it.
    loss, ratio, clipped, gradient = sequence([0.2, 9.0, -0.1], [1, 0, 1], 2.0)
    assert ratio == pytest.approx(E(0.05))
    assert loss == pytest.approx(-2 * E(0.05))
    assert clipped == 0
    assert gradient == pytest.approx([-E(0.05), 0.0, -E(0.05)])
    assert gradient[1] == 0.0


@pytest.mark.parametrize(
    ("d", "advantage", "loss", "slope", "clipped"),
    [
        # The clip is [0.8, 1.3]; w = exp(d); slope is d loss / d log pi = -A w where w is not clipped.
        (0.4, 2.0, -2.6, 0.0, 1),  # w = 1.492, A > 0: min(2.98, 2 * 1.3) = 2.6
        (-0.5, -1.0, 0.8, 0.0, 1),  # w = 0.607, A < 0: min(-0.607, -0.8) = -0.8
        (0.4, -1.0, E(0.4), E(0.4), 0),  # the pessimistic side: min(-1.492, -1.3) = -1.492
        (-0.5, 2.0, -2 * E(-0.5), -2 * E(-0.5), 0),  # likewise: min(1.213, 2 * 0.8) = 1.213
        (0.0, 1.0, -1.0, -1.0, 0),  # on policy: the plain policy gradient
        (0.0, -1.0, 1.0, 1.0, 0),
    ],
)
def test_clip_on_both_sides(d: float, advantage: float, loss: float, slope: float, clipped: int) -> None:
    # Also a gate of one token: its ratio is the row's, whatever the other tokens do.
    found = sequence([5.0, d, -5.0], [0, 1, 0], advantage)
    assert found[:3] == pytest.approx((loss, E(d), clipped))
    assert found[3] == pytest.approx([0.0, slope, 0.0])


def test_an_empty_gate_contributes_exactly_nothing() -> None:
    for advantages in ([0.0, 0.0], [3.0, -3.0]):
        result, gradient = losses("sequence", [[0.7, -9.0]], [[0, 0]], [advantages])
        assert result.loss_B.tolist() == [0.0]
        assert result.clipped_B.tolist() == [0.0]
        assert gradient.tolist() == [[0.0, 0.0]]


def test_a_gate_of_ones_is_gspo() -> None:
    # GSPO eq. 5-7: s = (pi_theta(y|x) / pi_old(y|x)) ^ (1/|y|); J = mean_i min(s A, clip(s) A).
    # Two rows of 4 and 2 tokens: s1 = exp((0.1 + 0.3 - 0.2 + 0.2) / 4) = exp(0.1), A = 1.5: inside the clip;
    # s2 = exp((-0.9 - 0.3) / 2) = exp(-0.6) = 0.549, A = -2: clipped at 0.8.
    d = [[0.1, 0.3, -0.2, 0.2], [-0.9, -0.3, 7.0, 7.0]]
    mask = [[1, 1, 1, 1], [1, 1, 0, 0]]
    result, _ = losses("sequence", d, mask, [[1.5] * 4, [-2.0] * 2 + [0.0] * 2], lengths=[4, 2])
    assert result.ratio_B.tolist() == pytest.approx([E(0.1), E(-0.6)])
    assert result.loss_B.tolist() == pytest.approx([-1.5 * E(0.1), 1.6])
    assert result.clipped_B.tolist() == [0.0, 1.0]


def test_what_stands_in_the_padding_is_ignored() -> None:
    short = sequence([0.1, -0.3], [1, 1], 1.0)
    padded = sequence([0.1, -0.3, 50.0], [1, 1, 0], 1.0, lengths=[2])
    assert padded[:3] == pytest.approx(short[:3])
    assert padded[3] == pytest.approx([*short[3], 0.0])


# ---- widening of the clip range


@pytest.mark.parametrize(
    ("active", "d", "advantage", "loss"),
    [
        # 16 tokens; the range [1 - 0.2, 1 + 0.3] is widened by sqrt(16 / active).
        (16, math.log(1.9), 1.0, -1.3),  # all active: not widened
        (4, math.log(1.5), 1.0, -1.5),  # factor 2: [0.6, 1.6]
        (4, math.log(1.9), 1.0, -1.6),
        (4, math.log(0.5), -1.0, 0.6),
        (1, math.log(2.5), 1.0, -2.2),  # factor 4: 1 + 1.2 above; 1 - 0.8 below
        (1, math.log(0.1), -1.0, 0.2),
    ],
)
def test_widen_by_the_root_of_length_over_active(
    active: int, d: float, advantage: float, loss: float
) -> None:
    mask = [1] * active + [0] * (16 - active)
    widened = Objective("sequence", 0.2, 0.3, widen=True)
    assert sequence([d] * 16, mask, advantage, objective=widened)[0] == pytest.approx(loss)


def test_each_row_is_widened_by_its_own_gate() -> None:
    # Two rows of 4 tokens at d = log 1.5 on the gate, A = 1, clip at 1.3. One active token of four: the range is
    # widened by sqrt(4 / 1) = 2, to 1.6, so 1.5 stands. All four active: not widened, 1.3.
    d, widened = math.log(1.5), Objective("sequence", 0.2, 0.3, widen=True)
    found, _ = losses(
        "sequence", [[d] * 4] * 2, [[1, 0, 0, 0], [1] * 4], [[1.0, 0, 0, 0], [1.0] * 4], widened
    )
    assert found.loss_B.tolist() == pytest.approx([-1.5, -1.3])


def test_without_widen_the_gate_does_not_move_the_clip() -> None:
    assert sequence([math.log(1.9)] * 16, [1] + [0] * 15, 1.0)[0] == pytest.approx(-1.3)


def test_widening_counts_a_rows_own_length_not_the_padding() -> None:
    # 4 tokens, 1 active, padded to 8: factor sqrt(4) = 2, so 1 + 0.6; sqrt(8) would allow 1.85.
    widened = Objective("sequence", 0.2, 0.3, widen=True)
    loss, *_ = sequence([math.log(1.9)] * 8, [1] + [0] * 7, 1.0, objective=widened, lengths=[4])
    assert loss == pytest.approx(-1.6)


def test_the_widened_lower_bound_stays_above_zero() -> None:
    # 0.2 * sqrt(64 / 1) = 1.6 would put it at -0.6; it stops at 1 - 0.9.
    widened = Objective("sequence", 0.2, 0.3, widen=True)
    loss, _, clipped, _ = sequence([math.log(0.05)] * 64, [1] + [0] * 63, -1.0, objective=widened)
    assert (loss, clipped) == (pytest.approx(0.1), 1)


# ---- token-level loss


def test_token_loss() -> None:
    # r = 1.5, 0.5, 1.1 with A = 1, 1, -1, clip [0.8, 1.2]; the fourth token is off (and would overflow).
    # min(1.5, 1.2) = 1.2 clipped; min(0.5, 0.8) = 0.5; min(-1.1, -1.1) = -1.1.
    # loss = -(1.2 + 0.5 - 1.1) / 3 = -0.2; ratio = 3.1 / 3; one of three clipped.
    # d loss / d log pi_t = -A_t r_t / 3 where not clipped.
    d = [[math.log(1.5), math.log(0.5), math.log(1.1), 1e4]]
    result, gradient = losses(
        "token", d, [[1, 1, 1, 0]], [[1.0, 1.0, -1.0, 5.0]], Objective("token", 0.2, 0.2)
    )
    assert result.loss_B.tolist() == pytest.approx([-0.2])
    assert result.ratio_B.tolist() == pytest.approx([3.1 / 3])
    assert result.clipped_B.tolist() == pytest.approx([1 / 3])
    assert gradient[0].tolist() == pytest.approx([0.0, -0.5 / 3, 1.1 / 3, 0.0])


def test_token_loss_is_a_mean_per_row() -> None:
    # On policy every ratio is 1: the loss of a row is -A, whether it has one token or three.
    result, _ = losses("token", [[0.0] * 3, [0.0] * 3], [[1, 1, 1], [1, 0, 0]], [[2.0] * 3, [-1.0, 0, 0]])
    assert result.loss_B.tolist() == pytest.approx([-2.0, 1.0])


def test_token_loss_of_an_empty_gate_is_nothing() -> None:
    result, gradient = losses("token", [[0.4, 0.1]], [[0, 0]], [[1.0, 1.0]])
    assert result.loss_B.tolist() == [0.0]
    assert gradient.tolist() == [[0.0, 0.0]]


# ---- negative log-likelihood


def test_nll() -> None:
    # log pi = -2 + d = -1, -3, -6 with A = 1, 0.5 and a masked 7: -(1 * -1 + 0.5 * -3) / 2 = 1.25.
    # Its gradient is -A_t / 2 on the mask.
    result, gradient = losses("nll", [[1.0, -1.0, -4.0]], [[1, 1, 0]], [[1.0, 0.5, 7.0]])
    assert result.loss_B.tolist() == pytest.approx([1.25])
    assert (result.ratio_B.tolist(), result.clipped_B.tolist()) == ([1.0], [0.0])
    assert gradient[0].tolist() == pytest.approx([-0.5, -0.25, 0.0])


# ---- log-probabilities


@pytest.mark.parametrize(
    ("temperature", "probabilities"),
    [
        (1.0, (1 / 4, 3 / 4)),  # logits 0 and log 3: odds 1 to 3
        (0.5, (1 / 10, 9 / 10)),  # twice the logits: odds 1 to 9
    ],
)
def test_token_logprobs(temperature: float, probabilities: tuple[float, float]) -> None:
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    found = token_logprobs(logits, torch.tensor([0, 1]), temperature)
    assert found.tolist() == pytest.approx([math.log(p) for p in probabilities])


def test_token_logprobs_are_computed_in_fp32() -> None:
    # In bfloat16 (8 bits) log(1/4) = -1.38629 would come out as -1.3828 or -1.3906.
    logits = torch.zeros(1, 4, dtype=torch.bfloat16)
    assert float(token_logprobs(logits, torch.tensor([2]), 1.0)) == pytest.approx(-math.log(4), abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_token_logprobs_have_the_gradient_of_their_formula(temperature: float) -> None:
    # d log p[id] / d logit[v] = (1[v = id] - p[v]) / temperature. With logits 0 and log 3, p is (1/4, 3/4) at
    # temperature 1 and (1/10, 9/10) at 1/2; the second row's log-probability counts twice.
    low, high = (1 / 4, 3 / 4) if temperature == 1 else (1 / 10, 9 / 10)
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]], requires_grad=True)
    found = token_logprobs(logits, torch.tensor([0, 1]), temperature)
    (found * torch.tensor([1.0, 2.0])).sum().backward()
    by_hand = torch.tensor([[1 - low, -high], [-2 * low, 2 * (1 - high)]]) / temperature
    assert torch.allclose(logits.grad, by_hand, atol=1e-6)


# ---- reduction


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        # Row losses 1 and -4 (token means) of 3 and 1 tokens: sums 3 and -4.
        ("row", (1 - 4) / 2),
        ("token", (3 - 4) / 4),
        ("constant", (3 / 10 - 4 / 10) / 2),  # the longest completion has 10
    ],
)
def test_share_makes_the_mean_over_rows_or_tokens_or_a_constant(reduction: str, expected: float) -> None:
    objective = Objective("token", reduction=reduction, horizon=10)
    shares = [row_share(objective, active) for active in (3, 1)]
    total = sum(loss * times for loss, (times, _) in zip((1.0, -4.0), shares, strict=True))
    assert total / sum(divisor for _, divisor in shares) == pytest.approx(expected)


def row(part: str, mask: tuple[int, ...], credit: float, weight: float = 1.0) -> Row:
    return make_row((1,), (2,) * len(mask), credit, mask, part, weight=weight)


BATCH = [
    row("policy", (1, 1, 1), 1.0),
    row("failed", (0, 1), -2.0),
    row("repaired", (1, 0), 0.5),
    row("repair", (1, 1), 1.0, weight=0.2),
    row("repair", (0, 0), 0.0, weight=0.2),
]


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        # Three policy rows count, two repair rows.
        ("row", [1 / 3, 1 / 3, 1 / 3, 0.2 / 2, 0.2 / 2]),
        # 3 + 1 + 1 policy tokens, 2 repair tokens: a row counts as often as it has tokens.
        ("token", [3 / 5, 1 / 5, 1 / 5, 0.2 * 2 / 2, 0]),
        # Sums over tokens by a horizon of 10, then the mean over rows.
        ("constant", [3 / 10 / 3, 1 / 10 / 3, 1 / 10 / 3, 0.2 * 2 / 10 / 2, 0]),
    ],
)
def test_what_each_row_counts_in_the_loss(reduction: str, expected: list[float]) -> None:
    objective = Objective("token", reduction=reduction, horizon=10)
    assert row_scales(BATCH, objective) == pytest.approx(expected)


def test_flattened_rows_add_up_to_the_loss_token_by_token() -> None:
    # Reduction by rows: the first row's mean counts 1/3, so each of its 3 tokens counts 1/9 of its credit 1.
    # The failure's one token: 1/3 of -2; the repair's: 1/3 of 0.5. The repair row: 0.2 / 2 over 2 tokens.
    flat = flattened(BATCH, Objective("token"))
    assert [r.advantages for r in flat] == [
        pytest.approx((1 / 9, 1 / 9, 1 / 9)),
        pytest.approx((0, -2 / 3)),
        pytest.approx((0.5 / 3, 0)),
        pytest.approx((0.05, 0.05)),
        (0.0, 0.0),
    ]
    assert [r.weight for r in flat] == [1.0] * 5
    assert [r.mask for r in flat] == [r.mask for r in BATCH]


def test_a_batch_in_which_nothing_is_gated_counts_nothing() -> None:
    assert row_scales([row("failed", (0,), 0.0)], Objective("token", reduction="token")) == [0.0]
