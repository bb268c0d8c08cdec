"""Rows as verl carries them: out of an agent loop as tensors with a note, back into rows for the whole batch, and the
loss that is the local learner's.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kintsugi.learning.loss import LOSSES
from kintsugi.learning.objective import Objective
from kintsugi.records import Episode, Row

NOTE = "kintsugi"
"""The key of a row's note among verl's extra fields."""


@dataclass(frozen=True, slots=True)
class Note:
    """The facts that verl has no field for: a row's place in the loss (None: it carries the episode and has none), its
    number among its problem's rows, and, with the first of them, the episode and the seconds it took by phase.
    """

    place: Mapping[str, Any] | None
    number: int
    episode: Episode | None = None
    seconds: Mapping[str, float] | None = None

    def packed(self) -> bytes:
        """As bytes: verl turns dataclasses into dictionaries on the way."""
        return pickle.dumps((self.place, self.number, self.episode, self.seconds))

    @classmethod
    def unpacked(cls, packed: bytes) -> Note:
        return cls(*pickle.loads(packed))


def place_of(row: Row) -> dict[str, Any]:
    """A row's note."""
    names = ("problem_id", "kind", "index", "term", "weight")
    return {name: getattr(row, name) for name in names}


def row_of(
    prompt: Sequence[int], response: Sequence[int], mask: Sequence[int], credit: Sequence[float], note: Note
) -> Row:
    """The row that went into verl's tensors."""
    assert note.place is not None
    row = Row(tuple(prompt), tuple(response), None, mask=tuple(mask), **note.place)
    return row.add("sum", tuple(credit))


def token_sum(
    model_output: Mapping[str, Tensor],
    data: Any,
    dp_group: Any = None,
    *,
    objective: Objective,
    on_policy: bool,
) -> tuple[Tensor, dict[str, Any]]:
    """(the loss of a micro-batch, metrics), for verl's `set_loss_fn`: the sum over gated tokens of
    -min(w A, clip(w) A), every row's place in the loss being folded into A.

    It is multiplied by the number of data-parallel workers, over which verl averages gradients. `on_policy`: there is
    one update per batch, so the old policy is the present one and ratios are exactly 1.
    """
    from verl.utils.metric import AggregationType, Metric
    from verl.workers.utils.padding import no_padding_2_padding

    logprobs_BT = no_padding_2_padding(model_output["log_probs"], data)
    lengths_B = data["responses"].offsets().diff()
    fields = data.select("response_mask", "old_log_probs", "advantages").to_padded_tensor()
    old_BT = logprobs_BT.detach() if on_policy else fields["old_log_probs"]
    mask_BT = fields["response_mask"].to(logprobs_BT.dtype)
    losses = LOSSES[objective.level](logprobs_BT, old_BT, mask_BT, fields["advantages"], objective, lengths_B)
    # A row's loss is the mean over its gated tokens: times their number it is the sum.
    active_B = mask_BT.sum(-1)
    loss = (losses.loss_B * active_B).sum() * data["dp_size"]
    live_B = active_B > 0
    metrics = {"actor/pg_loss": Metric(value=loss.detach(), aggregation=AggregationType.SUM)}
    if live_B.any():
        means = {"actor/ratio": losses.ratio_B, "actor/pg_clipfrac": losses.clipped_B}
        for name, values_B in means.items():
            mean = values_B[live_B].detach().mean().item()
            metrics[name] = Metric(value=mean, aggregation=AggregationType.MEAN)
    return loss, metrics


def sampler_gap(mask: Tensor, old: Tensor, sampled: Tensor) -> dict[str, float]:
    """Largest and mean |log-prob of the trainer - log-prob of the sampler| over gated tokens that this policy sampled
    from this very prompt (`sampled` is 0 elsewhere); empty without any.
    """
    known = (mask > 0) & (sampled != 0)
    gap = (old - sampled).abs()[known]
    return {"sampler_gap": gap.max().item(), "sampler_gap/mean": gap.mean().item()} if len(gap) else {}


def seconds_of(notes: Sequence[Note]) -> dict[str, float]:
    """Seconds by phase, the mean over the problems that the notes tell of."""
    told = [note.seconds for note in notes if note.seconds]
    phases = sorted({phase for seconds in told for phase in seconds})
    return {f"seconds/{phase}": sum(s.get(phase, 0.0) for s in told) / len(told) for phase in phases}


def jagged(values: Sequence[Sequence[float]]) -> Tensor:
    """Rows of unequal lengths as verl keeps them, in fp32."""
    rows = [torch.tensor(row, dtype=torch.float32) for row in values]
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)
