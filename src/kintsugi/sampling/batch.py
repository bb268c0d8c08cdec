"""Rows that are decoded together: how they are read, put side by side, and fed.

All write their next token into the same column of the cache (see cache.py). A pass feeds every row its pending token.
Rows that copy a draft are fed the next of its tokens as well, and all draws up to the first that the draft has
otherwise count at once: each is drawn by its own number, so they are what one pass a token would draw. A token that
was fed in vain leaves a hole, a column that no later token looks at; it is gone when rows next enter or leave.

Shape suffixes: P distinct prompts, R rows, q tokens of one pass, K columns, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kintsugi.sampling.cache import joined
from kintsugi.sampling.draft import Draft
from kintsugi.sampling.forward import Forward
from kintsugi.sampling.rows import NO_TOKEN, WIDEST, Rows
from kintsugi.sampling.sample import Sample

OVERHEAD = {"cpu": 24}
"""The tokens whose arithmetic takes as long as a pass takes at the least, by device: measured with the nano model."""

OVERHEAD_ELSEWHERE = 512
"""The same on a GPU: a guess, which nobody has measured."""

COPIED = 0.9
"""The share of a draft's tokens that is taken to be copied when the width of a pass is chosen."""


Ended = list[tuple[Sample, list[int], list[float]]]
"""Samples that have come to their end, with their tokens and log-probabilities."""


@dataclass(slots=True)
class Decoding:
    """Rows with their cache of `columns` columns.

    drafts    The rows' drafts, empty where a row has none.
    valid_RK  The columns that hold a token, and True where columns are to come. None: all hold one.
    holes     The most columns that a row may have between its tokens.
    ended     By row: the tensor's values on the host.
    """

    forward: Forward
    samples: list[Sample]
    drafts: list[Draft]
    rows: Rows
    cache: Any
    columns: int
    valid_RK: Tensor | None
    holes: int = 0
    ended: list[bool] = field(default_factory=list)

    @property
    def going(self) -> int:
        return self.ended.count(False)

    def drawn(self) -> float:
        """The shares of their limits that the rows which go on have drawn, added up."""
        shares_R1 = self.rows.step_R1 / self.rows.limit_R1
        return float(shares_R1.masked_fill(self.rows.ended_R1, 0).sum())

    def step(self) -> Ended:
        """One pass; the samples that end with it."""
        drafts = [d for d, over in zip(self.drafts, self.ended, strict=True) if not over]
        copying = [len(d.ids) - d.at for d in drafts if d.at < len(d.ids)]
        new = width(
            len(self.ended), len(copying), max(copying, default=0), overhead(self.rows.step_R1.device)
        )
        feed_Rq = self.rows.pending_R1
        if new > 1:
            feed_Rq = torch.cat([feed_Rq, proposals(self.drafts, new - 1).to(feed_Rq.device)], dim=1)
        logits_RqV = self.forward(
            feed_Rq.clamp(min=0), self.cache, self.valid(new), self.rows.positions(new), keep=new
        )
        return self.take(feed_Rq, logits_RqV)

    def valid(self, new: int) -> Tensor | None:
        """The columns that hold a token once each row is fed `new` more."""
        if self.valid_RK is None:
            return None
        missing = self.columns + new - self.valid_RK.shape[1]
        if missing > 0:
            self.valid_RK = torch.nn.functional.pad(self.valid_RK, (0, missing + WIDEST), value=True)
        return self.valid_RK[:, : self.columns + new]

    def take(self, feed_Rq: Tensor, logits_RqV: Tensor) -> Ended:
        """Draws after what was fed, and keeps what counts. The samples that end."""
        tokens_Rq, logprobs_Rq = self.rows.draw(logits_RqV)
        self.rows, kept_R1 = self.rows.take(tokens_Rq, logprobs_Rq, feed_Rq)
        self._keep(kept_R1, feed_Rq.shape[1])
        if any(draft.ids for draft in self.drafts):
            counts = kept_R1[:, 0].tolist()
            for draft, tokens, count in zip(self.drafts, tokens_Rq.tolist(), counts, strict=True):
                if draft.ids:
                    draft.follow(tokens[:count])
        return self._endings()

    def _keep(self, kept_R1: Tensor, new: int) -> None:
        """Keeps as many of the new columns as the row with most needs; they are holes in rows with fewer."""
        most = least = 1
        if new > 1:
            most, least = int(kept_R1.max()), int(kept_R1.min())
            for layer in self.cache.layers:
                layer.undo(new - most)
        if least < most:
            if self.valid_RK is None:
                shape = (len(self.samples), self.columns + new + WIDEST)
                self.valid_RK = torch.ones(shape, dtype=torch.bool, device=kept_R1.device)
            places = torch.arange(most, device=kept_R1.device)
            self.valid_RK[:, self.columns : self.columns + most] = places < kept_R1
            self.holes += most - least
            for layer in self.cache.layers:
                layer.slack = self.holes
        self.columns += most

    def _endings(self) -> Ended:
        if int(self.rows.ended_R1.sum()) == len(self.ended) - self.going:
            return []
        now = self.rows.ended_R1[:, 0].tolist()
        new = [i for i, (before, over) in enumerate(zip(self.ended, now, strict=True)) if over and not before]
        self.ended = now
        rows = self.rows.chosen(torch.tensor(new, device=self.rows.step_R1.device))
        steps, tokens, logprobs = (
            rows.step_R1[:, 0].tolist(),
            rows.tokens_RT.tolist(),
            rows.logprobs_RT.tolist(),
        )
        return [(self.samples[i], tokens[j][: steps[j]], logprobs[j][: steps[j]]) for j, i in enumerate(new)]


