"""Kintsugi without its seams (benchmarks/without_seams.py)."""

from __future__ import annotations

import math

import pytest
from benchmarks.without_seams import WITHOUT_SEAMS
from fakes import make_context, run

from kintsugi.algorithms import load_algorithm
from kintsugi.records import Problem


def test_what_is_left_are_rollouts_with_their_group_advantage() -> None:
    ctx, sampler = make_context({"[Q]": ["#### 5", "#### 4", "#### 4"]}, sampling={"group_size": 3})
    algorithm, kintsugi = WITHOUT_SEAMS, load_algorithm("kintsugi")
    assert algorithm.objective(20) == kintsugi.objective(20)  # nothing else differs
    episode = run(algorithm.run(Problem("p", "Q", "4"), ctx), ctx)
    assert (episode.repairs, episode.seams) == ((), ())
    assert [call.n for call in sampler.calls] == [3]  # nothing for repairs
    # Rewards 0, 1, 1 have mean 2/3 and spread sqrt(2)/3: -sqrt(2), then 1/sqrt(2) twice.
    credits = [set(row.advantages) for row in algorithm.rows(episode)]
    expected = [-math.sqrt(2), 1 / math.sqrt(2), 1 / math.sqrt(2)]
    assert [credit.pop() for credit in credits] == pytest.approx(expected)
    assert not any(credits)
