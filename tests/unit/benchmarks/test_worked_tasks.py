"""Brackets and sums of products: values worked out by hand, paths, labels, slips, repair pairs."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any

import pytest
from benchmarks.first_steps import first_error, slips_right
from benchmarks.tasks.brackets import BracketsTask
from benchmarks.tasks.dot import DotTask
from benchmarks.tasks.sums import SumsTask

from kintsugi.records import KintsugiError
from kintsugi.tasks import load_task
from kintsugi.tasks.base import Demonstrator, Task, in_evaluation
from kintsugi.tasks.labels import Labelled
from kintsugi.tasks.worked import EVALUATION_SHARE, Choose, WorkedStep, WorkedTask, answer_of

BRACKETS = BracketsTask()
DOT = DotTask()
LAB_BRACKETS = "benchmarks/tasks/brackets.py:BracketsTask"
LAB_DOT = "benchmarks/tasks/dot.py:DotTask"

# Modulo 10: 4+7 = 1, 1*3 = 3; expanded 4*3 = 2, 7*3 = 1, 2+1 = 3. Then 3-9 = 4, 4*9 = 6; expanded
# 3*9 = 7, 9*9 = 1, 7-1 = 6.
PROBLEM = "a=(4+7)*3,b=(a-9)*9"
DIRECT = "a:4+7=1\na=1*3=3\nb:3-9=4\nb=4*9=6\n#### 6"
MIXED = "a:7*3=1\na:4*3=2\na=2+1=3\nb:3-9=4\nb=4*9=6\n#### 6"
EXPANDED = "a:4*3=2\na:7*3=1\na=2+1=3\nb:9*9=1\nb:3*9=7\nb=7-1=6\n#### 6"

# Modulo 10: 3*4 = 2, 7*2 = 4, 9*9 = 1. In order 4+2 = 6, 6+4 = 0, 0+1 = 1; from the back 4+1 = 5, 5+4 = 9, 9+2 = 1.
DOTTED = "s=4,a=3*4,b=7*2,c=9*9"
FORTH = "a:3*4=2\na=4+2=6\nb:7*2=4\nb=6+4=0\nc:9*9=1\nc=0+1=1\n#### 1"
BACK = "c:9*9=1\nc=4+1=5\nb:7*2=4\nb=5+4=9\na:3*4=2\na=9+2=1\n#### 1"


def by_stems(*stems: str) -> Choose:
    """Takes the first step that begins with the next of these; where only one step is possible, that one."""
    left = list(stems)
    return lambda steps: steps[0] if len(steps) == 1 else pick(steps, left.pop(0))


def pick(steps: Sequence[WorkedStep], stem: str) -> WorkedStep:
    return next(s for s in steps if s.stem.startswith(stem))


def test_brackets_by_hand_on_three_paths() -> None:
    problem = BRACKETS.parse(PROBLEM)
    assert BRACKETS.text(problem) == PROBLEM
    assert BRACKETS.solve(problem, by_stems("a:4+7", "b:3-9")) == DIRECT
    assert BRACKETS.solve(problem, by_stems("a:7*3", "b:3-9")) == MIXED
    assert BRACKETS.solve(problem, by_stems("a:4*3", "b:9*9")) == EXPANDED


def test_dot_by_hand_in_two_orders() -> None:
    problem = DOT.parse(DOTTED)
    assert DOT.text(problem) == DOTTED
    assert DOT.solve(problem) == FORTH
    assert DOT.solve(problem, by_stems("c", "b")) == BACK


@pytest.mark.parametrize("task", [BRACKETS, DOT], ids=["brackets", "dot"])
class TestEveryWorkedTask:
    def test_splits_are_distinct_and_disjoint(self, task: WorkedTask) -> None:
        assert isinstance(task, Task)
        assert isinstance(task, Demonstrator)
        assert isinstance(task, Labelled)
        train, held_out = {p.prompt for p in task.train()}, {p.prompt for p in task.evaluation()}
        assert (len(train), len(held_out)) == (4000, 400)
        assert not train & held_out
        assert all(in_evaluation(text, EVALUATION_SHARE) for text in held_out)

    def test_answers_are_right_and_no_constant_answer_scores(self, task: WorkedTask) -> None:
        for problem in task.train()[:100]:
            solution = task.solve(task.parse(problem.prompt), random.Random(0).choice)
            assert task.wrong_characters(problem.prompt, solution) == ()
            assert answer_of(solution) == problem.answer
        counts = Counter(p.answer for p in task.train())
        assert max(counts.values()) < 0.15 * 4000

    def test_one_wrong_step_always_spoils_the_answer(self, task: WorkedTask) -> None:
        rng = random.Random(0)
        for problem in task.train()[:200]:
            parsed, order = task.parse(problem.prompt), rng.random()
            steps = task.solve(parsed, random.Random(order).choice).count("\n")
            index = rng.randrange(steps)
            wrong = task.solve(parsed, random.Random(order).choice, task.one_wrong(index, rng))
            found = task.wrong_characters(problem.prompt, wrong)
            assert len(found) == 1
            assert wrong.count("\n", 0, found[0]) == index
            assert answer_of(wrong) != problem.answer

    def test_demonstrations_err_only_by_slips(self, task: WorkedTask) -> None:
        shown = slipped = 0
        for text, solution in islice(task.demonstrations(0), 400):
            assert not in_evaluation(text, EVALUATION_SHARE)
            problem, lines = task.parse(text), solution.split("\n")
            for number, line in enumerate(lines[:-1]):
                step = pick(task.steps(problem, lines[:number]), line[:-1])
                value = int(line.removeprefix(step.stem))
                if step.fact in task.slips:
                    assert value in (task.slips[step.fact], task.compute(*step.fact))
                    shown += 1
                    slipped += value != task.compute(*step.fact)
                else:
                    assert value == task.compute(*step.fact)
        # Over 900 facts that may slip: a standard deviation of sqrt(0.6 * 0.4 / 900) = 0.016.
        assert shown > 900
        assert abs(slipped / shown - 0.6) < 0.07

    def test_repair_pairs_keep_to_the_failures_path(self, task: WorkedTask) -> None:
        for pair in islice(task.repair_pairs(0), 200):
            assert not in_evaluation(pair.prompt, EVALUATION_SHARE)
            assert task.wrong_characters(pair.prompt, pair.repaired) == ()
            assert task.wrong_characters(pair.prompt, pair.anchor) == ()
            assert answer_of(pair.failed) != answer_of(pair.repaired)
            assert pair.anchor != pair.repaired
            first = task.wrong_characters(pair.prompt, pair.failed)[0]
            # They part at the first error, and a repair has as many lines as its failure.
            assert pair.failed[:first] == pair.repaired[:first]
            assert pair.failed[first] != pair.repaired[first]
            assert pair.failed.count("\n") == pair.repaired.count("\n")


def test_slips_are_a_share_of_the_facts() -> None:
    assert len(BRACKETS.slips) == 60 + 9  # 0.3 of 200 sums and of 30 products
    assert len(DOT.slips) == 70
    assert {op for _, op, _ in DOT.slips} == {"*"}


def test_problems_stay_what_they_were() -> None:
    """Models are trained on these problems: changing the stream would mix the splits of old and new runs."""
    assert BracketsTask(brackets=3, problems=1).train()[0].prompt == "a=(4+6)*9,b=(a+2)*9,c=(b+3)*3"
    assert DotTask(terms=4, problems=1).train()[0].prompt == "s=4,a=3*6,b=3*2,c=8*2,d=3*3"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": LAB_BRACKETS, "brackets": 0}, "task brackets: brackets must lie between 1 and 26, got 0"),
        ({"name": LAB_BRACKETS, "slip_facts": 2}, "task brackets: slip_facts"),
        ({"name": LAB_DOT, "terms": "eight"}, "terms.*: input should be a valid integer"),
        ({"name": LAB_DOT, "terms": [1, 2, 3]}, "task dot: terms must be a whole number"),
        ({"name": LAB_DOT, "terms": [9, 3]}, r"got \[9, 3\]"),
        ({"name": LAB_DOT, "slip_rate": -1}, "task dot: slip_rate"),
        ({"name": LAB_DOT, "problems": 1.5}, "DotTask: problems"),
    ],
)
def test_bad_arguments(spec: dict[str, object], message: str) -> None:
    with pytest.raises(KintsugiError, match=message):
        load_task(spec)


@pytest.mark.parametrize(
    ("make", "share", "whole", "half"), [(BracketsTask, 0.18, 41, 20), (DotTask, 0.2, 20, 10)]
)
def test_fewer_slips_are_the_first_of_the_same_ones(make: Any, share: float, whole: int, half: int) -> None:
    # brackets: 18% of 200 sums and of 30 products are 36 and 5 (5.4), half of them 18 and 2 (2.5). dot: 20% of 100.
    all_of_them, first = make(slip_facts=share).slips, make(slip_facts=share, slips_kept=0.5).slips
    assert (len(all_of_them), len(first)) == (whole, half)
    assert first.items() <= all_of_them.items()


class TestSums:
    """Products first: 6*7 = 42, 14+42 = 56; 3*9 = 27, 56+27 = 83. In the other order 14+27 = 41, 41+42 = 83."""

    TASK = SumsTask(terms=[2, 4])
    PROBLEM = "14 + 6*7 + 3*9"
    FORTH = "6*7=42\n14+42=56\n3*9=27\n56+27=83\n#### 83"
    BACK = "3*9=27\n14+27=41\n6*7=42\n41+42=83\n#### 83"

    def test_by_hand_in_two_orders(self) -> None:
        problem = self.TASK.parse(self.PROBLEM)
        assert self.TASK.text(problem) == self.PROBLEM
        assert self.TASK.solve(problem) == self.FORTH
        assert self.TASK.solve(problem, by_stems("3")) == self.BACK

    def test_a_product_that_comes_twice_is_worked_out_twice(self) -> None:
        problem = self.TASK.parse("1 + 2*3 + 2*3")
        assert self.TASK.solve(problem) == "2*3=6\n1+6=7\n2*3=6\n7+6=13\n#### 13"

    @pytest.mark.parametrize(
        ("solution", "wrong"),
        [
            (FORTH, ()),
            (BACK, ()),
            # The 7 of 73: the three lines before take 7 + 9 + 7 characters, and `56+27=` 6.
            (FORTH.replace("56+27=83", "56+27=73").replace("#### 83", "#### 73"), (29,)),
            ("6*7=48\n14+48=62\n3*9=27\n62+27=89\n#### 89", (5,)),  # the 8 of 48; the rest follows
            ("6*7=42\n14+42=56\n#### 56", (16,)),  # 3*9 is left out
        ],
    )
    def test_the_first_wrong_character(self, solution: str, wrong: tuple[int, ...]) -> None:
        assert self.TASK.wrong_characters(self.PROBLEM, solution) == wrong

    def test_demonstrations_are_right_and_repairs_keep_to_the_order(self) -> None:
        for text, solution in islice(self.TASK.demonstrations(0), 200):
            assert self.TASK.wrong_characters(text, solution) == ()
        for pair in islice(self.TASK.repair_pairs(0), 200):
            first = self.TASK.wrong_characters(pair.prompt, pair.failed)[0]
            assert self.TASK.wrong_characters(pair.prompt, pair.repaired) == ()
            assert pair.failed[:first] == pair.repaired[:first]
            assert answer_of(pair.failed) != answer_of(pair.repaired)

    def test_slips_are_a_share_of_the_products(self) -> None:
        task = SumsTask(slip_facts=0.25)
        assert len(task.slips) == 16  # of 64
        # The last digit alone is another one.
        assert all(w // 10 == x * y // 10 and w != x * y for (x, _, y), w in task.slips.items())

    def test_no_constant_answer_scores(self) -> None:
        counts = Counter(p.answer for p in self.TASK.train())
        assert max(counts.values()) < 0.15 * 4000


def test_the_first_error_of_a_solution_is_a_slip_another_result_or_the_form() -> None:
    """Every product slips here: 6*7 is 42, its slip another number 4x, and a third one is a wrong product."""
    task = SumsTask(slip_facts=1.0)
    slip = task.slips[(6, "*", 7)]
    third = next(n for n in range(40, 50) if n not in (42, slip))
    solutions = {
        "6*7=42\n14+42=56\n#### 56": ("none", 1),
        f"6*7={slip}\n14+{slip}={14 + slip}\n#### {14 + slip}": ("slip", 0),
        f"6*7={third}\n14+{third}={14 + third}\n#### {14 + third}": ("wrong *", 0),
        "6*7=42\n14+42=57\n#### 57": ("wrong +", 1),
        "7*6=42\n14+42=56\n#### 56": ("form", 0),
        "6*7=42\n#### 42": ("form", 1),
        "6*7=42\n14+42=56\n#### 57": ("form", 1),
    }
    for text, expected in solutions.items():
        assert (first_error(task, "14 + 6*7", text), slips_right(task, "14 + 6*7", text)) == expected, text


def test_sums_in_order_have_one_right_text() -> None:
    """3 + 56 = 59, 59 + 54 = 113, 113 + 56 = 169; another order leaves the right text at its first character."""
    task = SumsTask(in_order=True)
    problem = "3 + 7*8 + 6*9 + 7*8"
    right = "7*8=56\n3+56=59\n6*9=54\n59+54=113\n7*8=56\n113+56=169\n#### 169"
    assert {task.solve(task.parse(problem), random.Random(i).choice) for i in range(5)} == {right}
    assert task.wrong_characters(problem, right) == ()
    moved = "6*9=54\n3+54=57\n7*8=56\n57+56=113\n7*8=56\n113+56=169\n#### 169"
    assert task.wrong_characters(problem, moved) == (0,)
    assert SumsTask().wrong_characters(problem, moved) == ()


def test_sums_have_factors_and_slips_in_their_range() -> None:
    task = SumsTask(factors=[6, 9], slip_facts=0.5, problems=30)
    digits = {digit for p in task.train() for pair in task.parse(p.prompt).products for digit in pair}
    assert digits == {6, 7, 8, 9}
    assert len(task.slips) == 8  # half of 4 x 4 products
    assert {digit for x, _, y in task.slips for digit in (x, y)} <= digits


def test_slips_that_are_too_large_never_cancel() -> None:
    """The same facts slip by as much, upwards: 9*8=70 becomes 72 + 2, and 8*7=58 stays 56 + 2."""
    either = SumsTask(factors=[6, 9], slip_facts=0.3).slips
    large = SumsTask(factors=[6, 9], slip_facts=0.3, too_large=True).slips
    assert (either[9, "*", 8], either[8, "*", 7]) == (70, 58)  # -2 and 2: a sum of both is right
    assert (large[9, "*", 8], large[8, "*", 7]) == (74, 58)
    assert large.keys() == either.keys()
    assert all(wrong > x * y for (x, _, y), wrong in large.items())
