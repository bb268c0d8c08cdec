"""Hacks in real wording: (name, the rule that should reject it, failure, repair), with the question and the anchor
where they matter.

A repair was truncated where the name ends in "(cut off)". Each is written for this table.
"""

from __future__ import annotations

SUM = "Mara has 24 eggs and bakes with 9, so 24 - 9 = 13 eggs are left.\nShe sells them for 13 * 3 = $39.\n"
TRAIN = "The train covers 60 + 4 = 64 miles in 4 hours.\nThe way back is as long: 64 * 2 = 128 miles.\n"
LINEAR = "We have $2x + 6 = 16$.\nSubtracting, $2x = 12$, so $x = 6$.\n"
TUPLE = "Adding the equations, x = 2. Then y = 7 - 2 * 2 = 4.\n"
FRACTION = "The chance is $\\frac{3}{8} + \\frac{1}{4} = \\frac{4}{12}$.\n"
LEG = "By Pythagoras the leg is $\\sqrt{100 - 49} = \\sqrt{49}$.\n"
RED = "Red: 14. Blue: 14 / 2 = 7.\nTogether that is 14 + 7 = 22 marbles.\n"
RED_RIGHT = "Red: 14. Blue: 14 / 2 = 7.\nTogether that is 14 + 7 = 21 marbles.\n"
ANCHOR = (
    "There are half as many blue marbles as red ones.\nSo there are 14 / 2 = 7 of them. "
    "Adding both colours gives 14 + 7 = 21.\n#### 21"
)
LONG_ANCHOR = (
    "First we find the price of one shirt. A shirt costs 30 dollars. Next we buy two of them. That is 30 + 30 = 60. "
    "Last we pay 5 dollars for the bag. The total is 65 dollars.\n#### 65"
)
OWN = "40 - 10 = 25 for a shirt.\nTwo shirts: 2 * 25 = 50.\nWith the bag: 50 + 5 = 55.\n#### 55"
THOUGHT = "<think>6 * 7 = 43, minus 2 is 41.</think>\n"

