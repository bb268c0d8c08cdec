"""Siblings as repairs, on the shipped model: one step, read back from disk."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
from conftest import tiny

from kintsugi import train


def test_siblings_mend_without_a_generated_token_and_every_credit_is_learned(tmp_path: Path) -> None:
    algorithm = {"name": "kintsugi", "source": "sibling", "failures": 0}
    train(tiny(tmp_path / "run", steps=1, algorithm=algorithm))
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    (metrics,) = [m for m in lines if "accuracy" in m]
    texts, rows = (pq.read_table(tmp_path / "run" / name).to_pylist() for name in ("rollouts", "rows"))
    assert metrics["groups/mixed"] > 0
    assert metrics["tokens/generated"] == metrics["tokens/rollout"]
    assert {text["kind"] for text in texts} == {"rollout", "repair"}
    taken = [text for text in texts if text["kind"] == "repair"]
    assert taken
    own = {(t["problem_id"], tuple(t["token_ids"])) for t in texts if t["kind"] == "rollout"}
    assert all((t["problem_id"], tuple(t["token_ids"])) in own for t in taken)
    assert {(row["kind"], row["term"]) for row in rows} == {("rollout", "policy"), ("repair", "policy")}
    assert {reason for row in rows for reason, _ in row["credit"]} == {"group", "prefix", "seam"}
    # Every row with credit went through the learner, as did siblings' own sampling log-probabilities.
    for row in rows:
        assert (row["loss"] is not None) == any(a for _, values in row["credit"] for a in values)
        assert row["sampling_logprobs"] is not None
    assert metrics["sampler_gap"] < 1e-3
    assert 0 < metrics["active_ratio"] <= 1
