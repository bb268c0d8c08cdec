"""Problems from a table with named columns, such as a JSON Lines file.

    task: {name: jsonl, path: gsm8k/train.jsonl, eval_path: gsm8k/test.jsonl, prompt: question}
    task: {name: jsonl, path: SVAMP.json, prompt: [Body, Question], answer: Answer, id: ID}

What turns a row into a Problem, and a table into two splits, serves Hub data sets too (hub.py).
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from kintsugi.records import KintsugiError, Problem
from kintsugi.tasks.base import check_count, check_share, require_problems, split_by_text
from kintsugi.tasks.chat import conversation
from kintsugi.verifiers.extract import boxed

GOLD_MARKER = "####"
"""GSM8K's: the gold answer is what follows the last one in a worked solution."""
ROWS_TOLD = 50_000
"""Rows after which a long reading says how far it is."""
HALF = re.compile("[\ud800-\udfff]")
THOUSANDS = re.compile(r"\$?-?\d{1,3}(?:,\d{3})+(?!\d|,\d)")
"""Commas in a number that stands alone: those of `(5,120)` part a pair, those of `1,250, 3` are not all alike."""


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a table. `id` names the problem if no column does; `where` is for error messages."""

    id: str
    where: str
    row: Any


Source = Callable[[], Iterable[Line]]
"""Reads a table from its start, each time it is called."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a row that make a Problem. Several prompt columns are joined by one space."""

    prompt: tuple[str, ...]
    answer: str
    id: str | None = None

    @classmethod
    def named(cls, what: str, prompt: object, answer: object, id: object) -> Columns:
        """Columns with these names as a recipe gives them; KintsugiError when one is no name."""
        prompts = tuple(prompt) if isinstance(prompt, list | tuple) else (prompt,)
        if not prompts or any(not isinstance(name, str) for name in prompts):
            raise KintsugiError(f"{what}: prompt: expected a column name or a list of them, got {prompt!r}")
        if not isinstance(answer, str):
            raise KintsugiError(f"{what}: answer: expected a column name, got {answer!r}")
        if id is not None and not isinstance(id, str):
            raise KintsugiError(f"{what}: id: expected a column name, got {id!r}")
        return cls(prompts, answer, id)

    def problem(self, line: Line) -> Problem:
        """The Problem in one row; its `columns` are all of the row, as they are, but for one called `answer`: that name
        is the gold answer's."""
        if not isinstance(line.row, Mapping):
            raise KintsugiError(f"{line.where}: expected an object, found {type(line.row).__name__}")
        line = replace(line, row=whole(line.row))
        cells = [self._cell(line, name) for name in self.prompt]
        before, prompt = (None, "")
        if len(cells) == 1 and isinstance(cells[0], list):
            before, prompt = conversation(cells[0], line.where)
        else:
            prompt = " ".join(plain_text(cell, line.where) for cell in cells).strip()
        if not prompt:
            raise KintsugiError(f"{line.where}: empty prompt (column {', '.join(map(repr, self.prompt))})")
        answer = gold_answer(self._cell(line, self.answer), line.where, self.answer)
        id = line.id if self.id is None else str(self._cell(line, self.id))
        return Problem(id, prompt, answer, {k: v for k, v in line.row.items() if k != "answer"}, before)

    def _cell(self, line: Line, column: str) -> Any:
        """The value of a row under a name; `reward_model.ground_truth` is a field of the column `reward_model`."""
        if column in line.row:
            return line.row[column]
        value = line.row
        for part in column.split("."):
            if not isinstance(value, Mapping) or part not in value:
                raise KintsugiError(f"{line.where}: no column {column!r}; there are {', '.join(line.row)}")
            value = value[part]
        return value


