"""Exact labels with the place from the seam: the credit of `EXACT_MIXED`, without the task's knowledge.

A pass gets +1 on every token. A mended failure gets +1 before its seam and -1 on the seam's first token. A failure
that was not mended gets nothing, nor does a group in which all pass or all fail. `kintsugi` blames a seam ten times as
much, praises the fix as much, and gives the other rollouts their group advantage.

    kintsugi train recipes/learning/sums.yaml algorithm=benchmarks/seam_labels.py:SEAM_LABELS
"""

from __future__ import annotations

from dataclasses import replace

from kintsugi.algorithms.base import row
from kintsugi.algorithms.kintsugi import kintsugi
from kintsugi.records import Episode, Row


def rows(episode: Episode) -> list[Row]:
    """One row per rollout; those without credit count in the mean."""
    places = {seam.failed: seam.edits[0].failed_at for seam in episode.seams if seam.edits}
    passed = {rollout.verdict.passed for rollout in episode.rollouts}
    return [
        labelled(episode, i, places.get(i)) if len(passed) == 2 else row(episode, i)
        for i in range(len(episode.rollouts))
    ]


def labelled(episode: Episode, index: int, place: int | None) -> Row:
    """Rollout number `index`, whose seam begins at `place`."""
    rollout, found = episode.rollouts[index], row(episode, index)
    if rollout.verdict.passed:
        return found.add("label", 1.0)
    if place is None:
        return found
    credit = [1.0 if t < place else -1.0 if t == place else 0.0 for t in range(len(found.mask))]
    return found.add("label", credit).credited()


SEAM_LABELS = replace(
    kintsugi(failures=0),
    name="seam_labels",
    rows=rows,
    reduction="row",
    reasons={"label": "+1 on every token of a pass and before a seam, −1 on the seam's first token"},
)
