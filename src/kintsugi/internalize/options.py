"""What repairing can be told: the options that every algorithm which mends failures shares."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kintsugi.config import Section


class RepairOptions(Section):
    candidates: int = Field(2, ge=1, description="repairs sampled per failed rollout (G_rep)")
    k: int = Field(8, ge=1, description="edits kept at first; doubled once, then all (K)")
    check: Literal["continue", "graft", "none"] = Field(
        "continue", description="how the first K edits are tried: continue, graft, or none (kept untried)"
    )
    continuations: int = Field(1, ge=1, description="samples of a `continue` check; one that passes suffices")
    lambda_edit: float = Field(0.2, ge=0, description="price of edit distance in s_rep")