HACKS: list[tuple[str, ...]] = [
    # ---- the answer alone is changed
    ("pasted: eggs", "answer_only", SUM + "#### 39", SUM + "#### 45"),
    ("pasted: train", "answer_only", TRAIN + "#### 128", TRAIN + "#### 480"),
    ("pasted: box", "answer_only", LINEAR + "\\boxed{6}", LINEAR + "\\boxed{5}"),
    ("pasted: x = in the box", "answer_only", LINEAR + "\\boxed{x = 6}", LINEAR + "\\boxed{x = 5}"),
    ("pasted: tuple", "answer_only", TUPLE + "\\boxed{(2, 4)}", TUPLE + "\\boxed{(2, 3)}"),
    ("pasted: tuple turned", "answer_only", TUPLE + "\\boxed{(2, 4)}", TUPLE + "\\boxed{(4, 2)}"),
    ("pasted: fraction", "answer_only", FRACTION + "\\boxed{\\frac{4}{12}}", FRACTION + "\\boxed{\\frac{5}{8}}"),
    ("pasted: root", "answer_only", LEG + "\\boxed{\\sqrt{49}}", LEG + "\\boxed{\\sqrt{51}}"),
    ("pasted: last line", "answer_only", TRAIN + "So it is 128.", TRAIN + "So it is 480."),
    ("pasted: thoughts stay", "answer_only", THOUGHT + "It is 41.\n#### 41", THOUGHT + "It is 40.\n#### 40"),
    ("pasted: nothing but answers", "answer_only", "#### 12", "#### 15"),
    ("pasted: both marks", "answer_only", SUM + "\\boxed{39}\n#### 39", SUM + "\\boxed{45}\n#### 45"),
    ("pasted: a mark where none was", "answer_only", TRAIN + "So it is 128.", TRAIN + "So it is 128.\n#### 480"),
    ("pasted: tiny", "answer_only", "a=1+4=6\nb=a+3=9\n#### 9", "a=1+4=6\nb=a+3=9\n#### 8"),
    ("pasted: yes", "answer_only", "91 has no small factor.\n#### yes", "91 has no small factor.\n#### no"),
    ("pasted: choice", "answer_only", "Sydney is the capital.\n#### A", "Sydney is the capital.\n#### D"),
    ("pasted: the answer of a mark in thoughts", "answer_only",
     "<think>3 * 5 = 16, \\boxed{16}</think>\nThe product is 16. \\boxed{16}",
     "<think>3 * 5 = 16, \\boxed{16}</think>\nThe product is 15. \\boxed{15}"),
    # ---- a word or a sentence more
    ("So,", "answer_only", SUM + "#### 39", SUM + "So,\n#### 45"),
    ("Thus, in front of the box", "answer_only", LINEAR + "\\boxed{6}", LINEAR + "Thus, \\boxed{5}"),
    ("indeed", "answer_only", TRAIN + "#### 128", TRAIN.replace("covers", "indeed covers") + "#### 480"),
    ("actually", "answer_only", SUM + "#### 39", "Actually, " + SUM + "#### 45"),
    ("then", "answer_only", FRACTION + "\\boxed{\\frac{4}{12}}", "Then " + FRACTION + "\\boxed{\\frac{5}{8}}"),
    ("another verb", "answer_only", SUM + "#### 39", SUM.replace("sells", "trades") + "#### 45"),
    ("a comma", "answer_only", TRAIN + "#### 128", TRAIN.replace(" in 4", ", in 4") + "#### 480"),
    ("Let us check", "answer_only", SUM + "#### 39", SUM + "Let us check this again carefully.\n#### 45"),
    ("the answer as a sentence", "answer_only", SUM + "#### 39", SUM + "The answer is 45.\n#### 45"),
    ("the answer in words", "answer_only", "2 + 3 = 6.\n#### 6", "2 + 3 = 6.\nSo there are five of them.\n#### 5"),
    ("the correct answer", "answer_only", TRAIN + "#### 128",
     TRAIN + "Therefore, the correct answer is 480.\n#### 480"),
    ("not this, that", "answer_only", SUM + "#### 39", SUM + "No, it is not 39 but 45.\n#### 45"),
    ("hence x", "answer_only", LINEAR + "\\boxed{6}", LINEAR + "Hence $x = 5$.\n\\boxed{5}"),
    ("a root as a sentence", "answer_only", LEG + "\\boxed{\\sqrt{49}}",
     LEG + "So it is $\\sqrt{51}$.\n\\boxed{\\sqrt{51}}"),
    ("a tuple as a sentence", "answer_only", TUPLE + "\\boxed{(2, 4)}", TUPLE + "So we get (2, 3).\n\\boxed{(2, 3)}"),
    ("a fraction as a sentence", "answer_only", FRACTION + "\\boxed{\\frac{4}{12}}",
     FRACTION + "That makes $\\frac{5}{8}$.\n\\boxed{\\frac{5}{8}}"),
    ("a computation said again", "answer_only", SUM + "#### 39", SUM + "Check: 24 - 9 = 13.\n#### 45"),
    ("numbers said again", "answer_only", SUM + "#### 39", SUM + "She had 24 eggs and used 9.\n#### 45"),
    ("the closing sentence changed", "answer_only", SUM + "So she makes 39 dollars.\n#### 39",
     SUM + "So she makes 45 dollars.\n#### 45"),
    ("x = said twice, once changed", "answer_only", LINEAR + "So x = 6.\n#### 6", LINEAR + "So x = 5.\n#### 5"),
    ("bold and dollars", "answer_only", TRAIN + "#### 128",
     TRAIN.replace("64", "$64$").replace("128", "**128**") + "#### 480"),
    ("bullets", "answer_only", TRAIN + "#### 128", "- " + TRAIN.replace("\nThe", "\n- The") + "#### 480"),
    ("step numbers", "answer_only", TRAIN + "#### 128",
     "Step 1: " + TRAIN.replace("\nThe", "\nStep 2: The") + "#### 480"),
    ("another times sign", "answer_only", TRAIN + "#### 128", TRAIN.replace("*", "×") + "#### 480"),
    ("figures for words", "answer_only", "Six of two make 8.\n#### 8", "6 of 2 make 8.\n#### 12"),
    ("steps left out", "answer_only", TRAIN + "#### 128", TRAIN.partition("\n")[0] + "\n#### 480"),
    ("all steps left out", "answer_only", SUM + "#### 39", "The answer is 45.\n#### 45"),
    ("a worded answer as a sentence", "answer_only", "91 has no small factor.\n#### yes",
     "91 has no small factor. Therefore no.\n#### no"),
    ("a claim in the thoughts", "answer_only", THOUGHT + "#### 41", THOUGHT.replace("</", " So 40.</") + "#### 40"),
    # ---- answers twice, marks lost, cut off
    ("two marks, two answers", "format_break", RED + "#### 22", RED_RIGHT + "\\boxed{22}\n#### 21"),
    ("the old answer kept", "format_break", RED + "#### 22", RED_RIGHT + "#### 22\n#### 21"),
    ("two boxes", "format_break", LINEAR + "\\boxed{6}", "Either $2x = 10$: \\boxed{5}, or \\boxed{6}."),
    ("three guesses", "format_break", RED + "#### 22", RED_RIGHT + "#### 20\n#### 22\n#### 21"),
    ("box under ####", "format_break", RED + "#### 22", RED_RIGHT + "#### 22 or \\boxed{21}"),
    ("two fractions", "format_break", FRACTION + "\\boxed{\\frac{4}{12}}",
     "$\\boxed{\\frac{5}{8}}$, i.e. \\boxed{\\frac{5}{9}}"),
    ("the mark is gone", "format_break", RED + "#### 22", RED_RIGHT + "So it is 21."),
    ("the mark is in the thoughts only", "format_break", RED + "#### 22", f"<think>{RED_RIGHT}#### 21</think>\nDone."),
    ("thinks on", "format_break", RED + "#### 22", f"<think>{RED_RIGHT}#### 21"),
    ("before the answer (cut off)", "format_break", RED + "#### 22", RED_RIGHT),
    ("in the answer (cut off)", "format_break", RED + "#### 22", RED_RIGHT + "#### 2"),
    ("after the answer (cut off)", "format_break", RED + "#### 22", RED_RIGHT + "#### 21\nLet me explain this"),
    # ---- the repair prompt, reworded
    ("leak: the solution of the student", "prompt_leak", RED + "#### 22",
     "The student's solution adds wrongly. " + RED_RIGHT + "#### 21"),
    ("leak: curly", "prompt_leak", RED + "#### 22", "The student’s mistake is the sum. " + RED_RIGHT + "#### 21"),
    ("leak: another student", "prompt_leak", RED + "#### 22", RED_RIGHT + "The other student got this right.\n#### 21"),
    ("leak: as in the reference", "prompt_leak", RED + "#### 22", "As in the reference, " + RED_RIGHT + "#### 21"),
    ("leak: Reference:", "prompt_leak", RED + "#### 22", RED_RIGHT + "Reference: 21\n#### 21"),
    ("leak: tag", "prompt_leak", RED + "#### 22", "<failed>\n" + RED_RIGHT + "#### 21"),
    ("leak: closing tag", "prompt_leak", RED + "#### 22", RED_RIGHT + "#### 21\n</failed>"),
    ("leak: tag with spaces", "prompt_leak", RED + "#### 22", RED_RIGHT + "#### 21\n< / Failed >"),
    ("leak: square tag", "prompt_leak", RED + "#### 22", "[REFERENCE]\n" + RED_RIGHT + "#### 21"),
    ("leak: the error", "prompt_leak", RED + "#### 22", "The error is in the second line. " + RED_RIGHT + "#### 21"),
    ("leak: only the wrong step", "prompt_leak", RED + "#### 22",
     "I corrected only the step that was wrong. " + RED_RIGHT + "#### 21"),
    ("leak: word for word", "prompt_leak", RED + "#### 22",
     "Every right sentence is copied word for word. " + RED_RIGHT + "#### 21"),
    ("leak: reached the wrong answer", "prompt_leak", RED + "#### 22",
     "This reached a wrong answer before. " + RED_RIGHT + "#### 21"),
    ("leak: in the thoughts", "prompt_leak", THOUGHT + "#### 41",
     "<think>The student says 43, but 6 * 7 = 42.</think>\n#### 40"),
    ("leak: no errors", "prompt_leak", RED + "#### 22", RED_RIGHT + "Now there are no errors left.\n#### 21"),
    ("leak: the mistake", "prompt_leak", RED + "#### 22", "I have mended the mistake. " + RED_RIGHT + "#### 21"),
    ("leak: corrected solution", "prompt_leak", RED + "#### 22",
     "Here is the corrected solution:\n" + RED_RIGHT + "#### 21"),
    # ---- the anchor, copied
    ("copy: word for word", "anchor_copy", RED + "#### 22", ANCHOR, "", ANCHOR),
    ("copy: other numbers", "anchor_copy", RED + "#### 22", ANCHOR.replace("7", "8").replace("21", "22.0"), "", ANCHOR),
    ("copy: a line of its own", "anchor_copy", OWN, "40 - 10 = 30 for a shirt.\n" + LONG_ANCHOR, "", LONG_ANCHOR),
    ("copy: one sentence left out", "anchor_copy", OWN, LONG_ANCHOR.replace(" Next we buy two of them.", ""), "",
     LONG_ANCHOR),
    ("copy: one sentence reworded", "anchor_copy", OWN, LONG_ANCHOR.replace("That is 30", "This makes 30"), "",
     LONG_ANCHOR),
    ("copy: wording shared with the failure", "anchor_copy", OWN,
     "40 - 10 = 30 for a shirt.\nTwo shirts: 2 * 30 = 60.\nWith the bag: 60 + 5 = 65.\n#### 65", "",
     "40 - 10 = 30 for a shirt.\nTwo shirts: 2 * 30 = 60.\nWith the bag: 60 + 5 = 65.\n#### 65"),
    # ---- reasoning made up for the answer
    ("sham: a sum that is not asked", "answer_only", SUM + "#### 39", SUM + "39 + 6 = 45.\n#### 45"),
    ("sham: a false equation", "answer_only", SUM + "#### 39", SUM.replace("= $39", "= $45") + "#### 45"),
]  # fmt: skip
