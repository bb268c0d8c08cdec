"""Each audit rule rejects what it should, and accepts its near miss."""

from __future__ import annotations

from typing import Any

import pytest

from kintsugi.mending.audit import Suspect, answer_marks, audit, split_answer
from kintsugi.mending.leaks import says_like, tokens
from kintsugi.mending.reasoning import computes, read_marks
from kintsugi.prompts import CHAT, TERSE


def verdict(failed: str, repaired: str, anchor: str | None = None, **more: Any) -> str:
    """What the audit says of the repair: the rule that rejects it, or ""."""
    return audit(
        Suspect(
            failed=failed,
            repaired=repaired,
            anchor=anchor,
            leaks=more.pop("leaks", ()),
            **more,
        )
    )


def test_an_honest_repair_is_accepted() -> None:
    assert verdict("2+3=6\n6*2=12\n#### 12", "2+3=5\n5*2=10\n#### 10", "2+3=5, twice 10\n#### 10") == ""


# ---- format break


@pytest.mark.parametrize(
    ("failed", "repaired", "rule"),
    [
        ("a=1\n#### 1", "a=2", "format_break"),  # the answer mark is gone
        ("a=1", "a=2", ""),  # near miss: the failure had none either
        ("a=1", "a=2\n#### 2", ""),  # the repair brings the mark that was missing
        ("a=1", "#### 1\na=2\n#### 2", "format_break"),  # ... but not two of them
        ("a=1\n#### 1", "a=2\n#### 2\n#### 3", "format_break"),  # two answers where there was one
        ("#### 0\na=1\n#### 1", "#### 0\na=2\n#### 2", ""),  # near miss: the failure had two as well
        ("#### 0\na=1\n#### 1", "a=2\n#### 2", ""),
        (
            r"so \boxed{1}",
            r"a=2 so \boxed {2}",
            "",
        ),  # the other mark; space before the brace is one of its forms
        (r"so \boxed{1}", r"\boxed{2} or \boxed{3}", "format_break"),
        # Two marks are one answer where they say the same, in whatever dress, and two where they do not.
        ("a=1\n#### 1", "a=2\n\\boxed{2}\n#### 2.0", ""),
        ("a=1\n#### 1", "a=2\n#### \\boxed{2}", ""),
        ("a=1\n#### 1/3", "a=1/2\n\\boxed{\\frac12}\n#### 0.5", ""),
        ("a=1\n#### 1", "a=1,250\n\\boxed{x = 1250}\n#### \\$1,250", ""),
        ("it is A\n#### A", "it is B\n\\boxed{B}\n#### **b**", ""),
        ("a=1\n#### 1", "a=2\n\\boxed{2}\n#### 1", "format_break"),
        ("a=1\n#### 1", "a=2\n\\boxed{2+3i}\n#### 2-3i", "format_break"),
        ("a=1\n#### 1", "a=2\n\\boxed{2x}\n#### 2y", "format_break"),
        ("a=1\n#### 1", "a=2\n\\boxed{2}\n#### 2 m", ""),
        # A mark in the thoughts is none: not one too many, not the one that is missing.
        ("a=1\n#### 1", "<think>#### 3</think>a=2\n#### 2", ""),
        ("a=1\n#### 1", "#### 3\n</think>a=2\n#### 2", ""),
        ("a=1\n#### 1", "<think>a=2\n#### 2</think>", "format_break"),
        ("a=1\n#### 1", "<think>a=2\n#### 2", "format_break"),
        ("<think>#### 1</think>a=1", "<think>#### 2</think>a=2", ""),  # the failure had none either
    ],
)
def test_format_break(failed: str, repaired: str, rule: str) -> None:
    assert verdict(failed, repaired) == rule


def test_a_truncated_repair_is_rejected() -> None:
    assert verdict("a=1\n#### 1", "a=2\n#### 2", truncated=True) == "format_break"
    assert verdict("a=1\n#### 1", "a=2\n#### 2", truncated=False) == ""


