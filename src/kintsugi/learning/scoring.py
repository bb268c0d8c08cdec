"""log pi of completions under a model, computed once per sequence and only where it is asked for.

1. Rows over the same completion share one forward pass, and completions of one prompt share its positions where that
   saves more than a second pass costs.
2. Tokens after the last one asked for are never looked at: the model is causal.
3. Logits exist for the tokens asked for alone, in chunks where they would be many: memory does not grow
   with vocabulary x length.

Shapes: P prompts, L their longest; B sequences, T their longest completion; N tokens asked for; F features.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kintsugi.learning.loss import token_logprobs
from kintsugi.models.lora import without_adapters
from kintsugi.records import Reach, Row
from kintsugi.sampling.base import Fork, Score

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Head = Callable[[Tensor], Tensor]

PASSING = {"cpu": 100}
"""The positions whose arithmetic, forward and backward, takes as long as a pass takes at the least, by device: some
150 for the nano model, fewer for larger ones. Plans for anything between 64 and 150 cost the same to 2%."""

PASSING_ELSEWHERE = 1024
"""The same on a GPU: a guess, which nobody has measured."""

KEPT_LOGITS = 2**30
"""Bytes of fp32 logits that a backward pass may find ready; more are computed again, chunk by chunk."""

CHUNK_LOGITS = 2**27
"""Bytes of fp32 logits in one chunk."""


@dataclass(frozen=True, slots=True)
class Target:
    """One completion to be scored, cut after the last token that any of `rows` asks for.

    `rows` are the places of the rows that share it. `wanted[t]`: some row's mask is 1 there, or it is held.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    wanted: tuple[bool, ...]
    rows: tuple[int, ...]


def sequences(rows: Sequence[Row], indices: Iterable[int]) -> list[Target]:
    """The distinct sequences of the rows at `indices`, each cut after the last token asked for.

    Rows without a token asked for are left out.
    """
    owners: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
    for i in indices:
        owners.setdefault((rows[i].prompt_ids, rows[i].completion_ids), []).append(i)
    found = []
    for (prompt, completion), places in owners.items():
        wanted = [any(gates) for gates in zip(*(rows[i].mask for i in places), strict=True)]
        end = max((t + 1 for t, asked in enumerate(wanted) if asked), default=0)
        if end:
            found.append(Target(prompt, completion[:end], tuple(wanted[:end]), tuple(places)))
    return found


def whole(scores: Sequence[Score]) -> list[Target]:
    """The distinct sequences of the scores, every token asked for; `rows` are the places of the scores."""
    owners: dict[Score, list[int]] = {}
    for i, score in enumerate(scores):
        owners.setdefault(score, []).append(i)
    return [
        Target(s.prompt_ids, s.completion_ids, (True,) * len(s.completion_ids), tuple(places))
        for s, places in owners.items()
        if s.completion_ids
    ]


def forked(forks: Sequence[Fork]) -> list[Target]:
    """The distinct places of the forks, each a sequence whose last token is asked for; `rows`: who forks there."""
    owners: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
    for i, fork in enumerate(forks):
        owners.setdefault((fork.prompt_ids, fork.prefix), []).append(i)
    return [
        Target(prompt, (*prefix, forks[at[0]].failed), (False,) * len(prefix) + (True,), tuple(at))
        for (prompt, prefix), at in owners.items()
    ]


def micro_batches(
    items: Sequence[Target], token_budget: int, passing: int = PASSING["cpu"]
) -> list[list[Target]]:
    """The sequences in chunks whose padded size stays within the budget (one sequence at least).

    Planned in three orders, of which the cheapest is taken: prompts together (their positions are shared),
    prompts by length, completions by length. `passing`: what a pass costs besides, in positions.
    """
    orders: list[Callable[[Target], Any]] = [
        lambda s: (-len(s.prompt_ids), s.prompt_ids, -len(s.completion_ids)),
        lambda s: (-len(s.prompt_ids), -len(s.completion_ids)),
        lambda s: (-len(s.completion_ids), -len(s.prompt_ids)),
    ]
    tried: list[list[Target]] = []
    for order in orders:
        made = sorted(items, key=order)
        if made not in tried:
            tried.append(made)
    plans = [cheapest(made, token_budget, passing) for made in tried]
    return min(plans, key=lambda plan: plan[0])[1]


