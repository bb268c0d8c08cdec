"""Word problems in plain English: solutions in words of their own, and errors in a word as well as in a digit.

Two people, told of one after the other, come by things and lose some; a question asks how many more the one has than
the other. Sentences have several wordings, and one or two tell numbers that do not matter. A solution is one sentence
a step, with its formula (`Mia finds 7 shells, so she has 24 + 7 = 31 shells.`), in any of six wordings each.
Demonstrations follow the order of the story; any other order of the two people's steps is right, too. Every value is
used once, in sums and differences and in products of two numbers of the story: one wrong step always spoils the
answer, and so does a step that is taken for the wrong person.

Demonstrations slip in two ways. Facts: a share of the times table has a wrong last digit. Words: a share of the verbs
is misread, as the other operation or with the number of a sentence that does not matter.
"""

from __future__ import annotations

import operator
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from kintsugi.tasks.base import check_share
from kintsugi.tasks.worked import (
    ANSWER,
    Choose,
    Compute,
    Fact,
    WorkedStep,
    WorkedTask,
    slip_table,
    whole_range,
    with_last_digit,
)
from kintsugi.yamls import read_yaml

WORDS: Mapping[str, Any] = read_yaml(Path(__file__).with_name("words.yaml"))
PEOPLE: Mapping[str, str] = WORDS["people"]
"""name -> pronoun."""
GAINS: Sequence[str] = WORDS["gains"]
LOSSES: Sequence[str] = WORDS["losses"]
VERBS = (*GAINS, *LOSSES)
WORDINGS = len(WORDS["steps"]["+"])
"""Of every step."""
PRODUCTS: Sequence[Fact] = [(x, "*", y) for x in range(2, 10) for y in range(2, 10)]
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
SLOTS = {
    **dict.fromkeys(("name", "other"), "|".join(PEOPLE)),
    **{slot: "|".join(WORDS[slot]) for slot in ("things", "packs")},
    "verb": "|".join(VERBS),
    **dict.fromkeys("nm", "[0-9]+"),
}
NAME = re.compile(rf"\b({SLOTS['name']})\b")
RESULT = re.compile(r"= (-?[0-9]+)")


@dataclass(frozen=True, slots=True)
class Told:
    """A sentence of a story: its kind, who it is about, and what it says. `op` is what a move comes to."""

    kind: str
    name: str
    words: Mapping[str, str]
    op: str = ""

    @property
    def number(self) -> int:
        return int(self.words["n"])


@dataclass(frozen=True, slots=True)
class Story:
    """A problem: its text, and what its sentences say."""

    text: str
    told: tuple[Told, ...]

    @property
    def things(self) -> str:
        return self.told[-1].words["things"]

    @property
    def people(self) -> tuple[str, ...]:
        words = self.told[-1].words
        return tuple(words[slot] for slot in ("name", "other") if slot in words)


