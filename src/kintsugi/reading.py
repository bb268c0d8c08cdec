"""A run directory read back: metrics, and each problem's texts joined with their seams and credit. No torch.

run = Run.open("runs/quickstart"); run.steps[-1]["accuracy"]; run.problems(step=1)[0].mends[0].seam

What is read may be of a run that goes on, or that was killed: a step counts when its tables are all there.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from kintsugi.files import numbered, read_json
from kintsugi.records import KintsugiError
from kintsugi.runlog import MARKS, SECONDS, TABLES

Line = Mapping[str, Any]
NEEDED = ("model", "task", "algorithm", "verifier", "output_dir")
"""Keys that every run's recipe has."""
ODD = (KeyError, TypeError, ValueError, IndexError, AttributeError)
"""What reading raises where a file holds something else than was written."""


@dataclass(frozen=True, slots=True)
class Credit:
    """What training made of a text: one gate and one advantage per token; `loss` and `ratio` where it cost a pass."""

    role: str
    gates: tuple[int, ...]
    advantages: tuple[float, ...]
    weight: float
    ratio: float | None
    loss: float | None


@dataclass(frozen=True, slots=True)
class Text:
    """One text of a run. `line` is its line in rollouts/, every column; `pieces` its tokens' texts ("" where a
    character is not complete yet), empty where the run has no tokenizer. `credit` holds one entry per training row."""

    line: Line
    pieces: tuple[str, ...]
    credit: tuple[Credit, ...] = ()

    @property
    def text(self) -> str:
        return str(self.line["text"])

    @property
    def verdict(self) -> str:
        return str(self.line["verdict"])


@dataclass(frozen=True, slots=True)
class SeamView:
    """Where a failure and its repair differ (kintsugi.records.Seam). `edits` are (kind, failed_at, repaired_at),
    the first `kept` of them are trained on. `pieces` are the tokens of the mended solution, `failed_credit` and
    `repaired_credit` what they were credited with (empty where no row was made)."""

    edits: tuple[tuple[str, int, int], ...]
    kept: int
    kept_by: str
    failed_mask: tuple[int, ...]
    repaired_mask: tuple[int, ...]
    repaired_ids: tuple[int, ...]
    pieces: tuple[str, ...]
    failed_credit: tuple[Credit, ...]
    repaired_credit: tuple[Credit, ...]
    repaired_logprobs: tuple[float | None, ...] = ()
    """Of the mended solution's gated tokens given the problem alone, under the policy that was sampled."""


@dataclass(frozen=True, slots=True)
class Mend:
    """One candidate repair of rollout number `failed`; `seam` where it was selected, `checks` what tried it."""

    failed: int
    repair: Text
    seam: SeamView | None
    checks: tuple[Text, ...]

    @property
    def why(self) -> str:
        """Why the repair was taken or not, in words."""
        line = self.repair.line
        if line["audit"]:
            return f"rejected by the audit ({line['audit']}); the verifier said {line['verdict']}"
        if line["verdict"] != "pass":
            return f"the verifier said {line['verdict']}"
        if line["selected"]:
            own = "" if line["written"] else " (a passing sibling)"
            return (
                f"accepted: it passes the verifier and every audit rule, distance {line['distance']:.2f}{own}"
            )
        return "passes, but another candidate scored higher"


@dataclass(frozen=True, slots=True)
class ProblemStep:
    """Everything that happened to one problem in one step. `others` are extras and continuations."""

    step: int
    problem_id: str
    question: str
    gold: str
    rollouts: tuple[Text, ...]
    mends: tuple[Mend, ...]
    others: tuple[Text, ...]


