"""The rival without repairs (benchmarks/contrast.py)."""

import pytest
from benchmarks.contrast import CONTRAST

from kintsugi.records import Completion, Episode, Problem, Rollout, Verdict


def rollout(passed: bool, logprobs: tuple[float, ...]) -> Rollout:
    completion = Completion(tuple(range(len(logprobs))), logprobs, "stop", 0)
    return Rollout((1, 2), completion, "", Verdict.scored(float(passed)))


def test_the_group_advantage_falls_on_the_least_likely_tokens_of_the_group():
    # Rewards 1 and 0: mean 1/2, standard deviation 1/2, advantages +1 and -1. Of ten tokens, 20% are two: the log-
    # probabilities -3 (in the pass) and -2 (in the failure) are the lowest, and -1 is the first that is not credited.
    group = (rollout(True, (-0.1, -3.0, -0.1, -1.0, -0.1)), rollout(False, (-0.1, -0.2, -2.0, -0.1, -0.1)))
    rows = CONTRAST(share=0.2).rows(Episode(Problem("p", "x", "1"), group))
    assert [row.credit["group"] for row in rows] == [(0, 1, 0, 0, 0), (0, 0, -1, 0, 0)]
    assert [row.mask for row in rows] == [(0, 1, 0, 0, 0), (0, 0, 1, 0, 0)]


@pytest.mark.parametrize("passed", [True, False])
def test_a_group_of_one_outcome_teaches_nothing(passed):
    group = (rollout(passed, (-1.0, -2.0)), rollout(passed, (-3.0, -4.0)))
    rows = CONTRAST(share=0.5).rows(Episode(Problem("p", "x", "1"), group))
    assert all(set(row.credit["group"]) == {0.0} for row in rows)
