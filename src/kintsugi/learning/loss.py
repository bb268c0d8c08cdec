"""The objectives, as pure functions of tensors. Shapes: B rows, T completion tokens (right-padded).

Each returns per-row losses to minimise (B,), so that the learner can weigh and average them.

With one update a batch (`optim.minibatches: 1`) training is on policy: pi_old is the present policy, every ratio is 1,
no clip acts, and GRPO and GSPO have one and the same gradient, A grad log pi. Ratios and clip ranges decide something
from the second update of a batch on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kintsugi.learning.objective import Objective


@dataclass(frozen=True, slots=True)
class RowLosses:
    """Per row (B,): loss, ratio (w_z, or the token mean of ratios), share of active tokens clipped."""

    loss_B: Tensor
    ratio_B: Tensor
    clipped_B: Tensor


def masked_mean(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over the tokens where mask is 1, per row (B,); 0 for a row without any."""
    return (values_BT * mask_BT).sum(-1) / mask_BT.sum(-1).clamp(min=1)


def gated_sequence_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    mask_BT: Tensor,
    advantages_BT: Tensor,
    objective: Objective,
    lengths_B: Tensor,
) -> RowLosses:
    """-min(w A, clip(w) A) with the gated sequence ratio (arXiv:2605.05226; GSPO, arXiv:2507.18071, eq. 5-7).

    w = exp( sum_t g_t (log pi_theta - log pi_old) / sum_t g_t ). A is the row's advantage where the gate
    is 1 (constant there). With a gate of ones this is GSPO. An empty gate gives exactly 0.
    """
    ratio_B = masked_mean(logprobs_BT - old_logprobs_BT, mask_BT).exp()
    advantage_B = masked_mean(advantages_BT, mask_BT)
    low_B, high_B = clip_range(objective, mask_BT, lengths_B)
    clipped_B = torch.maximum(torch.minimum(ratio_B, 1 + high_B), 1 - low_B)
    gain_B = torch.minimum(ratio_B * advantage_B, clipped_B * advantage_B)
    active_B = mask_BT.sum(-1) > 0
    is_clipped_B = (clipped_B * advantage_B < ratio_B * advantage_B) & active_B
    return RowLosses(-gain_B * active_B, ratio_B, is_clipped_B.to(ratio_B.dtype))


def token_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    mask_BT: Tensor,
    advantages_BT: Tensor,
    objective: Objective,
    lengths_B: Tensor,
) -> RowLosses:
    """The token mean, per row, of -min(r_t A_t, clip(r_t) A_t) (GRPO, arXiv:2402.03300, eq. 3, without KL)."""
    del lengths_B
    ratio_BT = ((logprobs_BT - old_logprobs_BT) * mask_BT).exp()
    clipped_BT = ratio_BT.clamp(1 - objective.clip_low, 1 + objective.clip_high)
    gain_BT = torch.minimum(ratio_BT * advantages_BT, clipped_BT * advantages_BT)
    is_clipped_BT = (clipped_BT * advantages_BT < ratio_BT * advantages_BT).to(ratio_BT.dtype)
    return RowLosses(
        -masked_mean(gain_BT, mask_BT), masked_mean(ratio_BT, mask_BT), masked_mean(is_clipped_BT, mask_BT)
    )


def nll_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    mask_BT: Tensor,
    advantages_BT: Tensor,
    objective: Objective,
    lengths_B: Tensor,
) -> RowLosses:
    """The token mean, per row, of -A_t log pi(token): supervised fine-tuning when A is 1."""
    del old_logprobs_BT, objective, lengths_B
    loss_B = -masked_mean(advantages_BT * logprobs_BT, mask_BT)
    return RowLosses(loss_B, torch.ones_like(loss_B), torch.zeros_like(loss_B))


def clip_range(objective: Objective, mask_BT: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
    """(low, high) distances of the clip from 1, per row (B,); low stays at or below 0.9, so ratios stay above 0."""
    scale_B = torch.ones_like(lengths_B, dtype=mask_BT.dtype)
    if objective.widen:
        scale_B = (lengths_B / mask_BT.sum(-1).clamp(min=1)).clamp(min=1).sqrt()
    return (objective.clip_low * scale_B).clamp(max=0.9), objective.clip_high * scale_B


LOSSES = {"sequence": gated_sequence_loss, "token": token_loss, "nll": nll_loss}


def token_logprobs(logits_NV: Tensor, ids_N: Tensor, temperature: float) -> Tensor:
    """(N,) log softmax(logits / temperature) at `ids`, in fp32. May be differentiated once."""
    found_N: Tensor = TokenLogprobs.apply(logits_NV, ids_N, temperature)  # type: ignore[no-untyped-call]
    return found_N


class TokenLogprobs(torch.autograd.Function):
    """`token_logprobs` with one buffer of the size of its logits, where autograd would keep three.

    With p = softmax(logits / temperature), the gradient of log p[id] is (one-hot(id) - p) / temperature.
    """

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, ids_N: Tensor, temperature: float) -> Tensor:
        total_N = torch.cat([normaliser(piece_NV, temperature) for piece_NV in torch.split(logits_NV, PIECE)])
        ctx.save_for_backward(logits_NV, ids_N, total_N)
        ctx.temperature = temperature
        return logits_NV.gather(1, ids_N[:, None])[:, 0].float() / temperature - total_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N: Tensor) -> tuple[Tensor, None, None]:
        logits_NV, ids_N, total_N = ctx.saved_tensors
        grad_N = grad_N / ctx.temperature
        grad_NV = logits_NV.float() - ctx.temperature * total_N[:, None]
        if ctx.temperature != 1:
            grad_NV.div_(ctx.temperature)
        grad_NV.exp_().mul_(-grad_N[:, None])
        grad_NV.scatter_add_(1, ids_N[:, None], grad_N[:, None])
        return grad_NV.to(logits_NV.dtype), None, None


PIECE = 256
"""Rows of logits that are summed at a time, so that no copy of all of them is made."""


def normaliser(logits_NV: Tensor, temperature: float) -> Tensor:
    """(N,) log of the sum of exp(logits / temperature), in fp32."""
    scaled_NV = logits_NV.float() if temperature == 1 else logits_NV.float() / temperature
    return scaled_NV.logsumexp(-1)
