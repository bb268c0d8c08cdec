"""A run directory read back: its metrics, and each problem's episode with the rows made of it. Loads no torch.

run = Run.open("runs/quickstart"); run.steps[-1]["accuracy"]
problem = run.problems(step=1)[0]; problem.episode.seams; problem.credit("rollout", 0)

The run may still go on, or may have been killed: a step counts when its tables are all there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from kintsugi.files import numbered, read_json
from kintsugi.records import KintsugiError, Reach, Repair
from kintsugi.run.directory import MARKS, SECONDS, RunLog
from kintsugi.run.tables import TABLES, ProblemStep, Record, problem_steps

NEEDED = ("model", "task", "algorithm", "verifier", "output_dir")
"""Keys that every run's recipe has."""
ODD = (KeyError, TypeError, ValueError, IndexError, AttributeError)
"""The errors that reading raises where a file holds something else than was written."""


@dataclass(frozen=True)
class Run:
    """A run directory: `recipe` and `versions` as written, `steps` the metrics of training steps, `evals` those of
    held-out evaluations (both in order, as in metrics.jsonl)."""

    directory: Path
    recipe: Mapping[str, Any]
    versions: Mapping[str, str]
    steps: tuple[Record, ...]
    evals: tuple[Record, ...]

    def __fspath__(self) -> str:
        return str(self.directory)

    @classmethod
    def open(cls, directory: str | Path) -> Run:
        """The run in a directory, or the one that a bridge left there; KintsugiError where there is none."""
        place = RunLog.found(Path(directory))
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
        return cls(
            place,
            recipe,
            versions,
            steps,
            tuple(line for line in lines if line.get("eval/pass@1") is not None),
        )

    @cached_property
    def written(self) -> tuple[int, ...]:
        """The steps whose tables are all there, in order."""
        return tuple(sorted(set.intersection(*self._numbers)))

    def best(self, among: Collection[int]) -> int | None:
        """The step of the best held-out pass@1 among some, the first of equals; None where none was evaluated."""
        score = {line["step"]: line["eval/pass@1"] for line in self.evals if line["step"] in among}
        return max(sorted(score), key=score.__getitem__, default=None)

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

    def said(self, state: str, steps: Sequence[int]) -> str:
        """The message of the last of these steps with a rollout in this state, with its problem; "" without any."""
        for step in reversed(steps):
            with suppress(KintsugiError):
                for line in self.table("rollouts", step, ["problem_id", "verdict", "message"]):
                    if line["verdict"] == state and line["message"]:
                        return f"step {step}, problem {line['problem_id']}: {line['message']}"
        return ""

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
        return pieces_by(self.tokenizer, ids)

    def problems(self, step: int) -> list[ProblemStep]:
        """Each problem of a step, in the order of the run. KintsugiError where one of the step's tables is damaged."""
        tables = [self.table(name, step) for name in ("rollouts", "seams", "rows")]
        try:
            return problem_steps(step, *tables)
        except ODD as error:
            raise KintsugiError(
                f"{self.directory}: step {step} is damaged, or of another version of Kintsugi "
                f"({type(error).__name__}: {' '.join(str(error).split())})"
            ) from None


def pieces_by(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """The text of each token by a tokenizers.Tokenizer; () without one."""
    if tokenizer is None:
        return ()
    from tokenizers.decoders import DecodeStream

    stream = DecodeStream(skip_special_tokens=False)
    return tuple(stream.step(tokenizer, token) or "" for token in ids)


def read_metrics(path: Path) -> list[Record]:
    """The lines of metrics.jsonl with what each took (seconds.jsonl beside it); one that a running (or killed) trainer
    has not finished is left out."""

    def whole(file: Path) -> list[Record]:
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


def reach_words(reach: Reach) -> str:
    """A seam's reach in words: open or closed, and its numbers."""
    failed, fix = math.exp(reach.failed), math.exp(reach.fix)
    return (
        f"{'open' if reach.open else 'closed'}: failed token p = {failed:.3f} (rank {reach.failed_rank}), "
        f"fix p = {fix:.3f} (rank {reach.fix_rank}), entropy {reach.entropy:.3f} nats"
    )


def why(repair: Repair, selected: bool) -> str:
    """The reason, in words, why a repair was taken or not."""
    verdict = repair.rollout.verdict
    if repair.audit:
        return f"rejected by the audit ({repair.audit}); the verifier said {verdict.said}"
    if not verdict.passed:
        return f"the verifier said {verdict.said}"
    if selected:
        own = "" if repair.written else " (a passing sibling)"
        return f"accepted: it passes the verifier and every audit rule, distance {repair.distance:.2f}{own}"
    return "passes, but another candidate scored higher"
