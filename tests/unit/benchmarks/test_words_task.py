"""Word problems: values and labels worked out by hand, splits, slips in digits and in words, repair pairs."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch
from benchmarks import words_model
from benchmarks.ship import halve
from benchmarks.tasks.words import WordsTask
from safetensors.torch import load_file, save_file

from kintsugi.models.codec import HFCodec
from kintsugi.records import KintsugiError
from kintsugi.tasks import load_task
from kintsugi.tasks.base import Demonstrator, Task, in_evaluation
from kintsugi.tasks.labels import Labelled
from kintsugi.tasks.worked import EVALUATION_SHARE, answer_of, shared_length

TASK = WordsTask(steps=[4, 8], problems=400, evaluation_problems=100)
LAB_WORDS = "benchmarks/tasks/words.py:WordsTask"

# Mia: 3 * 4 = 12, 12 + 5 = 17. Tom: 20 - 6 = 14, 2 * 3 = 6, 14 + 6 = 20. 20 - 17 = 3.
PROBLEM = (
    "Mia has 3 bags of 4 shells. Tom is 8 years old. Tom starts with 20 shells. Then Tom sells 6 shells. "
    "After lunch Mia finds 5 shells. Tom buys 2 jars of 3 shells. "
    "How many more shells does Tom have than Mia?"
)
MIA_FIRST = """The bags of Mia hold 3 * 4 = 12 shells.
Mia finds 5 shells, so she has 12 + 5 = 17 shells.
Minus 6 shells, Tom has 20 - 6 = 14.
Tom counts the jars: 2 * 3 = 6 shells.
Tom now owns 6 more: 14 + 6 = 20.
Tom has 20 - 17 = 3 shells more than Mia.
#### 3"""
MIXED = """That leaves 20 - 6 = 14 shells for Tom.
3 bags of 4 shells are 3 * 4 = 12 shells for Mia.
In 2 jars Tom has 2 * 3 = 6 shells.
That makes 12 + 5 = 17 shells for Mia.
Adding 6 gives Tom 14 + 6 = 20 shells.
So it is 20 - 17 = 3 shells more.
#### 3"""


def wrong(solution: str) -> list[str]:
    """The rest of the line from each wrong character on."""
    return [solution[at:].partition("\n")[0] for at in TASK.wrong_characters(PROBLEM, solution)]


@pytest.mark.parametrize("solution", [MIA_FIRST, MIXED])
def test_right_solutions_in_other_words_and_another_order(solution: str) -> None:
    assert TASK.wrong_characters(PROBLEM, solution) == ()


def test_the_first_way_by_hand() -> None:
    story = TASK.parse(PROBLEM)
    assert TASK.text(story) == PROBLEM
    # The steps in the order of the story, each in its first wording.
    assert (
        TASK.solve(story)
        == """3 bags of 4 shells are 3 * 4 = 12 shells for Mia.
Tom sells 6 shells, so he has 20 - 6 = 14 shells left.
Mia finds 5 shells, so she has 12 + 5 = 17 shells.
2 jars of 3 shells are 2 * 3 = 6 shells for Tom.
Tom buys 6 shells, so he has 14 + 6 = 20 shells.
Tom has 20 - 17 = 3 shells more than Mia.
#### 3"""
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # 12 + 5 = 17: the 8 is wrong, and what follows is right given 18: 20 - 18 = 2.
        ("17 shells", "18 shells", ["8 shells."]),
        # A wrong first digit; then 20 - 27 = -7.
        ("17 shells", "27 shells", ["27 shells."]),
        # A result of another length: 1 instead of 17 is wrong at the space that follows; 20 - 1 = 19.
        ("17 shells", "1 shells", [" shells."]),
    ],
)
def test_a_wrong_digit_is_the_one_wrong_character(old: str, new: str, expected: list[str]) -> None:
    value = int(new.split()[0])
    head = MIA_FIRST.partition("Tom has 20 - 17")[0]
    tail = f"The difference is 20 - {value} = {20 - value} shells.\n#### {20 - value}"
    assert wrong(head.replace(old, new) + tail) == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # The other operation, in a formula and in a word: no step of Mia is left for "With".
        ("has 20 - 6 = 14", "has 20 + 6 = 26", "+ 6 = 26."),
        (
            "Minus 6 shells, Tom",
            "With 6 more shells, Tom",
            "With 6 more shells, Tom has 20 - 6 = 14.",
        ),
        # The number of the aside: Tom is 8 years old.
        ("Minus 6", "Minus 8", "8 shells, Tom has 20 - 6 = 14."),
        # A step that is not due yet ("Tom counts" is right there), and a value that nobody has.
        ("Tom counts the jars: 2 * 3 = 6 shells.\n", "", "now owns 6 more: 14 + 6 = 20."),
        ("14 + 6 = 20", "15 + 6 = 21", "5 + 6 = 21."),
        # The wrong person, in the next step of the two and at the end.
        ("20 - 6 = 14", "12 + 5 = 17", "12 + 5 = 17."),
        ("Tom has 20 - 17 = 3", "Mia has 17 - 20 = -3", "Mia has 17 - 20 = -3 shells more than Mia."),
        # An answer of its own, and more after it.
        ("#### 3", "#### 4", "4"),
        ("#### 3", "#### 30", "0"),
    ],
)
def test_what_no_right_solution_has_is_the_last_wrong_character(old: str, new: str, expected: str) -> None:
    assert old in MIA_FIRST
    assert wrong(MIA_FIRST.replace(old, new)) == [expected]