class WordsTask(WorkedTask[Story]):
    """`task: {name: "benchmarks/tasks/words.py:WordsTask", steps: 5}`.

    steps: steps of a solution, or [low, high]; a story of one step is of one person. slip_facts: the
    share of the products that slip. slip_words: the share of the verbs that are misread. slip_rate: how often, of the
    chances to. The other arguments are those of `dag`.
    """

    name = "words"
    RESULT = re.compile(r"-?[0-9]{1,6}")

    def __init__(
        self,
        steps: int | Sequence[int] = 5,
        problems: int = 4000,
        evaluation_problems: int = 400,
        slip_facts: float = 0.2,
        slip_words: float = 0.25,
        slip_rate: float = 0.85,
        seed: int = 0,
    ) -> None:
        self.low, self.high = whole_range("task words: steps", steps, 1, 12)
        slips = slip_table(PRODUCTS, check_share("task words: slip_facts", slip_facts), self.miscompute)
        self.misreadings = word_slips(check_share("task words: slip_words", slip_words))
        super().__init__(slips, slip_rate, problems, evaluation_problems, seed)

    def draw(self, rng: random.Random) -> Story:
        return read(tell(rng.randint(self.low, self.high), rng))

    def text(self, problem: Story) -> str:
        return problem.text

    def parse(self, text: str) -> Story:
        return read(text)

    def misread(self, problem: Story, rng: random.Random) -> Story:
        """Moves with a misread verb as the other operation, or with the first aside's number, at `slip_rate`."""
        aside = next((t.words["n"] for t in problem.told if t.kind == "aside"), None)

        def seen(told: Told) -> Told:
            how = self.misreadings.get(told.words["verb"]) if told.kind == "move" else None
            if how is None or rng.random() >= self.slip_rate:
                return told
            if how == "operation":
                return replace(told, op="+-"[told.op == "+"])
            return replace(told, words={**told.words, "n": aside or told.words["n"]})

        return replace(problem, told=tuple(map(seen, problem.told)))

    def steps(self, problem: Story, lines: Sequence[str]) -> Sequence[WorkedStep]:
        """Of each person the next move, the one told first in front; then how many more the first has; the answer.

        A line that names one person is of that person.
        """
        if lines and lines[-1].startswith(ANSWER):
            return []
        results: dict[str, list[int]] = {name: [] for name in problem.people}
        ends: list[int] = []
        for line in lines:
            named = NAME.findall(line)
            (results[named[0]] if len(named) == 1 else ends).append(int(RESULT.findall(line)[-1]))
        here = {name: place(problem, name, done) for name, done in results.items()}
        told = [sentence for sentence in problem.told for p in here.values() if p.told is sentence]
        if told:
            return [step for t in told for step in next_steps(problem, t.name, here[t.name])]
        ends = ends or [p.value for p in here.values()]
        if len(ends) == 1:
            return [WorkedStep(f"{ANSWER}{ends[0]}")]
        return worded(WORDS["steps"]["more"], (ends[0], "-", ends[1]), problem.told[-1].words)

    def solve(
        self, problem: Story, choose: Choose = lambda steps: steps[0], work: Compute | None = None
    ) -> str:
        """A solution in the order of the story."""
        return super().solve(problem, lambda steps: choose(steps[:WORDINGS]), work)

    def compute(self, *fact: Any) -> int:
        left, op, right = fact
        return int(OPERATIONS[op](left, right))

    def miscompute(self, fact: Fact, rng: random.Random) -> int:
        return with_last_digit(self.compute(*fact), rng.randint(1, 9))


def word_slips(share: float) -> Mapping[str, str]:
    """The verbs that are misread, and how: as the other operation and with another number by turns."""
    found = random.Random("words").sample(VERBS, round(share * len(VERBS)))
    return {verb: ("operation", "number")[i % 2] for i, verb in enumerate(found)}


@cache
def pattern(template: str) -> re.Pattern[str]:
    """Matches the sentences of a template; groups are its slots."""
    parts = re.split(r"\{(\w+)\}", template)
    found = (f"(?P<{part}>{SLOTS[part]})" if i % 2 else re.escape(part) for i, part in enumerate(parts))
    return re.compile("".join(found))


def read(text: str) -> Story:
    """The story that a problem's text tells."""
    return Story(text, tuple(map(read_sentence, re.split(r"(?<=\.) ", text))))


def read_sentence(sentence: str) -> Told:
    for kind, templates in WORDS["told"].items():
        for template in templates:
            if match := pattern(template).fullmatch(sentence):
                words = match.groupdict()
                return Told(kind, words.get("name", ""), words, "+" if words.get("verb") in GAINS else "-")
    raise ValueError(f"a sentence that no story of task words has: {sentence!r}")


def moves(story: Story, name: str) -> Iterator[tuple[str, Told]]:
    """(operation, sentence) of every step of a person; a value to start from is the operation `=`."""
    for told in (t for t in story.told if t.name == name):
        if told.kind == "start":
            yield "=", told
        if told.kind in ("start packs", "move packs"):
            yield "*", told
        if told.kind in ("move", "move packs"):
            yield told.op, told


@dataclass(frozen=True, slots=True)
class Place:
    """How far a person has come: the value, a product not yet added to it, and what comes next."""

    value: int
    product: int
    op: str = ""
    told: Told | None = None


