"""Result rows and what is computed from them: tables and plots are made from rows alone.

A row is one evaluation of one run. A run's rows are written together when it has finished, so a run that is in the file
is complete; a run that failed leaves one row with `error`. Where the file holds a run twice, the later one counts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import NormalDist, fmean, median, stdev
from typing import Any

import numpy as np

from kintsugi.records import KintsugiError

LAST = 2
"""Evaluations whose mean accuracy is the score of a tuning run."""
T_975 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)
"""Student's t at 0.975 for 1 to 10 degrees of freedom."""


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One evaluation. `generated_tokens` are all phases of training, `wall_s` their seconds; evaluations cost neither.

    `recipe` is the fingerprint of everything else that decides the result. `dynamics` are means over the training steps
    since the evaluation before (empty at the start). `machine` is what computed, and in which type; `settings` are the
    tuned keys with their values. Rows made before these two were kept have none.
    """

    comparison: str
    stage: str
    task: str
    algorithm: str
    outcome_only: bool
    reference: bool
    model: str
    seed: int
    lr: float
    budget: int
    step: int
    generated_tokens: int
    wall_s: float
    accuracy: float | None
    pass_at_8: float | None
    commit: str
    recipe: str
    dynamics: Mapping[str, float | None]
    error: str | None = None
    machine: str = ""
    settings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over n seeds with the half width of its 95% interval (None for a single seed)."""

    mean: float
    half: float | None
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if self.half is None else f"{self.mean:.3f} ± {self.half:.3f}"


@dataclass(frozen=True, slots=True)
class Curve:
    """The rows of one finished run, by tokens."""

    rows: tuple[ResultRow, ...]

    @property
    def head(self) -> ResultRow:
        return self.rows[0]

    def at(self, tokens: float, what: str = "accuracy") -> float:
        """The value at `tokens`, linear between evaluations; before the first and after the last it stays."""
        return float(np.interp(tokens, self._tokens(), [getattr(r, what) for r in self.rows]))

    def final(self, what: str = "accuracy") -> float:
        """The value at the budget exactly: the last step may overshoot it, so this lies between two evaluations."""
        return self.at(self.head.budget, what)

    def tokens_to_reach(self, target: float) -> float | None:
        """Tokens at which the curve first reaches `target`, linear between evaluations; None if not by the budget."""
        found = first_crossing(self._tokens(), [r.accuracy or 0.0 for r in self.rows], target)
        return found if found is not None and found <= self.head.budget else None

    def seconds_at(self, tokens: float) -> float:
        """Training seconds spent by `tokens`, linear between evaluations."""
        return self.at(tokens, "wall_s")

    def score(self) -> float:
        """Mean accuracy of the last two evaluations after the start: what settings are chosen by."""
        return fmean(r.accuracy or 0.0 for r in self.rows[1:][-LAST:] or self.rows)

    def _tokens(self) -> list[int]:
        return [r.generated_tokens for r in self.rows]


# ---- rows in a file


def read_rows(path: Path) -> list[ResultRow]:
    """Every row of a results file, in order; KintsugiError names the line that is none. A missing file holds none."""
    if not path.exists():
        return []
    return [
        parse_row(line, f"{path}: line {number}")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if line.strip()
    ]


def parse_row(line: str, where: str) -> ResultRow:
    try:
        data = json.loads(line)
        return ResultRow(**data)
    except (ValueError, TypeError) as error:
        raise KintsugiError(f"{where}: expected a result row, got {line[:60]!r} ({error})") from None


