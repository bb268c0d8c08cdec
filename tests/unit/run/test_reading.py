"""A run directory is read back as it was written, while it is written, and after it was cut off."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import make_repair, make_rollout
from runs import make_episode, write_run
from tokenizers import Tokenizer, decoders, models

from kintsugi.algorithms import load_algorithm
from kintsugi.records import Check, Edit, Episode, Extra, KintsugiError, Problem, Repair, Seam, Verdict
from kintsugi.run.reading import Run, why


def test_what_is_written_is_what_is_read_back(tmp_path: Path) -> None:
    episode = make_episode()
    check = Check(1, make_rollout("a\n#### 5", 1.0))
    extra = Extra("repair", 2, 3, make_rollout("cut", Verdict("error", message="broke"), finish="length"))
    (seam,) = episode.seams
    episode = replace(episode, seams=(replace(seam, checks=(check,)),), extras=(extra,))
    (found,) = Run.open(write_run(tmp_path / "run", episode)).problems(1)
    assert found.episode == episode
    assert list(found.rows) == load_algorithm("kintsugi").rows(episode)
    assert [s is not None for s in found.stats] == [row.active > 0 for row in found.rows]


def test_credit_is_told_by_reason(tmp_path: Path) -> None:
    (found,) = Run.open(write_run(tmp_path / "run", make_episode())).problems(1)
    # Blame -10 at the seam, token 7; the first int(0.7 * 7) = 4 tokens are praised, the rest gets nothing.
    assert found.credit("rollout", 0) == {
        "seam": (0, 0, 0, 0, 0, 0, 0, -10, 0), "prefix": (1, 1, 1, 1, 0, 0, 0, 0, 0),
    }  # fmt: skip
    # Rewards 0, 1, 0: mean 1/3, deviation sqrt(2)/3; so (1 - 1/3) / (sqrt(2)/3) = sqrt(2) and -1/sqrt(2).
    assert found.credit("rollout", 1) == {"group": pytest.approx([math.sqrt(2)] * 7)}
    assert found.credit("rollout", 2) == {"group": pytest.approx([-1 / math.sqrt(2)] * 7)}
    assert found.credit("repair", 0) == {"seam": (0, 0, 0, 0, 0, 0, 0, 10, 0)}
    assert found.credit("repair", 1) == {}  # rejected: trained in repair mode alone


def test_iop_credits_the_seam_alone(tmp_path: Path) -> None:
    (found,) = Run.open(write_run(tmp_path / "run", make_episode(), algorithm="iop")).problems(1)
    assert found.credit("rollout", 0) == {"seam": (0, 0, 0, 0, 0, 0, 0, -1, 0)}
    assert found.credit("repair", 0) == {"seam": (0, 0, 0, 0, 0, 0, 0, 1, 0)}
    assert (
        found.credit("rollout", 1) == {} and len(found.rows_of("rollout", 1)) == 1
    )  # counts, without credit


def test_a_sibling_that_serves_as_a_repair_has_both_its_credits(tmp_path: Path) -> None:
    """Rollout 0 fails, its sibling 1 passes and is its repair: "#### 4" and "#### 5" differ at token 5."""
    gates = (0, 0, 0, 0, 0, 1, 0)
    failed, good = make_rollout("#### 4"), make_rollout("#### 5", 1.0)
    repair = Repair(0, None, good, "", 1 / 7, 0.9, sibling=1)
    seam = Seam(0, 0, (Edit("replace", 5, 5),), 1, "K", (), gates, gates)
    episode = Episode(Problem("p", "2+3?", "5"), (failed, good), (repair,), (seam,))
    (found,) = Run.open(write_run(tmp_path / "run", episode)).problems(1)
    # As a rollout: rewards 0 and 1, so +1 on every token. As a repair: +10 at the seam.
    both = {"group": (1.0,) * 7, "seam": (0, 0, 0, 0, 0, 10, 0)}
    assert found.credit("rollout", 1) == found.credit("repair", 0) == both
    assert found.episode == episode


def test_why_a_repair_was_taken_or_not() -> None:
    good, bad = make_episode().repairs
    assert why(good, True) == "accepted: it passes the verifier and every audit rule, distance 0.12"
    assert why(bad, False) == "rejected by the audit (answer_only); the verifier said pass"
    assert why(make_repair(0, "x", 0.0), False) == "the verifier said fail"
    assert why(good, False) == "passes, but another candidate scored higher"


def test_metrics_are_told_apart_from_evaluations(tmp_path: Path) -> None:
    run = Run.open(write_run(tmp_path / "run", make_episode(), make_episode()))
    assert [line["step"] for line in run.steps] == [1, 2] == list(run.written)
    assert [line["eval/pass@1"] for line in run.evals] == [0.25, 0.5]
    assert run.recipe["model"] == "fake" and "torch" in run.versions


def test_a_run_that_was_cut_off_is_read_up_to_there(tmp_path: Path) -> None:
    place = write_run(tmp_path / "run", make_episode(), make_episode(), tokenizer=False)
    with (place / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 3, "lo')
    (place / "rows" / "step-000002.parquet").unlink()
    run = Run.open(place)
    assert run.written == (1,) and len(run.steps) == 2
    assert run.pieces(run.problems(1)[0].episode.rollouts[0].completion.token_ids) == ()
    (place / "seams" / "step-000001.parquet").write_bytes(b"PAR1")
    with pytest.raises(KintsugiError, match=r"step-000001.parquet: cannot be read"):
        run.problems(1)


def test_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(KintsugiError, match=r"no run directory \(expected recipe.yaml and versions.json"):
        Run.open(tmp_path)


def test_a_character_of_several_tokens_belongs_to_its_last(tmp_path: Path) -> None:
    place = write_run(tmp_path / "run", make_episode(), tokenizer=False)
    # Byte-level: é is the bytes C3 A9, which stand in the vocabulary as the characters Ã and ©.
    bpe = Tokenizer(models.BPE(vocab={"a": 0, "Ã": 1, "©": 2}, merges=[]))
    bpe.decoder = decoders.ByteLevel()
    (place / "tokenizer").mkdir()
    bpe.save(str(place / "tokenizer" / "tokenizer.json"))
    assert Run.open(place).pieces((0, 1, 2, 0)) == ("a", "", "é", "a")
