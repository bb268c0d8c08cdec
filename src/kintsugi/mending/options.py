"""The options by which an algorithm mends the failures of a group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

Source = Literal["rewrite", "sibling", "either"]
Trial = Literal["continue", "graft", "none"]
Closed = Annotated[
    Literal["keep", "drop"],
    Field(
        description="seams whose fix is out of the policy's reach: keep, or drop (their failures are as if unmended)"
    ),
]


@dataclass(frozen=True, slots=True)
class Mending:
    """The failures to mend, the source of their repairs, and the part of a repair that is kept.

    source       Repairs are written by the model (`rewrite`, arXiv:2605.05226), are passing siblings as they are
                 (`sibling` [ours]), or `either` [ours]: a sibling that takes the failure's own steps, else a rewrite.
    failures     Failures of a group that are mended at most; None: all.
    candidates   Repairs sampled per failure (G_rep).
    check, k     The trial of the first K edits (see kintsugi.mending.truncate).
    lambda_edit  Price of edit distance in s_rep.
    """

    source: Source = "rewrite"
    failures: int | None = None
    candidates: int = 2
    check: Trial = "continue"
    k: int = 8
    lambda_edit: float = 0.2
