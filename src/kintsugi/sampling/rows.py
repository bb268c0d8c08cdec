"""The rows that are being decoded: what each wants, what it has drawn, and how it draws.

Shape suffixes: R rows, S stop ids, T tokens of a completion, q tokens of one pass, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kintsugi.sampling.draw import inverse_cdf, nucleus, uniforms
from kintsugi.sampling.sample import Sample

NO_TOKEN = -1
"""Fills up a row's stop ids where another row has more, and its feed where another row's draft is longer."""

WIDEST = 32
"""The most tokens of a row that one pass reads, the pending one and its draft."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows side by side. `step_R1` tokens of each are drawn; the last of them waits in `pending_R1` to be read.

    A greedy row has temperature 1 and top_p 1 here, because its log-probabilities are the unscaled ones. Entries
    after a row's end in `tokens_RT` and `logprobs_RT` mean nothing.
    """

    prompt_R1: Tensor
    limit_R1: Tensor
    step_R1: Tensor
    pending_R1: Tensor
    ended_R1: Tensor
    stop_ids_RS: Tensor
    temperature_R1: Tensor
    top_p_R1: Tensor
    greedy_R1: Tensor
    uniforms_RT: Tensor
    tokens_RT: Tensor
    logprobs_RT: Tensor
    scales: bool
    truncates: bool
    decides: bool

    @classmethod
    def of(cls, samples: Sequence[Sample], device: torch.device) -> Rows:
        """Rows that have read their prompts but for the last token."""

        def column(values: Sequence[float], dtype: torch.dtype | None = None) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)[:, None]

        greedy = [s.params.temperature == 0 for s in samples]
        temperature = [1.0 if g else s.params.temperature for s, g in zip(samples, greedy, strict=True)]
        top_p = [1.0 if g else s.params.top_p for s, g in zip(samples, greedy, strict=True)]
        most = max(len(s.params.stop_ids) for s in samples)
        stops = [[*s.params.stop_ids, *[NO_TOKEN] * (most - len(s.params.stop_ids))] for s in samples]
        numbers = np.zeros((len(samples), max(s.limit for s in samples) + WIDEST))
        for row, sample in zip(numbers, samples, strict=True):
            row[: sample.limit] = uniforms(sample)
        uniforms_RT = torch.from_numpy(numbers).to(device)
        return cls(
            prompt_R1=column([len(s.prompt_ids) for s in samples]),
            limit_R1=column([s.limit for s in samples]),
            step_R1=column([0] * len(samples)),
            pending_R1=column([s.prompt_ids[-1] for s in samples]),
            ended_R1=column([False] * len(samples)),
            stop_ids_RS=torch.tensor(stops, dtype=torch.long, device=device),
            temperature_R1=column(temperature),
            top_p_R1=column(top_p),
            greedy_R1=column(greedy),
            uniforms_RT=uniforms_RT,
            tokens_RT=torch.zeros_like(uniforms_RT, dtype=torch.long),
            logprobs_RT=torch.zeros_like(uniforms_RT, dtype=torch.float32),
            scales=any(t != 1 for t in temperature),
            truncates=any(p < 1 for p in top_p),
            decides=any(greedy),
        )

    def chosen(self, rows_R: Tensor) -> Rows:
        values = [getattr(self, field.name) for field in fields(self)]
        chosen: list[Any] = [value[rows_R] if isinstance(value, Tensor) else value for value in values]
        return Rows(*chosen)

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """The rows of all parts, one below the other."""
        if len(parts) == 1:
            return parts[0]
        found: dict[str, Any] = {}
        for name in (f.name for f in fields(cls)):
            values = [getattr(part, name) for part in parts]
            if not isinstance(values[0], Tensor):
                found[name] = any(values)
                continue
            width = max(v.shape[1] for v in values)
            fill = NO_TOKEN if name == "stop_ids_RS" else 0
            pad = torch.nn.functional.pad
            found[name] = torch.cat([pad(v, (0, width - v.shape[1]), value=fill) for v in values])
        return cls(**found)

    def positions(self, new: int) -> Tensor:
        """The positions of the pending token and the `new - 1` after it, (R, new); the model may have no more
        than the limit's."""
        at_Rq = self.prompt_R1 + self.step_R1 - 1 + torch.arange(new, device=self.step_R1.device)
        return at_Rq.minimum(self.prompt_R1 + self.limit_R1 - 1)

    def draw(self, logits_RqV: Tensor) -> tuple[Tensor, Tensor]:
        """The next q token ids and their log-probabilities under the distribution they are drawn from, both (R, q).

        Token j is drawn by the uniform number of its own place, as if those before it were as they were read.
        """
        rows, new, _ = logits_RqV.shape

        def each(values_R1: Tensor) -> Tensor:
            return values_R1.expand(rows, new).reshape(-1, 1)

        logits = logits_RqV.flatten(0, 1)
        if self.scales:
            logits = logits / each(self.temperature_R1)
        logprobs = torch.log_softmax(logits, dim=-1)
        if self.truncates:
            logprobs = nucleus(logprobs, each(self.top_p_R1))
        tokens = inverse_cdf(logprobs, self.uniforms_RT.gather(1, self._places(new)).view(-1, 1))
        if self.decides:
            tokens = torch.where(each(self.greedy_R1), logits.argmax(dim=-1, keepdim=True), tokens)
        return tokens.view(rows, new), logprobs.gather(1, tokens).view(rows, new)

    def take(self, tokens_Rq: Tensor, logprobs_Rq: Tensor, feed_Rq: Tensor) -> tuple[Rows, Tensor]:
        """(the rows with the draws that count, how many those are, (R, 1)).

        feed_Rq  What was read: the pending token and the draft. A draw counts if the draft is right before it.
        """
        new = feed_Rq.shape[1]
        kept_R1 = torch.ones_like(self.step_R1)
        if new > 1:
            agree_Rq = tokens_Rq[:, :-1] == feed_Rq[:, 1:]
            going_Rq = agree_Rq & ~self._stops(tokens_Rq[:, :-1])
            kept_R1 += going_Rq.cumprod(dim=1).sum(dim=1, keepdim=True)
            kept_R1 = kept_R1.minimum((self.limit_R1 - self.step_R1).clamp(min=1))
        # Those that do not count are written too: those that will follow replace them.
        self.tokens_RT.scatter_(1, self._places(new), tokens_Rq)
        self.logprobs_RT.scatter_(1, self._places(new), logprobs_Rq)
        pending_R1 = tokens_Rq.gather(1, kept_R1 - 1)
        step_R1 = torch.where(self.ended_R1, self.step_R1, self.step_R1 + kept_R1)
        ended_R1 = self.ended_R1 | self._stops(pending_R1) | (step_R1 >= self.limit_R1)
        return replace(self, step_R1=step_R1, pending_R1=pending_R1, ended_R1=ended_R1), kept_R1

    def _places(self, new: int) -> Tensor:
        """The places of the next draws within the completion, (R, new)."""
        if new == 1:
            return self.step_R1
        return self.step_R1 + torch.arange(new, device=self.step_R1.device)

    def _stops(self, tokens_Rq: Tensor) -> Tensor:
        return (tokens_Rq[:, :, None] == self.stop_ids_RS[:, None]).any(dim=2)
