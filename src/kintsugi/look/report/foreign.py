"""Rollouts that other libraries leave behind, read as a run without repairs.

- TRL, `log_completions=True`: parquet files `completions_*.parquet`, in the output directory or its folder
  `completions`, with the columns step, prompt, completion, one per reward function, and advantage.
- verl, `trainer.rollout_data_dir`: one file `{step}.jsonl` a step, whose lines hold input, output, score, step, and
  what the reward function returned beside it (gts is the gold answer).
- verifiers, `traces.jsonl`: an episode a line, whose traces hold messages as nodes, with token ids, log-probabilities
  and advantages where a trainer assigned them. Token texts are shown where the folder `tokenizer` lies beside it.

None says what passed: a positive total reward is shown as "rewarded", another as "no reward".
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tokenizers import Tokenizer

from kintsugi.look.report.blocks import Data, short, shorts
from kintsugi.records import KintsugiError
from kintsugi.run.reading import pieces_by
from kintsugi.run.tables import Record

TRACES = "traces.jsonl"
KNOWN = {"step", "prompt", "completion", "advantage", "image", "images"}
"""TRL's columns that are no reward."""


@dataclass(frozen=True)
class Foreign:
    """Rollouts by step, as kintsugi.run.reading.Run has them; `recipe` says where they are from."""

    recipe: Mapping[str, Any]
    lines: Sequence[Record]
    versions: Mapping[str, str]
    evals: tuple[Record, ...] = ()
    incomplete: tuple[int, ...] = ()

    @cached_property
    def by_step(self) -> dict[int, list[Record]]:
        found: defaultdict[int, list[Record]] = defaultdict(list)
        for line in self.lines:
            found[line["step"]].append(line)
        return dict(sorted(found.items()))

    @property
    def written(self) -> tuple[int, ...]:
        return tuple(self.by_step)

    @property
    def steps(self) -> tuple[Record, ...]:
        return tuple(
            {"step": step, "reward": sum(line["reward"] for line in lines) / len(lines)}
            for step, lines in self.by_step.items()
        )

    def block(self, step: int) -> list[Data]:
        """A step as data (kintsugi.look.report.blocks), without repairs."""
        groups: defaultdict[str, list[Record]] = defaultdict(list)
        for line in self.by_step[step]:
            groups[line["question"]].append(line)
        return [
            {
                "id": f"prompt {i}",
                "question": question,
                "gold": lines[0]["gold"],
                "rollouts": [text_data(line, index) for index, line in enumerate(lines)],
                "mends": [],
            }
            for i, (question, lines) in enumerate(groups.items(), 1)
        ]


def text_data(line: Record, index: int) -> Data:
    """A rollout with its advantage, the same on every token; without tokens it is one."""
    advantage = short(line["advantage"])
    shown = {key: line[key] for key in ("text", "verdict", "message")}
    credit: Data | None = None if advantage is None else {"advantage": [advantage]}
    if line.get("pieces"):
        shown |= {"pieces": line["pieces"], "ids": line["ids"], "logprobs": shorts(line["logprobs"])}
        credit = {"advantage": shorts(line["advantages"])} if line["advantages"] else credit
    return shown | {"index": index, "reward": short(line["reward"]), "cut": False, "credit": credit}


def open_foreign(place: Path) -> Foreign:
    """The rollouts in a directory; KintsugiError where there are none of a known kind."""
    for folder in (place, place / "completions"):
        parquet = sorted(folder.glob("completions_*.parquet"))
        if parquet:
            return Foreign(
                {"library": "TRL", "files": len(parquet)}, [x for f in parquet for x in trl_lines(f)], {}
            )
    dumps = sorted((f for f in place.glob("*.jsonl") if f.stem.isdigit()), key=lambda f: int(f.stem))
    if dumps:
        return Foreign(
            {"library": "verl", "files": len(dumps)}, [x for f in dumps for x in verl_lines(f)], {}
        )
    if (place / TRACES).is_file():
        return Foreign({"library": "verifiers"}, trace_lines(place / TRACES), {})
    raise KintsugiError(
        f"{place}: nothing to report on; expected a run directory (recipe.yaml), TRL's completions_*.parquet, verl's "
        "STEP.jsonl files or verifiers' traces.jsonl"
    )


def trl_lines(path: Path) -> list[dict[str, Any]]:
    try:
        rows = pq.read_table(path).to_pylist()
    except (OSError, ValueError) as error:
        raise KintsugiError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    found = []
    for row in rows:
        rewards = {k: v for k, v in row.items() if k not in KNOWN and isinstance(v, int | float)}
        found.append(foreign_line(path, row, "prompt", "completion", sum(rewards.values()), rewards))
    return found


