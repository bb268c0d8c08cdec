"""Problems from tables: a file, a folder of files or a data set of the Hub.

    task: {name: table, path: train.csv}
    task: {name: table, path: gsm8k/train.jsonl, eval_path: gsm8k/test.jsonl, prompt: question}
    task: {name: table, path: SVAMP.json, prompt: [Body, Question], answer: Answer, id: ID}
    task: {name: table, path: openai/gsm8k, subset: main}

sources.py finds and reads the tables.
"""

from __future__ import annotations

import datetime
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property, partial
from typing import Any

from kintsugi.names import ANSWERS
from kintsugi.records import KintsugiError, Problem
from kintsugi.tasks.base import check_count, check_share, require_problems, split_by_text
from kintsugi.tasks.chat import conversation
from kintsugi.tasks.sources import Files, HubSet, Line, find
from kintsugi.verifiers.extract import boxed

PROMPTS = ("prompt", "question", "problem", "query", "input", "text")
BESIDE = {"body", "context", "passage", "story", "instruction"}
"""Columns without which the question may make no sense: where there is one, the recipe must name what is asked."""
GOLD_MARKER = "####"
"""GSM8K's: the gold answer is what follows the last one in a worked solution."""
ROWS_TOLD = 50_000
"""Rows after which a long reading says how far it is."""
HALF = re.compile("[\ud800-\udfff]")
THOUSANDS = re.compile(r"\$?-?\d{1,3}(?:,\d{3})+(?!\d|,\d)")
"""Commas in a number that stands alone: those of `(5,120)` part a pair, those of `1,250, 3` are not all alike."""
MOMENT = datetime.date | datetime.time | datetime.timedelta
HELD_OUT = ("test", "validation")
Table = Callable[[], Iterable[Line]]
"""Reads a table from its start, each time it is called."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a row that make a Problem. Several prompt columns are joined by one space; none, or an answer
    that is "", is found by its usual names."""

    prompt: tuple[str, ...] = ()
    answer: str = ""
    id: str | None = None

    @classmethod
    def named(cls, what: str, prompt: object, answer: object, id: object) -> Columns:
        """Columns with these names as a recipe gives them; KintsugiError when one is no name."""
        prompts = tuple(prompt) if isinstance(prompt, list | tuple) else (prompt,)
        if not prompts or any(not isinstance(name, str) for name in prompts if name is not None):
            raise KintsugiError(f"{what}: prompt: expected a column name or a list of them, got {prompt!r}")
        if not isinstance(answer, str | None):
            raise KintsugiError(f"{what}: answer: expected a column name, got {answer!r}")
        if not isinstance(id, str | None):
            raise KintsugiError(f"{what}: id: expected a column name, got {id!r}")
        return cls(() if prompt is None else prompts, answer or "", id)

    def text(self) -> set[str]:
        """The columns to read as they are written: an answer `007` is no 7."""
        told = {*(self.prompt or PROMPTS), *([self.answer] if self.answer else ANSWERS), self.id or "id"}
        return told | {name.capitalize() for name in told}

    def found_in(self, line: Line) -> Columns:
        """These columns, those that were not named by what this first row of a table has."""
        prompt, answer = self.prompt, self.answer
        if not prompt:
            prompt = (usual(line, "prompt", PROMPTS),)
        return replace(self, prompt=prompt, answer=answer or usual(line, "answer", ANSWERS))

    def problem(self, line: Line) -> Problem:
        """The Problem in one row; its `columns` are all of the row, as they are, but for one called `answer`: that name
        is the gold answer's."""
        line = replace(line, row=plain_data(mapping(line)))
        cells = [cell(line, name) for name in self.prompt]
        before, prompt = (None, "")
        if len(cells) == 1 and isinstance(cells[0], list):
            before, prompt = conversation(cells[0], line.where)
        else:
            prompt = " ".join(plain_text(cell, line.where) for cell in cells).strip()
        if not prompt:
            raise KintsugiError(f"{line.where}: empty prompt (column {', '.join(map(repr, self.prompt))})")
        answer = gold_answer(cell(line, self.answer), line.where, self.answer)
        id = line.id if self.id is None else str(cell(line, self.id))
        return Problem(id, prompt, answer, {k: v for k, v in line.row.items() if k != "answer"}, before)


def mapping(line: Line) -> Mapping[str, Any]:
    if not isinstance(line.row, Mapping):
        raise KintsugiError(f"{line.where}: expected an object, found {type(line.row).__name__}")
    return line.row


def cell(line: Line, column: str) -> Any:
    """The value of a row under a name; `reward_model.ground_truth` is a field of the column `reward_model`."""
    if column in line.row:
        return line.row[column]
    value = line.row
    for part in column.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise KintsugiError(f"{line.where}: no column {column!r}; there are {', '.join(line.row)}")
        value = value[part]
    return value