# ---- prompt leak


@pytest.mark.parametrize("prompts", [TERSE, CHAT], ids=lambda p: p.name)
def test_every_leak_phrase_is_rejected_unless_the_failure_had_it(prompts: Any) -> None:
    for phrase in prompts.leaks:
        assert verdict("a=1\n#### 1", f"{phrase} a=2\n#### 2", leaks=prompts.leaks) == "prompt_leak"
        assert verdict(f"{phrase} a=1\n#### 1", f"{phrase} a=2\n#### 2", leaks=prompts.leaks) == ""


@pytest.mark.parametrize("prompts", [TERSE, CHAT], ids=lambda p: p.name)
def test_leaks_are_phrases_of_repair_prompts_alone(prompts: Any) -> None:
    repair = prompts.repair("Q", "F", "A")
    for phrase in prompts.leaks:
        assert phrase in repair
        assert phrase not in prompts.solve("Q")


@pytest.mark.parametrize(
    ("phrase", "text", "found"),
    [
        ("<failed>", "then </ Failed >", True),
        ("<failed>", "[failed]", True),
        ("<failed>", "it failed", False),  # a word is no tag
        ("student", "the student’s", True),
        ("student", "a study", False),
        ("reference", "a preference", False),  # alike, but for the beginning
        ("wrong:\n", "Wrong :\n6", True),
        ("wrong:\n", "a wrong 6", False),  # a word is no title
        # "sentence", "right" and "word" are 3 of the 6 words that count, "for" is a fourth: "that" and "is" do not.
        ("copy every sentence that is right word for word", "each sentence is right, word for word", True),
        ("copy every sentence that is right word for word", "the right word", False),
        # The same words, too far apart: room is for twice the words of the phrase.
        ("wrong final answer", "wrong " + "apples " * 9 + "answer", False),
        ("", "anything", False),
    ],
)
def test_a_leak_is_found_by_likeness(phrase: str, text: str, found: bool) -> None:
    assert says_like(list(tokens(text)), phrase) is found


def test_words_of_the_question_and_of_the_anchor_are_no_leaks() -> None:
    texts = ("2+3=6\n#### 6", "2+3=5 students\n#### 5")
    assert verdict(*texts, leaks=CHAT.leaks) == "prompt_leak"
    assert verdict(*texts, leaks=CHAT.leaks, question="How many students are there?") == ""
    assert verdict(*texts, leaks=CHAT.leaks, anchor="2+3=5 students\n#### 5") == ""


# ---- answer-only edit


