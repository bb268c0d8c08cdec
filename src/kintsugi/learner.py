"""Rows to optimizer steps: token-budget micro-batches, fp32 master weights, one AdamW.

J = mean over policy rows + mean over repair rows (each row times its weight): METHOD's
J_pol + lambda_rep * J_rep. Rows whose gate or credit is empty count in the mean but cost no forward pass.
"""

from __future__ import annotations

import inspect
import math
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kintsugi.config import Optim
from kintsugi.engines.base import RowStats, StepStats
from kintsugi.loss import LOSSES, Objective, token_logprobs
from kintsugi.records import Row

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WARM_DOWN = 0.05
WORTH_A_PASS = 1024
SPARE = 0.15
BETAS = (0.9, 0.99)
"""Adam's memory. The second moment forgets within about 100 steps: runs here are short."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A padded micro-batch: prompts end, and completions start, at the same column for all B rows."""

    ids_BS: Tensor
    attention_BS: Tensor
    positions_BS: Tensor
    completion_BT: Tensor
    mask_BT: Tensor
    advantages_BT: Tensor
    lengths_B: Tensor


@dataclass(slots=True)
class Tally:
    """What an update adds up while it goes through its micro-batches."""

    loss: float = 0.0
    clipped: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    rows: dict[int, RowStats] = field(default_factory=dict)


