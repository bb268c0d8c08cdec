"""Rules that reject repairs which game the verifier (about 8% of repairs in arXiv:2605.05226).

Each rule takes the texts of a failure, its repair and the anchor, and returns True to reject.
`audit` returns the name of the first rule that does, or "" (h = 1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import dropwhile, pairwise

from rapidfuzz.distance import Levenshtein

from kintsugi.mending.leaks import says_like, tokens
from kintsugi.mending.pasted import pasted
from kintsugi.mending.reasoning import computes, signature
from kintsugi.verifiers.extract import final_answer, spoken, undecorated

ANSWER_MARK = re.compile(r"####|\\boxed\s*\{")
STEP_END = re.compile(r"\n+|(?<=[.!?;])\s+")
DIGITS = re.compile(r"\d+(?:[.,]\d+)*")
OWN_STEPS = 1
"""The number of steps by which a repair may be nearer to the anchor than to the failure. The wrong step itself may
need other words, not only other numbers. In long solutions it is OWN_SHARE of the steps."""
OWN_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Suspect:
    """A repair under audit: the texts, and the phrases that only repair prompts contain.

    `anchor` is None where no anchor was shown to whatever wrote the repair. `question` is the problem's prompt.
    """

    failed: str
    repaired: str
    anchor: str | None
    leaks: tuple[str, ...]
    truncated: bool = False
    question: str = ""


def split_answer(text: str) -> tuple[str, str]:
    """(reasoning, answer): cut at the last answer mark (`####` or `\\boxed{`), else at the last line.

    A mark in the thoughts is none. Thoughts that never end, and a single line without a mark, are all reasoning:
    no answer can be told from them.
    """
    said = spoken(text)
    if said is None:
        return text, ""
    start = len(text) - len(said)
    marks = list(ANSWER_MARK.finditer(said))
    if marks:
        cut = start + marks[-1].start()
        return text[:cut], text[cut:]
    head, newline, tail = said.rstrip().rpartition("\n")
    return (text[:start] + head, tail) if newline else (text, "")


def answer_only(s: Suspect) -> bool:
    """The numbers and operators of the reasoning are unchanged and do not end in the new answer: it was pasted.

    An answer that shows its computation is reasoning as well, and so is a last line without a mark. Thoughts are
    reasoning: an edit in them is an edit.
    """
    failed_reasoning, failed_answer = reasoned(s.failed)
    reasoning, answer = reasoned(s.repaired)
    if failed_answer.split() == answer.split() and failed_reasoning.split() == reasoning.split():
        return False
    return stands_for(failed_answer) != stands_for(answer) and pasted(
        failed_reasoning, reasoning, failed_answer, answer
    )


def reasoned(text: str) -> tuple[str, str]:
    """(all that reasons, the answer) of a text."""
    head, tail = split_answer(text)
    marked = ANSWER_MARK.match(tail) is not None
    answer = (final_answer(tail) or "") if marked else tail or head
    return (f"{head}\n{answer}" if computes(answer) else head) if marked else text, undecorated(answer)


def anchor_copy(s: Suspect) -> bool:
    """Keeps to the anchor's steps instead of the failure's, by more than what had to change.

    Steps are compared without their numbers: an error changes every number that comes of it, so a right
    repair has the anchor's numbers; but which steps come in which order and words is the failure's to say.

    The rule sees wording, so it is blind where failure and anchor share theirs. Where they share all of it, copying
    and mending are one and the same, and nothing is rejected. Where they share the beginning and part later, a
    repair that goes on in the anchor's words is rejected, even if the failure's own words could not be mended.
    """
    if s.anchor is None:
        return False
    failed, repaired, anchor = step_shapes(s.failed), step_shapes(s.repaired), step_shapes(s.anchor)
    margin = max(OWN_STEPS, OWN_SHARE * len(repaired))
    return Levenshtein.distance(repaired, anchor) + margin < Levenshtein.distance(repaired, failed)


def steps_of(text: str) -> list[str]:
    """The lines or sentences of a text, spaces evened out."""
    return [" ".join(step.split()) for step in STEP_END.split(text) if step.strip()]


def step_shapes(text: str) -> list[str]:
    """The steps of a text, each number replaced by a mark."""
    return [DIGITS.sub("#", step) for step in steps_of(text)]


def stem(step: str) -> str:
    """A step without its last number, which is its result: `7*8=` of `7*8=56`."""
    last = max((found.start() for found in DIGITS.finditer(step)), default=len(step))
    return step[:last]


def takes_another_order(failed: str, repaired: str) -> bool:
    """True if two texts whose steps are alike but for numbers part where one takes a step that the other takes later.

    `7*8=56, 6*9=54` and `6*9=54, 7*8=56`: there no number is wrong, and neither is right.
    """
    if step_shapes(failed) != step_shapes(repaired):
        return False
    pairs = zip(steps_of(failed), steps_of(repaired), strict=True)
    rest = list(dropwhile(lambda pair: pair[0] == pair[1], pairs))
    if not rest:
        return False
    (own, *own_later), (other, *other_later) = zip(*(map(stem, pair) for pair in rest), strict=True)
    return own != other and (other in own_later or own in other_later)


def reordered(s: Suspect) -> bool:
    """Takes the failure's steps in another order: the first edit is then a choice of step, and no error."""
    return takes_another_order(s.failed, s.repaired)


def prompt_leak(s: Suspect) -> bool:
    """Says something like a phrase of the repair prompt that neither question, failure nor anchor says."""
    said = list(tokens(s.repaired))
    found = [leak for leak in s.leaks if says_like(said, leak)]
    before = list(tokens("\n".join((s.question, s.failed, s.anchor or "")))) if found else []
    return any(not says_like(before, leak) for leak in found)


def format_break(s: Suspect) -> bool:
    """Truncated, or without the answer mark that the failure had, or with more different answers than it had."""
    missing = answer_marks(s.failed) > 0 and answer_marks(s.repaired) == 0
    return s.truncated or missing or len(marked_answers(s.repaired)) > max(1, len(marked_answers(s.failed)))


def answer_marks(text: str) -> int:
    """The number of final answers that a text marks outside of its thoughts; `#### \\boxed{4}` is one."""
    said = spoken(text) or ""
    return max(said.count("####"), said.count("\\boxed"))


def marked_answers(text: str) -> set[Hashable]:
    """The different answers that a text gives under its marks: `\\boxed{4}` and then `#### 4.0` are one."""
    said = spoken(text) or ""
    cuts = [mark.start() for mark in ANSWER_MARK.finditer(said)]
    given = (final_answer(said[start:end]) for start, end in pairwise([*cuts, len(said)]))
    return {stands_for(answer) for answer in given if answer}


def stands_for(answer: str) -> Hashable:
    """Equal for answers that are the same in other dress: their numbers and operators, else their words."""
    return signature(answer) or undecorated(answer).casefold()


RULES: dict[str, Callable[[Suspect], bool]] = {
    "format_break": format_break,
    "prompt_leak": prompt_leak,
    "answer_only": answer_only,
    "anchor_copy": anchor_copy,
    "reordered": reordered,
}


def audit(suspect: Suspect) -> str:
    """The name of the first rule that rejects the repair, or "" when none does."""
    return next((name for name, rejects in RULES.items() if rejects(suspect)), "")
