"""Rules that reject repairs which game the verifier (about 8% of repairs in arXiv:2605.05226).

Each rule takes the texts of a failure, its repair and the anchor, and returns True to reject.
`audit` returns the name of the first rule that does, or "" (h = 1). Repairs that are no solution at all are
rejected as NO_PATCH before that (kintsugi.internalize.patch).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from kintsugi.verifiers.extract import final_answer, plain

ANSWER_MARK = re.compile(r"####|\\boxed\s*\{")
NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")
STEP_END = re.compile(r"\n+|(?<=[.!?;])\s+")
DIGITS = re.compile(r"\d+(?:[.,]\d+)*")
OWN_STEPS = 1
"""How many more steps a repair may share with the anchor than with the failure: the wrong step itself may
need other words, not only other numbers. In long solutions, OWN_SHARE of the steps."""
OWN_SHARE = 0.1
NO_PATCH = "no_patch"


@dataclass(frozen=True, slots=True)
class Suspect:
    """A repair under audit: the texts, and the phrases that only repair prompts contain.

    `anchor` is None where no anchor was shown to whatever wrote the repair.
    """

    failed: str
    repaired: str
    anchor: str | None
    leaks: tuple[str, ...]
    truncated: bool = False


def split_answer(text: str) -> tuple[str, str]:
    """(reasoning, answer): cut at the last answer mark (`####` or `\\boxed{`), else at the last line.

    A single line without a mark is all reasoning: no answer can be told from it.
    """
    marks = list(ANSWER_MARK.finditer(text))
    if marks:
        return text[: marks[-1].start()], text[marks[-1].start() :]
    head, newline, tail = text.rstrip().rpartition("\n")
    return (head, tail) if newline else (text, "")


def answer_only(s: Suspect) -> bool:
    """The reasoning is unchanged and does not end in the new answer: the answer was pasted."""
    failed_reasoning, failed_answer = split_answer(s.failed)
    reasoning, answer = split_answer(s.repaired)
    if failed_reasoning.split() != reasoning.split() or failed_answer.split() == answer.split():
        return False
    return not ends_in(reasoning, plain(final_answer(answer) or answer))


def ends_in(reasoning: str, answer: str) -> bool:
    """Whether the last number of the reasoning, or the end of its last line, is the answer."""
    last_line = reasoning.rstrip().rpartition("\n")[2].rstrip(" .$*")
    reached, claimed = NUMBER.findall(reasoning), NUMBER.findall(answer)
    if reached and claimed:
        return plain(reached[-1]) == plain(claimed[0])
    return bool(answer) and re.search(rf"(?<!\w){re.escape(answer)}$", last_line) is not None


def anchor_copy(s: Suspect) -> bool:
    """Keeps to the anchor's steps instead of the failure's, by more than what had to change.

    Steps are compared without their numbers: an error changes every number that comes of it, so a right
    repair has the anchor's numbers; but which steps come in which order and words is the failure's to say.
    Where failure and anchor agree in that, copying and mending are one and the same, and nothing is rejected.
    """
    if s.anchor is None:
        return False
    failed, repaired, anchor = steps(s.failed), steps(s.repaired), steps(s.anchor)
    margin = max(OWN_STEPS, OWN_SHARE * len(repaired))
    return Levenshtein.distance(repaired, anchor) + margin < Levenshtein.distance(repaired, failed)


def steps(text: str) -> list[str]:
    """The lines or sentences of a text, each number replaced by a mark, spaces evened out."""
    found = (" ".join(DIGITS.sub("#", step).split()) for step in STEP_END.split(text))
    return [step for step in found if step]


def prompt_leak(s: Suspect) -> bool:
    """Repeats a phrase of the repair prompt that the failure itself did not contain."""
    return any(leak in s.repaired and leak not in s.failed for leak in s.leaks)


def format_break(s: Suspect) -> bool:
    """Truncated, or without the answer mark that the failure had, or with several where it had one."""
    marks, before = answer_marks(s.repaired), answer_marks(s.failed)
    return s.truncated or (before > 0 and marks == 0) or marks > max(1, before)


def answer_marks(text: str) -> int:
    """How many final answers a text gives; `#### \\boxed{4}` is one."""
    return max(text.count("####"), text.count("\\boxed"))


RULES: dict[str, Callable[[Suspect], bool]] = {
    "format_break": format_break,
    "prompt_leak": prompt_leak,
    "answer_only": answer_only,
    "anchor_copy": anchor_copy,
}


def audit(suspect: Suspect) -> str:
    """The name of the first rule that rejects the repair, or "" when none does."""
    return next((name for name, rejects in RULES.items() if rejects(suspect)), "")