class LocalLearner:
    """Trains `model` in place. `version` counts its optimizer steps.

    `total_updates` is what a cosine schedule ends at. `temperature` is the sampler's, so that ratios
    compare the distributions that were sampled from.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        optim: Optim,
        objective: Objective,
        *,
        pad_id: int,
        total_updates: int,
        temperature: float = 1.0,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.model, self.optim, self.objective = model, optim, objective
        self.pad_id, self.total_updates, self.temperature = pad_id, total_updates, temperature
        self.autocast = autocast
        self._takes = frozenset(inspect.signature(model.forward).parameters)
        self.version = 0
        model.eval()  # dropout would move ratios off 1 before anything was learned
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=optim.lr, betas=BETAS, weight_decay=0.0)

    def step(self, rows: Sequence[Row]) -> StepStats:
        """Trains on the rows in `optim.minibatches` optimizer steps; see StepStats.

        pi_old is this learner's own policy before the first of them, so that a ratio starts at 1 (exactly,
        with one minibatch) even where a sampler computes in lower precision; how far the two are apart is
        `sampler_gap`. ValueError when a sequence-level objective meets unequal credit within a row.
        """
        start = time.perf_counter()
        empty = sum(not row.active for row in rows)
        if empty:
            warnings.warn(f"{empty} of {len(rows)} rows have an empty gate; they train nothing", stacklevel=2)
        if self.objective.level == "sequence":
            for row in rows:
                check_constant(row)
        live = [i for i, row in enumerate(rows) if row.active and any(row.advantages)]
        # By role, because rows come in pairs of failure and repair: every update needs its share of both.
        parts = split_evenly(sorted(live, key=lambda i: rows[i].role), self.optim.minibatches)
        old: dict[int, tuple[float, ...]] = {}
        if len(parts) > 1:
            old = dict(zip(live, self.logprobs([rows[i] for i in live]), strict=True))
        tallies, norms, updates = [], [], 0
        counts = Counter(term_of(row) for row in rows)
        for part in parts:
            share = len(part) / max(1, len(live))
            tally, norm = self._update(rows, part, old, {t: n * share for t, n in counts.items()})
            tallies.append(tally)
            norms.append(norm)
            updates += bool(part) and math.isfinite(norm)
        by_row = {i: stats for tally in tallies for i, stats in tally.rows.items()}
        return StepStats(
            loss=mean([t.loss for t in tallies]),
            grad_norm=mean(norms),
            lr=self.learning_rate(self.version - 1) if updates else 0.0,
            updates=updates,
            clip_fraction=mean([c for t in tallies for c in t.clipped]),
            ratio=mean([r for t in tallies for r in t.ratios], empty=1.0),
            sampler_gap=max(
                (sampler_gap(rows[i], stats.old_logprobs) for i, stats in by_row.items()), default=0.0
            ),
            tokens=sum(len(rows[i].prompt_ids) + len(rows[i].completion_ids) for i in live),
            seconds=time.perf_counter() - start,
            rows=tuple(by_row.get(i) for i in range(len(rows))),
        )

    def learning_rate(self, update: int) -> float:
        """The rate of optimizer step number `update` (from 0): linear warm-up, then the schedule."""
        warm = min(1.0, (update + 1) / (self.optim.warmup + 1))
        if self.optim.schedule == "constant":
            return self.optim.lr * warm
        done = min(1.0, update / max(1, self.total_updates))
        return self.optim.lr * warm * (WARM_DOWN + (1 - WARM_DOWN) * 0.5 * (1 + math.cos(math.pi * done)))

    def logprobs(self, rows: Sequence[Row]) -> list[tuple[float, ...]]:
        """log pi(completion token | prompt) of every row under the present weights, without gradient."""
        found: dict[int, tuple[float, ...]] = {}
        with torch.inference_mode():
            for indices in micro_batches(rows, range(len(rows)), self.optim.token_budget):
                batch = self._batch([rows[i] for i in indices])
                found.update(zip(indices, unpad(self._forward(batch), batch.lengths_B), strict=True))
        return [found[i] for i in range(len(rows))]

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "version": self.version}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.version = state["version"]

    def _update(
        self,
        rows: Sequence[Row],
        part: Sequence[int],
        old: dict[int, tuple[float, ...]],
        counts: dict[str, float],
    ) -> tuple[Tally, float]:
        """One optimizer step over the rows at `part`. Returns what was tallied and the gradient norm.

        `old` may be empty: then this is the batch's first update, and pi_old is the present policy.
        """
        tally = Tally()
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.version)
        self.optimizer.zero_grad(set_to_none=True)
        for indices in micro_batches(rows, part, self.optim.token_budget):
            chunk = [rows[i] for i in indices]
            batch = self._batch(chunk)
            logprobs_BT = self._forward(batch)
            now = unpad(logprobs_BT.detach(), batch.lengths_B)
            before = [old.get(i, lp) for i, lp in zip(indices, now, strict=True)]
            old_BT = pad(before, logprobs_BT.shape[1], logprobs_BT.device)
            losses = LOSSES[self.objective.level](
                logprobs_BT, old_BT, batch.mask_BT, batch.advantages_BT, self.objective, batch.lengths_B
            )
            scale_B = torch.tensor([row.weight / counts[term_of(row)] for row in chunk])
            loss = (losses.loss_B * scale_B.to(losses.loss_B)).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            tally.loss += float(loss.detach())
            columns = [t.detach().tolist() for t in (losses.ratio_B, losses.clipped_B, losses.loss_B)]
            tally.ratios += columns[0]
            tally.clipped += columns[1]
            for place, (i, values) in enumerate(zip(indices, zip(*columns, strict=True), strict=True)):
                tally.rows[i] = RowStats(before[place], now[place], *values)
        norm = (
            float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.optim.grad_clip))
            if part
            else 0.0
        )
        if part and math.isfinite(norm):
            self.optimizer.step()
            self.version += 1
        elif part:
            warnings.warn(
                f"gradient norm is {norm}: the update is skipped, it would destroy the weights", stacklevel=3
            )
        return tally, norm

    def _forward(self, batch: Batch) -> Tensor:
        """log pi of the completion tokens (B, T), in fp32."""
        width = batch.completion_BT.shape[1]
        device = self.model.device.type
        with torch.autocast(device, dtype=self.autocast, enabled=self.autocast is not None):
            extra = {"position_ids": batch.positions_BS, "logits_to_keep": width + 1}
            output = self.model(
                input_ids=batch.ids_BS,
                attention_mask=batch.attention_BS,
                use_cache=False,
                **{name: value for name, value in extra.items() if name in self._takes},
            )
            logits_BTV = output.logits[:, -width - 1 : -1]
        return token_logprobs(logits_BTV, batch.completion_BT, self.temperature)

    def _batch(self, rows: Sequence[Row]) -> Batch:
        device = self.model.device
        left = max(len(row.prompt_ids) for row in rows)
        right = max(len(row.completion_ids) for row in rows)
        ids, attention = [], []
        for row in rows:
            before, after = left - len(row.prompt_ids), right - len(row.completion_ids)
            ids.append(
                [self.pad_id] * before + [*row.prompt_ids, *row.completion_ids] + [self.pad_id] * after
            )
            attention.append([0] * before + [1] * (left + right - before - after) + [0] * after)
        ids_BS = torch.tensor(ids, device=device)
        attention_BS = torch.tensor(attention, device=device)
        return Batch(
            ids_BS=ids_BS,
            attention_BS=attention_BS,
            positions_BS=(attention_BS.cumsum(-1) - 1).clamp(min=0),
            completion_BT=ids_BS[:, left:],
            mask_BT=pad([row.mask for row in rows], right, device),
            advantages_BT=pad([row.advantages for row in rows], right, device),
            lengths_B=torch.tensor([len(row.completion_ids) for row in rows], device=device),
        )


def term_of(row: Row) -> str:
    """Which mean a row belongs to: J_rep for repair rows, J_pol for all others."""
    return "repair" if row.role == "repair" else "policy"


def check_constant(row: Row) -> None:
    """ValueError when a row's gated advantages differ: a ratio of the sequence has one credit."""
    credits = {a for a, m in zip(row.advantages, row.mask, strict=True) if m}
    if len(credits) > 1:
        raise ValueError(
            f"row {row.role} (problem {row.problem_id}): a sequence-level ratio takes one advantage where the "
            f"mask is 1, got {sorted(credits)[:3]}"
        )


