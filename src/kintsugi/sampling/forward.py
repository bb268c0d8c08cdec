"""A model's forward pass on top of a cache: what it takes, in which mode, and which masks.

Shape suffixes: R rows, q new tokens of each, K columns of the cache, those included, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kintsugi.models.lora import without_adapters
from kintsugi.sampling.cache import RoomyLayer, new_cache

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RECURRENT = "cache_params"
"""transformers' name for the same cache in models that keep a state alone (Mamba and its kin)."""


class Forward:
    """A model's logits (float32) for new tokens on top of a cache.

    `joins`: its cache is nothing but keys and values, so that rows may enter at any step. `skips`: rows may have
    columns between their tokens that hold none, as copying leaves them. `autocast` is a dtype to compute in.
    """

    def __init__(self, model: PreTrainedModel, autocast: torch.dtype | None, copies: bool = True) -> None:
        self.model = model
        self.autocast = autocast
        # A PEFT model's own forward takes anything; what counts is what the model inside it takes.
        self._inner = without_adapters(model)
        self._takes = frozenset(inspect.signature(self._inner.forward).parameters)
        self._recurrent = RECURRENT in self._takes and "past_key_values" not in self._takes
        self._cast: dict[torch.nn.Linear, torch.nn.Parameter] | None = None
        layers = new_cache(model.config).layers
        self.joins = not self._recurrent and all(isinstance(layer, RoomyLayer) for layer in layers)
        windows = {layer.window for layer in layers if isinstance(layer, RoomyLayer)}
        kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
        self._windows = {window for window in windows if window is not None}
        self._mixed = len(windows) > 1
        self._ready = (
            self.joins
            and self._inner.config._attn_implementation == "sdpa"
            and getattr(self._inner, "_supports_attention_backend", False)
            and len(self._windows) <= 1
            and (not self._mixed or kinds == {"full_attention", "sliding_attention"})
        )
        self.skips = copies and self.joins and (self._ready or not self._windows)

    def __call__(
        self, ids_Rq: Tensor, cache: Any, valid_RK: Tensor | None, at_Rq: Tensor, keep: int
    ) -> Tensor:
        """Logits of the last `keep` new tokens, (R, keep, V).

        valid_RK  The columns that hold a token; None: all do.
        at_Rq     The new tokens' positions.
        """
        extra: dict[str, Any] = {RECURRENT if self._recurrent else "past_key_values": cache}
        if "logits_to_keep" in self._takes:
            extra["logits_to_keep"] = keep
        if "position_ids" in self._takes:
            extra["position_ids"] = at_Rq
        mask = None if valid_RK is None else self._mask(valid_RK, ids_Rq.shape[1], cache)
        if self._recurrent and ids_Rq.shape[1] == 1:
            mask = None  # padding never got into the state, and such models want a mask of new tokens alone
        output = self.model(ids_Rq, attention_mask=mask, use_cache=True, **extra)
        logits: Tensor = output.logits[:, -keep:].float()
        return logits

    def _mask(self, valid_RK: Tensor, new: int, cache: Any) -> Any:
        """The mask as the model takes it.

        Models that leave masks to transformers pass one of four dimensions on as it is. That saves them the making
        of one at every step (measured: 10% of a step of 16 rows of the nano model), and lets a window count a row's
        tokens, where transformers would count columns.
        """
        if not self._ready:
            return valid_RK.long()
        mask = valid_RK[:, None, None]
        if new > 1:
            columns = valid_RK.shape[1]
            causal = torch.ones(new, columns, dtype=torch.bool, device=mask.device).tril(columns - new)
            mask = mask & causal
        if not self._windows:
            return mask
        place_RK = valid_RK.cumsum(dim=1)
        (window,) = self._windows
        near = place_RK[:, None, None] > place_RK[:, None, -new:, None] - window
        held = next(layer for layer in cache.layers if layer.window is not None).get_mask_sizes(new)[0]
        sliding = (mask & near)[..., -held:]
        return {"full_attention": mask, "sliding_attention": sliding} if self._mixed else sliding

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """No gradients, no dropout, autocast if asked; every module is as before afterwards."""
        training = [module for module in self.model.modules() if module.training]
        self.model.eval()
        device = self.model.device.type
        try:
            with (
                torch.inference_mode(),
                self._cast_weights(),
                torch.autocast(device, dtype=self.autocast, enabled=self.autocast is not None),
            ):
                yield
        finally:
            for module in training:
                module.training = True

    @contextmanager
    def _cast_weights(self) -> Iterator[None]:
        """float32 weights of linear layers are in the dtype of autocast, as it would make them.

        Without gradients autocast keeps no copies: it would cast every weight again for every token. The copies are
        made once and kept: a Forward is of the weights that the model had at its first pass.
        """
        if self._cast is None:
            self._cast = {} if self.autocast is None else cast(self.model, self.autocast)
        trained = [(layer, layer.weight) for layer in self._cast]
        try:
            for layer, coarse in self._cast.items():
                layer.weight = coarse
            yield
        finally:
            for layer, weight in trained:
                layer.weight = weight


def cast(model: torch.nn.Module, dtype: torch.dtype) -> dict[torch.nn.Linear, torch.nn.Parameter]:
    """The float32 weights of linear layers in `dtype`."""
    linear = (module for module in model.modules() if isinstance(module, torch.nn.Linear))
    return {
        layer: torch.nn.Parameter(layer.weight.to(dtype), requires_grad=False)
        for layer in linear
        if layer.weight.dtype == torch.float32
    }
