r"""`verifier: math`: mathematical equality, with a time limit that really ends a hang.

An answer is read by a grammar of our own (`answers`, `formula`), and compared by value (`sameness`). math-verify reads
only what that grammar does not know: sums, integrals, limits. Python cannot interrupt big-integer arithmetic, so the
comparison happens in a Worker.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from kintsugi.records import Problem, Verdict
from kintsugi.verifiers.answers import LONGEST, read_sentence
from kintsugi.verifiers.base import UNKNOWN, Sampled
from kintsugi.verifiers.dress import undress
from kintsugi.verifiers.extract import UNENDED, final_answer, reference, spoken, stated, undecorated
from kintsugi.verifiers.formula import Unreadable
from kintsugi.verifiers.guard import Judge, Worker
from kintsugi.verifiers.kinds import Answer
from kintsugi.verifiers.sameness import same

NUMBER = re.compile(r"(-?)0*(\d{1,15}?)(?:\.(\d{1,15}?)0*)?")
ADVANCED = re.compile(r"\\(?:sum|prod|int|lim|gcd|lcm|max|min|bmod)(?![a-z])")
MISREAD = re.compile(r"[A-Z]|'|\\prime|dots|\.\.\.|\\text|\\mathrm|\d\s+\d|\)\s*\(|(?<![\\a-z])[a-z]{3,}")
"""Signs that math-verify's reader takes for others: it lowers letters, drops primes and dots, adds `(2)(3)`."""


class MathVerifier:
    r"""Passes iff the answer is mathematically equal to the gold answer.

    The answer is the text after `####`, else the last `\boxed{...}`, else what stands in <answer> tags, after `answer
    is`, or at the end of the last sentence that holds a number. timeout: seconds one text may take.
    """

    def __init__(self, timeout: float = 5.0) -> None:
        self.worker = Worker("kintsugi.verifiers.math:prepare", "math_verify", timeout)

    def __call__(self, problem: Problem, texts: Sequence[str], sampled: Sampled = UNKNOWN) -> list[Verdict]:
        reference(problem)
        gold = final_answer(problem.answer) or problem.answer
        answers = [answer_or_verdict(text) for text in texts]
        number = plain_number(gold)
        # Two numbers in digits are equal or not, which needs no other process.
        quick = [quick_verdict(number, answer) if isinstance(answer, str) else answer for answer in answers]
        slow = [
            a for a, verdict in zip(answers, quick, strict=True) if verdict is None and isinstance(a, str)
        ]
        checked = iter(self.worker.judge(gold, slow) if slow else ())
        return [verdict or next(checked) for verdict in quick]


def answer_or_verdict(text: str) -> str | Verdict:
    """The answer that a text gives, or the verdict on a text without one."""
    said = spoken(text)
    if said is None:
        return UNENDED
    answer = final_answer(said) or stated(said)
    return answer or Verdict("unscorable", message=r"no answer: expected `#### answer` or \boxed{answer}")


def plain_number(text: str) -> tuple[str, ...] | None:
    """Sign, whole part and decimals of a number in digits, one spelling for each value; None for all else."""
    found = NUMBER.fullmatch(text) or NUMBER.fullmatch(undecorated(text))
    if not found:
        return None
    sign, whole, decimals = found[1], found[2], (found[3] or "").rstrip("0")
    return (sign if whole != "0" or decimals else "", whole, decimals)


def quick_verdict(gold: tuple[str, ...] | None, answer: str) -> Verdict | None:
    number = plain_number(answer) if gold is not None else None
    return None if number is None else Verdict.scored(float(number == gold))


def prepare(gold: str) -> Judge:
    """The judge of one answer against `gold` (runs in the worker)."""
    if not balanced(gold):
        raise ValueError(f"cannot read the gold answer {gold!r}")
    expected = readable_gold(gold)
    bare = undress(gold)

    def judge(text: str) -> Verdict:
        try:
            passed = text == gold or undress(text[:LONGEST]) == bare or is_answer(expected, gold, text)
        except Unreadable as error:
            return Verdict("unscorable", message=f"cannot read {text[:60]!r}: {error}")
        except Exception as error:
            return Verdict("unscorable", message=f"cannot compare {text[:60]!r} ({type(error).__name__})")
        return Verdict.scored(float(passed))

    return judge


def balanced(text: str) -> bool:
    level = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        level += 1 if brace == "{" else -1
        if level < 0:
            return False
    return level == 0


def readable_gold(gold: str) -> Answer | None:
    """The gold answer as it is read; None where only its very text can be recognised."""
    try:
        return read_sentence(gold)
    except Unreadable:
        return None


def is_answer(expected: Answer | None, gold: str, text: str) -> bool:
    """True iff the answer equals the gold answer; Unreadable where that cannot be said."""
    if ADVANCED.search(gold) or ADVANCED.search(text):
        return same_by_sympy(gold, text)
    answer = read_sentence(text)
    return expected is not None and same(expected, answer)


def same_by_sympy(gold: str, text: str) -> bool:
    """True iff the difference of what math-verify reads is simplified to 0. (Its own comparison rounds.)"""
    from sympy import simplify

    expressions: list[Any] = []
    for side in (undress(gold), undress(text)):
        if MISREAD.search(side):
            raise Unreadable("a formula that cannot be read with certainty")
        expressions.append(parsed_formula(side))
    left, right = expressions
    return bool(simplify((left - right).doit()) == 0)


def parsed_formula(text: str) -> Any:
    """The one sympy expression that math-verify finds."""
    from math_verify import parse

    found = [
        item
        for item in parse(f"${text}$", parsing_timeout=None, raise_on_error=True)
        if not isinstance(item, str)
    ]
    if len(found) != 1:
        raise Unreadable("math-verify finds no formula")
    return found[0]
