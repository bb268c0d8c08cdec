r"""`verifier: math`: mathematical equality by math-verify, with a time limit that really ends a hang.

math-verify's own limits are Python signal handlers, which big-integer arithmetic never lets run, so they
are switched off and the check happens in a Worker.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from kintsugi.records import Problem, Verdict
from kintsugi.verifiers.extract import final_answer, plain, reference
from kintsugi.verifiers.guard import Judge, Worker

INTEGER = re.compile(r"0|-?[1-9]\d{0,14}")
NUMBER = r"[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:/\d+)?"
# math-verify multiplies the letters of a word: `yes` is e*s*y, and so equals `eys`.
WORDS = re.compile(r"(?=[^aeiouAEIOU]*[aeiouAEIOU])[A-Za-z]{3,}(?:[ -][A-Za-z]+)*|[Nn]o|NO")
# `42 dollars` is 42 (to math-verify also the letters' product), but `3 million` is not 3.
SCALES = r"per ?cent|hundred|thousand|\w*illion|dozen|and "
QUANTITY = re.compile(rf"({NUMBER})\s+(?!{SCALES})[A-Za-z]{{3,}}(?: [A-Za-z]+)*")
SCIENTIFIC = re.compile(r"([-+]?\d+(?:\.\d+)?)[eE]([-+]?\d+)")
DELIMITERS = ("$", r"\(", r"\[", r"\boxed")


class MathVerifier:
    r"""Passes iff the answer is mathematically equal to the gold answer.

    The answer is the text after `####`, else the last `\boxed{...}`, else what math-verify finds in the
    whole text (its last formula or number). timeout: seconds one text may take.
    """

    def __init__(self, timeout: float = 5.0) -> None:
        self.worker = Worker("kintsugi.verifiers.math:prepare", "math_verify", timeout)

    def __call__(self, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        gold = reference(problem)
        answers = [final_answer(text) for text in texts]
        # Two integers in plain digits are equal or not; math-verify can say nothing else of them.
        quick = [
            Verdict.scored(float(plain(answer) == gold))
            if answer is not None and INTEGER.fullmatch(plain(answer)) and INTEGER.fullmatch(gold)
            else None
            for answer in answers
        ]
        slow = [
            as_math(answer) if answer is not None else text
            for text, answer, verdict in zip(texts, answers, quick, strict=True)
            if verdict is None
        ]
        checked = iter(self.worker.judge(as_math(gold), slow) if slow else ())
        return [verdict or next(checked) for verdict in quick]


def as_math(answer: str) -> str:
    """`answer` so that math-verify reads all of it, and reads it as meant."""
    text = " ".join(plain(answer).split())  # math-verify reads no line break within $...$
    if any(delimiter in text for delimiter in DELIMITERS):
        return text
    if WORDS.fullmatch(text):
        return rf"$\text{{{text}}}$"
    if quantity := QUANTITY.fullmatch(text):
        return f"${quantity[1]}$"
    if scientific := SCIENTIFIC.fullmatch(text):
        return rf"${scientific[1]} \times 10^{{{scientific[2]}}}$"
    return f"${text}$"


def prepare(gold: str) -> Judge:
    """What judges one text against `gold` (runs in the worker; both went through `as_math`)."""
    expected = read(gold)
    if not any(not isinstance(item, str) for item in expected):
        raise ValueError(f"math-verify cannot read the gold answer {gold!r}")

    def judge(text: str) -> Verdict:
        try:
            found = read(text)
        except Exception as error:
            return Verdict("unscorable", message=f"math-verify cannot read it ({type(error).__name__})")
        if all(isinstance(item, str) for item in found):
            return Verdict("unscorable", message="math-verify finds no answer it can read")
        return Verdict.scored(float(equal(expected, found)))

    return judge


def read(text: str) -> list[Any]:
    """Sympy expressions that math-verify finds in `text`, and their source strings."""
    from math_verify import parse

    return list(parse(text, parsing_timeout=None, raise_on_error=True))


def equal(expected: Sequence[Any], found: Sequence[Any]) -> bool:
    """Whether any of `found` equals any of `expected`; raises what kept a comparison from an answer."""
    from math_verify import verify

    failure: Exception | None = None
    for gold in expected:
        for item in found:
            try:
                if verify(gold, item, timeout_seconds=None, raise_on_error=True):
                    return True
            except Exception as error:
                # Another pair may still be equal; only then does it not matter.
                failure = error
    if failure is not None:
        raise failure
    return False