def place(story: Story, name: str, results: Sequence[int]) -> Place:
    """The place after these results."""
    left = iter(results)
    value = product = 0
    for op, told in moves(story, name):
        if op == "=":
            value = told.number
        elif (result := next(left, None)) is None:
            return Place(value, product, op, told)
        elif told.kind == "move packs" and op == "*":
            product = result
        else:
            value = result
    return Place(value, product)


def next_steps(story: Story, name: str, here: Place) -> list[WorkedStep]:
    """The next move of a person in every wording."""
    assert here.told is not None
    words = {**here.told.words, "things": story.things, "name": name, "pronoun": PEOPLE[name]}
    if here.op == "*":
        fact: Fact = (here.told.number, "*", int(words["m"]))
    else:
        number = here.product if here.told.kind == "move packs" else here.told.number
        fact, words["n"] = (here.value, here.op, number), str(number)
    return worded(WORDS["steps"][here.op], fact, words)


def worded(wordings: Sequence[str], fact: Fact, words: Mapping[str, str]) -> list[WorkedStep]:
    """The step of this fact in these wordings."""
    formula = f"{fact[0]} {fact[1]} {fact[2]} = "
    parts = (wording.format(**words, formula="\n").split("\n") for wording in wordings)
    return [WorkedStep(before + formula, fact, after) for before, after in parts]


def tell(steps: int, rng: random.Random) -> str:
    """The text of a random story of so many steps, in which every value lies between 1 and 49."""
    things, people = rng.choice(WORDS["things"]), rng.sample(list(PEOPLE), 2 if steps > 1 else 1)
    while True:
        first = rng.randint(0, steps - 1) if steps > 1 else steps
        lives = [
            life(name, k, things, rng) for name, k in zip(people, (first, steps - 1 - first), strict=False)
        ]
        values = [value for _, value in lives]
        if all(values) and len(set(values)) == len(values):
            break
    sentences = [sentence for said, _ in lives for sentence in said]
    for _ in range(rng.randint(1, 2)):
        aside = say("aside", rng, name=rng.choice(people), things=things, n=str(rng.randint(2, 9)))
        sentences.insert(rng.randint(0, len(sentences)), aside)
    asked = people if len(people) == 1 or values[0] > values[1] else people[::-1]
    kind = "question of two" if len(people) == 2 else "question"
    question = say(kind, rng, things=things, **dict(zip(("name", "other"), asked, strict=False)))
    return " ".join([*sentences, question])


def life(name: str, steps: int, things: str, rng: random.Random) -> tuple[list[str], int]:
    """(sentences, value at the end) of one person's story; the value is 0 where one on the way leaves [2, 49]."""
    left, slots = steps, {"name": name, "things": things}
    if left and rng.random() < 0.5:
        words, value = packs(rng)
        said, left = [say("start packs", rng, **slots, **words)], left - 1
    else:
        value = rng.randint(10, 30)
        said = [say("start", rng, **slots, n=str(value))]
    while left:
        words, shift = event(rng)
        kind = "move"
        if left > 1 and rng.random() < 0.3:
            kind = "move packs"
            more, product = packs(rng)
            words, shift, left = words | more, product if shift > 0 else -product, left - 1
        said.append(say(kind, rng, **slots, **words))
        left -= 1
        value += shift
        if not 2 <= value < 50:
            return said, 0
    return said, value if value < 50 else 0


def event(rng: random.Random) -> tuple[dict[str, str], int]:
    """(words, change) of a random gain or loss."""
    number, gain = rng.randint(2, 9), rng.random() < 0.5
    words = {"verb": rng.choice(GAINS if gain else LOSSES), "n": str(number)}
    return words, number if gain else -number


def packs(rng: random.Random) -> tuple[dict[str, str], int]:
    """(words, product) of a random number of packs."""
    n, m = rng.randint(2, 9), rng.randint(2, 9)
    return {"n": str(n), "m": str(m), "packs": rng.choice(WORDS["packs"])}, n * m


def say(kind: str, rng: random.Random, **words: str) -> str:
    return rng.choice(WORDS["told"][kind]).format(**words)