def cheapest(items: Sequence[Target], token_budget: int, passing: int) -> tuple[int, list[list[Target]]]:
    """The cuts of `items`, in their order, that cost least, and what they cost in positions.

    The best plan of the first n items is the best plan of the first m and one chunk of the rest, for some m < n.
    A prompt is taken for a new one where it differs from the one before. No chunk is tried whose padding costs more
    than six passes: it would be cut.
    """
    lefts, rights = [len(i.prompt_ids) for i in items], [len(i.completion_ids) for i in items]
    fresh = [*(a.prompt_ids != b.prompt_ids for a, b in pairwise(items)), True]
    costs, starts = [0], [0]
    for end in range(1, len(items) + 1):
        best, begin = math.inf, end - 1
        prompts = left = right = real = 0
        for start in range(end - 1, -1, -1):
            rows = end - start
            if fresh[start] or rows == 1:
                prompts += 1
                real += lefts[start]
            real += rights[start]
            left, right = max(left, lefts[start]), max(right, rights[start])
            padded = prompts * left + rows * right
            if rows > 1 and (padded > token_budget or padded - real > 6 * passing):
                break
            cost = costs[start] + min(forms(prompts, rows, left, right, passing))
            if cost < best:
                best, begin = cost, start
        costs.append(int(best))
        starts.append(begin)
    plan, end = [], len(items)
    while end:
        plan.append(list(items[starts[end] : end]))
        end = starts[end]
    return costs[-1], plan[::-1]


def forms(prompts: int, rows: int, left: int, right: int, passing: int) -> tuple[int, int]:
    """The cost of a chunk, in positions, whose sequences are computed whole, and whose prompts are computed once in a
    pass of their own."""
    return rows * (left + right) + passing, prompts * left + rows * right + 2 * passing


@dataclass(frozen=True, slots=True)
class Padded:
    """A padded micro-batch: prompts padded on the left, completions on the right."""

    prompts_PL: Tensor
    real_PL: Tensor
    prompt_B: Tensor
    completions_BT: Tensor
    wanted_BT: Tensor

    @classmethod
    def of(cls, chunk: Sequence[Target], pad_id: int, device: torch.device) -> Padded:
        place = {prompt: p for p, prompt in enumerate(dict.fromkeys(s.prompt_ids for s in chunk))}
        left, right = max(map(len, place)), max(len(s.completion_ids) for s in chunk)
        padding = [left - len(prompt) for prompt in place]
        return cls(
            prompts_PL=torch.tensor(
                [[pad_id] * n + [*p] for n, p in zip(padding, place, strict=True)], device=device
            ),
            real_PL=torch.tensor([[0] * n + [1] * (left - n) for n in padding], device=device),
            prompt_B=torch.tensor([place[s.prompt_ids] for s in chunk], device=device),
            completions_BT=torch.tensor(
                [[*s.completion_ids] + [pad_id] * (right - len(s.completion_ids)) for s in chunk],
                device=device,
            ),
            wanted_BT=torch.tensor(
                [[*s.wanted] + [False] * (right - len(s.wanted)) for s in chunk], device=device
            ),
        )


