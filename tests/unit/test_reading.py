"""A run directory is read back as it was written, while it is written, and after it was cut off."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from fakes import make_repair
from runs import FAILED, MENDED, make_episode, write_run
from tokenizers import Tokenizer, decoders, models

from kintsugi.reading import Run
from kintsugi.records import Episode, KintsugiError


def test_texts_are_joined_with_their_seam_and_credit(tmp_path: Path) -> None:
    (problem,) = Run.open(write_run(tmp_path / "run", make_episode())).problems(1)
    assert (problem.problem_id, problem.question, problem.gold) == ("p/1", "2+3?", "5")
    failed, passing, other = problem.rollouts
    assert [t.verdict for t in problem.rollouts] == ["fail", "pass", "fail"]
    # Blame -10 at the seam, token 7; the first int(0.7 * 7) = 4 tokens are praised, the rest gets nothing.
    (blame,) = failed.credit
    assert blame.role == "failed"
    assert [a * g for a, g in zip(blame.advantages, blame.gates, strict=True)] == [
        1, 1, 1, 1, 0, 0, 0, -10, 0,
    ]  # fmt: skip
    # Rewards 0, 1, 0: mean 1/3, deviation sqrt(2)/3; so (1 - 1/3) / (sqrt(2)/3) = sqrt(2) and -1/sqrt(2).
    assert math.isclose(passing.credit[0].advantages[0], math.sqrt(2), rel_tol=1e-4)
    assert math.isclose(other.credit[0].advantages[0], -1 / math.sqrt(2), rel_tol=1e-4)
    mended, rejected = problem.mends
    assert mended.seam is not None and rejected.seam is None
    assert (mended.seam.edits, mended.seam.kept, mended.seam.kept_by) == ((("replace", 7, 7),), 1, "K")
    assert "".join(failed.pieces) == FAILED + "<stop>" and "".join(mended.seam.pieces) == MENDED + "<stop>"
    assert mended.seam.repaired_credit[0].advantages[7] == 10
    assert mended.seam.failed_credit == failed.credit
    assert mended.why == "accepted: it passes the verifier and every audit rule, distance 0.12"
    assert rejected.why == "rejected by the audit (answer_only); the verifier said pass"


def test_a_verdict_that_is_no_pass_is_the_reason(tmp_path: Path) -> None:
    episode = make_episode()
    bare = Episode(episode.problem, episode.rollouts, (make_repair(0, "x", 0.0), make_repair(2, "#### 5")))
    (problem,) = Run.open(write_run(tmp_path / "run", bare)).problems(1)
    assert [m.why for m in problem.mends] == [
        "the verifier said fail",
        "passes, but another candidate scored higher",
    ]


def test_iop_rows_are_joined_too(tmp_path: Path) -> None:
    run = Run.open(write_run(tmp_path / "run", make_episode(), algorithm="iop"))
    seam = run.problems(1)[0].mends[0].seam
    assert seam is not None
    # IOP opens the seam alone: one token on either side, blamed and praised by the same amount.
    (blame,), (praise,) = seam.failed_credit, seam.repaired_credit
    assert [i for i, g in enumerate(blame.gates) if g] == [7] == [i for i, g in enumerate(praise.gates) if g]
    assert blame.advantages[7] == -praise.advantages[7] < 0


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
    assert run.problems(1)[0].rollouts[0].pieces == ()
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
