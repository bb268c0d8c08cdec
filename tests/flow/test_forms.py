"""The forms of a repair, and credit outside the seam, on the shipped model: one step each, read back from disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from conftest import tiny

from kintsugi import train


def one_step(directory: Path, **options: Any) -> tuple[dict[str, Any], list[dict], list[dict]]:
    """(metrics, texts, rows) of one step with these options of IOP."""
    train(tiny(directory, steps=1, algorithm={"name": "iop", "k": 1, **options}))
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    (metrics,) = [m for m in lines if "accuracy" in m]
    tables = [pq.read_table(directory / name).to_pylist() for name in ("rollouts", "rows")]
    return metrics, tables[0], tables[1]


def test_siblings_mend_without_a_generated_token_and_every_credit_is_learned(tmp_path: Path) -> None:
    options = {"form": "sibling", "check": "none", "praise": 1.0, "prefix": 0.1, "soft": 0.1}
    metrics, texts, rows = one_step(tmp_path / "run", **options, advantages="group")
    assert metrics["groups/mixed"] > 0
    assert metrics["tokens/generated"] == metrics["tokens/rollout"]
    assert {text["kind"] for text in texts} == {"rollout", "repair"}
    taken = [text for text in texts if text["kind"] == "repair"]
    assert taken
    own = {(t["problem_id"], tuple(t["token_ids"])) for t in texts if t["kind"] == "rollout"}
    assert all((t["problem_id"], tuple(t["token_ids"])) in own for t in taken)
    assert {row["role"] for row in rows} == {"failed", "repaired", "rest", "policy"}
    # Every row with credit went through the learner, as did siblings' own sampling log-probabilities.
    for row in rows:
        assert (row["loss"] is not None) == any(row["advantages"])
        assert row["sampling_logprobs"] is not None
    assert metrics["sampler_gap"] < 1e-3
    assert 0 < metrics["active_ratio"] <= 1


def test_patches_are_written_counted_and_trained(tmp_path: Path) -> None:
    # The shipped model was never shown a patch: what it writes is none, and is counted and trained as such.
    metrics, texts, rows = one_step(tmp_path / "run", form="patch", without_pass="alone")
    written = [text for text in texts if text["kind"] == "repair"]
    assert metrics["repair/samples"] == len(written) > 0
    assert metrics["tokens/repair"] == sum(len(text["token_ids"]) for text in written)
    rejected = [text for text in written if text["audit"] == "no_patch"]
    assert metrics["audit/no_patch"] == len(rejected) > 0
    assert {(text["verdict"], text["score"]) for text in rejected} == {("unscorable", 0.0)}
    assert sum(row["role"] == "repair" for row in rows) == len(written)