@pytest.mark.parametrize(
    ("failed", "repaired", "rule"),
    [
        # The reasoning still says 6: the answer was pasted.
        ("2+3=6\n#### 6", "2+3=6\n#### 5", "answer_only"),
        # Near miss: the reasoning reached 5 all along, only the answer line was wrong.
        ("2+3=5\n#### 6", "2+3=5\n#### 5", ""),
        # Near miss: one step of the reasoning changed with the answer.
        ("2+3=6\n#### 6", "2+3=5\n#### 5", ""),
        # Other spaces are not another reasoning.
        ("2+3=6\n#### 6", "2+3=6 \n\n#### 5", "answer_only"),
        # It is the last number reached that counts: 5 is there, but the reasoning ends at 12.
        ("2+3=5\n5+7=12\n#### 12", "2+3=5\n5+7=12\n#### 5", "answer_only"),
        # The same with the other mark, and a decimal that must not be read as two numbers.
        (r"x=2.5, so \boxed{3}", r"x=2.5, so \boxed{2.5}", ""),
        (r"x=2.5, so \boxed{2.5}", r"x=2.5, so \boxed{3}", "answer_only"),
        # The sign is part of a number.
        ("so it is -4\n#### 4", "so it is -4\n#### -4", ""),
        # Nothing to compare: an answer without a number is never supported by an unchanged reasoning.
        ("all cats purr\n#### no", "all cats purr\n#### yes", "answer_only"),
        # Words: the reasoning's last line must end in the new answer.
        ("so it is B\n#### A", "so it is B\n#### B", ""),
        ("so it is B\n#### C", "so it is B\n#### A", "answer_only"),
        # Thousands commas do not make another number.
        ("so 1,234\n#### 5", "so 1,234\n#### 1234", ""),
        # Without a mark the last line is the answer.
        ("2+3=6\nso 6", "2+3=6\nso 5", "answer_only"),
        ("2+3=5\nso 6", "2+3=5\nso 5", ""),
        # A single line without a mark holds no answer apart from its reasoning.
        ("2+3=6", "2+3=5", ""),
        # With a mark it does, and an answer without any reasoning is pasted.
        ("#### 6", "#### 5", "answer_only"),
        # Several marks: only what follows the last one is the answer, so a changed first one is reasoning.
        ("#### 1\nno: 2+3=6\n#### 6", "#### 1\nno: 2+3=6\n#### 5", "answer_only"),
        ("#### 1\nno: 2+3=6\n#### 6", "#### 2\nno: 2+3=5\n#### 5", ""),
        # Words: the end of the last line is the answer, whatever stands after it as ornament.
        ("it is red, so *blue*.\n#### red", "it is red, so *blue*.\n#### blue", ""),
        ("blue at first,\nso it is red\n#### red", "blue at first,\nso it is red\n#### blue", "answer_only"),
        # An edit in the thoughts is an edit; a mark in them is no answer.
        ("<think>2+3=6</think>six\n#### 6", "<think>2+3=5</think>six\n#### 5", ""),
        ("<think>2+3=6, #### 6</think>so 6", "<think>2+3=6, #### 5</think>so 5", "answer_only"),
        # A zero below a fraction, more digits than a number has, half a surrogate: read as they stand.
        ("so 1/0\n#### 2", "so 1/0\n#### 1/0", ""),
        ("so 2\n#### 2", f"so 2\n#### {'1' * 9000}", "answer_only"),
        ("so \ud800 2\n#### 3", "so \ud800 2\n#### 2", ""),
        # An unchanged text is a failed repair, not a pasted answer, whatever its reasoning says.
        ("2+3=5\n#### 6", "2+3=5\n#### 6", ""),
    ],
)
def test_answer_only(failed: str, repaired: str, rule: str) -> None:
    assert verdict(failed, repaired) == rule


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a\n#### 1\nb\n#### 2", ("a\n#### 1\nb\n", "#### 2")),
        (r"a #### 1 \boxed{2}", ("a #### 1 ", r"\boxed{2}")),
        ("a\nb\n", ("a", "b")),  # the last line that is not blank
        ("only", ("only", "")),  # nothing to tell an answer by
        ("", ("", "")),
        ("<think>#### 1</think>a\n#### 2", ("<think>#### 1</think>a\n", "#### 2")),
        ("<think>#### 1</think>a\nb", ("<think>#### 1</think>a", "b")),
        ("<think>a\n#### 1", ("<think>a\n#### 1", "")),  # it never ends thinking
    ],
)
def test_split_answer(text: str, parts: tuple[str, str]) -> None:
    assert split_answer(text) == parts