@dataclass(frozen=True)
class Run:
    """A run directory: `recipe` and `versions` as written, `steps` the metrics of training steps, `evals` those of
    held-out evaluations (both in order, as in metrics.jsonl)."""

    directory: Path
    recipe: Mapping[str, Any]
    versions: Mapping[str, str]
    steps: tuple[Line, ...]
    evals: tuple[Line, ...]

    @classmethod
    def open(cls, directory: str | Path) -> Run:
        """The run in a directory; KintsugiError where there is none."""
        place = Path(directory)
        missing = [name for name in MARKS if not (place / name).is_file()]
        if missing:
            raise KintsugiError(f"{place}: no run directory (expected {' and '.join(missing)} there)")
        try:
            recipe = yaml.safe_load((place / "recipe.yaml").read_text(encoding="utf-8"))
            if not isinstance(recipe, dict) or not set(NEEDED) <= set(recipe):
                raise ValueError(f"recipe.yaml: expected at least {', '.join(NEEDED)}")
            versions = read_json(place / "versions.json")
            lines = read_metrics(place / "metrics.jsonl")
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise KintsugiError(f"{place}: cannot be read ({' '.join(str(error).split())})") from None
        steps = tuple(line for line in lines if "loss" in line)
        return cls(place, recipe, versions, steps, tuple(line for line in lines if "eval/pass@1" in line))

    @cached_property
    def written(self) -> tuple[int, ...]:
        """The steps whose tables are all there, in order."""
        return tuple(sorted(set.intersection(*self._numbers)))

    @property
    def incomplete(self) -> tuple[int, ...]:
        """Earlier steps than the last whole one that lack a table: it was lost, for steps are written in order."""
        some = set.union(*self._numbers) - set(self.written)
        return tuple(sorted(step for step in some if step < max(self.written, default=0)))

    @cached_property
    def _numbers(self) -> list[set[int]]:
        return [set(numbered(self.directory / table, ".parquet")) for table in TABLES]

    def table(self, name: str, step: int, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """The lines of one step in `rollouts`, `seams` or `rows`; KintsugiError where it cannot be read."""
        path = self.directory / name / f"step-{step:06d}.parquet"
        try:
            return list(pq.read_table(path, columns=columns).to_pylist())
        except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
            raise KintsugiError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None

    @cached_property
    def tokenizer(self) -> Any:
        """The run's tokenizer (tokenizers.Tokenizer): its own, or its last checkpoint's; None where it has none."""
        from tokenizers import Tokenizer

        checkpoints = reversed(numbered(self.directory / "checkpoints").values())
        for place in (self.directory / "tokenizer", *checkpoints):
            if (place / "tokenizer.json").is_file():
                with suppress(
                    Exception
                ):  # damaged: its own errors are bare Exceptions, and another may be whole
                    return Tokenizer.from_file(str(place / "tokenizer.json"))
        return None

    def pieces(self, ids: Sequence[int]) -> tuple[str, ...]:
        """The text of each token; "" where a character needs later tokens, which then hold it whole."""
        if self.tokenizer is None:
            return ()
        from tokenizers.decoders import DecodeStream

        stream = DecodeStream(skip_special_tokens=False)
        return tuple(stream.step(self.tokenizer, token) or "" for token in ids)

    def problems(self, step: int) -> list[ProblemStep]:
        """Each problem of a step, in the order of the run, its texts joined with seams and credit.

        KintsugiError where one of the step's tables is damaged.
        """
        tables = [self.table(name, step) for name in TABLES]
        try:
            texts, seams, rows = map(by_problem, tables)
            return [self._problem(lines, seams[name], rows[name]) for name, lines in texts.items()]
        except ODD as error:
            raise KintsugiError(
                f"{self.directory}: step {step} is damaged ({type(error).__name__}: {' '.join(str(error).split())})"
            ) from None

    def _problem(self, lines: Sequence[Line], seams: Sequence[Line], rows: Sequence[Line]) -> ProblemStep:
        def texts(*kinds: str) -> list[Text]:
            return [
                Text(line, self.pieces(line["token_ids"]), spread(rows, line))
                for line in lines
                if line["kind"] in kinds
            ]

        joined = {(seam["failed"], seam["repair"]): self._seam(seam, rows) for seam in seams}
        blamed = {seam["failed"]: joined[seam["failed"], seam["repair"]].failed_credit for seam in seams}
        rollouts = tuple(
            Text(t.line, t.pieces, blamed.get(t.line["index"], t.credit)) for t in texts("rollout")
        )
        checks = texts("check")
        mends = tuple(
            Mend(
                t.line["failed"],
                t,
                joined.get((t.line["failed"], t.line["index"])),
                tuple(c for c in checks if c.line["failed"] == t.line["failed"] and t.line["selected"]),
            )
            for t in texts("repair")
        )
        first = lines[0]
        return ProblemStep(
            first["step"],
            first["problem_id"],
            first["question"],
            first["gold"],
            rollouts,
            mends,
            tuple(texts("extra")),
        )

    def _seam(self, seam: Line, rows: Sequence[Line]) -> SeamView:
        own = [row for row in rows if row["group_id"].endswith(f"/seam/{seam['failed']}")]
        return SeamView(
            tuple(zip(seam["edit_kinds"], seam["edit_failed_at"], seam["edit_repaired_at"], strict=True)),
            seam["kept"],
            seam["kept_by"],
            tuple(seam["failed_mask"]),
            tuple(seam["repaired_mask"]),
            tuple(seam["repaired_ids"]),
            self.pieces(seam["repaired_ids"]),
            tuple(credit(row) for row in own if row["role"] == "failed"),
            tuple(credit(row) for row in own if row["role"] == "repaired"),
            next((tuple(row["old_logprobs"] or ()) for row in own if row["role"] == "repaired"), ()),
        )


def read_metrics(path: Path) -> list[Line]:
    """The lines of metrics.jsonl with what each took (seconds.jsonl beside it); one that a running (or killed) trainer
    has not finished is left out."""

    def whole(file: Path) -> list[Line]:
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.is_file() else []
        found = [json.loads(line) for line in lines if line.endswith("\n")]
        if odd := [i for i, line in enumerate(found, 1) if not isinstance(line, dict)]:
            raise ValueError(f"{file.name}, line {odd[0]}: expected an object")
        return found

    found = whole(path)
    if odd := [i for i, line in enumerate(found, 1) if not isinstance(line.get("step"), int)]:
        raise ValueError(f"{path.name}, line {odd[0]}: expected a step")
    took = whole(path.with_name(SECONDS))[: len(found)]
    took += [{}] * (len(found) - len(took))  # runs of before kept their seconds in metrics.jsonl
    return [{**line, **seconds} for line, seconds in zip(found, took, strict=True)]


def by_problem(lines: Iterable[Line]) -> defaultdict[str, list[Line]]:
    found: defaultdict[str, list[Line]] = defaultdict(list)
    for line in lines:
        found[line["problem_id"]].append(line)
    return found


def credit(row: Line) -> Credit:
    return Credit(
        row["role"], tuple(row["mask"]), tuple(row["advantages"]), row["weight"], row["ratio"], row["loss"]
    )


def spread(rows: Sequence[Line], line: Line) -> tuple[Credit, ...]:
    """The credit of a text that no seam touched: rows of its very prompt and tokens. Two equal texts of a group share
    theirs, as they get the same."""
    same = (
        row
        for row in rows
        if row["role"] in ("policy", "repair")
        and row["completion_ids"] == line["token_ids"]
        and row["prompt_ids"] == line["prompt_ids"]
    )
    return tuple(credit(row) for row in same)[:1]
