"""Kintsugi without its seams: what its scouts and witnesses are worth by themselves.

Every rollout keeps its group advantage, and nothing is generated for repairs. It takes kintsugi's options, and is the
outcome-only control of what kintsugi gains with them.

    kintsugi train recipes/smollm2/chain_sum.yaml algorithm.name=benchmarks/without_seams.py:WITHOUT_SEAMS
"""

from __future__ import annotations

from dataclasses import replace

from kintsugi.algorithms.base import Algorithm, Family
from kintsugi.algorithms.kintsugi import Options, kintsugi
from kintsugi.internalize.context import Context
from kintsugi.records import Episode, Problem


def build(options: Options) -> Algorithm:
    """Kintsugi whose episodes hold rollouts alone."""
    free = options.model_copy(
        update={"form": "sibling", "anchor": "nearest"}
    )  # no tokens for what is left out
    known = kintsugi(free)

    async def run(problem: Problem, ctx: Context) -> Episode:
        return replace(await known.run(problem, ctx), repairs=(), seams=())

    return replace(known, name="without_seams", run=run)


WITHOUT_SEAMS = Family(Options, build)
