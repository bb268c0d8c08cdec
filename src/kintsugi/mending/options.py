"""How failures of a group are mended: what an algorithm that mends them says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Source = Literal["rewrite", "sibling", "either"]
Trial = Literal["continue", "graft", "none"]


@dataclass(frozen=True, slots=True)
class Mending:
    """Which failures are mended, out of what, and how much of a repair is kept.

    source       Repairs are written by the model (`rewrite`, arXiv:2605.05226), are passing siblings as they are
                 (`sibling` [ours]), or `either` [ours]: a sibling that takes the failure's own steps, else a rewrite.
    failures     Failures of a group that are mended at most; None: all.
    candidates   Repairs sampled per failure (G_rep).
    check, k     How the first K edits are tried (see kintsugi.mending.truncate).
    lambda_edit  Price of edit distance in s_rep.
    """

    source: Source = "rewrite"
    failures: int | None = None
    candidates: int = 2
    check: Trial = "continue"
    k: int = 8
    lambda_edit: float = 0.2