def test_a_text_that_stops_short() -> None:
    assert TASK.wrong_characters(PROBLEM, MIA_FIRST[:40]) == (40,)
    assert TASK.wrong_characters(PROBLEM, MIA_FIRST[:-1]) == (len(MIA_FIRST) - 1,)


def test_splits_are_distinct_and_disjoint_and_no_constant_answer_scores() -> None:
    assert isinstance(TASK, Task)
    assert isinstance(TASK, Demonstrator)
    assert isinstance(TASK, Labelled)
    train, held_out = {p.prompt for p in TASK.train()}, {p.prompt for p in TASK.evaluation()}
    assert (len(train), len(held_out)) == (400, 100)
    assert not train & held_out
    assert all(in_evaluation(text, EVALUATION_SHARE) for text in held_out)
    assert max(Counter(p.answer for p in TASK.train()).values()) < 0.15 * 400


def test_right_solutions_have_steps_in_range_and_no_wrong_character() -> None:
    for problem in TASK.train()[:200]:
        solution = TASK.solve(TASK.parse(problem.prompt), random.Random(0).choice)
        assert TASK.wrong_characters(problem.prompt, solution) == ()
        assert answer_of(solution) == problem.answer
        assert 4 <= solution.count("\n") <= 8
        assert all(0 <= int(n) < 100 for n in re.findall(r"\d+", solution))


def test_one_wrong_step_spoils_the_answer_at_its_last_digit() -> None:
    rng = random.Random(0)
    for problem in TASK.train()[:200]:
        parsed, order = TASK.parse(problem.prompt), rng.random()
        right = TASK.solve(parsed, random.Random(order).choice)
        index = rng.randrange(right.count("\n"))
        failed = TASK.solve(parsed, random.Random(order).choice, TASK.one_wrong(index, rng))
        (found,) = TASK.wrong_characters(problem.prompt, failed)
        assert failed.count("\n", 0, found) == index
        # The last digit of the result: only the rest of the sentence follows.
        assert re.search(r"= \d?$", failed[:found])
        assert not re.match(r"\d\d", failed[found:])
        assert answer_of(failed) != problem.answer


def test_demonstrations_slip_in_digits_and_in_words() -> None:
    digits = words = shown = 0
    for text, solution in islice(TASK.demonstrations(0), 400):
        assert not in_evaluation(text, EVALUATION_SHARE)
        shown += 1
        for at in TASK.wrong_characters(text, solution)[:1]:
            slip = re.search(r"= \d?$", solution[:at]) is not None
            digits, words = digits + slip, words + (not slip)
    assert digits > 0.1 * shown
    assert words > 0.3 * shown
    assert WordsTask(slip_words=0).misreadings == {}
    assert Counter(TASK.misreadings.values()) == {"operation": 2, "number": 2}  # 0.25 of 16 verbs


