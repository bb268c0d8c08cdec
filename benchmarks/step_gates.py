"""Kintsugi whose seam lies in the first step that reckons otherwise.

Where a repair keeps the failure's wording, the first differing token is the wrong one. Where it is worded anew, that
token is often a harmless word (`In 8 bags` for `In 8 trays`), and the error comes later. A step is a line or a
sentence. The seam's step is the first in which a number or an operator differs; if none does, the first that differs
in more than spaces, case and punctuation. `STEP_GATES` gates its edits, at most MOST of them, and `STEP_SEAM` the
first of them alone, as `kintsugi` does.

    kintsugi train recipes/learning/words.yaml algorithm=benchmarks/step_gates.py:STEP_SEAM
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial, wraps
from itertools import accumulate, groupby
from typing import Any

from kintsugi.algorithms.base import Algorithm
from kintsugi.algorithms.kintsugi import kintsugi
from kintsugi.mending.align import gates
from kintsugi.mending.audit import STEP_END
from kintsugi.records import Edit, Episode, Problem, Seam
from kintsugi.sampling.context import Codec, Context
from kintsugi.sampling.play import Asking

MOST = 8
DRESS = str.maketrans("", "", " \t\n\r.,;:!?'\"$")
RECKONS = re.compile(r"[0-9+\-*/=<>^%×·÷√]")


@wraps(kintsugi)
def STEP_GATES(**options: Any) -> Algorithm:
    """Kintsugi with the edits of one step in its gates."""
    return by_step(kintsugi(**options), MOST)


@wraps(kintsugi)
def STEP_SEAM(**options: Any) -> Algorithm:
    """Kintsugi with the first edit of one step in its gates."""
    return by_step(kintsugi(**options), 1)


def by_step(shipped: Algorithm, most: int) -> Algorithm:
    """`shipped` with at most `most` edits of the seam's step in its gates."""

    def run(problem: Problem, ctx: Context) -> Asking[Episode]:
        episode = yield from shipped.run(problem, ctx)
        moved = partial(to_the_step, episode=episode, codec=ctx.codec, most=most)
        return replace(episode, seams=tuple(map(moved, episode.seams)))

    return replace(shipped, name="step_gates", run=run)


def to_the_step(seam: Seam, episode: Episode, codec: Codec, most: int) -> Seam:
    failed = [codec.decode([i]) for i in episode.rollouts[seam.failed].completion.token_ids]
    repaired = [codec.decode([i]) for i in episode.repairs[seam.repair].ids]
    edits = [(e, *texts(e, failed, repaired)) for e in seam.edits]
    edits = [(e, *sides) for e, *sides in edits if len(set(map(bare, sides))) > 1] or edits
    if not edits:
        return seam
    step_of = step_numbers(failed)
    steps = [list(mine) for _, mine in groupby(edits, key=lambda edit: step_of[edit[0].failed_at])]
    reckoning = (mine for mine in steps if any(RECKONS.search(a + b) for _, a, b in mine))
    kept = [e for e, *_ in next(reckoning, steps[0])][:most]
    failed_mask, repaired_mask = gates(len(failed), len(repaired), kept)
    rest = [e for e in seam.edits if e not in kept]
    return replace(
        seam, edits=(*kept, *rest), kept=len(kept), failed_mask=failed_mask, repaired_mask=repaired_mask
    )


def texts(edit: Edit, failed: Sequence[str], repaired: Sequence[str]) -> tuple[str, str]:
    """The token that an edit takes away, and the one that it puts in; "" where there is none."""
    before = "" if edit.kind == "insert" else failed[edit.failed_at]
    after = "" if edit.kind == "delete" else repaired[edit.repaired_at]
    return before, after


def bare(text: str) -> str:
    """A token without spaces, case and punctuation."""
    return text.translate(DRESS).casefold()


def step_numbers(pieces: Sequence[str]) -> list[int]:
    """The number of the step that each token belongs to, and that of what comes after the last one."""
    ends = [found.start() for found in STEP_END.finditer("".join(pieces))]
    begins = accumulate(map(len, pieces), initial=0)
    return [sum(end <= begin for end in ends) for begin in begins]