def usual(line: Line, what: str, names: Sequence[str], option: str = "task.{}=NAME") -> str:
    """The first of the usual names that a row has, as it spells it; KintsugiError where it has none of them. `option`:
    how a user names the column."""
    row = mapping(line)
    fields = {f"{k}.{inner}": inner for k, v in row.items() if isinstance(v, Mapping) for inner in v}
    there = {str(name).lower(): str(name) for name in reversed([*row, *fields])}
    found = next((there[name] for name in names if name in there), None)
    if found is None or (what == "prompt" and BESIDE & there.keys()):
        raise KintsugiError(
            f"{line.where}: which column is the {what}? Expected one named {', '.join(names)}, found "
            f"{', '.join(row)}; name it, as in {option.format(what)}"
            + (" or task.prompt=[ONE, OTHER]" if what == "prompt" and "task" in option else "")
        )
    return found


def plain_data(value: Any) -> Any:
    """The value as plain data that a file can hold.

    U+FFFD stands for each half of a surrogate pair, which JSON can spell. A decimal is the shortest text that names it,
    a date or time the usual one.
    """
    if isinstance(value, str):
        halved = not value.isascii() and HALF.search(value)
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if halved else value
    if isinstance(value, list):
        return [plain_data(item) for item in value]
    if isinstance(value, Mapping):
        return {plain_data(key): plain_data(item) for key, item in value.items()}
    if isinstance(value, Decimal):
        return shortest(value)
    return str(value) if isinstance(value, MOMENT) else value


def shortest(value: Decimal) -> str:
    """The number without zeros that say nothing: 51.00 is 51, 1.50 is 1.5, and 1E+2 is 100."""
    return format(value.normalize(), "f") if value.is_finite() else str(value)


def plain_text(value: Any, where: str) -> str:
    """The problem text in a prompt cell that holds no conversation."""
    if isinstance(value, str):
        return value.strip()
    raise KintsugiError(f"{where}: expected a prompt as text or chat messages, found {value!r}")


def gold_answer(value: Any, where: str, column: str) -> str:
    """The gold answer in an answer cell.

    Text with `####` gives what follows the last one, without the commas of a number that stands alone (`1,234` ->
    `1234`); a worked solution with `\\boxed{}` gives what the last box holds. Other text is kept as it is, a number is
    written out, a whole one without its point (`51.0` -> `51`). A list of one item is that item.
    """
    if isinstance(value, list) and len(value) == 1:
        return gold_answer(value[0], where, column)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list | Mapping):
        raise KintsugiError(f"{where}: column {column!r}: expected text or a number, found {value!r}")
    text = value if isinstance(value, str) else ""
    _, marker, tail = text.rpartition(GOLD_MARKER)
    answer = without_commas(tail.strip()) if marker else text.strip()
    answer = boxed(answer) or answer
    if not answer:
        raise KintsugiError(f"{where}: missing answer (column {column!r})")
    return answer


def without_commas(answer: str) -> str:
    """`1,234 eggs` as `1234 eggs`; commas in brackets or lists stay."""
    number = THOUSANDS.match(answer)
    if number is None or "," in answer[number.end() :]:
        return answer
    return number[0].replace(",", "") + answer[number.end() :]


