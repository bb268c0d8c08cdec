"""The embedded engine: any Hugging Face causal LM as a Sampler.

What waits together (see rounds.py) is decoded together (see decode.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kintsugi.records import Completion
from kintsugi.sampling.decode import Forward, decode
from kintsugi.sampling.rounds import Rounds
from kintsugi.sampling.sample import Limits, Sample
from kintsugi.sampling.selftest import check_sampler

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

TOKEN_BUDGET = 32_768
"""Default for the most positions a decoding batch may come to hold, counted as if no row stopped early."""


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
        pulse: Callable[[float], None],
    ) -> LocalSampler:
        check_sampler(model, pad_id)
        return LocalSampler(model, pad_id, token_budget, version, autocast, pulse)


class LocalSampler:
    """A Sampler over `model` (on its device, at its present weights).

    A sample is the same whatever is decoded beside it. Near the model's last position completions are cut to what
    fits (finish "length"). `pad_id` may be any token id. `token_budget` bounds rows x (prompt + new tokens) of a
    decoding batch. `version` is asked for the learner's step count when a batch starts. `autocast` is a dtype to
    compute in. `pulse` hears, after each token, which share of what was asked for together is done.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        pad_id: int,
        token_budget: int = TOKEN_BUDGET,
        version: Callable[[], int] = lambda: 0,
        autocast: torch.dtype | None = None,
        pulse: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._forward = Forward(model, autocast)
        self._pad_id = pad_id
        self._version = version
        self._limits = Limits.of(model)
        self._token_budget = token_budget
        self._pulse = pulse

    def session(self) -> Rounds:
        return Rounds(self._limits.samples, self._answer)

    def _answer(self, samples: list[Sample]) -> list[Completion]:
        found: dict[Sample, Completion] = {}
        for batch in batches(samples, self._token_budget):
            before, part = len(found) / len(samples), len(batch) / len(samples)

            def pulse(share: float, before: float = before, part: float = part) -> None:
                self._pulse(before + part * share)

            drawn = decode(self._forward, batch, self._pad_id, self._version(), pulse)
            found.update(zip(batch, drawn, strict=True))
        return [found[sample] for sample in samples]


def batches(samples: Iterable[Sample], token_budget: int) -> Iterator[list[Sample]]:
    """The samples in batches of rows x (longest prompt + largest limit) <= token_budget, at least one row.

    Longest prompts first: little padding, samples of one prompt side by side, and if memory does not
    suffice, it shows at once.
    """
    batch: list[Sample] = []
    prompt = limit = 0
    for sample in sorted(samples, key=lambda s: (len(s.prompt_ids), s.prompt_ids, s.limit), reverse=True):
        prompt, limit = max(prompt, len(sample.prompt_ids)), max(limit, sample.limit)
        if batch and (len(batch) + 1) * (prompt + limit) > token_budget:
            yield batch
            batch, prompt, limit = [], len(sample.prompt_ids), sample.limit
        batch.append(sample)
    if batch:
        yield batch
