"""The embedded engine: any Hugging Face causal LM as a Sampler (see slots.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from kintsugi.sampling.base import Pulse
from kintsugi.sampling.forward import Forward
from kintsugi.sampling.sample import Limits
from kintsugi.sampling.selftest import check_sampler, model_type
from kintsugi.sampling.slots import Slots

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKEN_BUDGET = 32_768
"""Default for the most positions that may be decoded together, counted as if no row stopped early."""


@dataclass(frozen=True, slots=True)
class LocalEngine:
    """`engine: local`. It takes no arguments."""

    def positions(self, of_model: int | None) -> int | None:
        return of_model

    def sampler(
        self,
        model: PreTrainedModel,
        *,
        pad_id: int,
        token_budget: int,
        version: Callable[[], int],
        autocast: torch.dtype | None,
        pulse: Pulse,
    ) -> LocalSampler:
        copies = check_sampler(model, pad_id)
        return LocalSampler(model, pad_id, token_budget, version, autocast, pulse, copies)


class LocalSampler:
    """A Sampler over `model` (on its device, at its present weights).

    A sample is the same whatever is decoded beside it. Near the model's last position completions are cut to what
    fits (finish "length"). `pad_id` may be any token id. `token_budget` bounds rows x (prompt + new tokens) that are
    decoded together. `version` is asked for the learner's step count when a session begins. `autocast` is a dtype to
    compute in. `pulse` is called after each pass. `copies`: drafts are used
    where the model's cache allows it. `notes` say what of this the model's kind leaves out. `exact`: its
    log-probabilities (of samples with top_p 1) are those of float32 arithmetic, as the learner's then are.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        pad_id: int,
        token_budget: int = TOKEN_BUDGET,
        version: Callable[[], int] = lambda: 0,
        autocast: torch.dtype | None = None,
        pulse: Pulse = lambda _: None,
        copies: bool = True,
    ) -> None:
        self._model, self._autocast, self._copies = model, autocast, copies
        self._pad_id, self._token_budget, self._version = pad_id, token_budget, version
        self._limits, self._pulse = Limits.of(model), pulse
        self.exact = autocast is None and model.dtype == torch.float32
        forward = Forward(model, autocast, copies)
        self.notes = noted(model_type(model), forward)

    def session(self) -> Slots:
        # Weights that autocast has to cast are cast once a session.
        forward = Forward(self._model, self._autocast, self._copies)
        return Slots(
            forward, self._limits.samples, self._pad_id, self._token_budget, self._version(), self._pulse
        )


def noted(kind: str, forward: Forward) -> tuple[str, ...]:
    """The things that the local engine cannot do with this kind of model."""
    if not forward.joins:
        return (
            f"model type {kind}: its cache holds more than keys and values, so that completions are decoded in "
            "rounds: repairs wait for the slowest rollout of a step",
        )
    if not forward.skips:
        return (f"model type {kind}: repairs are drawn a token at a time, not copied from their drafts",)
    return ()