def sampler_gap(row: Row, logprobs: Sequence[float]) -> float:
    """Largest difference between the sampler's log-probabilities and these; 0 where there are none."""
    pairs = zip(row.sampling_logprobs or (), logprobs, strict=False)
    return max((abs(a - b) for a, b in pairs), default=0.0)


def micro_batches(rows: Sequence[Row], indices: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Row indices in chunks of similar shape whose padded size stays within the budget (one row at least).

    A chunk also ends where the next row would leave more than SPARE of it to padding, once it is big enough
    to be worth a forward pass of its own (WORTH_A_PASS real tokens).
    """
    chunk: list[int] = []
    left = right = real = 0
    for i in sorted(indices, key=lambda i: (-len(rows[i].prompt_ids), -len(rows[i].completion_ids))):
        lengths = len(rows[i].prompt_ids), len(rows[i].completion_ids)
        wider = max(left, lengths[0]), max(right, lengths[1])
        padded = (len(chunk) + 1) * sum(wider)
        wasteful = real >= WORTH_A_PASS and real + sum(lengths) < (1 - SPARE) * padded
        if chunk and (padded > token_budget or wasteful):
            yield chunk
            chunk, real, wider = [], 0, lengths
        chunk.append(i)
        left, right = wider
        real += sum(lengths)
    if chunk:
        yield chunk


def split_evenly(indices: Sequence[int], parts: int) -> list[list[int]]:
    """`indices` dealt into at most `parts` non-empty lists of near equal size (one empty list if none)."""
    return [list(indices[p::parts]) for p in range(parts) if indices[p::parts]] or [[]]


def pad(values: Sequence[Sequence[float]], width: int, device: torch.device) -> Tensor:
    """Right-padded with zeros to (B, width), fp32."""
    return torch.tensor([[*v, *[0.0] * (width - len(v))] for v in values], dtype=torch.float32, device=device)


def unpad(values_BT: Tensor, lengths_B: Tensor) -> list[tuple[float, ...]]:
    return [tuple(v[:n]) for v, n in zip(values_BT.tolist(), lengths_B.tolist(), strict=True)]


def mean(values: Sequence[float], empty: float = 0.0) -> float:
    return sum(values) / len(values) if values else empty
