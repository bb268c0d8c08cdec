"""Episodes and their rows as tables, and back: what is written is what is read.

rollouts  one line per text: rollout, repair, check or extra
seams     one line per mended failure
rows      one line per training row; `kind` and `index` say which text of `problem_id` it trains

Of a problem its columns and the turns before its question are not kept; of an episode its teachers, whose credit is
in the rows, and why nothing was repaired.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import pyarrow as pa

from kintsugi.records import (
    Check,
    Completion,
    Edit,
    Episode,
    Extra,
    Kind,
    Part,
    Problem,
    Reach,
    Repair,
    Rollout,
    Row,
    Seam,
    Verdict,
)
from kintsugi.sampling.base import RowStats

Record = Mapping[str, Any]
INTS, FLOATS = pa.list_(pa.int32()), pa.list_(pa.float64())
ROLLOUTS = pa.schema(
    {
        "step": pa.int32(), "problem_id": pa.string(), "question": pa.string(), "gold": pa.string(),
        "kind": pa.string(), "index": pa.int32(), "failed": pa.int32(), "edits": pa.int32(),
        "phase": pa.string(), "of": pa.int32(), "at": pa.int32(),
        "text": pa.string(), "anchor": pa.string(), "verdict": pa.string(), "reward": pa.float64(),
        "message": pa.string(), "audit": pa.string(), "distance": pa.float64(), "score": pa.float64(),
        "sibling": pa.int32(), "finish": pa.string(), "version": pa.int32(), "prompt_ids": INTS,
        "token_ids": INTS, "logprobs": FLOATS, "logged": pa.string(),
        "parts": pa.list_(pa.struct({"name": pa.string(), "reward": pa.float64(), "weight": pa.float64()})),
    }
)  # fmt: skip
SEAMS = pa.schema(
    {
        "step": pa.int32(), "problem_id": pa.string(), "failed": pa.int32(), "repair": pa.int32(),
        "edit_kinds": pa.list_(pa.string()), "edit_failed_at": INTS, "edit_repaired_at": INTS,
        "kept": pa.int32(), "kept_by": pa.string(), "failed_mask": INTS, "repaired_mask": INTS,
        "reach": pa.struct(
            {
                "failed": pa.float64(), "failed_rank": pa.int32(), "fix": pa.float64(), "fix_rank": pa.int32(),
                "entropy": pa.float64(),
            }
        ),
    }
)  # fmt: skip
ROWS = pa.schema(
    {
        "step": pa.int32(), "problem_id": pa.string(), "kind": pa.string(), "index": pa.int32(),
        "term": pa.string(), "weight": pa.float64(), "prompt_ids": INTS, "completion_ids": INTS, "mask": INTS,
        "credit": pa.map_(pa.string(), FLOATS), "sampling_logprobs": FLOATS, "old_logprobs": FLOATS,
        "logprobs": FLOATS, "ratio": pa.float64(), "clipped": pa.float64(), "loss": pa.float64(),
    }
)  # fmt: skip
TABLES = {"rollouts": ROLLOUTS, "seams": SEAMS, "rows": ROWS}


@dataclass(frozen=True, slots=True)
class ProblemStep:
    """The part of one problem in the tables of a step: its episode, the rows made of it, and the learner's figures of
    each (None of a row that cost no forward pass)."""

    step: int
    episode: Episode
    rows: tuple[Row, ...]
    stats: tuple[RowStats | None, ...]

    def rows_of(self, kind: Kind, index: int) -> list[Row]:
        """The rows of a text. A sibling that serves as a repair is one text: as a rollout and as a repair."""
        repairs = self.episode.repairs
        rollout = index if kind == "rollout" else repairs[index].sibling if kind == "repair" else None
        names = {(kind, index)}
        if rollout is not None:
            names |= {
                ("rollout", rollout),
                *(("repair", j) for j, r in enumerate(repairs) if r.sibling == rollout),
            }
        return [row for row in self.rows if (row.kind, row.index) in names]

    def credit(self, kind: Kind, index: int) -> dict[str, tuple[float, ...]]:
        """The credit of a text's tokens given the problem, by reason; {} where it has no row.

        Credit on tokens that do not count is none.
        """
        found: dict[str, tuple[float, ...]] = {}
        for row in self.rows_of(kind, index):
            if row.term == "policy":
                for reason, values in row.credit.items():
                    gated = [a * gate for a, gate in zip(values, row.mask, strict=True)]
                    before = found.get(reason, (0.0,) * len(gated))
                    found[reason] = tuple(a + b for a, b in zip(before, gated, strict=True))
        return found


# ---- to lines


def rollout_lines(step: int, episode: Episode) -> Iterator[dict[str, Any]]:
    def line(kind: str, index: int, rollout: Rollout, **more: Any) -> dict[str, Any]:
        verdict, completion = rollout.verdict, rollout.completion
        return {
            "step": step, "problem_id": episode.problem.id, "question": episode.problem.prompt,
            "gold": episode.problem.answer, "kind": kind, "index": index, "text": rollout.text,
            "verdict": verdict.state, "reward": verdict.reward, "message": verdict.message,
            "finish": completion.finish, "version": completion.version, "prompt_ids": rollout.prompt_ids,
            "token_ids": completion.token_ids, "logprobs": completion.logprobs,
            "logged": json.dumps(verdict.logged) if verdict.logged else None,
            "parts": [part._asdict() for part in verdict.parts], **more,
        }  # fmt: skip

    for i, rollout in enumerate(episode.rollouts):
        yield line("rollout", i, rollout)
    for i, r in enumerate(episode.repairs):
        yield line(
            "repair", i, r.rollout, failed=r.failed, anchor=r.anchor_text, audit=r.audit, distance=r.distance,
            score=r.score, sibling=r.sibling,
        )  # fmt: skip
    for seam in episode.seams:
        for i, check in enumerate(seam.checks):
            yield line("check", i, check.rollout, failed=seam.failed, edits=check.edits)
    for i, extra in enumerate(episode.extras):
        yield line("extra", i, extra.rollout, phase=extra.phase, of=extra.of, at=extra.at)


def seam_lines(step: int, episode: Episode) -> Iterator[dict[str, Any]]:
    for seam in episode.seams:
        yield {
            "step": step, "problem_id": episode.problem.id, "failed": seam.failed, "repair": seam.repair,
            "edit_kinds": [e.kind for e in seam.edits], "edit_failed_at": [e.failed_at for e in seam.edits],
            "edit_repaired_at": [e.repaired_at for e in seam.edits], "kept": seam.kept, "kept_by": seam.kept_by,
            "failed_mask": seam.failed_mask, "repaired_mask": seam.repaired_mask,
            "reach": asdict(seam.reach) if seam.reach else None,
        }  # fmt: skip


def row_lines(step: int, rows: Sequence[Row], stats: Sequence[RowStats | None]) -> Iterator[dict[str, Any]]:
    """Rows that cost no forward pass have no log-probabilities and no loss."""
    for row, found in zip(rows, stats, strict=True):
        # By name: asdict would copy every float of every token.
        learned = {field.name: getattr(found, field.name) for field in fields(RowStats)} if found else {}
        yield {
            "step": step, "problem_id": row.problem_id, "kind": row.kind, "index": row.index, "term": row.term,
            "weight": row.weight, "prompt_ids": row.prompt_ids, "completion_ids": row.completion_ids,
            "mask": row.mask, "credit": list(row.credit.items()), "sampling_logprobs": row.sampling_logprobs,
            **learned,
        }  # fmt: skip


# ---- and back


def problem_steps(
    step: int, rollouts: Iterable[Record], seams: Iterable[Record], rows: Iterable[Record]
) -> list[ProblemStep]:
    """Each problem of a step's lines, in their order. KeyError, TypeError or ValueError for lines that are none."""
    texts, joined, trained = map(by_problem, (rollouts, seams, rows))
    return [
        ProblemStep(
            step,
            episode_of(lines, joined[name]),
            tuple(map(stored_row, trained[name])),
            tuple(map(stats_of, trained[name])),
        )
        for name, lines in texts.items()
    ]


