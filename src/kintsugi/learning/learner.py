"""Rows to optimizer steps: token-budget micro-batches, fp32 master weights, one AdamW.

J = mean over policy rows + mean over repair rows (each row times its weight): METHOD's
J_pol + lambda_rep * J_rep. Rows whose gate or credit is empty count in the mean but cost no forward pass.
An objective may take another mean than that over rows (kintsugi.learning.objective.row_share).
"""

from __future__ import annotations

import math
import time
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from kintsugi.config import Optim
from kintsugi.learning.loss import LOSSES, RowLosses
from kintsugi.learning.objective import Objective, row_scales
from kintsugi.learning.scoring import Scorer, Target, forked, micro_batches, sequences, whole
from kintsugi.records import KintsugiError, Reach, Row
from kintsugi.sampling.base import Fork, RowStats, Score, StepStats

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Found = TypeVar("Found")
WARM_DOWN = 0.05
BETAS = (0.9, 0.99)
"""Adam's memory. The second moment forgets within about 100 steps: runs here are short."""


@dataclass(slots=True)
class Tally:
    """The values that an update adds up while it goes through its micro-batches."""

    loss: float = 0.0
    rows: dict[int, RowStats] = field(default_factory=dict)


class LocalLearner:
    """Trains `model` in place. `version` counts its optimizer steps.

    `temperature` is the sampler's, so that ratios compare the distributions that were sampled from. `sampler_exact`:
    the sampler's log-probabilities are this learner's but for float32 rounding, so that they serve as pi_old's.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        optim: Optim,
        objective: Objective,
        *,
        pad_id: int,
        temperature: float = 1.0,
        autocast: torch.dtype | None = None,
        sampler_exact: bool = False,
    ) -> None:
        self.model, self.optim, self.objective = model, optim, objective
        self.sampler_exact = sampler_exact
        self.version = 0
        self.token_budget = optim.token_budget
        model.eval()  # dropout would move ratios off 1 before anything was learned
        if optim.gradient_checkpointing:
            recompute_activations(model)
        self.scorer = Scorer(model, pad_id, temperature, autocast)
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=optim.lr, betas=BETAS, weight_decay=0.0, fused=True)

    def step(self, rows: Sequence[Row], done: float = 0.0) -> StepStats:
        """Trains on the rows in `optim.minibatches` optimizer steps; see StepStats. `done`: the run's share
        before this step, which a cosine schedule follows.

        pi_old is this learner's own policy before the first of them, so that a ratio starts at 1 (exactly, in the
        first) even where a sampler computes in lower precision; how far the two are apart is `sampler_gap`, over
        the rows of which the learner computed both. ValueError when a sequence-level objective meets unequal credit
        within a row.
        """
        start = time.perf_counter()
        empty = sum(not row.active for row in rows)
        if empty:
            warnings.warn(f"{empty} of {len(rows)} rows have an empty gate; they train nothing", stacklevel=2)
        if self.objective.level == "sequence":
            for row in rows:
                check_constant(row)
        live = [i for i, row in enumerate(rows) if row.active and any(row.advantages)]
        parts = split_evenly(sorted(live, key=lambda i: stratum(rows[i])), self.optim.minibatches)
        plans = [self._plan(sequences(rows, part)) for part in parts]
        old = self._old(rows, parts[1:], plans[1:])
        tallies, norms, updates, skipped = [], [], 0, 0
        scales = row_scales(rows, self.objective)
        for part, plan in zip(parts, plans, strict=True):
            dealt = len(part) / max(1, len(live))
            tally, norm = self._update(rows, plan, old, [s / dealt for s in scales] if part else [], done)
            tallies.append(tally)
            norms.append(norm)
            updates += bool(part) and math.isfinite(norm)
            skipped += bool(part) and not math.isfinite(norm)
        return step_stats(
            rows,
            {i: stats for tally in tallies for i, stats in tally.rows.items()},
            losses=[t.loss for t in tallies],
            norms=norms,
            lr=self.learning_rate(self.version - 1, done) if updates else 0.0,
            updates=updates,
            skipped=skipped,
            seconds=time.perf_counter() - start,
        )

    def learning_rate(self, update: int, done: float) -> float:
        """The rate of optimizer step number `update` (from 0) once `done` of the run is over."""
        warm = min(1.0, (update + 1) / (self.optim.warmup + 1))
        if self.optim.schedule == "constant":
            return self.optim.lr * warm
        left = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return self.optim.lr * warm * (WARM_DOWN + (1 - WARM_DOWN) * left)

    def logprobs(self, scores: Sequence[Score]) -> list[tuple[float, ...]]:
        """log pi(completion token | prompt) under the present weights, without gradient."""
        found = self._score(self._plan(whole(scores)))
        return [tuple(found.get(i, ())) for i in range(len(scores))]

    def reach(self, forks: Sequence[Fork]) -> list[Reach]:
        """The reach of each fork under the present weights."""
        found = self._through(self._plan(forked(forks)), lambda chunk: self.scorer.reach(chunk, forks))
        return [found[i] for i in range(len(forks))]

    def moments(self) -> dict[str, Tensor]:
        """AdamW's state by `parameter's number/name`: with the weights and `version` all that an update depends on."""
        state = self.optimizer.state_dict()["state"]
        return {f"{i}/{name}": value for i, values in state.items() for name, value in values.items()}

    def restore(self, moments: Mapping[str, Tensor], version: int) -> None:
        """Goes on from these moments after `version` updates. ValueError where they belong to another model."""
        state: dict[int, dict[str, Tensor]] = defaultdict(dict)
        for key, value in moments.items():
            i, _, name = key.partition("/")
            state[int(i)][name] = value
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        for place, held in state.items():
            if place >= len(trained) or held["exp_avg"].shape != trained[place].shape:
                raise ValueError(f"the moments of parameter {place} do not fit the model")
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": dict(state), "param_groups": groups})
        self.version = version

    def _old(
        self, rows: Sequence[Row], parts: Sequence[Sequence[int]], plans: Sequence[Sequence[Sequence[Target]]]
    ) -> dict[int, Sequence[float]]:
        """log pi_old of the rows at `parts`, which are trained on once an update has been made."""
        found: dict[int, Sequence[float]] = {}
        if not self.sampler_exact:
            # In the very micro-batches that are trained on, so that ratios start at 1 in any precision.
            return found | self._score([chunk for plan in plans for chunk in plan])
        for i in (i for part in parts for i in part):
            sampled = rows[i].sampling_logprobs
            if sampled is not None:
                found[i] = sampled
        unknown = [i for part in parts for i in part if i not in found]
        return found | self._score(self._plan(sequences(rows, unknown)))

    def _plan(self, items: Sequence[Target]) -> list[list[Target]]:
        return micro_batches(items, self.token_budget, self.scorer.passing)

    def _score(self, plan: Sequence[Sequence[Target]]) -> dict[int, list[float]]:
        """Row index -> log-probabilities up to the last token asked for (0 where not asked), no gradient."""
        return self._through(
            plan,
            lambda chunk: {
                i: row[: len(t.wanted)]
                for t, row in zip(chunk, self.scorer(chunk).tolist(), strict=True)
                for i in t.rows
            },
        )

    def _through(
        self, plan: Sequence[Sequence[Target]], compute: Callable[[Sequence[Target]], Mapping[int, Found]]
    ) -> dict[int, Found]:
        """The results of `compute`, chunk by chunk without gradient, in smaller chunks where memory runs out."""
        found: dict[int, Found] = {}
        waiting = deque(plan)
        while waiting:
            chunk = waiting.popleft()
            try:
                with torch.inference_mode():
                    found |= compute(chunk)
            except RuntimeError as error:
                waiting.extendleft(reversed(self._smaller([chunk], error)))
        return found

    def _smaller(self, plan: Sequence[Sequence[Target]], error: RuntimeError) -> list[Sequence[Target]]:
        """The plan in halves after memory has run out, for this and all later steps; else raises `error` again."""
        if not out_of_memory(error):
            raise error
        if all(len(chunk) == 1 for chunk in plan):
            raise KintsugiError(
                "memory does not suffice for the update on a single sequence: lower sampling.max_new_tokens, or set "
                "optim.gradient_checkpointing=true or optim.lora=16"
            ) from None
        self.token_budget = max(16, self.token_budget // 2)
        warnings.warn(f"out of memory: going on with optim.token_budget={self.token_budget}", stacklevel=4)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        middles = [(chunk, -(-len(chunk) // 2)) for chunk in plan]
        return [half for chunk, m in middles for half in (chunk[:m], chunk[m:]) if half]

    def _update(
        self,
        rows: Sequence[Row],
        plan: Sequence[Sequence[Target]],
        old: Mapping[int, Sequence[float]],
        scales: Sequence[float],
        done: float,
    ) -> tuple[Tally, float]:
        """One optimizer step over the rows of `plan`. Returns what was tallied and the gradient norm.

        `old` may be empty: then this is the batch's first update, and pi_old is the present policy.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.version, done)
        while True:
            try:
                tally = self._gradients(rows, plan, old, scales)
                break
            except RuntimeError as error:
                plan = self._smaller(plan, error)
        norm = 0.0
        if plan:
            norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.optim.grad_clip))
        if plan and math.isfinite(norm):
            self.optimizer.step()
            self.version += 1
        elif plan:
            warnings.warn(
                f"gradient norm is {norm}: the update is skipped, it would destroy the weights", stacklevel=3
            )
        return tally, norm

    def _gradients(
        self,
        rows: Sequence[Row],
        plan: Sequence[Sequence[Target]],
        old: Mapping[int, Sequence[float]],
        scales: Sequence[float],
    ) -> Tally:
        """Leaves the gradient of the rows of `plan` in the parameters."""
        tally = Tally()
        self.optimizer.zero_grad(set_to_none=True)
        for chunk in plan:
            indices = [i for item in chunk for i in item.rows]
            places = [place for place, item in enumerate(chunk) for _ in item.rows]
            logprobs_BT = self.scorer(chunk)[places]
            now = logprobs_BT.detach().tolist()
            before = [old.get(i, values) for i, values in zip(indices, now, strict=True)]
            chosen = [rows[i] for i in indices]
            losses = row_losses(self.objective, chosen, logprobs_BT, before)
            scale_B = torch.tensor([scales[i] for i in indices], device=logprobs_BT.device)
            loss = (losses.loss_B * scale_B).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            tally.loss += float(loss.detach())
            tally.rows |= zip(indices, row_stats(chosen, now, before, losses), strict=True)
        return tally


def row_losses(
    objective: Objective, rows: Sequence[Row], logprobs_BT: Tensor, before: Sequence[Sequence[float]]
) -> RowLosses:
    """Each row's own loss, from its log-probabilities now (B, T) and under the old policy."""
    width, device = logprobs_BT.shape[1], logprobs_BT.device
    return LOSSES[objective.level](
        logprobs_BT,
        pad(before, width, device),
        pad([row.mask for row in rows], width, device),
        pad([row.advantages for row in rows], width, device),
        objective,
        torch.tensor([len(row.completion_ids) for row in rows], device=device),
    )


def row_stats(
    rows: Sequence[Row], now: Sequence[Sequence[float]], before: Sequence[Sequence[float]], losses: RowLosses
) -> list[RowStats]:
    """The figures of each row in an update."""
    columns = [t.detach().tolist() for t in (losses.ratio_B, losses.clipped_B, losses.loss_B)]
    return [
        RowStats(gated(b, row), gated(n, row), *values)
        for row, n, b, values in zip(rows, now, before, zip(*columns, strict=True), strict=True)
    ]


def step_stats(
    rows: Sequence[Row],
    by_row: Mapping[int, RowStats],
    *,
    losses: Sequence[float],
    norms: Sequence[float],
    lr: float,
    updates: int,
    seconds: float,
    skipped: int = 0,
) -> StepStats:
    """The figures of a step, from those of its rows (by number) and those of its updates."""
    known = [by_row[i] for i in sorted(by_row)]
    gaps = [sampler_gap(rows[i], stats.old_logprobs) for i, stats in by_row.items()]
    live = [row for row in rows if row.active and any(row.advantages)]
    return StepStats(
        loss=mean(losses),
        grad_norm=mean(norms),
        lr=lr,
        updates=updates,
        skipped=skipped,
        clip_fraction=mean([stats.clipped for stats in known]),
        ratio=mean([stats.ratio for stats in known], empty=1.0),
        sampler_gap=max(gaps, default=0.0),
        tokens=sum(len(row.prompt_ids) + len(row.completion_ids) for row in live),
        seconds=seconds,
        rows=tuple(by_row.get(i) for i in range(len(rows))),
    )


def out_of_memory(error: RuntimeError) -> bool:
    """True if torch could not get memory. On a GPU the error has a type of its own, on a CPU a message."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def recompute_activations(model: PreTrainedModel) -> None:
    """Turns gradient checkpointing on, which transformers does in layers that are in training mode.

    Only those modules' own flags are set: their dropout, held by modules below, stays as it is.
    """
    with warnings.catch_warnings():  # transformers 5 gave the method a new name, which 5.0 does not have
        warnings.simplefilter("ignore", FutureWarning)
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False):
            module.training = True


def check_constant(row: Row) -> None:
    """ValueError when a row's gated advantages differ: a ratio of the sequence has one credit."""
    credits = {a for a, m in zip(row.advantages, row.mask, strict=True) if m}
    if len(credits) > 1:
        raise ValueError(
            f"row of {row.kind} {row.index} (problem {row.problem_id}): a sequence-level ratio takes one advantage "
            f"where the mask is 1, got {sorted(credits)[:3]}"
        )


def stratum(row: Row) -> tuple[bool, bool, bool]:
    """The kind of a row: every update gets its share of seams, of other rollouts, of repairs and of repair mode."""
    mends = "repair" in (row.term, row.kind)
    return mends, row.term == "policy", "seam" not in row.credit


def sampler_gap(row: Row, logprobs: Sequence[float]) -> float:
    """Largest difference, on gated tokens, between the sampler's log-probabilities and these; else 0."""
    pairs = zip(row.sampling_logprobs or (), logprobs, row.mask, strict=False)
    return max((abs(a - b) for a, b, gate in pairs if gate), default=0.0)


def gated(values: Sequence[float], row: Row) -> tuple[float, ...]:
    """`values` on the row's gated tokens and NaN on the others: nobody asked for those."""
    whole = zip_longest(values[: len(row.mask)], row.mask, fillvalue=0.0)
    return tuple(value if gate else math.nan for value, gate in whole)


def split_evenly(indices: Sequence[int], parts: int) -> list[list[int]]:
    """`indices` dealt into at most `parts` non-empty lists of near equal size (one empty list if none)."""
    return [list(indices[p::parts]) for p in range(parts) if indices[p::parts]] or [[]]


def pad(values: Sequence[Sequence[float]], width: int, device: torch.device) -> Tensor:
    """Cut or right-padded with zeros to (B, width), fp32."""
    padded = [[*v[:width], *[0.0] * (width - len(v))] for v in values]
    return torch.tensor(padded, dtype=torch.float32, device=device)


def mean(values: Sequence[float], empty: float = 0.0) -> float:
    return sum(values) / len(values) if values else empty
