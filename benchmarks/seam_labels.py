"""Exact labels with the place from the seam: the credit of `EXACT_MIXED`, without the task's knowledge.

A pass gets +1 on every token. A mended failure gets +1 before its seam and -1 on the seam's first token. A failure
that was not mended gets nothing, nor does a group in which all pass or all fail. `kintsugi` blames a seam ten times as
much, praises the fix as much, and gives the other rollouts their group advantage. `RANDOM_LABELS` is the control: the
place in a mended failure is drawn at random, once and the same in every run. Two more train one thing beside the
labels that `kintsugi` trains: `WITH_FIX` praises the fix, +1 on the repair's first differing token among all of its
tokens, and `WITH_REPAIRS` trains repair mode.

    kintsugi train recipes/learning/sums.yaml algorithm=benchmarks/seam_labels.py:SEAM_LABELS
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from kintsugi.algorithms import Algorithm
from kintsugi.algorithms.base import centred, row
from kintsugi.algorithms.kintsugi import kintsugi
from kintsugi.algorithms.seams import repair_rows, repaired_row
from kintsugi.records import Episode, Row

Places = Mapping[int, int]
"""Of each mended failure, by its number in the group, the token to blame."""


def seam_places(episode: Episode) -> Places:
    """Each seam's first token."""
    return {seam.failed: seam.edits[0].failed_at for seam in episode.seams if seam.edits}


def random_places(episode: Episode) -> Places:
    """Any token of the same failures."""
    return {failed: anywhere(episode, failed) for failed in seam_places(episode)}


def anywhere(episode: Episode, failed: int) -> int:
    ids = episode.rollouts[failed].completion.token_ids
    return random.Random(f"{episode.problem.id}/{failed}/{ids}").randrange(len(ids))


def by_labels(places: Callable[[Episode], Places], name: str) -> Algorithm:
    """Kintsugi's rollouts and repairs, with a row per rollout: those without credit count in the mean."""

    def rows(episode: Episode) -> list[Row]:
        blamed, every = places(episode), range(len(episode.rollouts))
        mixed = len({rollout.verdict.passed for rollout in episode.rollouts}) == 2
        return [labelled(episode, i, blamed.get(i)) if mixed else row(episode, i) for i in every]

    reasons = {"label": "+1 on every token of a pass and before the blamed token, −1 on that"}
    return replace(kintsugi(failures=0), name=name, rows=rows, reduction="row", reasons=reasons)


def labelled(episode: Episode, index: int, place: int | None) -> Row:
    """Rollout number `index`, whose seam begins at `place`."""
    rollout, found = episode.rollouts[index], row(episode, index)
    if rollout.verdict.passed:
        return found.add("label", 1.0)
    if place is None:
        return found
    credit = [1.0 if t < place else -1.0 if t == place else 0.0 for t in range(len(found.mask))]
    return found.add("label", credit).credited()


def with_more(more: Callable[[Episode], Iterable[Row]], name: str) -> Algorithm:
    """The labels by seams, and more rows."""
    return replace(SEAM_LABELS, name=name, rows=lambda episode: [*SEAM_LABELS.rows(episode), *more(episode)])


def fixes(episode: Episode) -> Iterable[Row]:
    """The fix of each mended failure, praised as much as a token of a pass."""
    made = (repaired_row(episode, seam, 1.0) for seam in episode.seams)
    return (replace(r, mask=(1,) * len(r.mask)) for r in made)


SEAM_LABELS = by_labels(seam_places, "seam_labels")
RANDOM_LABELS = by_labels(random_places, "random_labels")
WITH_FIX = with_more(fixes, "labels_with_fix")
WITH_REPAIRS = with_more(lambda episode: repair_rows(episode, 1.0, centred), "labels_with_repairs")