def verl_lines(path: Path) -> list[dict[str, Any]]:
    rows = objects(path)
    known = {"input", "output", "score", "step", "gts"}
    return [
        foreign_line(
            path, {"step": int(path.stem), **row}, "input", "output", row.get("score") or 0.0,
            {k: v for k, v in row.items() if k not in known},
        )
        for row in rows
    ]  # fmt: skip


def objects(path: Path) -> list[dict[str, Any]]:
    """The objects in a file of JSON lines; what a run that goes on has not finished writing has no end of line yet."""
    try:
        text = path.read_text(encoding="utf-8").splitlines(keepends=True)
        rows = [json.loads(line) for line in text if line.endswith("\n")]
        if any(not isinstance(row, dict) for row in rows):
            raise ValueError("expected an object in each line")
    except (OSError, ValueError) as error:
        raise KintsugiError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    return rows


def trace_lines(path: Path) -> list[dict[str, Any]]:
    """A line for each trace of verifiers 0.4: its last branch, from the first message that the model wrote."""
    tokenizer = path.parent / "tokenizer" / "tokenizer.json"
    known = Tokenizer.from_file(str(tokenizer)) if tokenizer.is_file() else None
    try:
        return [trace_line(row, trace, known) for row in objects(path) for trace in row["traces"]]
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise KintsugiError(
            f"{path}: expected episodes of verifiers 0.4 ({type(error).__name__}: {' '.join(str(error).split())})"
        ) from None


def trace_line(row: Mapping[str, Any], trace: Mapping[str, Any], tokenizer: Any) -> dict[str, Any]:
    branch: list[Mapping[str, Any]] = []
    place: int | None = len(trace["nodes"]) - 1 if trace["nodes"] else None
    while place is not None:
        branch.insert(0, trace["nodes"][place])
        place = branch[0].get("parent")
    start = next((i for i, node in enumerate(branch) if node.get("sampled")), len(branch))
    wrote = [node for node in branch if node.get("sampled")]
    ids = [t for n in wrote for t, own in zip(n.get("token_ids", ()), n.get("mask", ()), strict=True) if own]
    advantages = [a for node in wrote for a in node.get("advantages") or ()]
    rewards = {name: r["score"] * r.get("weight", 1.0) for name, r in trace.get("rewards", {}).items() if r}
    reward = sum(rewards.values())
    told = [f"{name}: {value:g}" for name, value in rewards.items()]
    if len(set(advantages)) > 1:
        told.append(f"token advantages from {min(advantages):+.3f} to {max(advantages):+.3f}")
    return {
        "step": (row.get("run") or {}).get("work", {}).get("step", 0),
        "question": "\n".join(turn_text(node, start > 1) for node in branch[:start]),
        "gold": text_of(trace["task"]["data"].get("answer", "")),
        "text": "\n".join(turn_text(node, len(branch) - start > 1) for node in branch[start:]),
        "verdict": "rewarded" if reward > 0 else "no reward",
        "reward": float(reward),
        "message": ", ".join([*told, *(f"{e['type']}: {e['message']}" for e in trace.get("errors", ()))]),
        "advantage": sum(advantages) / len(advantages) if advantages else None,
        "pieces": pieces_by(tokenizer, ids),
        "ids": ids,
        "logprobs": [p for node in wrote for p in node.get("logprobs", ())],
        "advantages": advantages,
    }


def turn_text(node: Mapping[str, Any], named: bool) -> str:
    """The text of a message, after its role where there are several."""
    content = node["message"].get("content") or ""
    text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    return f"{node['message']['role']}: {text}" if named else text


def foreign_line(
    path: Path, row: Mapping[str, Any], question: str, text: str, reward: float, more: Mapping[str, Any]
) -> dict[str, Any]:
    missing = [name for name in ("step", question, text) if name not in row]
    if missing:
        raise KintsugiError(
            f"{path}: expected the columns step, {question} and {text}; {missing[0]!r} is missing"
        )
    return {
        "step": int(row["step"]),
        "question": text_of(row[question]),
        "gold": text_of(row.get("gts", "")),
        "text": text_of(row[text]),
        "verdict": "rewarded" if reward > 0 else "no reward",
        "reward": float(reward),
        "message": ", ".join(f"{k}: {v}" for k, v in more.items()),
        "advantage": row.get("advantage"),
    }


def text_of(value: Any) -> str:
    """A text, or a conversation of messages as text."""
    if isinstance(value, list) and value and all(isinstance(m, Mapping) and "content" in m for m in value):
        return "\n".join(f"{m.get('role', '')}: {m['content']}" for m in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
