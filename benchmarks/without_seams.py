"""Kintsugi without its seams: what its scouts and witnesses are worth by themselves.

Every rollout keeps its group advantage, and nothing is generated for repairs. It takes kintsugi's options, and is the
outcome-only control of what kintsugi gains with them.

    kintsugi train recipes/smollm2/chain_sum.yaml algorithm.name=benchmarks/without_seams.py:WITHOUT_SEAMS
"""

from __future__ import annotations

from dataclasses import replace

from kintsugi.algorithms.base import Algorithm, Family
from kintsugi.algorithms.kintsugi import Options, kintsugi
from kintsugi.algorithms.mending import scouted
from kintsugi.internalize.context import Context
from kintsugi.records import Episode, Problem


def build(options: Options) -> Algorithm:
    """Kintsugi whose episodes hold rollouts alone."""

    async def run(problem: Problem, ctx: Context) -> Episode:
        return Episode(problem, await scouted(problem, ctx, options.scouts))

    return replace(kintsugi(options), name="without_seams", run=run)


WITHOUT_SEAMS = Family(Options, build)