def append_rows(path: Path, rows: Sequence[ResultRow]) -> None:
    """Adds the rows in one write, so that comparisons may share a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(asdict(row)) + "\n" for row in rows))


Key = tuple[str, str, str, str, int, tuple[tuple[str, float], ...]]


def run_key(row: ResultRow) -> Key:
    """The key that a run shares with no other. A tuning run has its settings in it, beside its seed."""
    tuned = (("optim.lr", row.lr), *row.settings.items()) if row.stage == "tuning" else ()
    return row.comparison, row.task, row.stage, row.algorithm, row.seed, tuned


def latest_runs(rows: Iterable[ResultRow]) -> tuple[list[Curve], list[ResultRow]]:
    """(finished runs, error rows of runs that did not finish): of each run, what the file says last."""
    found = {run_key(batch[0]): batch for batch in batches(rows)}
    return (
        [Curve(tuple(batch)) for batch in found.values() if batch[0].error is None],
        [batch[0] for batch in found.values() if batch[0].error is not None],
    )


def batches(rows: Iterable[ResultRow]) -> Iterator[list[ResultRow]]:
    """The rows as they were written together: one run each, its steps increasing."""
    batch: list[ResultRow] = []
    for row in rows:
        if batch and (
            (run_key(row), row.recipe) != (run_key(batch[0]), batch[0].recipe) or row.step <= batch[-1].step
        ):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


# ---- statistics


def t_975(df: int) -> float:
    """Student's t at 0.975; above 10 degrees of freedom by Abramowitz and Stegun's expansion 26.7.5."""
    if df <= len(T_975):
        return T_975[df - 1]
    z = NormalDist().inv_cdf(0.975)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / df + second / df**2 + third / df**3


def interval(values: Sequence[float]) -> Interval:
    """The mean with its 95% interval by Student's t: mean ± t s / sqrt(n), s over n - 1."""
    n = len(values)
    half = t_975(n - 1) * stdev(values) / math.sqrt(n) if n > 1 else None
    return Interval(fmean(values), half, n)


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Interval | None:
    """The mean difference over the seeds that both have, with its 95% interval; None without a shared seed."""
    differences = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    return interval(differences) if differences else None


def first_crossing(xs: Sequence[float], ys: Sequence[float], target: float) -> float | None:
    """The first x at which the polyline through (xs, ys) is at or above `target`; None if it never is."""
    for i, y in enumerate(ys):
        if y >= target:
            if i == 0:
                return float(xs[0])
            share = (target - ys[i - 1]) / (y - ys[i - 1])
            return float(xs[i - 1] + share * (xs[i] - xs[i - 1]))
    return None


def censored_median(values: Sequence[float | None]) -> float | None:
    """The median where None means never, that is, later than all others; None if the median itself is never."""
    found = median(math.inf if v is None else v for v in values)
    return found if math.isfinite(found) else None


# ---- a run's own log as rows

MEANS = {
    "train_accuracy": "accuracy",
    "repair_success": "repair/success_per_failure",
    "repair_success_per_sample": "repair/success_per_sample",
    "active_ratio": "active_ratio",
    "open_share": "reach/open",
    "failed_probability": "reach/failed",
    "fix_probability": "reach/fix",
    "seam_entropy": "reach/entropy",
    "entropy": "entropy",
    "clip_fraction": "clip_fraction",
    "length": "length/rollout",
}
"""Means over steps: name in `dynamics` -> key in metrics.jsonl."""
FIRST = ("open_share", "failed_probability", "fix_probability")
"""Of these also the value of the first step, as `first_NAME`: the policy's before it learned anything."""
PHASES = ("rollout", "repair", "audit", "check")


def rows_of_log(lines: Iterable[Mapping[str, Any]], common: Mapping[str, Any]) -> list[ResultRow]:
    """The evaluations in a run's metrics.jsonl as rows; `common` holds what they share."""
    rows: dict[int, ResultRow] = {}
    since: list[Mapping[str, Any]] = []
    seconds, known = 0.0, {f.name for f in fields(ResultRow)}
    assert set(common) <= known
    for m in lines:
        seconds += sum(value for key, value in m.items() if key.startswith("seconds/"))
        if m.get("eval/pass@1") is None:
            since.append(m)
            continue
        if m["step"] in rows:  # a resumed run evaluates its end again
            continue
        rows[m["step"]] = ResultRow(
            step=m["step"],
            generated_tokens=m["tokens/total"],
            wall_s=round(seconds, 2),
            accuracy=m["eval/pass@1"],
            pass_at_8=m.get("eval/pass@8"),
            dynamics=dynamics(since),
            **common,
        )
        since = []
    return list(rows.values())


def dynamics(steps: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Means over the steps (of what a step could measure), each phase's share of their tokens, and mixed groups."""
    if not steps:
        return {}
    found: dict[str, float | None] = {}
    for name, key in MEANS.items():
        values = [m[key] for m in steps if m.get(key) is not None]
        found[name] = round(fmean(values), 4) if values else None
    found |= {f"first_{name}": steps[0].get(MEANS[name]) for name in FIRST}
    tokens = {phase: sum(m.get(f"tokens/{phase}", 0) for m in steps) for phase in PHASES}
    total = sum(tokens.values())
    found |= {f"share_{phase}": round(count / total, 4) if total else None for phase, count in tokens.items()}
    kinds = {kind: sum(m[f"groups/{kind}"] for m in steps) for kind in ("mixed", "all_passed", "all_failed")}
    groups = sum(kinds.values())
    return found | {f"groups_{kind}": round(n / groups, 4) if groups else None for kind, n in kinds.items()}
