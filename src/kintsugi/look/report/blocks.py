"""The page's data of each step. It is plain and packed a step at a time: a browser opens only what it shows."""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Protocol

from kintsugi.mending.align import align
from kintsugi.records import Kind, Repair, Rollout, Seam
from kintsugi.run.reading import reach_words, why
from kintsugi.run.tables import ProblemStep, Record


class Shown(Protocol):
    """The source of a report: kintsugi.run.reading.Run, or another library's rollouts (foreign.py)."""

    @property
    def recipe(self) -> Mapping[str, Any]: ...
    @property
    def versions(self) -> Mapping[str, str]: ...
    @property
    def steps(self) -> tuple[Record, ...]: ...
    @property
    def evals(self) -> tuple[Record, ...]: ...
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
FirstError = Callable[[str, str], int | None]
"""The offset of the first wrong character of a solution, by problem and solution; None where none is, or none knows."""
FAR = 0.3
"""The distance from which failure and repair are hardly the same solution."""


def block(
    problems: Sequence[ProblemStep], pieces: Pieces, first_error: FirstError = lambda *_: None
) -> list[Data]:
    """One step as data: its problems with rollouts and repairs."""
    return [
        {
            "id": p.episode.problem.id,
            "question": p.episode.problem.prompt,
            "gold": p.episode.problem.answer,
            "rollouts": [rollout_data(p, i, pieces, first_error) for i in range(len(p.episode.rollouts))],
            "mends": [mend_data(p, j, pieces) for j in range(len(p.episode.repairs))],
        }
        for p in problems
    ]


def index_lines(step: int, problems: Sequence[Data]) -> Iterator[list[Any]]:
    """One entry per rollout: [step, place of the problem, place of the rollout, problem id, verdict, fate, audits,
    suspicions, distance, edits].

    `fate`: "mended", "rejected" (repairs, none accepted), "not tried" or "" (nothing to mend).
    """
    for i, p in enumerate(problems):
        for j, rollout in enumerate(p["rollouts"]):
            own = [m for m in p["mends"] if m["failed"] == rollout["index"]]
            audits = sorted({m["audit"] for m in own} - {""})
            fate = "" if rollout["verdict"] != "fail" else "not tried"
            if own:
                fate = "mended" if any(m["seam"] for m in own) else "rejected"
            mended = next((m for m in own if m["seam"]), None)
            seam = (
                (mended["seam"]["suspect"], mended["distance"], len(mended["seam"]["edits"]))
                if mended
                else ()
            )
            yield [step, i, j, p["id"], rollout["verdict"], fate, audits, *(seam or ([], 0, 0))]


def reasons_in(problems: Sequence[Data]) -> set[str]:
    """The reasons for which anything in a step got credit."""
    credits = [r["credit"] for p in problems for r in p["rollouts"]]
    credits += [m["seam"]["credit"] for p in problems for m in p["mends"] if m["seam"]]
    modes = {"repair" for p in problems for m in p["mends"] if m["mode"]}
    return modes.union(*(credit or () for credit in credits))


def rollout_data(p: ProblemStep, index: int, pieces: Pieces, first_error: FirstError) -> Data:
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
        wrong = None if rollout.verdict.passed else first_error(p.episode.problem.prompt, rollout.text)
        ends = accumulate(map(len, texts))
        found["wrong"] = (
            None if wrong is None else next((t for t, end in enumerate(ends) if end > wrong), None)
        )
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
        "laid": None if seam else laid(p.episode.rollouts[repair.failed], repair, pieces),
        "checks": [
            {"edits": c.edits, "verdict": c.rollout.verdict.state, "text": c.rollout.text}
            for c in (seam.checks if seam else ())
        ],
    }


def laid(failed: Rollout, repair: Repair, pieces: Pieces) -> Data:
    """A repair that was not taken, as it lies against its failure."""
    edits = align(failed.completion.token_ids, repair.ids)
    return {
        "edits": [(e.kind, e.failed_at, e.repaired_at) for e in edits],
        "pieces": pieces(repair.ids),
        "ids": repair.ids,
    }


def suspicions(p: ProblemStep, seam: Seam, texts: Sequence[str]) -> list[str]:
    """The signs that a seam is not where the failure went wrong."""
    episode = p.episode
    at = seam.edits[0].failed_at if seam.edits else 0
    before, after = "".join(texts[:at]), "".join(texts[at:])
    found = {
        "first edit in the last line": "\n" in before.lstrip() and "\n" not in after.strip(),
        "large distance": episode.repairs[seam.repair].distance > FAR,
        "a lone pass": sum(r.verdict.passed for r in episode.rollouts) == 1,
    }
    return [sign for sign, seen in found.items() if seen]


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
        "reach": reach_words(seam.reach) if seam.reach else "",
        "suspect": suspicions(p, seam, pieces(p.episode.rollouts[seam.failed].completion.token_ids)),
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
