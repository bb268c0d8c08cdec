"""Solutions that exist already, by problem: a table of prompts and completions (any file that a task reads), TRL's
completions, verl's dumps, or a run. Loads no torch.

    solutions = read_solutions("failures.jsonl")
    solutions["failures/1"].problem, solutions["failures/1"].texts
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kintsugi.files import sought_in
from kintsugi.names import ANSWERS
from kintsugi.records import KintsugiError, Problem
from kintsugi.run.directory import MARKS
from kintsugi.run.reading import Run
from kintsugi.tasks import evaluation_problems, load_task, training_problems
from kintsugi.tasks.chat import conversation, message_text
from kintsugi.tasks.sources import Line, find
from kintsugi.tasks.table import PROMPTS, cell, gold_answer, mapping, one_spaced, plain_data, usual

COMPLETIONS = (
    "completion",
    "completions",
    "output",
    "outputs",
    "response",
    "responses",
    "generation",
    "solution",
)
"""Usual names of the column of solutions; `output` is verl's."""
GOLD = (*(name for name in ANSWERS if name != "solution"), "gts")
"""Usual names of the column of answers; `gts` is verl's."""
OPTION = "--{} NAME"


@dataclass(slots=True)
class Given:
    """A problem and the solutions of it that there are."""

    problem: Problem
    texts: list[str] = field(default_factory=list)


Solutions = Mapping[str, Given]
"""By the problem's id."""


@dataclass(frozen=True, slots=True)
class Solved:
    """The task of these problems. Nothing is evaluated on them."""

    solutions: Solutions
    name: str = "solutions"

    def train(self) -> Sequence[Problem]:
        return [given.problem for given in self.solutions.values()]

    def evaluation(self) -> Sequence[Problem]:
        return self.train()


def read_solutions(
    place: str | Path,
    data: str | Path | None = None,
    *,
    prompt: str | None = None,
    completion: str | None = None,
    answer: str | None = None,
) -> Solutions:
    """The solutions in a file, a folder or a run directory, in their order; each text of a problem once.

    prompt, completion, answer: names of columns; the usual ones without. data: the data set whose problems these are,
    for logs that know a prompt as one text and no answer: a prompt is that problem's whose text it holds. KintsugiError
    where nothing can be read, and for a prompt that is not in `data`.
    """
    path = Path(place).expanduser()
    if not path.exists():
        raise KintsugiError(f"mend: no such file or folder {str(place)!r}{sought_in(path)}")
    own = any((path / mark).is_file() for mark in MARKS)
    lines = of_run(Run.open(path)) if own else of_table(path, prompt, completion, answer)
    known = Known(data) if data else None
    found: dict[str, Given] = {}
    names: dict[object, str] = {}
    for problem, texts in lines:
        asked = known.find(problem) if known else problem
        name = names.setdefault((asked.before, asked.prompt), asked.id)
        given = found.setdefault(name, Given(asked))
        given.texts += [text for text in dict.fromkeys(texts) if text not in given.texts]
    if not found:
        raise KintsugiError(f"{path}: expected at least one solution, found none")
    return found


def of_run(run: Run) -> Iterator[tuple[Problem, list[str]]]:
    """The rollouts of a run that ended by themselves."""
    for step in run.written:
        for problem in run.problems(step):
            yield problem.episode.problem, [r.text for r in problem.episode.rollouts if not r.truncated]


def of_table(
    path: Path, prompt: str | None, completion: str | None, answer: str | None
) -> Iterator[tuple[Problem, list[str]]]:
    """The rows of a file, or of a folder's files (TRL's output directory keeps them in `completions`)."""
    inner = path / "completions"
    place = find(inner if inner.is_dir() else path, None, "mend", text={*GOLD, *([answer] if answer else [])})
    for split in place.names():
        for line in place.read(split):
            row = Line(line.id, line.where, plain_data(mapping(line)))
            asked = cell(row, prompt or usual(row, "prompt", PROMPTS, OPTION))
            before, question = (
                conversation(asked, row.where) if isinstance(asked, list) else (None, str(asked))
            )
            texts = solutions_in(
                cell(row, completion or usual(row, "completion", COMPLETIONS, OPTION)), row.where
            )
            gold = answer or next((name for name in GOLD if has_value(row, name)), None)
            told = "" if gold is None else gold_answer(cell(row, gold), row.where, gold)
            columns = {k: v for k, v in row.row.items() if v is not asked}
            yield Problem(row.id, question.strip(), told, columns, before), texts


def has_value(line: Line, column: str) -> bool:
    """True if a row has a value under a name."""
    value: Any = line.row
    for part in [column] if column in line.row else column.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value not in (None, "")


def solutions_in(value: Any, where: str) -> list[str]:
    """The solutions in a cell: a text, the messages of an answer, or a list of either."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and all(isinstance(m, Mapping) for m in value):
        return [message_text(value[-1].get("content"), f"{where}: the completion")]
    if isinstance(value, list) and value:
        return [text for one in value for text in solutions_in(one, where)]
    raise KintsugiError(
        f"{where}: expected a completion as text or messages, or a list of these, found {value!r}"
    )


class Known:
    """The problems of a data set, held-out ones included, by their texts."""

    def __init__(self, path: str | Path) -> None:
        task = load_task({"name": "table", "path": str(path), "eval_share": 0.0})
        problems = list(training_problems(task))
        with suppress(KintsugiError):  # a folder may have a split of its own for them
            problems += evaluation_problems(task)
        self.path = path
        self.problems = {one_spaced(p.prompt): p for p in problems}

    def find(self, asked: Problem) -> Problem:
        """The problem whose text this one's is or, under a chat template, holds (the longest)."""
        text = one_spaced(asked.prompt)
        if text in self.problems:
            return self.problems[text]
        inner = max((known for known in self.problems if known in text), key=len, default=None)
        if inner is None:
            raise KintsugiError(
                f"mend: no problem of {self.path} is asked in {asked.prompt[:80]!r} ({asked.id})"
            )
        return self.problems[inner]
