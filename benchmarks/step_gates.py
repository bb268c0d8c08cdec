"""Kintsugi whose gates end with the first step that differs, and skip edits that change nothing.

Where a repair keeps the failure's wording, the first differing token is the wrong one. Where it is worded anew, that
token is often a harmless word, and the error comes later in the same step. So every edit of the first differing step
is gated, at most MOST of them; edits of spaces, case and punctuation are none. A step is a line or a sentence.

    kintsugi train recipes/learning/words.yaml algorithm=benchmarks/step_gates.py:STEP_GATES
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import wraps
from itertools import accumulate
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


@wraps(kintsugi)
def STEP_GATES(**options: Any) -> Algorithm:
    """Kintsugi with other gates."""
    shipped = kintsugi(**options)

    def run(problem: Problem, ctx: Context) -> Asking[Episode]:
        episode = yield from shipped.run(problem, ctx)
        return replace(episode, seams=tuple(to_the_step(s, episode, ctx.codec) for s in episode.seams))

    return replace(shipped, name="step_gates", run=run)


def to_the_step(seam: Seam, episode: Episode, codec: Codec) -> Seam:
    """The seam with the edits of its first differing step alone in its gates."""
    failed = [codec.decode([i]) for i in episode.rollouts[seam.failed].completion.token_ids]
    repaired = [codec.decode([i]) for i in episode.repairs[seam.repair].ids]
    edits = [e for e in seam.edits if not is_dress(e, failed, repaired)] or list(seam.edits)
    if not edits:
        return seam
    end = step_end(failed, edits[0].failed_at)
    kept = [e for e in edits if e.failed_at < end][:MOST] or edits[:1]
    failed_mask, repaired_mask = gates(len(failed), len(repaired), kept)
    later = [e for e in seam.edits if e not in kept]
    return replace(
        seam, edits=(*kept, *later), kept=len(kept), failed_mask=failed_mask, repaired_mask=repaired_mask
    )


def is_dress(edit: Edit, failed: Sequence[str], repaired: Sequence[str]) -> bool:
    """True if an edit changes spaces, case or punctuation alone."""
    before = "" if edit.kind == "insert" else failed[edit.failed_at]
    after = "" if edit.kind == "delete" else repaired[edit.repaired_at]
    return before.translate(DRESS).casefold() == after.translate(DRESS).casefold()


def step_end(pieces: Sequence[str], at: int) -> int:
    """The number of tokens before the end of the step that token number `at` belongs to."""
    ends = list(accumulate(map(len, pieces)))
    begin = ends[at - 1] if at else 0
    found = STEP_END.search("".join(pieces), begin + 1)
    stop = found.start() if found else ends[-1] + 1
    return sum(end <= max(stop, begin + 1) for end in ends)