class Scorer:
    """log pi of completion tokens under `model` at its present weights, with gradients where they are on.

    `temperature` is the sampler's. Prompts are shared where the model takes a plain cache of keys and values
    and recomputes nothing (gradient checkpointing); elsewhere each sequence is computed whole.
    """

    def __init__(
        self, model: PreTrainedModel, pad_id: int, temperature: float, autocast: torch.dtype | None
    ) -> None:
        self.model, self.pad_id, self.temperature, self.autocast = model, pad_id, temperature, autocast
        inner = without_adapters(model)
        self.vocabulary = int(inner.config.get_text_config().vocab_size)
        recomputes = any(getattr(module, "gradient_checkpointing", False) for module in inner.modules())
        self.body: Any
        self.head: Head | None
        self.body, self.head = split_head(inner) or (inner, None)
        self._takes = frozenset(inspect.signature(self.body.forward).parameters)
        takes_cache = "past_key_values" in self._takes
        self.shares = takes_cache and not recomputes and keeps_plain_cache(inner.config)
        self.passing = PASSING.get(model.device.type, PASSING_ELSEWHERE)

    def __call__(self, chunk: Sequence[Target]) -> Tensor:
        """(B, T) natural log-probabilities in fp32, 0 where a token was not asked for."""
        batch = Padded.of(chunk, self.pad_id, self.model.device)
        with self._precision():
            features_BTF = self._features(batch)
            found_N = self._logprobs(features_BTF[batch.wanted_BT], batch.completions_BT[batch.wanted_BT])
        return torch.zeros(batch.wanted_BT.shape, device=found_N.device).masked_scatter(
            batch.wanted_BT, found_N
        )

    def reach(self, chunk: Sequence[Target], forks: Sequence[Fork]) -> dict[int, Reach]:
        """The reach of those of the forks that are at a place of `chunk` (`forked`), by number."""
        batch = Padded.of(chunk, self.pad_id, self.model.device)
        places = [place for place, target in enumerate(chunk) for _ in target.rows]
        numbers = [i for target in chunk for i in target.rows]
        ids_N2 = torch.tensor([(forks[i].failed, forks[i].fix) for i in numbers], device=self.model.device)
        with self._precision():
            features_NF = self._features(batch)[batch.wanted_BT][places]
            rows = max(1, CHUNK_LOGITS // (4 * self.vocabulary))
            pieces = zip(torch.split(features_NF, rows), torch.split(ids_N2, rows), strict=True)
            logits = ((self.head(f) if self.head else f, ids) for f, ids in pieces)
            found = [reach for l_NV, ids in logits for reach in reaches(l_NV, ids, self.temperature)]
        return dict(zip(numbers, found, strict=True))

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.model.device.type, dtype=self.autocast, enabled=self.autocast is not None)

    def _features(self, batch: Padded) -> Tensor:
        """(B, T, F): what predicts each completion token (the last position of the prompt, then its own)."""
        width = batch.completions_BT.shape[1]
        real_BL, inputs_BT = batch.real_PL[batch.prompt_B], batch.completions_BT[:, :-1]
        real_BS = torch.cat([real_BL, torch.ones_like(inputs_BT)], 1)
        (prompts, left), rows = batch.prompts_PL.shape, len(batch.prompt_B)
        apart, shared = forms(prompts, rows, left, width, self.passing)
        if not self.shares or apart <= shared:
            ids_BS = torch.cat([batch.prompts_PL[batch.prompt_B], inputs_BT], 1)
            return self._run(ids_BS, real_BS, None, keep=width)
        from transformers import DynamicCache

        cache = DynamicCache(config=self.model.config)
        first_PF = self._run(batch.prompts_PL, batch.real_PL, cache, keep=1)
        first_BTF = first_PF[batch.prompt_B]
        if width == 1:
            return first_BTF
        cache.reorder_cache(batch.prompt_B)
        return torch.cat([first_BTF, self._run(inputs_BT, real_BS, cache, keep=width - 1)], 1)

    def _run(self, ids_BS: Tensor, real_BK: Tensor, cache: Any, *, keep: int) -> Tensor:
        """Features of the last `keep` positions; `real_BK` covers what the cache holds, too."""
        positions_BS = (real_BK.cumsum(-1) - 1).clamp(min=0)[:, -ids_BS.shape[1] :]
        extra: dict[str, Any] = {"position_ids": positions_BS}
        if self.head is None:
            extra["logits_to_keep"] = keep
        output = self.body(
            input_ids=ids_BS,
            attention_mask=None if bool(real_BK.all()) else real_BK,
            past_key_values=cache,
            use_cache=cache is not None,
            **{name: value for name, value in extra.items() if name in self._takes},
        )
        features: Tensor = (output.logits if self.head is None else output.last_hidden_state)[:, -keep:]
        return features

    def _logprobs(self, features_NF: Tensor, ids_N: Tensor) -> Tensor:
        if self.head is None:
            return token_logprobs(features_NF, ids_N, self.temperature)
        return chunked_logprobs(features_NF, ids_N, self.head, self.vocabulary, self.temperature)


