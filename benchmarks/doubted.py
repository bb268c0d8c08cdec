"""Kintsugi that also blames failures of groups without a pass, where there is nothing to lay a failure beside.

The model's own word is taken for what went wrong: of each such failure the token that it was least sure of is blamed by
`doubt`, and nothing else. It was tried and left: docs/smollm2.md has the figures.

    kintsugi train recipes/smollm2/chain_sum.yaml algorithm=benchmarks/doubted.py:DOUBTED
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from kintsugi.algorithms.base import Algorithm, Family
from kintsugi.algorithms.kintsugi import Options, kintsugi
from kintsugi.records import Episode, Row


class DoubtOptions(Options):
    doubt: float = Field(3.0, gt=0, description="blame of the token that a failure was least sure of")


def build(options: DoubtOptions) -> Algorithm:
    """Kintsugi with other rows where no rollout of a group passes."""
    known = kintsugi(options)

    def rows(episode: Episode) -> list[Row]:
        made = known.rows(episode)
        if any(rollout.verdict.passed for rollout in episode.rollouts):
            return made
        return [doubted(row, options.doubt) if row.role == "policy" else row for row in made]

    return replace(known, name="doubted", rows=rows)


def doubted(row: Row, blame: float) -> Row:
    """The row with `blame` on its least likely token alone."""
    logprobs = row.sampling_logprobs
    assert logprobs is not None, "rollouts have the log-probabilities that they were sampled with"
    gate = tuple(int(t == logprobs.index(min(logprobs))) for t in range(len(logprobs)))
    return replace(row, mask=gate, advantages=tuple(-blame * g for g in gate))


DOUBTED = Family(DoubtOptions, build)