class TableTask:
    """Problems of one or two tables, as `train` and `evaluation`, read once.

    path, eval_path: a file by its ending (.csv, .tsv, .parquet, .arrow, .feather, .json, .jsonl, .ndjson; packed ones
    too: .csv.gz), a folder of them, or a Hub id. subset: as the Hub calls it, or a folder in the folder.
    split, eval_split: of `path`, or of `eval_path` where there is one; None: train, and test or else validation.
    prompt, answer, id: column names; `prompt` may be a list of columns to join. Those of prompt and answer are found
    where they are usual ones. limit, eval_limit: the most problems of either split.

    Without evaluation data, `eval_share` of the texts are set apart by hash. With them, every training problem whose
    text occurs in them (line breaks aside) is dropped. Limits keep the first problems of a split. `notes` say, once the
    tables are read, what was assumed, and what was left out for a reason that its owner should know.
    """

    verifier = "math"

    def __init__(
        self,
        path: str,
        eval_path: str | None = None,
        subset: str | None = None,
        split: str | None = None,
        eval_split: str | None = None,
        prompt: str | Sequence[str] | None = None,
        answer: str | None = None,
        id: str | None = None,
        eval_share: float = 0.1,
        limit: int | None = None,
        eval_limit: int | None = None,
    ) -> None:
        self.what = f"task table: {path}"
        self.columns = Columns.named("task table", prompt, answer, id)
        text = self.columns.text()
        self.place = find(path, subset, "task table: path", text)
        self.held_out = None if eval_path is None else find(eval_path, None, "task table: eval_path", text)
        self.split, self.eval_split = split, eval_split
        self.eval_share = check_share(f"{self.what}: eval_share", eval_share)
        for name, value in (("limit", limit), ("eval_limit", eval_limit)):
            if value is not None:
                check_count(f"{self.what}: {name}", value, 1)
        self.limits = (limit, eval_limit)
        self.notes: list[str] = []
        self.taken: list[Columns] = []
        """The columns of each table, once it has been read."""

    def train(self) -> Sequence[Problem]:
        return require_problems(self._splits[0], f"{self.what}: training problems")

    def evaluation(self) -> Sequence[Problem]:
        how = "" if self.sources[1] else f" (eval_share {self.eval_share:g} of the texts)"
        return require_problems(self._splits[1], f"{self.what}: evaluation problems{how}")

    @cached_property
    def sources(self) -> tuple[Table, Table | None]:
        """The table that is read for training, and the one for evaluation if that is another."""
        split = self.split or named_split(self.place, "train")
        if self.held_out is not None:
            held_out = self.eval_split or named_split(self.held_out, *HELD_OUT)
            return partial(self.place.read, split), partial(self.held_out.read, held_out)
        name = self.eval_split or next((n for n in HELD_OUT if n in self.place.names() and n != split), split)
        table = partial(self.place.read, split)
        return table, None if name == split else partial(self.place.read, name)

    @cached_property
    def _splits(self) -> tuple[list[Problem], list[Problem]]:
        table, held_out = self.sources
        if held_out is None:
            train, evaluation = split_by_text(self._problems(table), self.eval_share)
        else:
            evaluation = self._problems(held_out)
            texts = {one_spaced(problem.prompt) for problem in evaluation}
            train = [p for p in self._problems(table) if one_spaced(p.prompt) not in texts]
        return train[: self.limits[0]], evaluation[: self.limits[1]]

    def found(self, line: Line) -> Columns:
        """The columns of a table that begins with this row; says which they are where that is not plain."""
        columns = self.columns.found_in(line)
        self.taken.append(columns)
        if columns != self.columns and (columns.prompt, columns.answer) != (("prompt",), "answer"):
            names = f"prompts from column {', '.join(columns.prompt)}, answers from {columns.answer}"
            self.notes += [note for note in (f"{self.what}: {names}",) if note not in self.notes]
        return columns

    def _problems(self, source: Table) -> list[Problem]:
        """Every problem of a table once, by conversation. Ids must differ, for groups and seeds go by them."""
        found: dict[object, Problem] = {}
        ids: dict[str, str] = {}
        torn: list[tuple[str, str]] = []
        columns = self.columns
        for number, line in enumerate(source(), 1):
            if not number % ROWS_TOLD:
                print(f"{self.what}: {number:,} rows read", file=sys.stderr, flush=True)
            if number == 1:
                columns = self.found(line)
            problem = columns.problem(line)
            key = (problem.before or (), problem.prompt)
            if key in found:
                if found[key].answer != problem.answer:
                    torn.append((ids[found[key].id], line.where))
                continue
            if problem.id in ids:
                raise KintsugiError(f"{line.where}: id {problem.id!r} is already that of {ids[problem.id]}")
            found[key] = problem
            ids[problem.id] = line.where
        if torn:
            first, again = torn[0]
            self.notes.append(
                f"{self.what}: {len(torn)} rows ask what another row asks and answer otherwise: left out (such as "
                f"{again}, after {first})"
            )
        return list(found.values())


class GivenTask(TableTask):
    """Problems, or rows with the usual columns, given in Python as a list; `eval_share` of the texts are held out."""

    name = "rows"

    def __init__(self, rows: Sequence[Any], eval_share: float = 0.1) -> None:
        self.what, self.columns, self.eval_share, self.limits = "task", Columns(), eval_share, (None, None)
        self.rows, self.notes, self.taken = rows, [], []

    @cached_property
    def sources(self) -> tuple[Table, Table | None]:
        lines = [Line(f"rows/{n}", f"task, row {n}", row) for n, row in enumerate(self.rows, 1)]
        return (lambda: lines), None

    def _problems(self, source: Table) -> list[Problem]:
        if all(isinstance(row, Problem) for row in self.rows):
            return list(self.rows)
        return super()._problems(source)


def named_split(place: Files | HubSet, *names: str) -> str:
    """The first of these splits that there is, or the only one; KintsugiError where it has to be said."""
    there = place.names()
    found = next((name for name in names if name in there), there[0] if len(there) == 1 else None)
    if found is None:
        raise KintsugiError(
            f"task table: which split? Expected {' or '.join(names)}, there are {', '.join(there)}; name it, as in "
            f"task.{'split' if names == ('train',) else 'eval_split'}={there[0]}"
        )
    return found


def one_spaced(text: str) -> str:
    """`text` with single spaces: copies of a problem often differ in line breaks alone."""
    return " ".join(text.split())
