"""TRL 1.15 computes log-probabilities by Triton kernels alone, which a CPU has not: the same numbers in torch."""

from __future__ import annotations

from typing import Any

import torch
import trl.trainer.utils as utils


class InTorch:
    """log pi of the targets and the entropy, as TRL's kernel returns them; its other outputs are not asked for."""

    @staticmethod
    def apply(
        hidden: Any,
        weight: Any,
        bias: Any,
        targets: Any,
        temperature: float,
        _: int,
        cap: Any,
        scale: float,
        *__: Any,
    ) -> tuple[Any, ...]:
        assert cap is None
        logits = torch.nn.functional.linear(hidden, weight, bias).float() * scale / temperature
        logprobs = logits.log_softmax(-1)
        entropy = -(logprobs.exp() * logprobs).sum(-1)
        return logprobs.gather(-1, targets[:, None]).squeeze(-1), entropy, None, None, None


MISSING = utils._ChunkedLogProbFunction is None
if MISSING:
    utils._ChunkedLogProbFunction = InTorch
