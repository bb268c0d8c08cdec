"""Kintsugi with every seam moved to a random token: the control that asks whether the place of the credit matters.

Rollouts, repairs, weights and the praise before a seam are those of kintsugi; only where blame and praise fall is
drawn at random, once for each seam and the same in every run. It takes kintsugi's options.

    kintsugi train recipes/learning/brackets.yaml algorithm=benchmarks/random_seams.py:RANDOM_SEAMS
"""

from __future__ import annotations

import random
from dataclasses import replace
from functools import wraps
from typing import Any

from kintsugi.algorithms.base import Algorithm
from kintsugi.algorithms.kintsugi import kintsugi
from kintsugi.records import Edit, Episode, Seam


@wraps(kintsugi)
def RANDOM_SEAMS(**options: Any) -> Algorithm:
    """Kintsugi whose rows come of moved seams."""
    shipped = kintsugi(**options)
    return replace(shipped, name="random_seams", rows=lambda episode: shipped.rows(moved(episode)))


def moved(episode: Episode) -> Episode:
    """The episode with each seam at one random position, the same one in the failure and in the repair."""
    return replace(episode, seams=tuple(anywhere(seam, episode) for seam in episode.seams))


def anywhere(seam: Seam, episode: Episode) -> Seam:
    drawn = random.Random(f"{episode.problem.id}/{seam.failed}/{episode.repairs[seam.repair].ids}")
    at = drawn.randrange(min(len(seam.failed_mask), len(seam.repaired_mask)))
    return replace(
        seam,
        edits=(Edit("replace", at, at), *seam.edits[1:]),
        failed_mask=only(at, len(seam.failed_mask)),
        repaired_mask=only(at, len(seam.repaired_mask)),
    )


def only(at: int, length: int) -> tuple[int, ...]:
    return tuple(int(t == at) for t in range(length))
