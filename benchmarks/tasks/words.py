"""Word problems in plain English: solutions in words of their own, and errors in a word as well as in a digit.

Two people come by things and lose some; a question asks how many they have in the end. Sentences have several
wordings, and one or two tell numbers that do not matter. A solution is one sentence a step, with its formula
(`Mia finds 7 shells, so she has 24 + 7 = 31 shells.`), in any of six wordings each; the two people's steps may
come in any interleaving. Every value is used once, in sums and differences and in products of two numbers of the
story: one wrong step always spoils the answer.

Demonstrations slip in two ways. Facts: a share of the pairs of last digits has a wrong last digit in its sums,
differences or products. Words: a share of the verbs is misread, as the other operation or with the number of a
sentence that does not matter.
"""

from __future__ import annotations

import operator
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from kintsugi.tasks.base import check_share
from kintsugi.tasks.worked import ANSWER, Fact, WorkedStep, WorkedTask, slip_table, whole_range
from kintsugi.yamls import read_yaml

WORDS: Mapping[str, Any] = read_yaml(Path(__file__).with_name("words.yaml"))
PEOPLE: Mapping[str, str] = WORDS["people"]
"""name -> pronoun."""
GAINS: Sequence[str] = WORDS["gains"]
LOSSES: Sequence[str] = WORDS["losses"]
VERBS = (*GAINS, *LOSSES)
THEY = "They"
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
SLOTS = {
    **dict.fromkeys(("name", "other"), "|".join(PEOPLE)),
    **{slot: "|".join(WORDS[slot]) for slot in ("things", "packs")},
    "verb": "|".join(VERBS),
    "plural": "|".join(verb[:-1] for verb in VERBS),
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

    steps: steps of a solution, or [low, high]; with fewer than three the story is of one person. slip_facts: the
    share of the pairs of last digits that slip. slip_words: the share of the verbs that are misread. The other
    arguments are those of `dag`.
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
        slip_rate: float = 0.6,
        seed: int = 0,
    ) -> None:
        self.low, self.high = whole_range("task words: steps", steps, 1, 12)
        slips = fact_slips(check_share("task words: slip_facts", slip_facts))
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
            verb = told.words.get("verb", f"{told.words.get('plural')}s")
            how = self.misreadings.get(verb) if told.kind in ("move", "both") else None
            if how is None or rng.random() >= self.slip_rate:
                return told
            if how == "operation":
                return replace(told, op="+-"[told.op == "+"])
            return replace(told, words={**told.words, "n": aside or told.words["n"]})

        return replace(problem, told=tuple(map(seen, problem.told)))

    def steps(self, problem: Story, lines: Sequence[str]) -> Sequence[WorkedStep]:
        """Of each person the next move; then the sum of both, and what both do; then the answer.

        A line is of the one person it names, or else of both.
        """
        if lines and lines[-1].startswith(ANSWER):
            return []
        results: dict[str, list[int]] = {name: [] for name in (*problem.people, THEY)}
        for line in lines:
            named = NAME.findall(line)
            results[named[0] if len(named) == 1 else THEY].append(int(RESULT.findall(line)[-1]))
        here = [place(problem, name, results[name]) for name in problem.people]
        if any(p.told for p in here):
            pairs = zip(problem.people, here, strict=True)
            return [step for name, p in pairs if p.told for step in next_steps(problem, name, p)]
        if len(here) == 1:
            return [WorkedStep(f"{ANSWER}{here[0].value}")]
        if not results[THEY]:
            return together(problem, here[0].value, here[1].value)
        both = place(problem, THEY, results[THEY])
        return next_steps(problem, THEY, both) if both.told else [WorkedStep(f"{ANSWER}{both.value}")]

    def compute(self, *fact: Any) -> int:
        left, op, right = fact
        return int(OPERATIONS[op](left, right))

    def miscompute(self, fact: Fact, rng: random.Random) -> int:
        return with_last_digit(self.compute(*fact), rng.randint(1, 9))


def with_last_digit(value: int, shift: int) -> int:
    """`value` with its last digit moved on by `shift`, modulo 10."""
    size = abs(value)
    return (size - size % 10 + (size + shift) % 10) * (-1 if value < 0 else 1)


