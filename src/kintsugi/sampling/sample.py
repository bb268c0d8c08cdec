"""One completion to draw, and what a model allows of it: shared by the engines that sample for themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kintsugi.records import Completion, Finish, KintsugiError
from kintsugi.sampling.base import Request, SamplingParams

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion to draw: sample `index` of a call. `limit` is the most tokens it may have.

    The draft (see Request) makes no other sample of it.
    """

    prompt_ids: tuple[int, ...]
    params: SamplingParams
    index: int
    limit: int
    draft: tuple[int, ...] = field(default=(), compare=False, repr=False)

    def completion(self, ids: list[int], logprobs: list[float], version: int) -> Completion:
        """The completion that ends at the first stop id (kept) or at the limit; what follows is dropped."""
        stops = set(self.params.stop_ids)
        end = next((t + 1 for t, token in enumerate(ids[: self.limit]) if token in stops), None)
        length = end or self.limit
        finish: Finish = "length" if end is None else "stop"
        return Completion(tuple(ids[:length]), tuple(logprobs[:length]), finish, version)


def positions_of(config: PretrainedConfig) -> int | None:
    """The number of tokens that a model with this config can read and write in all; None when it has no limit."""
    limit = longrope_limit(config)
    return limit if limit is not None else built_for(config)


def built_for(config: PretrainedConfig) -> int | None:
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    return None if positions is None else int(positions)


def longrope_limit(config: PretrainedConfig) -> int | None:
    """The positions that a model with longrope embeddings was first trained on, where it was built for more; else None.

    Beyond them transformers turns every row of a batch by other angles as soon as one row gets there: a sample
    would depend on its neighbours, and what is cached would no longer fit.
    """
    rope = getattr(config.get_text_config(), "rope_parameters", None) or {}
    kinds = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    limits = [k.get("original_max_position_embeddings") for k in kinds if k.get("rope_type") == "longrope"]
    first = min((int(limit) for limit in limits if limit is not None), default=None)
    return first if first is not None and first < (built_for(config) or math.inf) else None


@dataclass(frozen=True, slots=True)
class Limits:
    """The number of token ids that a model knows, and of positions that it has (None: no limit of its own)."""

    vocabulary: int
    positions: int | None

    @classmethod
    def of(cls, model: PreTrainedModel) -> Limits:
        return cls(model.config.get_text_config().vocab_size, positions_of(model.config))

    def samples(self, request: Request) -> tuple[Sample, ...]:
        """The n samples of a request, each cut to the positions there are after the prompt.

        ValueError on arguments that make no sense, KintsugiError when the prompt leaves no position free.
        """
        prompt, params, n = tuple(request.prompt_ids), request.params, request.n
        if not prompt:
            raise ValueError(
                "generate: the prompt is empty; a causal LM needs at least one token to go on from"
            )
        if not 0 <= min(prompt) <= max(prompt) < self.vocabulary:
            raise ValueError(
                f"generate: prompt ids must be in [0, {self.vocabulary}), got {min(prompt)} to {max(prompt)}"
            )
        if n < 0 or params.max_new_tokens < 1 or params.temperature < 0 or not 0 < params.top_p <= 1:
            raise ValueError(
                f"generate: expected n >= 0, max_new_tokens >= 1, temperature >= 0 and 0 < top_p <= 1, "
                f"got n={n} and {params}"
            )
        limit = params.max_new_tokens
        if self.positions is not None:
            if len(prompt) >= self.positions:
                raise KintsugiError(
                    f"prompt of {len(prompt)} tokens leaves no room to answer in a model "
                    f"of {self.positions} positions"
                )
            limit = min(limit, self.positions - len(prompt))
        return tuple(Sample(prompt, params, index, limit, request.draft[:limit]) for index in range(n))
