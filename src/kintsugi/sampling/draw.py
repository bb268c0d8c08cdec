"""Draws by inverse CDF: one uniform number per position, so that a sample depends on nothing but its own logits.

Shape suffixes: R rows, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kintsugi.sampling.sample import Sample


def uniforms(sample: Sample) -> np.ndarray:
    """The `limit` numbers in [0, 1) that decide the sample, made from (seed, index) alone.

    Philox is counter-based: (seed, index) is its key as it stands, and a lower limit draws a prefix.
    """
    key = np.array([sample.params.seed % 2**64, sample.index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(sample.limit)


def inverse_cdf(logprobs_RV: Tensor, uniforms_R1: Tensor) -> Tensor:
    """The first token (R, 1) whose cumulative probability, in vocabulary order, exceeds the uniform number.

    Summed in float64: over a large vocabulary float32 would misplace the rare tokens. The sum need not end at
    1, so the numbers are stretched to where it ends; as they are at most 1 - 2**-53, none is rounded up to it.
    """
    cdf_RV = logprobs_RV.exp().cumsum(dim=-1, dtype=torch.float64)
    tokens_R1 = torch.searchsorted(cdf_RV, uniforms_R1 * cdf_RV[:, -1:], right=True)
    # Only NaN gets past the end; `Slots` finds it in the log-probability.
    return tokens_R1.clamp_(max=logprobs_RV.shape[-1] - 1)


def nucleus(logprobs_RV: Tensor, top_p_R1: Tensor) -> Tensor:
    """Log-probabilities over each row's smallest set of likeliest tokens of mass >= top_p, -inf elsewhere."""
    sorted_RV, order_RV = logprobs_RV.sort(dim=-1, descending=True, stable=True)
    probs_RV = sorted_RV.exp()
    mass_before_RV = probs_RV.cumsum(dim=-1) - probs_RV
    # A row with top_p 1 keeps all by rule: rounding may sum its head to 1 and so lose its tail.
    outside_RV = (mass_before_RV >= top_p_R1) & (top_p_R1 < 1)
    outside_RV[:, 0] = False
    outside_RV = torch.empty_like(outside_RV).scatter_(1, order_RV, outside_RV)
    return torch.log_softmax(logprobs_RV.masked_fill(outside_RV, -torch.inf), dim=-1)
