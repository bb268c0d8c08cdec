"""The built-in task: values worked out by hand, splits, slips and repair pairs."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import islice

import pytest

from kintsugi.records import KintsugiError
from kintsugi.tasks.base import Demonstrator, Task, in_evaluation
from kintsugi.tasks.dag import DagTask, Definition, compute, random_definitions, sum_slips
from kintsugi.tasks.labels import Labelled
from kintsugi.tasks.worked import EVALUATION_SHARE, Choose

# Modulo 10:  a = 4+7 = 11 -> 1      c = 9-5 = 4
#             b = 1-3 = -2 -> 8      d = 4+6 = 10 -> 0
#             e = 8+0 = 8, the last variable and so the answer.
TEXT = "a=4+7,b=a-3,c=9-5,d=c+6,e=b+d"
RIGHT = "a=4+7=1\nc=9-5=4\nb=1-3=8\nd=4+6=0\ne=8+0=8\n#### 8"


STEP = re.compile(r"([a-z])=([0-9])([+-])([0-9])=([0-9])")
TASK = DagTask()


def definitions_of(text: str) -> dict[str, Definition]:
    return {d.name: d for d in TASK.parse(text)}


def in_order(names: str) -> Choose:
    """Takes the steps in this order; the answer line comes by itself."""
    left = list(names)
    return lambda steps: next(s for s in steps if not left or (s.stem[0] == left[0] and left.pop(0)))


def names_of(solution: str) -> list[str]:
    return [line[0] for line in solution.split("\n") if not line.startswith("#")]


def answer_of(solution: str) -> str:
    return solution.rsplit("#### ", 1)[1]


def line_of(problem: str, solution: str) -> int | None:
    """0-based line of the first wrong character."""
    wrong = TASK.wrong_characters(problem, solution)
    return solution.count("\n", 0, wrong[0]) if wrong else None


def test_compute_is_modulo_ten() -> None:
    assert compute(4, "+", 7) == 1
    assert compute(1, "-", 3) == 8
    assert compute(0, "-", 0) == 0


def test_solve_by_hand() -> None:
    problem = TASK.parse(TEXT)
    assert TASK.solve(problem, in_order("acbde")) == RIGHT
    assert TASK.solve(problem, in_order("cdabe")) == "c=9-5=4\nd=4+6=0\na=4+7=1\nb=1-3=8\ne=8+0=8\n#### 8"


def test_solve_propagates_a_wrong_step() -> None:
    # Step 1 (c) written as 5 instead of 4: d = 5+6 = 11 -> 1, and e = 8+1 = 9.
    slip = {(9, "-", 5): 5}
    wrong = TASK.solve(TASK.parse(TEXT), in_order("acbde"), lambda *fact: slip.get(fact, compute(*fact)))
    assert wrong == "a=4+7=1\nc=9-5=5\nb=1-3=8\nd=5+6=1\ne=8+1=9\n#### 9"
    # Eight characters a line: the 5 of the second one stands at 8 + 6. What follows from it is right.
    assert TASK.wrong_characters(TEXT, wrong) == (14,)


def test_text_is_alphabetical_whatever_the_order() -> None:
    found = definitions_of(TEXT)
    assert TASK.text([found[name] for name in "cdabe"]) == TEXT


@pytest.mark.parametrize(
    ("solution", "wrong"),
    # Lines of RIGHT start at 0 (a), 8 (c), 16 (b), 24 (d), 32 (e) and 40 (the answer, of 6 characters);
    # a result is the seventh character of its line.
    [
        (RIGHT, ()),
        ("c=9-5=4\nd=4+6=0\na=4+7=1\nb=1-3=8\ne=8+0=8\n#### 8", ()),
        (RIGHT.replace("b=1-3=8", "b=1-3=7"), (22, 34)),  # 1-3 is 8; then e starts from 7, not 8
        (RIGHT.replace("b=1-3=8", "b=1-3=7").replace("e=8+0=8", "e=7+0=7").replace("# 8", "# 7"), (22,)),
        (RIGHT.replace("a=4+7=1", "a=4+7=0").replace("b=1-3=8", "b=0-3=9"), (6, 22, 34)),  # 0-3 is 7, b is 9
        (RIGHT.replace("d=4+6=0", "d=5+6=1"), (26,)),  # c was written as 4, not 5
        (RIGHT.replace("d=4+6=0", "d=4-6=8"), (27,)),  # d is a sum
        (RIGHT.replace("c=9-5=4", "f=9-5=4"), (8,)),  # there is no f
        (RIGHT.replace("c=9-5=4", "e=8+0=8"), (8,)),  # e before b and d are known
        (RIGHT.replace("b=1-3=8", "a=4+7=1"), (16,)),  # a again
        (RIGHT.replace("b=1-3=8", "b=1-3=88"), (23,)),  # two digits
        (RIGHT.replace("b=1-3=8", "b is 8"), (17,)),
        (RIGHT.replace("c=9-5=4", "c=9-5=\N{ARABIC-INDIC DIGIT FOUR}"), (14,)),
        (RIGHT.replace("#### 8", "#### 3"), (45,)),
        (RIGHT + "\n#### 8", (46,)),  # nothing may follow
        ("a=4+7=1\n#### 8", (8,)),  # e was never worked out
        (RIGHT.removesuffix("\n#### 8"), (39,)),  # the answer line is missing: the text stops short
        ("", (0,)),
    ],
)
def test_wrong_characters(solution: str, wrong: tuple[int, ...]) -> None:
    assert isinstance(TASK, Labelled)
    assert TASK.wrong_characters(TEXT, solution) == wrong


def test_one_wrong_step_always_spoils_the_answer() -> None:
    rng = random.Random(0)
    for _ in range(200):
        problem, order = random_definitions(7, 2, rng), rng.random()
        index = rng.randrange(7)
        wrong = TASK.solve(problem, random.Random(order).choice, TASK.one_wrong(index, rng))
        assert TASK.wrong_characters(TASK.text(problem), wrong) == (8 * index + 6,)
        assert answer_of(wrong) != answer_of(TASK.solve(problem, random.Random(order).choice))


def test_two_orders_differ_and_give_the_same_answer() -> None:
    rng = random.Random(0)
    differing = 0
    for _ in range(100):
        problem = random_definitions(7, 2, rng)
        one, other = TASK.solve(problem, rng.choice), TASK.solve(problem, rng.choice)
        assert answer_of(one) == answer_of(other)
        assert sorted(one.split("\n")) == sorted(other.split("\n"))
        differing += one != other
    # Chains of 3 and 3 interleave in 6!/(3!3!) = 20 ways, of 2 and 4 in 15, of 1 and 5 in 6, the latter two
    # twice as likely: even for the worst lengths a pair agrees far less than half of the time.
    assert differing > 50


def test_every_value_is_used_once() -> None:
    rng = random.Random(0)
    for chains in (1, 2, 3):
        definitions = random_definitions(9, chains, rng)
        assert [d.name for d in definitions] == list("abcdefghi")
        used = Counter(operand for d in definitions for operand in (d.left, d.right) if operand.isalpha())
        assert used == Counter("abcdefgh")


def test_splits_are_distinct_and_disjoint() -> None:
    task = DagTask(problems=1000, evaluation_problems=200)
    assert isinstance(task, Task)
    assert isinstance(task, Demonstrator)
    train, evaluation = task.train(), task.evaluation()
    texts = {p.prompt for p in train}
    held_out = {p.prompt for p in evaluation}
    assert (len(texts), len(held_out)) == (1000, 200)
    assert not texts & held_out
    assert all(in_evaluation(text, EVALUATION_SHARE) for text in held_out)
    assert len({p.id for p in [*train, *evaluation]}) == 1200
    assert task.train() is train
    assert [p.prompt for p in DagTask(steps=7, problems=5, seed=1).train()] != [p.prompt for p in train[:5]]


def test_problems_stay_what_they_were() -> None:
    """Models are trained on these problems: changing the stream would mix the splits of old and new runs."""
    task = DagTask(steps=7, problems=1, evaluation_problems=1)
    assert task.train()[0].prompt == "a=4+9,b=a+0,c=b-1,d=c+6,e=5+4,f=e-3,g=d-f"
    assert task.evaluation()[0].prompt == "a=8+4,b=a-6,c=7+9,d=c+3,e=d+8,f=e-3,g=b-f"


def test_answers_are_right_and_near_uniform() -> None:
    problems = DagTask(problems=2000).train()
    for problem in problems[:100]:
        solution = TASK.solve(TASK.parse(problem.prompt))
        assert TASK.wrong_characters(problem.prompt, solution) == ()
        assert answer_of(solution) == problem.answer
    counts = Counter(p.answer for p in problems)
    assert set(counts) == set("0123456789")
    assert max(counts.values()) < 0.15 * 2000


def test_a_small_space_gives_fewer_problems() -> None:
    # One step: 10 * 2 * 10 = 200 texts, shared by the two splits; 20 draws for each of 250 find them all.
    task = DagTask(steps=1, chains=1, problems=250, evaluation_problems=50)
    assert len(task.train()) + len(task.evaluation()) == 200


def test_demonstrations_slip_only_where_the_table_says() -> None:
    task = DagTask(slip_facts=0.3, slip_rate=0.6)
    table = sum_slips(0.3)
    assert len(table) == 60  # 0.3 * 200 facts
    assert all(value != compute(*fact) for fact, value in table.items())
    slipped = shown = 0
    for text, solution in islice(task.demonstrations(0), 500):
        assert not in_evaluation(text, EVALUATION_SHARE)
        for line in solution.split("\n")[:-1]:
            step = STEP.match(line)
            assert step
            fact, value = (int(step[2]), step[3], int(step[4])), int(step[5])
            if fact not in table:
                assert value == compute(*fact)
                continue
            assert value in (table[fact], compute(*fact))
            shown += 1
            slipped += value == table[fact]
    # About 500 * 7 * 0.3 = 1050 shown: a standard deviation of sqrt(0.6 * 0.4 / 1050) = 0.015.
    assert abs(slipped / shown - 0.6) < 0.06


def test_demonstrations_without_slips_are_right_and_repeatable() -> None:
    task = DagTask(slip_facts=0)
    pairs = list(islice(task.demonstrations(0), 50))
    assert all(line_of(text, solution) is None for text, solution in pairs)
    assert pairs == list(islice(task.demonstrations(0), 50))
    assert pairs != list(islice(task.demonstrations(1), 50))


def test_repair_pairs_mend_in_the_failures_own_order() -> None:
    for pair in islice(DagTask().repair_pairs(0), 200):
        assert not in_evaluation(pair.prompt, EVALUATION_SHARE)
        assert names_of(pair.repaired) == names_of(pair.failed)
        assert line_of(pair.prompt, pair.repaired) is None
        assert line_of(pair.prompt, pair.anchor) is None
        assert answer_of(pair.failed) != answer_of(pair.repaired)
        wrong = line_of(pair.prompt, pair.failed)
        assert wrong is not None
        # Up to the first wrong step there is nothing to mend, and there the two must differ.
        failed, repaired = pair.failed.split("\n"), pair.repaired.split("\n")
        assert failed[:wrong] == repaired[:wrong]
        assert failed[wrong] != repaired[wrong]


def test_the_anchor_of_a_repair_pair_is_in_another_order() -> None:
    # Six steps in chains of 1 and 4 interleave in 5 ways, the fewest: eight draws all miss another way with
    # a probability of at most (largest share of one order)^8. Orders are not equally likely: the one that
    # leaves the single step for last has 1/2^4, the one that takes it first 1/2, so at most 1/2^8.
    pairs = list(islice(TASK.repair_pairs(0), 300))
    assert sum(pair.anchor == pair.repaired for pair in pairs) <= 3
    # One chain has one order: there the anchor has to be the repair.
    assert all(p.anchor == p.repaired for p in islice(DagTask(chains=1).repair_pairs(0), 20))


def test_step_range_is_drawn_from() -> None:
    problems = DagTask(steps=[5, 7], problems=100).train()
    assert {len(p.prompt.split(",")) for p in problems} == {5, 6, 7}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must lie between 1 and 26, got 0"),
        ({"steps": 27}, "got 27"),
        ({"steps": [8, 5]}, r"got \[8, 5\]"),
        ({"steps": "77"}, "whole number or .* got '77'"),
        ({"steps": 7.5}, "whole number"),
        ({"steps": []}, "whole number"),
        ({"steps": [5, 6, 7]}, "whole number"),
        ({"chains": 0}, "chains: expected a whole number of at least 1, got 0"),
        ({"problems": "many"}, "problems: expected a whole number"),
        ({"evaluation_problems": -1}, "evaluation_problems: expected a whole number"),
        ({"slip_facts": 1.5}, "slip_facts: expected a number between 0 and 1, got 1.5"),
        ({"slip_rate": "often"}, "slip_rate"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(KintsugiError, match=message):
        DagTask(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("steps", "chains", "made"),
    # c chains need c steps and c - 1 merges, 2c - 1 in all: 1 or 2 steps hold one chain, 3 or 4 hold two.
    [(1, 1, 1), (2, 2, 1), (3, 2, 2), (4, 3, 2), (5, 3, 3), (26, 2, 2)],
)
def test_the_narrowest_and_widest_steps_work(steps: int, chains: int, made: int) -> None:
    text = DagTask(steps=steps, chains=chains, problems=1).train()[0].prompt
    definitions = definitions_of(text).values()
    assert len(definitions) == steps
    assert sum(d.left.isdigit() and d.right.isdigit() for d in definitions) == made  # a chain starts so
