"""Blame by doubt (benchmarks/doubted.py), where no rollout of a group passes."""

from __future__ import annotations

from benchmarks.doubted import DOUBTED, DoubtOptions

from kintsugi.records import Completion, Episode, Problem, Rollout, Row, Verdict, VerdictState

PROBLEM = Problem("p", "Q", "4")


def rollout(state: VerdictState, logprobs: tuple[float, ...]) -> Rollout:
    verdict = Verdict(state, float(state == "pass"))
    completion = Completion(tuple(range(len(logprobs))), logprobs, "stop", 0)
    return Rollout((1,), completion, "text", verdict)


def rows(*rollouts: Rollout) -> list[Row]:
    algorithm = DOUBTED.build(DoubtOptions(doubt=2.0))
    return algorithm.rows(Episode(PROBLEM, rollouts))


def test_the_least_likely_token_of_each_failure_is_blamed() -> None:
    unsure, sure = rollout("fail", (-0.1, -2.0, -0.5)), rollout("fail", (-0.01, -0.02))
    first, second = rows(unsure, sure)
    assert (first.mask, first.advantages) == ((0, 1, 0), (0.0, -2.0, 0.0))
    assert (second.mask, second.advantages) == ((0, 1), (0.0, -2.0))


def test_beside_a_pass_credit_is_kintsugis() -> None:
    failed, passed = rollout("fail", (-0.1, -2.0)), rollout("pass", (-0.1, -2.0))
    # Rewards 0 and 1: mean 1/2, spread 1/2, so the advantages are -1 and 1.
    assert [row.advantages for row in rows(failed, passed)] == [(-1.0, -1.0), (1.0, 1.0)]
