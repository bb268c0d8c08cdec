"""Finds the final answer in a completion. Pure text; linear in its length, whatever a model wrote."""

from __future__ import annotations

import re

from kintsugi.records import KintsugiError, Problem, Verdict

# `\\.` swallows escaped braces, as in \boxed{\{1, 2\}}, so that they do not count for balance.
BRACE = re.compile(r"(?P<boxed>\\boxed\s*\{)|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL)
# Thinking as models and templates mark it: <think>, <thinking>, <thought>, <seed:think>, <|begin_of_thought|>, and
# the channels of gpt-oss, whose last one is the answer.
THINKING = r"(?:seed:)?(?:think|thinking|thought|reasoning)"
THOUGHT_BEGINS = re.compile(rf"<{THINKING}>|<\|begin_of_thought\|>|<\|channel\|>analysis", re.IGNORECASE)
THOUGHT_ENDS = re.compile(
    rf"</{THINKING}>|<\|end_of_thought\|>|<\|channel\|>final(?:<\|message\|>)?", re.IGNORECASE
)
TAGGED = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.IGNORECASE | re.DOTALL)
STATEMENT = re.compile(r"\banswer\b[*_ ]*(?:is|:|=)[*_:\s]*", re.IGNORECASE)
TELLING = re.compile(r"[\d\\$]")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?")
UNENDED = Verdict("unscorable", message="no answer: the text ends before its thoughts do")


def spoken(text: str) -> str | None:
    """The text after its last end-of-thinking mark; all of it where there is no mark.

    None where thinking was begun and never ended: such a text says nothing yet. The opening mark may be
    missing, because chat templates often end the prompt with it.
    """
    if "<" not in text:  # every mark has one
        return text
    ends = list(THOUGHT_ENDS.finditer(text))
    rest = text[ends[-1].end() :] if ends else text
    return None if THOUGHT_BEGINS.search(rest) else rest


def final_answer(text: str) -> str | None:
    r"""The answer that comes last: the rest of the line after the last `####`, or the last balanced `\boxed{...}`.

    None when there is neither, or nothing but space in it. `#### \boxed{4}` is `4`.
    """
    if text.rfind("\\boxed") > text.rfind("####") and (content := boxed(text)) is not None:
        return content
    lines = [part.partition("\n")[0].lstrip("#").strip() for part in text.split("####")[1:]]
    line = next((line for line in reversed(lines) if line), None)
    return boxed(text) if line is None else boxed(line) or line


def vote(text: str) -> str | None:
    """The vote of a text among several answers to a question: its final answer, else its last line, undressed.

    None for a blank text, and for one that never ends its thoughts.
    """
    said = spoken(text) or ""
    answer = final_answer(said) or next((line for line in reversed(said.split("\n")) if line.strip()), "")
    return undecorated(answer) or None


def stated(text: str) -> str | None:
    """The answer of a text without `####` and box: what stands in <answer> tags, else after the last `answer is` or
    `answer:`, else the last sentence that holds a digit or a formula. None where there is none of them.
    """
    if tagged := TAGGED.findall(text):
        return str(tagged[-1]).strip() or None
    if statements := list(STATEMENT.finditer(text)):
        rest = text[statements[-1].end() :].strip()
        if rest:
            return first_sentence(rest)
    lines = [line for line in text.split("\n") if TELLING.search(line)]
    sentences = SENTENCE_END.split(lines[-1]) if lines else []
    return next((part for part in reversed(sentences) if TELLING.search(part)), None)


def first_sentence(text: str) -> str:
    return SENTENCE_END.split(text.partition("\n")[0].strip(), maxsplit=1)[0]


def boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}` whose braces balance (the inner one of two nested), or None."""
    opened: list[tuple[int, bool]] = []
    last, found = -1, None
    for brace in BRACE.finditer(text):
        if brace["boxed"] or brace["open"]:
            opened.append((brace.end(), bool(brace["boxed"])))
        elif brace["close"] and opened:
            start, is_box = opened.pop()
            # Sliced only if later than the last: else deep nesting would take quadratic time.
            if is_box and start > last and (content := text[start : brace.start()].strip()):
                last, found = start, content
    return found


def undecorated(answer: str) -> str:
    """`answer` undressed: no outer space, `**`, `$`, final period, or thousands commas in a number."""
    text = answer.strip().removesuffix(".").removeprefix("**").removesuffix("**").strip()
    if text.count("$") == 2 and text[0] == text[-1] == "$":
        text = text[1:-1]
    elif text.count("$") == 1:
        # A single one is currency, escaped or not.
        text = text.replace("\\$", "").replace("$", "")
    text = text.strip().removesuffix(".").strip()
    return text.replace(",", "") if THOUSANDS.fullmatch(text) else text


def reference(problem: Problem) -> str:
    """The problem's gold answer, undressed; KintsugiError when it is blank (everything would match)."""
    answer = undecorated(final_answer(problem.answer) or problem.answer)
    if not answer:
        raise KintsugiError(f"problem {problem.id}: expected a gold answer, found {problem.answer!r}")
    return answer