# ---- the marks that reasoning is compared by


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("We buy 1,234 pens.", "we sell 1234.0 pens"),
        (r"\(3 \times 4 = 12\)", "**3** x 4 = $12"),
        (r"\frac{3}{4} of it", "3/4 of that"),
        ("- 2 plus 3", "Step 1: two plus three"),
        ("2x = 6", "2 * x = 6"),
    ],
)
def test_dress_and_words_leave_no_mark(one: str, other: str) -> None:
    assert [m.says for m in read_marks(one)] == [m.says for m in read_marks(other)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("so -4 is 5 - 9", ["-4", "5", "-", "9"]),  # a sign belongs to its number
        ("(9,540)", ["9", "540"]),  # a comma in brackets parts two numbers
        ("a step-by-step and/or 3-day a = 1", ["3", "a", "=", "1"]),  # no hyphen, slash or article is a mark
        (r"-\frac{1}{8} < \sqrt{2}", ["-1/8", "<", "sqrt", "2"]),
        ("6 of 7/0", ["6", "7/0"]),
        ("<think>4</think>", ["4"]),
    ],
)
def test_marks(text: str, says: list[str]) -> None:
    assert [m.says for m in read_marks(text)] == says


@pytest.mark.parametrize(
    "answer", ["12 + 5 = 17", "3 * 4", r"\frac{6}{8} = \frac{3}{4}", "c=9+2=11", "12 - 3"]
)
def test_a_computation_in_the_answer_is_reasoning(answer: str) -> None:
    assert computes(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "17",
        "-4",
        "x = 5",
        "3/4",
        r"-\frac{3}{4}",
        "2 + 3i",
        r"2\sqrt{3}",
        "y = 2x + 3",
        "2x + y = 5",
        r"6 \times 10^5",
        "(2, 3)",
    ],
)
def test_an_answer_that_is_an_expression_is_no_computation(answer: str) -> None:
    assert not computes(answer)


# ---- anchor copy

FAILED, ANCHOR = "a=1+1=3\nb=2+2=4\nc=3+4=7\n#### 7", "b=2+2=4\na=1+1=2\nc=2+4=6\n#### 6"


@pytest.mark.parametrize(
    ("repaired", "rule"),
    [
        # Steps without numbers: failure a b c ####, anchor b a c ####. The anchor as it is: 0 edits from the
        # anchor, 2 from the failure, and 0 + 1 < 2. Numbers of its own make it no less a copy.
        (ANCHOR, "anchor_copy"),
        (ANCHOR.replace("6", "8"), "anchor_copy"),
        # The failure's order with the anchor's numbers: 2 from the anchor, 0 from the failure.
        ("a=1+1=2\nb=2+2=4\nc=2+4=6\n#### 6", ""),
        # One step in other words: 1 from the failure.
        ("b=2+2=4\nb=2+2=4\nc=2+4=6\n#### 6", ""),
    ],
)
def test_anchor_copy(repaired: str, rule: str) -> None:
    assert verdict(FAILED, repaired, ANCHOR) == rule


def test_where_failure_and_anchor_go_the_same_way_a_right_repair_is_no_copy() -> None:
    # Only one order is possible, so the right repair and the anchor are the same text.
    assert verdict("a=1+1=3\nb=3+2=5\n#### 5", "a=1+1=2\nb=2+2=4\n#### 4", "a=1+1=2\nb=2+2=4\n#### 4") == ""


def test_where_failure_and_anchor_part_late_a_repair_that_takes_the_anchors_rest_counts_as_a_copy() -> None:
    # It may be right: the rule cannot tell. It is 3 edits from the failure (two steps in other words, one more),
    # none from the anchor, and 0 + 1 < 3.
    failed = "first 2+2=4\nthen 4*3=12\nand add 5\nso seventeen\n#### 17"
    anchor = "first 2+2=4\nthen 4*3=12\ntake away 5\nthat leaves seven\nso it is 7\n#### 7"
    assert verdict(failed, anchor, anchor) == "anchor_copy"
    assert (
        verdict(
            failed, failed.replace("add 5", "take 5").replace("seventeen", "7").replace("17", "7"), anchor
        )
        == ""
    )


def test_a_step_with_the_wrong_operation_may_become_the_anchors() -> None:
    # "a=#-#=#" is 1 edit from the failure, 0 from the anchor: 0 + 1 < 1 is false. It is the smallest edit there is.
    assert verdict("a=3-1=2\nb=2+2=4\n#### 4", "a=3+1=4\nb=4+2=6\n#### 6", "a=3+1=4\nb=4+2=6\n#### 6") == ""


