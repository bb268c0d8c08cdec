"""Rules that reject repairs which game the verifier (about 8% of repairs in arXiv:2605.05226).

Each rule takes the texts of a failure, its repair and the anchor, and returns True to reject.
`audit` returns the name of the first rule that does, or "" (h = 1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kintsugi.internalize.align import distance
from kintsugi.verifiers.extract import final_answer, plain

ANSWER_MARK = re.compile(r"####|\\boxed\s*\{")
NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")
COPY_MARGIN = 0.2


@dataclass(frozen=True, slots=True)
class Suspect:
    """A repair under audit: texts, token ids, and the phrases that only repair prompts contain."""

    failed: str
    repaired: str
    failed_ids: Sequence[int]
    repaired_ids: Sequence[int]
    anchor_ids: Sequence[int] | None
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
    """Nearer to the anchor than to the failure, by more than COPY_MARGIN of the length."""
    if s.anchor_ids is None:
        return False
    to_anchor = distance(s.repaired_ids, s.anchor_ids)
    return to_anchor + COPY_MARGIN < distance(s.repaired_ids, s.failed_ids)


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
