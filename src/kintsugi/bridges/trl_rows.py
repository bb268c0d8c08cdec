"""Rows as TRL's batch: which rows each process trains on, and their tensors (B rows, T completion tokens)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from trl.trainer.utils import pad

from kintsugi.bridges.replay import Lockstep
from kintsugi.learning.learner import check_constant
from kintsugi.learning.objective import Objective, flattened
from kintsugi.records import Row
from kintsugi.sampling.base import Score


def idle_row(pad_id: int) -> Row:
    """A row that trains nothing, to fill a batch."""
    return Row((pad_id,), (pad_id,), None, "", "rollout", 0, mask=(0,))


def unpadded(values: Tensor, mask: Tensor) -> list[tuple[Any, ...]]:
    """The values that the mask keeps, by row."""
    return [tuple(row[kept].tolist()) for row, kept in zip(values.cpu(), mask.bool().cpu(), strict=True)]


@dataclass(frozen=True, slots=True)
class Layout:
    """TRL's layout of tensors: the padding token, what lengths are multiples of (None: any number), and the device.

    flush: prompts are cut to the shortest, and what is left of them begins the completions, where it counts for
    nothing. Unsloth's loss moves each row by its prompt's padding, but no advantages with it: here is none.
    """

    pad_id: int
    multiple: int | None
    device: torch.device
    flush: bool = False

    def padded(self, values: Sequence[Sequence[float]], fill: float, side: str = "right") -> Tensor:
        """(B, longest) of whole numbers or, with a fill of 0.0, of fp32."""
        kind = torch.float32 if isinstance(fill, float) else torch.long
        tensor: Tensor = pad([torch.tensor(v, dtype=kind) for v in values], fill, side, self.multiple)
        return tensor.to(self.device)

    def sequences(self, rows: Sequence[Row] | Sequence[Score]) -> dict[str, Tensor]:
        """Prompts padded on the left and completions on the right, with their masks."""
        prompts, completions = [], []
        for row, begun in zip([*rows], self.begun(rows), strict=True):
            cut = len(row.prompt_ids) - begun
            prompts.append(row.prompt_ids[:cut])
            completions.append(row.prompt_ids[cut:] + row.completion_ids)
        return {
            "prompt_ids": self.padded(prompts, self.pad_id, "left"),
            "prompt_mask": self.padded([[1] * len(ids) for ids in prompts], 0, "left"),
            "completion_ids": self.padded(completions, self.pad_id),
            "completion_mask": self.padded([[1] * len(ids) for ids in completions], 0),
        }

    def begun(self, rows: Sequence[Row] | Sequence[Score]) -> list[int]:
        """The number of prompt tokens with which each completion begins."""
        shortest = min(len(row.prompt_ids) for row in rows)
        return [len(row.prompt_ids) - shortest if self.flush else 0 for row in rows]

    def batch(self, rows: Sequence[Row], items: int, level: str) -> dict[str, Tensor]:
        """The inputs of TRL's loss. It divides the sum over tokens by `items`, so credit is multiplied by it.

        Advantages are (B, T), or (B,) where ratios are those of sequences.
        """
        found = self.sequences(rows)
        begun = [(0,) * n for n in self.begun(rows)]
        gates_BT = self.padded([n + row.mask for n, row in zip(begun, rows, strict=True)], 0)
        credit = [(*n, *row.advantages) for n, row in zip(begun, rows, strict=True)]
        advantages_BT = items * self.padded(credit, 0.0) * gates_BT
        found |= {"tool_mask": gates_BT, "num_items_in_batch": torch.tensor(items, device=self.device)}
        if level == "token":
            return found | {"advantages": advantages_BT}
        for row in rows:
            check_constant(row)
        return found | {"advantages": advantages_BT.sum(-1) / gates_BT.sum(-1).clamp(min=1)}


def dealt(
    rows: Sequence[Row], objective: Objective, processes: Lockstep, steps: int, filler: Row, uncredited: bool
) -> tuple[list[tuple[int, Row]], int]:
    """(this process's part of all processes' rows, each with its number; number of gated tokens of them all).

    Their place in the loss is in their advantages. Rows that train nothing are left out, once they were counted
    (`uncredited` keeps those with a gate). Every process has as many rows, a multiple of `steps`: fillers, number -1,
    are added.
    """
    numbered = enumerate(flattened(rows, objective))
    live = [(i, row) for i, row in numbered if row.active and (uncredited or any(row.advantages))]
    mine = processes.share(live)
    most = -(-len(live) // processes.world)
    mine += [(-1, filler)] * (max(1, -(-most // steps)) * steps - len(mine))
    return mine, max(1, sum(row.active for _, row in live))