def test_steps_of_prose_are_sentences() -> None:
    failed = "We have 3. Then we add 2. So it is 6."
    anchor = "First add 2! That makes 5; nothing else. So it is 5."
    assert verdict(failed, anchor, anchor) == "anchor_copy"  # 3 edits of 4 steps from the failure
    assert verdict(failed, "We have 3. Then we add 2. So it is 5.", anchor) == ""


def test_in_long_solutions_a_tenth_of_the_steps_may_be_the_anchors() -> None:
    failed = "".join(f"{c}: 1\n" for c in "abcdefghijklmnopqrst")  # 20 steps, so 2 may be
    anchor = failed.upper()
    for shared, rule in ((11, ""), (12, "anchor_copy")):
        # The first `shared` steps from the anchor: 20 - shared edits to it, `shared` to the failure.
        # 9 + 2 < 11 is false, 8 + 2 < 12 is true.
        assert verdict(failed, anchor[: 5 * shared] + failed[5 * shared :], anchor) == rule


def test_nothing_is_copied_where_there_is_no_anchor() -> None:
    assert verdict(FAILED, ANCHOR, None) == ""


# ---- another order of steps that are alike but for numbers

SUM = "7*8=58\n3+58=61\n6*9=54\n61+54=115\n#### 115"  # 3 + 7*8 + 6*9; 7*8 is 56


@pytest.mark.parametrize(
    ("failed", "repaired", "rule"),
    [
        # The wrong result mended where it stands, and all that follows from it: 3+56 = 59, 59+54 = 113.
        (SUM, "7*8=56\n3+56=59\n6*9=54\n59+54=113\n#### 113", ""),
        # Right, but 6*9 comes first: the failure's 7 would be blamed, which is no error.
        (SUM, "6*9=54\n3+54=57\n7*8=56\n57+56=113\n#### 113", "reordered"),
        # A wrong operand in place of the right one: the failure takes no 7*8 later, nor the repair 7*9.
        (SUM.replace("7*8=58", "7*9=58"), "7*8=56\n3+56=59\n6*9=54\n59+54=113\n#### 113", ""),
        # ... where the repair takes the other product instead, which the failure takes later.
        (SUM.replace("7*8=58", "7*9=58"), "6*9=54\n3+54=57\n7*8=56\n57+56=113\n#### 113", "reordered"),
        # A step that was skipped is another shape, and no other order.
        ("3+5=8\n#### 8", "7*8=56\n3+56=59\n#### 59", ""),
        # Sentences: their last number is the result.
        (
            "Ann buys 3 and has 9. Ben buys 4 and has 6. #### 15",
            "Ann buys 3 and has 8. Ben buys 4 and has 6. #### 14",
            "",
        ),
        (
            "We add 3 and get 9. We add 4 and get 13. #### 13",
            "We add 4 and get 10. We add 3 and get 13. #### 13",
            "reordered",
        ),
    ],
)
def test_another_order_of_steps_is_no_repair(failed: str, repaired: str, rule: str) -> None:
    assert verdict(failed, repaired, None) == rule


# ---- the order of the rules


def test_the_first_rule_that_rejects_is_named() -> None:
    # Truncated, leaking and pasted at once: format_break, then prompt_leak, then answer_only.
    pasted = ("2+3=6\n#### 6", "2+3=6\n#### 5 mend:\n")
    assert verdict(*pasted, leaks=TERSE.leaks, truncated=True) == "format_break"
    assert verdict(*pasted, leaks=TERSE.leaks) == "prompt_leak"
    assert verdict(*pasted) == "answer_only"


def test_marks_in_the_thoughts_are_not_counted() -> None:
    assert answer_marks(r"<think>#### 1</think>#### \boxed{2}") == 1
    assert answer_marks("<think>#### 1") == 0
