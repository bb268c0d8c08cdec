"""What the page knows of each step: plain data, packed a step at a time so that a browser opens only what it shows."""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from kintsugi.reading import Credit, Line, Mend, ProblemStep, SeamView, Text


class Source(Protocol):
    """What a report is made of: kintsugi.reading.Run, or another library's rollouts (foreign.py)."""

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
    def problems(self, step: int) -> list[ProblemStep]: ...


def packed(value: Any) -> str:
    """The value as base64 of gzipped JSON: nothing in it can end or start an element of the page."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode("ascii")


def block(problems: Sequence[ProblemStep]) -> list[dict[str, Any]]:
    """One step as data: its problems with rollouts and repairs."""
    return [
        {
            "id": p.problem_id,
            "question": p.question,
            "gold": p.gold,
            "rollouts": [text_data(t) | {"index": t.line["index"]} for t in p.rollouts],
            "mends": [mend_data(m) for m in p.mends],
        }
        for p in problems
    ]


def index_lines(step: int, problems: Sequence[ProblemStep]) -> Iterator[list[Any]]:
    """One entry per rollout: [step, place of the problem, place of the rollout, problem id, verdict, fate, audits].

    `fate`: "mended", "rejected" (repairs, none accepted), "not tried" or "" (nothing to mend).
    """
    for i, p in enumerate(problems):
        for j, t in enumerate(p.rollouts):
            own = [m for m in p.mends if m.failed == t.line["index"]]
            audits = sorted({m.repair.line["audit"] for m in own} - {""})
            fate = "" if t.verdict != "fail" else "not tried"
            if own:
                fate = "mended" if any(m.seam for m in own) else "rejected"
            yield [step, i, j, p.problem_id, t.verdict, fate, audits]


def text_data(text: Text) -> dict[str, Any]:
    line = text.line
    found = {
        "text": line["text"],
        "verdict": line["verdict"],
        "reward": short(line["reward"]),
        "message": line["message"] or "",
        "cut": line["finish"] == "length",
    }
    if text.pieces:
        found |= {"pieces": text.pieces, "ids": line["token_ids"], "logprobs": shorts(line["logprobs"])}
    return found | {"credit": credit_data(text.credit)}


def mend_data(mend: Mend) -> dict[str, Any]:
    line = mend.repair.line
    return {
        "failed": mend.failed,
        "text": line["text"],
        "verdict": line["verdict"],
        "why": mend.why,
        "audit": line["audit"],
        "anchor": line["anchor"],
        "written": line["written"],
        "distance": short(line["distance"]),
        "score": short(line["score"]),
        "seam": seam_data(mend.seam) if mend.seam else None,
        "checks": [
            {"edits": c.line["edits"], "verdict": c.verdict, "text": c.line["text"]} for c in mend.checks
        ],
    }


def seam_data(seam: SeamView) -> dict[str, Any]:
    return {
        "edits": seam.edits,
        "kept": seam.kept,
        "by": seam.kept_by,
        "failed": seam.failed_mask,
        "repaired": seam.repaired_mask,
        "pieces": seam.pieces,
        "ids": seam.repaired_ids,
        "failedCredit": credit_data(seam.failed_credit),
        "repairedCredit": credit_data(seam.repaired_credit),
        "logprobs": shorts(seam.repaired_logprobs),
    }


def credit_data(credits: Sequence[Credit]) -> list[float] | None:
    """What each token was credited with in all (its advantage where its gate is open); None where no row was made."""
    if not credits:
        return None
    rows = ([a * g for a, g in zip(c.advantages, c.gates, strict=True)] for c in credits)
    return [round(sum(values), 3) + 0.0 for values in zip(*rows, strict=True)]


def short(value: float | None) -> float | None:
    return round(value, 3) if value is not None and math.isfinite(value) else None


def shorts(values: Sequence[float | None] | None) -> list[float | None]:
    return [short(value) for value in values or ()]