def test_repair_pairs_keep_to_the_failures_words() -> None:
    for pair in islice(TASK.repair_pairs(0), 200):
        assert not in_evaluation(pair.prompt, EVALUATION_SHARE)
        assert TASK.wrong_characters(pair.prompt, pair.repaired) == ()
        assert TASK.wrong_characters(pair.prompt, pair.anchor) == ()
        assert answer_of(pair.failed) != answer_of(pair.repaired)
        assert pair.anchor != pair.repaired
        first = TASK.wrong_characters(pair.prompt, pair.failed)[0]
        # They part in the line of the first error: at it, or before it in a word that another right wording shares.
        parted = shared_length(pair.failed, pair.repaired)
        assert parted <= first
        assert "\n" not in pair.failed[parted:first]
        assert pair.failed.count("\n") == pair.repaired.count("\n")


def test_the_times_table_slips_in_its_last_digits() -> None:
    """0.2 of 64 products: 13."""
    assert len(TASK.slips) == 13
    for (left, op, right), wrong_result in TASK.slips.items():
        assert op == "*"
        assert wrong_result // 10 == left * right // 10
        assert wrong_result != left * right


def test_a_step_taken_for_the_other_person_spoils_the_answer() -> None:
    """Mia's 5 shells given to Tom: 20 + 5 = 25 and 12, so 13 and not 3."""
    taken = MIA_FIRST.replace(
        "Mia finds 5 shells, so she has 12 + 5 = 17", "Tom finds 5 shells, so he has 20 + 5 = 25"
    )
    assert wrong(taken) == ["finds 5 shells, so he has 20 + 5 = 25 shells."]
    assert TASK.parse(PROBLEM.replace("Mia finds", "Tom finds")).people == ("Tom", "Mia")
    assert answer_of(TASK.solve(TASK.parse(PROBLEM.replace("Mia finds", "Tom finds")))) == "13"


def test_problems_stay_what_they_were() -> None:
    """Models are trained on these problems: changing the stream would mix the splits of old and new runs."""
    (problem,) = WordsTask(steps=4, problems=1, evaluation_problems=0).train()
    assert problem.prompt == (
        "At first Nora has 4 boxes of 5 beads. Tom owns 6 bags with 7 beads each. Tom finds 2 beads. A friend of Tom "
        "has 3 beads. By how many beads is Tom ahead of Nora?"
    )
    assert problem.answer == "24"  # 42 + 2 = 44, 44 - 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "task words: steps must lie between 1 and 12, got 0"),
        ({"slip_facts": 2}, "task words: slip_facts"),
        ({"slip_words": -1}, "task words: slip_words"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(KintsugiError, match=message):
        load_task({"name": LAB_WORDS, **arguments})


def test_the_vocabulary_of_the_models_has_numbers_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words_model, "TEXTS", 300)
    tokenizer = words_model.words_tokenizer()
    codec = HFCodec(tokenizer, (tokenizer.eos_token_id,))
    for text in (MIA_FIRST, MIXED, "Größe 1024 - 77 = -3"):
        assert codec.decode(codec.encode(text)) == text
    pieces = [codec.decode([i]) for i in codec.encode("Tom has 12 + 5 = 17 shells.\n#### 17")]
    assert pieces == ["Tom", " has", " 12", " +", " 5", " =", " 17", " shells", ".\n", "#### ", "17"]
    for n in range(100):
        assert len(codec.encode(f" {n}")) == len(codec.encode(str(n))) == 1


@pytest.mark.parametrize(("size", "millions"), [("0.3m", 0.3), ("1m", 1.0), ("3m", 3.0)])
def test_the_sizes_of_the_models_are_what_they_are_called(size: str, millions: float) -> None:
    model = words_model.words_model(size, vocabulary=600)
    assert model.num_parameters() / 1e6 == pytest.approx(millions, rel=0.15)


def test_weights_that_are_large_are_shipped_in_half_precision(tmp_path: Path) -> None:
    """A million float32 take 4,000,000 bytes and their header: too many."""
    for count, kind in ((900_000, torch.float32), (1_000_000, torch.float16)):
        save_file({"weight": torch.arange(count).float()}, tmp_path / "model.safetensors")
        halve(tmp_path / "model.safetensors")
        assert load_file(tmp_path / "model.safetensors")["weight"].dtype == kind
