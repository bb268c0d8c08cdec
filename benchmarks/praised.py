"""Kintsugi over RAFT: passes are praised by how rare they are, failures teach at their seam alone.

`kintsugi` gives rollouts without a seam their group advantage, as GRPO does; so a failure that was not mended is blamed
whole. Here it gets no credit, and a pass gets RAFT's: 1 - pass rate. All else is kintsugi.

    kintsugi train recipes/learning/brackets.yaml algorithm=benchmarks/praised.py:PRAISED
"""

from __future__ import annotations

from dataclasses import replace
from functools import wraps
from typing import Any

from kintsugi.algorithms.base import Algorithm
from kintsugi.algorithms.kintsugi import kintsugi
from kintsugi.records import Episode, Row


@wraps(kintsugi)
def PRAISED(**options: Any) -> Algorithm:
    """Kintsugi whose other rollouts have RAFT's credit."""
    shipped = kintsugi(**options)

    def rows(episode: Episode) -> list[Row]:
        made = [r for r in shipped.rows(episode) if "group" not in r.credit or passed(r, episode)]
        rate = sum(r.verdict.passed for r in episode.rollouts) / len(episode.rollouts)
        return [replace(r, credit={}).add("pass", 1 - rate) if "group" in r.credit else r for r in made]

    return replace(shipped, name="praised", rows=rows)


def passed(row: Row, episode: Episode) -> bool:
    return episode.rollouts[row.index].verdict.passed