def reaches(logits_NV: Tensor, ids_N2: Tensor, temperature: float) -> list[Reach]:
    """The reach of each pair (failed, fix) of tokens under softmax(logits / temperature), in fp32."""
    logprobs_NV = (logits_NV.float() / temperature).log_softmax(-1)
    pair_N2 = logprobs_NV.gather(1, ids_N2)
    rank_N2 = 1 + torch.stack([(logprobs_NV > pair_N2[:, i : i + 1]).sum(-1) for i in (0, 1)], 1)
    entropy_N = torch.special.entr(logprobs_NV.exp()).sum(-1)
    columns = (pair_N2.tolist(), rank_N2.tolist(), entropy_N.tolist())
    return [Reach(p[0], r[0], p[1], r[1], entropy) for p, r, entropy in zip(*columns, strict=True)]


def chunked_logprobs(
    features_NF: Tensor, ids_N: Tensor, head: Head, vocabulary: int, temperature: float
) -> Tensor:
    """(N,) log softmax(head(features) / temperature) at `ids`, with at most KEPT_LOGITS + CHUNK_LOGITS alive.

    Logits beyond that are dropped after the forward pass and computed once more in the backward pass.
    """

    def score(features_CF: Tensor, ids_C: Tensor) -> Tensor:
        return token_logprobs(head(features_CF), ids_C, temperature)

    size = 4 * vocabulary
    rows = max(1, CHUNK_LOGITS // size)
    pieces = zip(torch.split(features_NF, rows), torch.split(ids_N, rows), strict=True)
    if torch.is_grad_enabled() and size * len(ids_N) > KEPT_LOGITS:
        return torch.cat([checkpoint(score, f, i, use_reentrant=False) for f, i in pieces])
    return torch.cat([score(f, i) for f, i in pieces])


def split_head(model: Any) -> tuple[Any, Head] | None:
    """(body, head) when head(body(ids)) is all that the model does to make logits, else None.

    Some models scale or cap their logits, or project in between. So three tokens are run through the model
    while its head answers with numbers of ours: the model must return just these, and must have handed its
    head just what the body returns. The tokens differ, and none is 0: that is often padding, whose embedding is
    zero and stays so whatever it is multiplied by.
    """
    body, head = getattr(model, model.base_model_prefix, None), model.get_output_embeddings()
    if body is None or body is model or head is None:
        return None
    given: list[Tensor] = []

    def answer(_: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        given.append(inputs[0])
        return torch.linspace(-100, 100, output.shape[-1], device=output.device).expand_as(output)

    vocabulary = int(model.config.get_text_config().vocab_size)
    ids = torch.tensor([[vocabulary - 1, vocabulary // 2, vocabulary // 3]], device=model.device)
    hook = head.register_forward_hook(answer)
    try:
        with torch.no_grad():
            returned = model(input_ids=ids, use_cache=False).logits
            hidden = getattr(body(input_ids=ids, use_cache=False), "last_hidden_state", None)
    finally:
        hook.remove()
    if len(given) != 1 or hidden is None or hidden.shape != given[0].shape:
        return None
    untouched = torch.equal(
        returned, torch.linspace(-100, 100, returned.shape[-1]).to(returned).expand_as(returned)
    )
    return (body, head) if untouched and torch.allclose(hidden, given[0], rtol=1e-4, atol=1e-5) else None


def keeps_plain_cache(config: Any) -> bool:
    """True if the cache is keys and values alone. Rows may then be repeated with their gradients."""
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    layers = DynamicCache(config=config).layers
    return bool(layers) and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
