"""Keys and values of the rows that are being decoded.

All rows of a cache write their next token into the same column, and each row has its tokens in its last columns: what
lies before them is padding. So a step writes one slice, and rows of several caches stand side by side by their ends.
Shape suffixes: R rows, H heads, K columns, D features of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

SPARE_COLUMNS = 32
"""Room a cache's buffers gain when they are full. More copies less often, but spreads the rows further apart, and
attention for one new token is bound by memory (measured on CPU: 20% slower with 96 of 178 columns spare)."""

CachePart = tuple[Any, Tensor, Tensor | None]
"""A cache, the rows chosen of it, and, where it has holes, which of its columns hold a token, (R, K) of all rows."""


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values in buffers with room to spare, so that a step writes one slice.

    transformers' own layers concatenate, which copies the whole cache at every step; its static layers make
    attention run over the columns that are still empty. A sliding window returns its last columns only, and `slack`
    more: as many holes as a row may have.
    """

    def __init__(self, window: int | None = None) -> None:
        super().__init__()
        self.window = window
        self.is_sliding = window is not None
        self.slack = 0
        self.seen = 0  # columns this layer was given
        self.used = 0  # columns the buffers hold: fewer than seen once a window has moved on
        self.buffers: tuple[Tensor, ...] = ()

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, new = self._start(), key_states.shape[-2]
        if not self.buffers:
            self.buffers = (key_states, value_states)
        else:
            if self.used + new > self.buffers[0].shape[-2]:
                self._hold([(self.held(), None)], max(new, SPARE_COLUMNS))
                start = self._start()
            for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
                buffer[:, :, self.used : self.used + new] = states
        self.seen += new
        self.used += new
        self.keys, self.values = (buffer[:, :, start : self.used] for buffer in self.buffers)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        past = self.used - self._start()
        return past + query_length, self.seen - past

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Row i becomes what row beam_idx[i] was; rows may repeat, vanish or multiply."""
        if self.buffers:
            self._hold([(self.held(), beam_idx)], SPARE_COLUMNS)

    def undo(self, columns: int) -> None:
        """Takes the last columns back."""
        self.seen -= columns
        self.used -= columns

    def held(self) -> tuple[Tensor, ...]:
        """Keys and values, (R, H, K, D), that the next token may look back on."""
        return tuple(buffer[:, :, self._start() : self.used] for buffer in self.buffers)

    def join(self, parts: Sequence[tuple[RoomyLayer, Tensor, Tensor | None]], columns: int) -> None:
        """Becomes the chosen rows of other layers, one below the other. `columns`: those of a layer without window."""
        if not all(layer.buffers for layer, _, _ in parts):
            return  # a model that keeps what it has read elsewhere: the trial before a run refuses it
        self.is_initialized, self.seen = True, columns
        self._hold(
            [
                (tuple(s[:, :, -columns:] for s in layer.held()), rows)
                if valid is None
                else (tuple(squeezed(s[rows], valid[rows]) for s in layer.held()), None)
                for layer, rows, valid in parts
            ],
            SPARE_COLUMNS,
        )

    def _start(self) -> int:
        return 0 if self.window is None else max(0, self.used - self.window + 1 - self.slack)

    def _hold(self, parts: Sequence[tuple[tuple[Tensor, ...], Tensor | None]], room: int) -> None:
        """New buffers of these states and the rows chosen of them (None: all), by their last columns."""
        self.used = max(keys.shape[2] for (keys, _), _ in parts)
        counts = [keys.shape[0] if rows is None else len(rows) for (keys, _), rows in parts]
        buffers = []
        for states_of in zip(*(states for states, _ in parts), strict=True):
            _, heads, _, features = states_of[0].shape
            new = states_of[0].new_empty(sum(counts), heads, self.used + room, features)
            places = new.split(counts)
            for place, states, (_, rows) in zip(places, states_of, parts, strict=True):
                pad = self.used - states.shape[2]
                place[:, :, :pad] = (
                    0  # no token looks at it, but what is not a number would be felt all the same
                )
                mine = place[:, :, pad : self.used]
                if rows is None:
                    mine.copy_(states)
                else:
                    torch.index_select(states, 0, rows, out=mine)
            buffers.append(new)
        self.buffers = tuple(buffers)


def squeezed(states: Tensor, valid_RK: Tensor) -> Tensor:
    """Keys or values (R, H, K, D) without the columns that hold no token: each row's tokens in its last columns."""
    valid_RK = valid_RK[:, -states.shape[2] :]
    order_RK = valid_RK.byte().argsort(dim=1, stable=True)[:, -int(valid_RK.sum(dim=1).max()) :]
    return states.gather(2, order_RK[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3]))


def new_cache(config: Any) -> Any:
    """An empty cache for a model of this config: transformers' own, its plain and windowed layers roomy.

    Layers of another kind (recurrent states, shared layers) stay as transformers made them.
    """
    cache = DynamicCache(config=config)
    for number, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:
            cache.layers[number] = RoomyLayer()
        elif type(layer) is DynamicSlidingWindowLayer:
            cache.layers[number] = RoomyLayer(layer.sliding_window)
    return cache


def joined(config: Any, parts: Sequence[CachePart], columns: int) -> Any:
    """One cache of `columns` columns with the chosen rows of several, which must be joinable."""
    cache = new_cache(config)
    for number, layer in enumerate(cache.layers):
        layer.join([(c.layers[number], rows, valid) for c, rows, valid in parts], columns)
    return cache