@cache
def fact_slips(share: float) -> Mapping[Fact, int]:
    """fact -> its wrong result, for all facts below 100 whose last digits slip."""
    pairs: list[Fact] = [(x, op, y) for op in "+-" for x in range(10) for y in range(10)]
    products: list[Fact] = [(x, "*", y) for x in range(2, 10) for y in range(2, 10)]
    shifts = {
        **slip_table(pairs, share, lambda _, rng: rng.randint(1, 9)),
        **slip_table(products, share, lambda _, rng: rng.randint(1, 9)),
    }
    wide = range(0, 100, 10)
    return {
        (x + s, op, y + t): with_last_digit(int(OPERATIONS[op](x + s, y + t)), shift)
        for (x, op, y), shift in shifts.items()
        for s, t in ([(0, 0)] if op == "*" else [(s, t) for s in wide for t in wide])
    }


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
                verb = words.get("verb", f"{words.get('plural')}s")
                op = "+" if verb in GAINS else "-" if verb in LOSSES else ""
                return Told(kind, THEY if kind == "both" else words.get("name", ""), words, op)
    raise ValueError(f"a sentence that no story of task words has: {sentence!r}")


def moves(story: Story, name: str) -> Iterator[tuple[str, Told]]:
    """(operation, sentence) of every step of a person, or of both; a value to start from is the operation `=`."""
    for told in (t for t in story.told if t.name == name):
        if told.kind == "start":
            yield "=", told
        if told.kind in ("start packs", "move packs"):
            yield "*", told
        if told.kind in ("move", "move packs", "both"):
            yield told.op, told


@dataclass(frozen=True, slots=True)
class Place:
    """How far a person, or both, have come: the value, a product not yet added to it, and what comes next."""

    value: int
    product: int
    op: str = ""
    told: Told | None = None


def place(story: Story, name: str, results: Sequence[int]) -> Place:
    """The place after these results. Those of both begin with the sum of the two people's."""
    left = iter(results)
    value, product = (next(left) if name == THEY else 0), 0
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
    """The next move of a person, or of both, in every wording."""
    assert here.told is not None
    words = {**here.told.words, "things": story.things, "name": name, "pronoun": PEOPLE.get(name, "")}
    if here.op == "*":
        fact: Fact = (here.told.number, "*", int(words["m"]))
    else:
        number = here.product if here.told.kind == "move packs" else here.told.number
        fact, words["n"] = (here.value, here.op, number), str(number)
    return worded(WORDS["steps"][f"both {here.op}" if name == THEY else here.op], fact, words)


def together(story: Story, one: int, other: int) -> list[WorkedStep]:
    """The sum of the two people's values, in every wording and in either order."""
    words = {"things": story.things, "name": story.people[0], "other": story.people[1]}
    facts: list[Fact] = [(one, "+", other), (other, "+", one)]
    return list(chain.from_iterable(worded(WORDS["steps"]["together"], fact, words) for fact in facts))


def worded(wordings: Sequence[str], fact: Fact, words: Mapping[str, str]) -> list[WorkedStep]:
    """The step of this fact in these wordings."""
    formula = f"{fact[0]} {fact[1]} {fact[2]} = "
    parts = (wording.format(**words, formula="\n").split("\n") for wording in wordings)
    return [WorkedStep(before + formula, fact, after) for before, after in parts]


def tell(steps: int, rng: random.Random) -> str:
    """The text of a random story of so many steps, in which every right value lies between 2 and 99."""
    things, people = rng.choice(WORDS["things"]), rng.sample(list(PEOPLE), 2 if steps > 2 else 1)
    while True:
        both = int(steps > 3 and rng.random() < 0.5)
        free = steps - both - (len(people) - 1)
        first = rng.randint(1, free - 1) if len(people) == 2 else free
        lives = [life(name, k, things, rng) for name, k in zip(people, (first, free - first), strict=False)]
        end, last = sum(value for _, value in lives), []
        if both:
            words, shift = event(rng)
            last, end = [say("both", rng, things=things, plural=words["verb"][:-1], **words)], end + shift
        if all(2 <= value < 100 for value in (end, *(value for _, value in lives))):
            break
    sentences = shuffled([said for said, _ in lives], rng)
    for _ in range(rng.randint(1, 2)):
        aside = say("aside", rng, name=rng.choice(people), things=things, n=str(rng.randint(2, 9)))
        sentences.insert(rng.randint(0, len(sentences)), aside)
    asked = dict(zip(("name", "other"), people, strict=False))
    question = say("question of both" if len(people) == 2 else "question", rng, things=things, **asked)
    return " ".join([*sentences, *last, question])


def life(name: str, steps: int, things: str, rng: random.Random) -> tuple[list[str], int]:
    """(sentences, value at the end) of one person's story; the value is 0 where one on the way leaves [2, 49]."""
    left, slots = steps, {"name": name, "things": things}
    if rng.random() < 0.5:
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


def shuffled(parts: Sequence[Sequence[str]], rng: random.Random) -> list[str]:
    """The elements of all parts in a random interleaving."""
    turns = [i for i, part in enumerate(parts) for _ in part]
    rng.shuffle(turns)
    streams = [iter(part) for part in parts]
    return [next(streams[i]) for i in turns]