def by_problem(lines: Iterable[Record]) -> defaultdict[str, list[Record]]:
    found: defaultdict[str, list[Record]] = defaultdict(list)
    for line in lines:
        found[line["problem_id"]].append(line)
    return found


def episode_of(lines: Sequence[Record], seams: Sequence[Record]) -> Episode:
    kinds: defaultdict[str, list[Record]] = defaultdict(list)
    for line in lines:
        kinds[line["kind"]].append(line)
    first = lines[0]
    repairs = tuple(
        Repair(r["failed"], r["anchor"], rollout_of(r), r["audit"], r["distance"], r["score"], r["sibling"])
        for r in kinds["repair"]
    )
    return Episode(
        Problem(first["problem_id"], first["question"], first["gold"]),
        tuple(map(rollout_of, kinds["rollout"])),
        repairs,
        tuple(seam_of(seam, kinds["check"]) for seam in seams),
        extras=tuple(Extra(e["phase"], e["of"], e["at"], rollout_of(e)) for e in kinds["extra"]),
    )


def rollout_of(line: Record) -> Rollout:
    completion = Completion(
        tuple(line["token_ids"]), tuple(line["logprobs"]), line["finish"], line["version"]
    )
    parts = tuple(Part(**part) for part in line["parts"])
    logged = json.loads(line["logged"]) if line["logged"] else {}
    verdict = Verdict(line["verdict"], line["reward"], line["message"], parts, logged)
    return Rollout(tuple(line["prompt_ids"]), completion, line["text"], verdict)


def seam_of(line: Record, checks: Iterable[Record]) -> Seam:
    edits = zip(line["edit_kinds"], line["edit_failed_at"], line["edit_repaired_at"], strict=True)
    return Seam(
        line["failed"],
        line["repair"],
        tuple(Edit(*edit) for edit in edits),
        line["kept"],
        line["kept_by"],
        tuple(Check(c["edits"], rollout_of(c)) for c in checks if c["failed"] == line["failed"]),
        tuple(line["failed_mask"]),
        tuple(line["repaired_mask"]),
        Reach(**line["reach"]) if line["reach"] else None,
    )


def stored_row(line: Record) -> Row:
    sampled = line["sampling_logprobs"]
    return Row(
        tuple(line["prompt_ids"]),
        tuple(line["completion_ids"]),
        None if sampled is None else tuple(sampled),
        line["problem_id"],
        line["kind"],
        line["index"],
        tuple(line["mask"]),
        {reason: tuple(values) for reason, values in line["credit"]},
        line["term"],
        line["weight"],
    )


def stats_of(line: Record) -> RowStats | None:
    if line["loss"] is None:
        return None
    return RowStats(
        tuple(line["old_logprobs"]), tuple(line["logprobs"]), line["ratio"], line["clipped"], line["loss"]
    )
