"""Does the verifier tell right from wrong? Gold answers must pass; empty, constant and wrong ones must not."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kintsugi.look.doctor.check import CheckUp, graded
from kintsugi.records import Problem, Verdict
from kintsugi.verifiers.base import Verifier

ASKED = 48
"""Problems that are asked about: a fault in one of twenty shows with probability 1 - 0.95^48 = 0.91."""
FORMS = ("#### {}", "\\boxed{{{}}}", "The answer is {}.", "{}")
"""The forms of an answer. The one in which most gold answers pass is used for all."""
PATIENCE = 10.0
"""Seconds after which a probe asks no further: scorers that hang are slow to say so."""
EMPTY = ("", " ", "\n")
GARBAGE = ("I do not know.", "?", "[[[", "x" * 20_000)
CONSTANTS = ("0", "1", "yes", "True")
RIGHT, WRONG = 0.95, 0.02
"""Gold answers that must pass; wrong ones that may, for an answer may be written in two ways."""

Says = Callable[[Problem], Sequence[str]]


def probe(verifier: Verifier, problems: Sequence[Problem]) -> Iterator[CheckUp]:
    """Checks of the verifier on problems at even distances."""
    step = max(1, len(problems) // ASKED)
    asked = [problems[i] for i in range(0, len(problems), step)][:ASKED]
    rates = {form: rate(verifier, asked, lambda p, f=form: [f.format(p.answer)]) for form in FORMS}  # type: ignore[misc]
    form = max(FORMS, key=lambda f: rates[f].passed)
    yield gold(rates[form], form, len(asked))
    answers = Counter(p.answer for p in asked)
    probes = {
        "empty answers": rate(verifier, asked, lambda _: EMPTY),
        "garbage": rate(verifier, asked, lambda _: GARBAGE),
        "other answers": rate(verifier, asked, lambda p: [form.format(a) for a in rivals(p, asked)[:3]]),
        "all answers at once": rate(verifier, asked, lambda p: at_once(p, asked, form)),
    }
    for name, found in probes.items():
        yield wrong(name, found)
    yield constants(verifier, asked, answers, form)
    probes = {"gold answers": rates[form], **probes}
    broken = {name: found.errors for name, found in probes.items() if found.errors}
    yield CheckUp(
        "verifier errors",
        "warn" if broken else "ok",
        ", ".join(f"{share:.0%} of {name}" for name, share in broken.items()) or "none on any of these",
        "make the verifier say fail or unscorable where it raises now: errors cost time and count in no group",
        next((found.error for found in probes.values() if found.error), ""),
    )


@dataclass(frozen=True, slots=True)
class Rate:
    """The verdicts on texts: shares that passed and that got an error, the most a failing one was paid, the first that
    passed, that did not, and that is an error."""

    passed: float
    errors: float
    paid: float
    example: str
    other: str
    error: str


NONE = Rate(0.0, 0.0, 0.0, "", "", "")


def rate(verifier: Verifier, problems: Sequence[Problem], says: Says) -> Rate:
    judged: list[tuple[Problem, str, Verdict]] = []
    end = time.monotonic() + PATIENCE
    for problem in problems:
        if texts := says(problem):
            judged += [(problem, t, v) for t, v in zip(texts, verifier(problem, texts), strict=True)]
        if time.monotonic() > end:
            break
    if not judged:
        return NONE

    def first(which: Callable[[Verdict], bool]) -> str:
        found = ((p, text, v) for p, text, v in judged if which(v))
        return next((f"problem {p.id}: {text[:60]!r}: {v.said}" for p, text, v in found), "")

    errors = sum(v.broken for _, _, v in judged)
    paid = max((part(v) for _, _, v in judged if not v.passed), default=0.0)
    return Rate(
        sum(v.passed for _, _, v in judged) / len(judged),
        errors / len(judged),
        paid,
        first(lambda v: v.passed),
        first(lambda v: not v.passed),
        first(lambda v: v.broken),
    )


def part(verdict: Verdict) -> float:
    """The reward of a failing text, or the score that verifier gym tells but does not pay."""
    said = re.fullmatch(r"score ([\d.]+)", verdict.message)
    return max(verdict.reward, float(said[1]) if said else 0.0)


def rivals(problem: Problem, asked: Sequence[Problem]) -> list[str]:
    """Answers of other problems, as a model would guess."""
    return list(dict.fromkeys(p.answer for p in asked if p.answer.strip() != problem.answer.strip()))


def at_once(problem: Problem, asked: Sequence[Problem], form: str) -> list[str]:
    """The gold answer amid others: one who reads the first or the last of them reads a wrong one."""
    around = rivals(problem, asked)[:10]
    return [form.format(" ".join([*around, problem.answer, *around]))] if around else []


def gold(found: Rate, form: str, asked: int) -> CheckUp:
    written = form.format("ANSWER")
    return CheckUp(
        "gold answers",
        "fail" if found.passed < RIGHT else "ok",
        f"{found.passed:.0%} of {asked} pass, written as {written!r}",
        "take another verifier, or another `answer` column: a model that is right would be told that it is wrong",
        found.other if found.passed < RIGHT else "",
    )


def wrong(name: str, found: Rate) -> CheckUp:
    partly = f"; a failing one is paid {found.paid:g}" if found.paid else ""
    state = graded(found.passed, 0.0, WRONG)
    return CheckUp(
        name,
        "warn" if state == "ok" and found.paid else state,
        f"{found.passed:.0%} pass{partly}",
        "take another verifier: a model learns whatever is paid without the answer"
        if found.passed
        else "only whole scores pass here; where you use the scores themselves, a model learns such texts",
        found.example,
    )


def constants(verifier: Verifier, asked: Sequence[Problem], answers: Counter[str], form: str) -> CheckUp:
    """The constant answer that passes most often: what a policy collapses to."""
    tried = dict.fromkeys([*(a for a, _ in answers.most_common(3)), *CONSTANTS])
    rates = {text: rate(verifier, asked, lambda _, t=text: [form.format(t)]).passed for text in tried}  # type: ignore[misc]
    best = max(rates, key=lambda t: rates[t])
    return CheckUp(
        "constant answers",
        graded(rates[best], 0.3, 0.5),
        f"{best[:40]!r} passes {rates[best]:.0%} of the problems",
        "take harder or more varied problems: a model learns a constant answer before anything else",
    )