def proposals(drafts: Sequence[Draft], new: int) -> Tensor:
    """The next tokens of each draft, (R, new), NO_TOKEN after its end."""
    ahead = [draft.ahead(new) for draft in drafts]
    return torch.tensor([[*tokens, *[NO_TOKEN] * (new - len(tokens))] for tokens in ahead])


def overhead(device: torch.device) -> int:
    return OVERHEAD.get(device.type, OVERHEAD_ELSEWHERE)


def width(rows: int, copying: int, ahead: int, passing: int) -> int:
    """Tokens to feed each row: those with which a pass, which costs `passing` tokens besides, draws most a token.

    `copying` rows have a draft, at most `ahead` tokens of it; the others draw one token whatever the width.
    """

    def gain(new: int) -> float:
        copied = (1 - COPIED**new) / (1 - COPIED)
        return (rows - copying + copying * copied) / (passing + rows * new)

    widths = [n for n in (1, 2, 4, 8, 16, WIDEST) if n <= ahead + 1] if copying else [1]
    return max(widths, key=gain)


def join(batches: Sequence[Decoding]) -> Decoding | None:
    """The rows of all batches that are still going, as one; None where there are none."""
    batches = [batch for batch in batches if batch.going]
    if len(batches) == 1 and not any(batches[0].ended):
        return batches[0]
    if not batches:
        return None
    device = batches[0].rows.step_R1.device
    places = [[i for i, over in enumerate(batch.ended) if not over] for batch in batches]
    chosen = [torch.tensor(p, device=device) for p in places]
    rows = Rows.joined([batch.rows.chosen(rows_R) for batch, rows_R in zip(batches, chosen, strict=True)])
    first = batches[0]
    made = Decoding(
        first.forward,
        [batch.samples[i] for batch, p in zip(batches, places, strict=True) for i in p],
        [batch.drafts[i] for batch, p in zip(batches, places, strict=True) for i in p],
        rows,
        first.cache,
        first.columns,
        None,
        ended=[False] * len(rows.step_R1),
    )
    if first.forward.joins:
        held_R1 = rows.prompt_R1 + rows.step_R1 - 1
        made.columns = int(held_R1.max())
        if int(held_R1.min()) < made.columns:
            made.valid_RK = torch.arange(made.columns, device=device) >= made.columns - held_R1
        parts = [
            (batch.cache, rows_R, batch.valid(0) if batch.holes else None)
            for batch, rows_R in zip(batches, chosen, strict=True)
        ]
        made.cache = joined(first.forward.model.config, parts, made.columns)
    else:
        first.cache.reorder_cache(chosen[0])
        made.valid_RK = None if first.valid_RK is None else first.valid_RK[chosen[0]]
    return made
