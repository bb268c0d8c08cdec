"""`verifier: exact`: the final answer must be the gold answer, letter for letter."""

from __future__ import annotations

from collections.abc import Sequence

from kintsugi.records import Problem, Verdict
from kintsugi.verifiers.base import UNKNOWN, Sampled
from kintsugi.verifiers.extract import UNENDED, final_answer, reference, spoken, undecorated

NO_ANSWER = Verdict("unscorable", message=r"no final answer: expected `#### answer` or \boxed{answer}")


class ExactVerifier:
    """Passes iff the final answer equals the gold answer once both are undressed (extract.plain)."""

    def __call__(self, problem: Problem, texts: Sequence[str], sampled: Sampled = UNKNOWN) -> list[Verdict]:
        gold = reference(problem)
        return [judge(gold, text) for text in texts]


def judge(gold: str, text: str) -> Verdict:
    """Pass or fail, or `unscorable` when the text has no final answer after its thoughts."""
    said = spoken(text)
    if said is None:
        return UNENDED
    answer = final_answer(said)
    return NO_ANSWER if answer is None else Verdict.scored(float(undecorated(answer) == gold))
