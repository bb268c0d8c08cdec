"""Kintsugi [ours]: GRPO whose blame is gathered at the seam, with IOP's mended failures at a price that pays.

1. A rollout without a seam keeps its group advantage, as in GRPO. IOP leaves it out, and so nothing holds
   what no seam ever touches: copies and operators drift until repairs fail as well.
2. A mended failure is blamed at its first edit alone, `seam` times as much as a token of the group, and
   praised for the first 70% of what it got right before that (`prefix`). The repair is praised at the fix.
   Later edits are mostly consequences of the first.
3. Few repairs: `failures` of a group with one candidate each, and none is written where a passing sibling takes
   the failure's own steps, so that repairs stay far below half of the tokens.
4. Repair mode is trained beside it. Its scores are centred within the problem, not scaled: where all repairs pass,
   what is left is edit distance, and a unit spread would make that as loud as right and wrong.
5. The clipped token ratio, and the mean over tokens.

    kintsugi train recipes/quickstart.yaml
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated

from pydantic import Field

from kintsugi.algorithms.base import OVER_THE_GROUP, Algorithm, centred, outcome_rows
from kintsugi.algorithms.seams import reasons, repair_rows, repaired_row, run, trained
from kintsugi.mending.options import Closed, Mending, Source
from kintsugi.records import Episode, Row, Seam

PREFIX = 1.0
"""The praise of a token before a seam."""
PREFIX_SHARE = 0.7
"""The share of what precedes a seam that is praised. VPPO (arXiv:2601.18984) shortens it against step inflation."""


def kintsugi(
    source: Annotated[
        Source,
        Field(
            description="a repair is a rewrite, the nearest passing sibling, or either: "
            "a sibling that takes the failure's own steps, else a rewrite"
        ),
    ] = "either",
    failures: Annotated[
        int, Field(ge=0, description="failures of a group that are mended at most; 0: all")
    ] = 3,
    seam: Annotated[
        float, Field(gt=0, description="credit of a seam's tokens: blame of the failure's, praise of the fix")
    ] = 10.0,
    lambda_rep: Annotated[float, Field(ge=0, description="weight of the repair objective")] = 1.0,
    closed: Closed = "keep",
) -> Algorithm:
    def rows(episode: Episode) -> list[Row]:
        """One row per rollout, two for one with a seam (credited or not, it counts), then repair mode's."""
        seams = trained(episode, closed)
        made: list[Row] = []
        for member in outcome_rows(episode):
            if found := seams.get(member.index):
                made.append(blamed(member, found, seam))
                made.append(repaired_row(episode, found, seam))
            else:
                made.append(member)
        return [*made, *repair_rows(episode, lambda_rep, centred)]

    how = Mending(source, failures or None, candidates=1, check="none", k=1)
    return Algorithm(
        "kintsugi",
        partial(run, how=how),
        rows,
        level="token",
        reduction="token",
        note=f"{failures or 'all'} failures of a group mended",
        reasons={
            "group": f"{OVER_THE_GROUP}; a mended failure has its seam and prefix instead",
            "prefix": f"+{PREFIX:g} on the first {PREFIX_SHARE:.0%} of the tokens before a mended failure's seam, "
            "which are taken for right; what lies between them and the seam, and what follows it, gets none",
            **reasons(seam, lambda_rep, how.lambda_edit),
        },
    )


def blamed(failure: Row, seam: Seam, weight: float) -> Row:
    """A mended failure: praised before its seam, blamed at it; it has no group advantage."""
    first = seam.edits[0].failed_at if seam.edits else 0
    gated = replace(failure, credit={}).add("seam", [-weight * gate for gate in seam.failed_mask])
    if praised := int(PREFIX_SHARE * first):
        gated = gated.add("prefix", [PREFIX * (t < praised) for t in range(len(failure.mask))])
    return gated.credited()
