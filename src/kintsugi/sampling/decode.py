"""Decoding one batch of samples with a Hugging Face causal LM: the tensor half of the local engine.

Distinct prompts are prefilled once, their cache is spread over the rows that continue them, and rows that
have ended leave the batch. Shape suffixes: P distinct prompts, R rows still in the batch, S stop ids,
T new tokens, K cached positions, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from kintsugi.records import Completion, KintsugiError
from kintsugi.sampling.sample import Sample

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SPARE_POSITIONS = 32
"""Room a cache buffer gains when it is full. More copies less often, but spreads the rows further apart, and
attention for one new token is bound by memory (measured on CPU: 20% slower with 96 of 178 positions spare)."""

COMPACT_AT = 0.75
"""Ended rows are dropped from the cache once at most this share of its rows is still going: a drop copies
the whole cache, which costs about what two steps of attention do."""

RECURRENT = "cache_params"
"""transformers' name for the same cache in models that keep a state alone (Mamba and its kin)."""

NO_TOKEN = -1
"""Fills up a row's stop ids where another row of the batch has more."""


def uniforms(sample: Sample) -> np.ndarray:
    """The `limit` numbers in [0, 1) that decide the sample, made from (seed, index) alone.

    Philox is counter-based: (seed, index) is its key as it stands, and a lower limit draws a prefix.
    """
    key = np.array([sample.params.seed % 2**64, sample.index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(sample.limit)


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values in buffers with room to spare, so that a step writes one position.

    transformers' own layers concatenate, which copies the whole cache at every step; its static layers make
    attention run over the positions that are still empty. A sliding window returns its last positions only.
    """

    def __init__(self, window: int | None = None) -> None:
        super().__init__()
        self.window = window
        self.is_sliding = window is not None
        self.seen = 0  # positions this layer was given
        self.used = 0  # positions the buffers hold: fewer than seen once a window has moved on
        self.buffers: tuple[Tensor, ...] = ()

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, new = self._window_start(), key_states.shape[-2]
        if not self.buffers:
            self.buffers = (key_states, value_states)
        else:
            if self.used + new > self.buffers[0].shape[-2]:
                self._rebuild(None, room=max(new, SPARE_POSITIONS))
                start = self._window_start()
            for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
                buffer[:, :, self.used : self.used + new] = states
        self.seen += new
        self.used += new
        self.keys, self.values = (buffer[:, :, start : self.used] for buffer in self.buffers)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        past = self.used - self._window_start()
        return past + query_length, self.seen - past

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Row i becomes what row beam_idx[i] was; rows may repeat, vanish or multiply."""
        self._rebuild(beam_idx, room=SPARE_POSITIONS)

    def _window_start(self) -> int:
        return 0 if self.window is None else max(0, self.used - self.window + 1)

    def _rebuild(self, rows: Tensor | None, room: int) -> None:
        start, end = self._window_start(), self.used
        self.used = end - start
        self.buffers = tuple(self._rebuilt(old[:, :, start:end], rows, room) for old in self.buffers)

    def _rebuilt(self, old: Tensor, rows: Tensor | None, room: int) -> Tensor:
        count = old.shape[0] if rows is None else rows.shape[0]
        new = old.new_empty(count, old.shape[1], self.used + room, old.shape[3])
        held = new[:, :, : self.used]
        if rows is None:
            held.copy_(old)
        else:
            torch.index_select(old, 0, rows, out=held)
        return new


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


class Forward:
    """A model's last-position logits (float32, (rows, V)) for new tokens on top of a cache."""

    def __init__(self, model: PreTrainedModel, autocast: torch.dtype | None) -> None:
        self.model = model
        self.autocast = autocast
        # A PEFT model's own forward takes anything; what counts is what the model inside it takes.
        self._inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._takes = frozenset(inspect.signature(self._inner.forward).parameters)
        self._recurrent = RECURRENT in self._takes and "past_key_values" not in self._takes

    def __call__(self, ids: Tensor, cache: Any, mask: Tensor | None, positions: Tensor) -> Tensor:
        extra: dict[str, Any] = {RECURRENT if self._recurrent else "past_key_values": cache}
        if "logits_to_keep" in self._takes:
            extra["logits_to_keep"] = 1
        if "position_ids" in self._takes:
            extra["position_ids"] = positions
        if self._recurrent and ids.shape[1] == 1:
            mask = None  # padding never got into the state, and such models want a mask of new tokens alone
        output = self.model(ids, attention_mask=mask, use_cache=True, **extra)
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def takes_ready_mask(self, cache: Any) -> bool:
        """True if a new token's mask may come as sdpa uses it, (R, 1, 1, K), not as (R, K).

        Models that leave masks to transformers pass such a mask on as it is, which saves them the making of
        one at every step (measured: 10% of a step of 16 rows of the nano model).
        """
        return (
            self._inner.config._attn_implementation == "sdpa"
            and getattr(self._inner, "_supports_attention_backend", False)
            and all(isinstance(layer, RoomyLayer) and layer.window is None for layer in cache.layers)
        )

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """No gradients, no dropout, autocast if asked; every module is as before afterwards."""
        training = [module for module in self.model.modules() if module.training]
        self.model.eval()
        device = self.model.device.type
        try:
            with (
                torch.inference_mode(),
                cast_once(self.model, self.autocast),
                torch.autocast(device, dtype=self.autocast, enabled=self.autocast is not None),
            ):
                yield
        finally:
            for module in training:
                module.training = True


@contextmanager
def cast_once(model: PreTrainedModel, dtype: torch.dtype | None) -> Iterator[None]:
    """float32 weights of linear layers are in `dtype` (None: as they are), as autocast would make them.

    Without gradients autocast keeps no copies: it would cast every weight again for every token.
    """
    linear = (module for module in model.modules() if isinstance(module, torch.nn.Linear))
    layers = [layer for layer in linear if dtype is not None and layer.weight.dtype == torch.float32]
    weights = [layer.weight for layer in layers]
    try:
        for layer in layers:
            layer.weight = torch.nn.Parameter(layer.weight.to(dtype), requires_grad=False)
        yield
    finally:
        for layer, weight in zip(layers, weights, strict=True):
            layer.weight = weight


@dataclass(frozen=True, slots=True)
class Rows:
    """The state of a batch, by row. `number` is the row's place in the batch as it began.

    A greedy row has temperature 1 and top_p 1 here, because its log-probabilities are the unscaled ones.
    """

    number_R: Tensor
    mask_RK: Tensor
    length_R1: Tensor
    limit_R: Tensor
    stop_ids_RS: Tensor
    temperature_R1: Tensor
    top_p_R1: Tensor
    greedy_R1: Tensor
    uniforms_RT: Tensor
    scales: bool
    truncates: bool
    decides: bool

    @classmethod
    def of(cls, samples: Sequence[Sample], mask_RK: Tensor) -> Rows:
        device = mask_RK.device
        greedy = [s.params.temperature == 0 for s in samples]
        temperature = [1.0 if g else s.params.temperature for s, g in zip(samples, greedy, strict=True)]
        top_p = [1.0 if g else s.params.top_p for s, g in zip(samples, greedy, strict=True)]
        most = max(len(s.params.stop_ids) for s in samples)
        stops = [[*s.params.stop_ids, *[NO_TOKEN] * (most - len(s.params.stop_ids))] for s in samples]
        numbers = np.zeros((len(samples), max(s.limit for s in samples)))
        for row, sample in zip(numbers, samples, strict=True):
            row[: sample.limit] = uniforms(sample)
        return cls(
            number_R=torch.arange(len(samples), device=device),
            mask_RK=torch.nn.functional.pad(mask_RK, (0, numbers.shape[1]), value=1),
            length_R1=mask_RK.sum(dim=1, keepdim=True),
            limit_R=torch.tensor([s.limit for s in samples], device=device),
            stop_ids_RS=torch.tensor(stops, dtype=torch.long, device=device),
            temperature_R1=torch.tensor(temperature, device=device)[:, None],
            top_p_R1=torch.tensor(top_p, device=device)[:, None],
            greedy_R1=torch.tensor(greedy, device=device)[:, None],
            uniforms_RT=torch.from_numpy(numbers).to(device),
            scales=any(t != 1 for t in temperature),
            truncates=any(p < 1 for p in top_p),
            decides=any(greedy),
        )

    def kept(self, index: Tensor) -> Rows:
        values = [getattr(self, field.name) for field in fields(self)]
        kept: list[Any] = [value[index] if isinstance(value, Tensor) else value for value in values]
        return Rows(*kept)

    def positions(self, step: int) -> Tensor:
        """The positions of the tokens of `step`, (R, 1). An ended row stays at its last: the model may have no more."""
        return self.length_R1 + self.limit_R[:, None].clamp(max=step + 1) - 1

    def draw(self, logits_RV: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Token ids and their log-probabilities under the distribution they are drawn from, both (R, 1)."""
        if self.scales:
            logits_RV = logits_RV / self.temperature_R1
        logprobs_RV = torch.log_softmax(logits_RV, dim=-1)
        if self.truncates:
            logprobs_RV = nucleus(logprobs_RV, self.top_p_R1)
        tokens_R1 = inverse_cdf(logprobs_RV, self.uniforms_RT[:, step : step + 1])
        if self.decides:
            tokens_R1 = torch.where(self.greedy_R1, logits_RV.argmax(dim=-1, keepdim=True), tokens_R1)
        return tokens_R1, logprobs_RV.gather(1, tokens_R1)


def inverse_cdf(logprobs_RV: Tensor, uniforms_R1: Tensor) -> Tensor:
    """The first token (R, 1) whose cumulative probability, in vocabulary order, exceeds the uniform number.

    Summed in float64: over a large vocabulary float32 would misplace the rare tokens. The sum need not end at
    1, so the numbers are stretched to where it ends; as they are at most 1 - 2**-53, none is rounded up to it.
    """
    cdf_RV = logprobs_RV.exp().cumsum(dim=-1, dtype=torch.float64)
    tokens_R1 = torch.searchsorted(cdf_RV, uniforms_R1 * cdf_RV[:, -1:], right=True)
    # Only NaN gets past the end; `decode` finds it in the log-probability.
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


def prefill(
    forward: Forward, prompts: Sequence[tuple[int, ...]], pad_id: int, cache: Any
) -> tuple[Tensor, Tensor]:
    """Last-position logits (P, V) and the attention mask (P, longest prompt), 0 at the left padding."""
    longest = max(map(len, prompts))
    device = forward.model.device
    ids_PK = torch.tensor([[pad_id] * (longest - len(p)) + list(p) for p in prompts], device=device)
    pads_P1 = torch.tensor([[longest - len(p)] for p in prompts], device=device)
    counts_K = torch.arange(longest, device=device)
    positions_PK = (counts_K - pads_P1).clamp_(min=0)
    mask_PK = (counts_K >= pads_P1).long()
    padded = any(len(p) < longest for p in prompts)
    return forward(ids_PK, cache, mask_PK if padded else None, positions_PK), mask_PK


def decode(
    forward: Forward,
    samples: Sequence[Sample],
    pad_id: int,
    version: int,
    pulse: Callable[[float], None] = lambda _: None,
) -> list[Completion]:
    """The samples' completions, in their order. Raises KintsugiError if the model's logits are not finite.

    `pulse` hears the share that is done after each token: a row that goes on counts as if it came to its limit.
    """
    with forward.sampling():
        tokens_TR, logprobs_TR = _decode(forward, samples, pad_id, pulse)
    if not bool(torch.isfinite(logprobs_TR).all()):
        raise KintsugiError("the model's logits are not finite (NaN or infinity): its weights have diverged")
    drawn = zip(samples, tokens_TR.T.tolist(), logprobs_TR.T.tolist(), strict=True)
    return [sample.completion(ids, logprobs, version) for sample, ids, logprobs in drawn]


def _decode(
    forward: Forward, samples: Sequence[Sample], pad_id: int, pulse: Callable[[float], None]
) -> tuple[Tensor, Tensor]:
    """Tokens and log-probabilities, (T, rows). What follows a row's end means nothing."""
    device, cache = forward.model.device, new_cache(forward.model.config)
    place = {prompt: p for p, prompt in enumerate(dict.fromkeys(s.prompt_ids for s in samples))}
    logits_RV, mask_RK = prefill(forward, list(place), pad_id, cache)
    longest, padded, ready = mask_RK.shape[1], not bool(mask_RK.all()), forward.takes_ready_mask(cache)

    prompt_R = torch.tensor([place[s.prompt_ids] for s in samples], device=device)
    cache.reorder_cache(prompt_R)
    logits_RV = logits_RV[prompt_R]
    rows = Rows.of(samples, mask_RK[prompt_R].bool() if ready else mask_RK[prompt_R])
    ended_R = torch.zeros(len(samples), dtype=torch.bool, device=device)
    steps = rows.uniforms_RT.shape[1]
    tokens_TR = torch.zeros(steps, len(samples), dtype=torch.long, device=device)
    logprobs_TR = torch.zeros(steps, len(samples), device=device)

    for step in range(steps):
        tokens_R1, logprobs_R1 = rows.draw(logits_RV, step)
        tokens_TR[step].index_copy_(0, rows.number_R, tokens_R1[:, 0])
        logprobs_TR[step].index_copy_(0, rows.number_R, logprobs_R1[:, 0])
        ended_R |= (tokens_R1 == rows.stop_ids_RS).any(dim=1) | (rows.limit_R <= step + 1)
        going = len(ended_R) - int(ended_R.sum())
        pulse(1 - going / len(samples) * (1 - (step + 1) / steps))
        if going == 0:
            break
        if going <= COMPACT_AT * len(ended_R):
            index = (~ended_R).nonzero()[:, 0]
            cache.reorder_cache(index)
            rows, tokens_R1, ended_R = rows.kept(index), tokens_R1[index], ended_R[index]
        mask = rows.mask_RK[:, : longest + step + 1]
        mask = mask[:, None, None] if ready else mask
        logits_RV = forward(tokens_R1, cache, mask if padded else None, rows.positions(step))
    return tokens_TR, logprobs_TR
