"""Each audit rule rejects what it should, and accepts its near miss."""

from __future__ import annotations

from typing import Any

import pytest

from kintsugi.internalize.audit import Suspect, audit, split_answer
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
    repair += prompts.patch("Q", "F", "A")
    for phrase in prompts.leaks:
        assert phrase in repair
        assert phrase not in prompts.solve("Q")


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
    ],
)
def test_split_answer(text: str, parts: tuple[str, str]) -> None:
    assert split_answer(text) == parts


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


# ---- the order of the rules


def test_the_first_rule_that_rejects_is_named() -> None:
    # Truncated, leaking and pasted at once: format_break, then prompt_leak, then answer_only.
    pasted = ("2+3=6\n#### 6", "2+3=6\n#### 5 mend:\n")
    assert verdict(*pasted, leaks=TERSE.leaks, truncated=True) == "format_break"
    assert verdict(*pasted, leaks=TERSE.leaks) == "prompt_leak"
    assert verdict(*pasted) == "answer_only"