def whole(value: Any) -> Any:
    """The value as plain data that a file can hold.

    U+FFFD stands for each half of a surrogate pair, which JSON can spell. A decimal is the shortest text that names it.
    """
    if isinstance(value, str):
        halved = not value.isascii() and HALF.search(value)
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if halved else value
    if isinstance(value, list):
        return [whole(item) for item in value]
    if isinstance(value, Mapping):
        return {whole(key): whole(item) for key, item in value.items()}
    if isinstance(value, Decimal):
        return shortest(value)
    return value


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

    Without an evaluation table, `eval_share` of the texts are set apart by hash. With one, every training
    problem whose text occurs in it (line breaks aside) is dropped. Limits keep the first problems of a split.
    `notes` say, once the tables are read, what was left out for a reason that its owner should know.
    """

    verifier = "math"

    def __init__(
        self,
        what: str,
        columns: Columns,
        sources: tuple[Source, Source | None],
        eval_share: float = 0.1,
        limit: int | None = None,
        eval_limit: int | None = None,
    ) -> None:
        self.what, self.columns, self.sources = what, columns, sources
        self.eval_share = check_share(f"{what}: eval_share", eval_share)
        for name, value in (("limit", limit), ("eval_limit", eval_limit)):
            if value is not None:
                check_count(f"{what}: {name}", value, 1)
        self.limits = (limit, eval_limit)
        self.notes: list[str] = []

    def train(self) -> Sequence[Problem]:
        return require_problems(self._splits[0], f"{self.what}: training problems")

    def evaluation(self) -> Sequence[Problem]:
        how = "" if self.sources[1] else f" (eval_share {self.eval_share:g} of the texts)"
        return require_problems(self._splits[1], f"{self.what}: evaluation problems{how}")

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

    def _problems(self, source: Source) -> list[Problem]:
        """Every problem of a table once, by conversation. Ids must differ, for groups and seeds go by them."""
        found: dict[object, Problem] = {}
        ids: dict[str, str] = {}
        torn: list[tuple[str, str]] = []
        for number, line in enumerate(source(), 1):
            if not number % ROWS_TOLD:
                print(f"{self.what}: {number:,} rows read", file=sys.stderr, flush=True)
            problem = self.columns.problem(line)
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


def one_spaced(text: str) -> str:
    """`text` with single spaces: copies of a problem often differ in line breaks alone."""
    return " ".join(text.split())


class JsonlTask(TableTask):
    """`task: {name: jsonl, path: train.jsonl}`.

    path, eval_path: JSON Lines, or `.json` files that hold a list; without eval_path, `eval_share` of the
    texts are held out. prompt, answer, id: column names; `prompt` may be a list of columns to join.
    limit, eval_limit: the most problems of either split.
    """

    def __init__(
        self,
        path: str,
        eval_path: str | None = None,
        prompt: str | Sequence[str] = "prompt",
        answer: str = "answer",
        id: str | None = None,
        eval_share: float = 0.1,
        limit: int | None = None,
        eval_limit: int | None = None,
    ) -> None:
        columns = Columns.named("task jsonl", prompt, answer, id)
        table = partial(read_table, existing_file(path, "path"))
        held_out = partial(read_table, existing_file(eval_path, "eval_path")) if eval_path else None
        super().__init__(f"task jsonl: {path}", columns, (table, held_out), eval_share, limit, eval_limit)


def existing_file(path: object, argument: str) -> Path:
    """`path` as a Path; KintsugiError when there is no such file."""
    if not isinstance(path, str | Path):
        raise KintsugiError(f"task jsonl: {argument}: expected a file name, got {path!r}")
    file = Path(path).expanduser()
    if not file.is_file():
        raise KintsugiError(f"task jsonl: {argument}: no such file {str(path)!r}")
    return file


def read_table(path: Path) -> Iterator[Line]:
    """The rows of a JSON Lines file, or of a `.json` file with a list; ids are `folder/file/number`.

    KintsugiError names file and line of what is malformed, and a file without rows.
    """
    prefix = "/".join([path.resolve().parent.name, path.stem])
    count = 0
    try:
        rows = json_list(path) if path.suffix == ".json" else json_lines(path)
        for number, where, row in rows:
            count += 1
            yield Line(f"{prefix}/{number}", where, row)
    except (OSError, UnicodeDecodeError) as error:
        raise KintsugiError(f"{path}: cannot be read ({error})") from None
    if not count:
        raise KintsugiError(f"{path}: expected at least one row, found none")


def json_lines(path: Path) -> Iterator[tuple[int, str, Any]]:
    """(line number, where, row) for each line that is not blank."""
    # utf-8-sig: Windows editors put a byte order mark first, which JSON does not allow.
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield number, f"{path}, line {number}", json.loads(line)
            except json.JSONDecodeError as error:
                raise KintsugiError(f"{path}, line {number}: not valid JSON ({error.msg})") from None


def json_list(path: Path) -> Iterator[tuple[int, str, Any]]:
    """(row number from 1, where, row) for each item of the list in a JSON file."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise KintsugiError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from None
    if not isinstance(rows, list):
        raise KintsugiError(f"{path}: expected a list of objects, found {type(rows).__name__}")
    for number, row in enumerate(rows, 1):
        yield number, f"{path}, row {number}", row
