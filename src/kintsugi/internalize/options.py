"""What repairing can be told: the options that every algorithm which mends failures shares."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from kintsugi.config import Section

Form = Literal["rewrite", "patch", "sibling", "either"]
FORMS = (
    "a repair is a rewrite, a patch (the wrong step only), the passing sibling itself, or either: "
    "a sibling that takes the failure's own steps, else a rewrite"
)


class RepairOptions(Section):
    form: Form = Field("rewrite", description=FORMS)
    anchor: Literal["nearest", "common", "random", "shortest", "none"] = Field(
        "nearest",
        description="the passing sibling beside a failure: nearest, common (like the others), random, shortest or none",
    )
    without_pass: Literal["memory", "alone", "skip"] = Field(
        "memory", description="groups without a pass: an earlier pass, else skip; else alone; or always skip"
    )
    failures: int = Field(0, ge=0, description="failures of a group that are mended at most; 0: all")
    candidates: int = Field(2, ge=1, description="repairs sampled per failed rollout (G_rep)")
    rejoin: int = Field(
        0,
        ge=0,
        description="a rewrite that has written so many tokens as the failure did is cut short; 0: never",
    )
    audit: bool = Field(True, description="rules reject repairs that game the verifier")
    k: int = Field(8, ge=1, description="edits kept at first; doubled once, then all (K)")
    check: Literal["continue", "graft", "none"] = Field(
        "continue", description="how the first K edits are tried: continue, graft, or none (kept untried)"
    )
    continuations: int = Field(
        1, ge=1, description="samples of a `continue` check or of a patch; one that passes suffices"
    )
    masks: Literal["extended", "strict"] = Field(
        "extended",
        description="extended: an insertion or deletion gates the other side's token too; or strict",
    )
    lambda_edit: float = Field(0.2, ge=0, description="price of edit distance in s_rep")

    @model_validator(mode="after")
    def _siblings(self) -> RepairOptions:
        if self.form in ("sibling", "either") and self.anchor == "none":
            raise ValueError(
                f"anchor: form={self.form} takes a passing sibling as the repair, so it cannot be none"
            )
        return self
