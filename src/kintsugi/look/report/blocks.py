"""The page's data of each step. It is plain and packed a step at a time: a browser opens only what it shows."""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from kintsugi.records import Kind, Seam
from kintsugi.run.reading import why
from kintsugi.run.tables import Line, ProblemStep


class Source(Protocol):
    """The source of a report: kintsugi.run.reading.Run, or another library's rollouts (foreign.py)."""

    @property
    def recipe(self) -> Mapping[str, Any]: ...
    @property
    def versions(self) -> Mapping[str, str]: ...
    @property
    def steps(self) -> tuple[Line, ...]: ...
    @property
    def evals(self) -> tuple[Line, ...]: ...
    @property
    def written(self) -> tuple[int, ...]: ...
    @property
    def incomplete(self) -> tuple[int, ...]: ...


def packed(value: Any) -> str:
    """The value as base64 of gzipped JSON: nothing in it can end or start an element of the page."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode("ascii")


Pieces = Callable[[Sequence[int]], Sequence[str]]
Data = dict[str, Any]


def block(problems: Sequence[ProblemStep], pieces: Pieces) -> list[Data]:
    """One step as data: its problems with rollouts and repairs."""
    return [
        {
            "id": p.episode.problem.id,
            "question": p.episode.problem.prompt,
            "gold": p.episode.problem.answer,
            "rollouts": [rollout_data(p, i, pieces) for i in range(len(p.episode.rollouts))],
            "mends": [mend_data(p, j, pieces) for j in range(len(p.episode.repairs))],
        }
        for p in problems
    ]


def index_lines(step: int, problems: Sequence[Data]) -> Iterator[list[Any]]:
    """One entry per rollout: [step, place of the problem, place of the rollout, problem id, verdict, fate, audits].

    `fate`: "mended", "rejected" (repairs, none accepted), "not tried" or "" (nothing to mend).
    """
    for i, p in enumerate(problems):
        for j, rollout in enumerate(p["rollouts"]):
            own = [m for m in p["mends"] if m["failed"] == rollout["index"]]
            audits = sorted({m["audit"] for m in own} - {""})
            fate = "" if rollout["verdict"] != "fail" else "not tried"
            if own:
                fate = "mended" if any(m["seam"] for m in own) else "rejected"
            yield [step, i, j, p["id"], rollout["verdict"], fate, audits]


def reasons_in(problems: Sequence[Data]) -> set[str]:
    """The reasons for which anything in a step got credit."""
    credits = [r["credit"] for p in problems for r in p["rollouts"]]
    credits += [m["seam"]["credit"] for p in problems for m in p["mends"] if m["seam"]]
    modes = {"repair" for p in problems for m in p["mends"] if m["mode"]}
    return modes.union(*(credit or () for credit in credits))


def rollout_data(p: ProblemStep, index: int, pieces: Pieces) -> Data:
    rollout = p.episode.rollouts[index]
    texts, ids = pieces(rollout.completion.token_ids), rollout.completion.token_ids
    found = {
        "index": index,
        "text": rollout.text,
        "verdict": rollout.verdict.state,
        "reward": short(rollout.verdict.reward),
        "message": rollout.verdict.message,
        "cut": rollout.truncated,
        "credit": credit_data(p, "rollout", index),
    }
    if texts:
        found |= {"pieces": texts, "ids": ids, "logprobs": shorts(rollout.completion.logprobs)}
    return found


def mend_data(p: ProblemStep, index: int, pieces: Pieces) -> Data:
    repair = p.episode.repairs[index]
    seam = next((s for s in p.episode.seams if s.repair == index), None)
    modes = [row for row in p.rows_of("repair", index) if row.term == "repair"]
    return {
        "failed": repair.failed,
        "text": repair.rollout.text,
        "verdict": repair.rollout.verdict.state,
        "why": why(repair, seam is not None),
        "audit": repair.audit,
        "anchor": repair.anchor_text,
        "sibling": repair.sibling,
        "distance": short(repair.distance),
        "score": short(repair.score),
        "mode": [
            {"credit": short(row.advantages[0]), "weight": row.weight} for row in modes if row.advantages
        ],
        "seam": seam_data(p, seam, pieces) if seam else None,
        "checks": [
            {"edits": c.edits, "verdict": c.rollout.verdict.state, "text": c.rollout.text}
            for c in (seam.checks if seam else ())
        ],
    }


def seam_data(p: ProblemStep, seam: Seam, pieces: Pieces) -> Data:
    scored = [
        stats.old_logprobs
        for row, stats in zip(p.rows, p.stats, strict=True)
        if stats and (row.kind, row.index, row.term) == ("repair", seam.repair, "policy")
    ]
    return {
        "edits": [(e.kind, e.failed_at, e.repaired_at) for e in seam.edits],
        "kept": seam.kept,
        "by": seam.kept_by,
        "failed": seam.failed_mask,
        "repaired": seam.repaired_mask,
        "pieces": pieces(p.episode.repairs[seam.repair].ids),
        "ids": p.episode.repairs[seam.repair].ids,
        "credit": credit_data(p, "repair", seam.repair),
        "logprobs": shorts(scored[0] if scored else ()),
    }


def credit_data(p: ProblemStep, kind: Kind, index: int) -> dict[str, list[float]] | None:
    """Each token's credit by reason; None where no row was made of the text."""
    if not p.rows_of(kind, index):
        return None
    credit = p.credit(kind, index)
    return {reason: [round(value, 3) + 0.0 for value in values] for reason, values in credit.items()}


def short(value: float | None) -> float | None:
    return round(value, 3) if value is not None and math.isfinite(value) else None


def shorts(values: Sequence[float | None] | None) -> list[float | None]:
    return [short(value) for value in values or ()]
