"""Before and after training: solutions that exist are mended, and what a run found is handed on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import tiny
from typer.testing import CliRunner

from kintsugi import KintsugiError, harvest, mend, train
from kintsugi.cli import app
from kintsugi.look.diagnose import diagnose
from kintsugi.run.reading import Run
from kintsugi.run.session import TrainResult
from kintsugi.run.solutions import read_solutions
from kintsugi.yamls import read_yaml

SMALL = {
    "model": "nano", "prompts": "terse-v1", "verifier": "exact", "threads": 1, "dtype": "float32",
    "sampling": {"problems": 3, "group_size": 4, "max_new_tokens": 80},
}  # fmt: skip


@pytest.fixture(scope="module")
def found(iop_run: TrainResult, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The rollouts of a run, mended once more without training."""
    place = tmp_path_factory.mktemp("mend") / "run"
    return mend(read_solutions(iop_run.directory), {**SMALL, "output_dir": str(place)})


def test_failures_are_mended_and_written_down_as_by_a_run(found: Any, iop_run: TrainResult) -> None:
    run = Run.open(found)
    given = [r for s in run.written for p in run.problems(s) for r in p.episode.rollouts]
    before = {
        r["text"] for r in pq.read_table(iop_run.directory / "rollouts").to_pylist()
        if r["kind"] == "rollout" and r["finish"] == "stop"
    }  # fmt: skip
    assert {r.text for r in given} == before and found.solutions == len(given)
    assert found.failures == sum(not r.verdict.passed for r in given)
    seams = [s for step in run.written for p in run.problems(step) for s in p.episode.seams]
    assert 0 < len(seams) == found.mended <= found.failures
    assert str(found).startswith(f"{found.failures} of {found.solutions} solutions failed, {found.mended} of")
    # Eight problems, three at a time.
    assert run.written == (1, 2, 3) and [line["updates"] for line in run.steps] == [0, 0, 0]
    assert not list(run.directory.glob("checkpoints/*"))
    assert read_yaml(run.directory / "recipe.yaml")["task"] == "python:solutions"
    assert diagnose(run).early


def test_a_failure_without_a_passing_sibling_gets_one_drawn(found: Any) -> None:
    """The passes that were drawn are kept as extras, and their tokens are counted."""
    run = Run.open(found)
    for step in run.written:
        for problem in run.problems(step):
            lacking = not any(r.verdict.passed for r in problem.episode.rollouts)
            assert len(problem.episode.extras) == (4 if lacking else 0)
    extras = [e.rollout for s in run.written for p in run.problems(s) for e in p.episode.extras]
    drawn = sum(len(r.completion.token_ids) for r in extras)
    assert drawn < run.steps[-1]["tokens/total"]


def test_what_cannot_mend_is_refused(iop_run: TrainResult, found: Any, tmp_path: Path) -> None:
    given = read_solutions(iop_run.directory)
    with pytest.raises(KintsugiError, match="mend: expected a verifier"):
        mend(given, {**SMALL, "verifier": None, "output_dir": str(tmp_path / "a")})
    with pytest.raises(KintsugiError, match="mend: algorithm grpo repairs nothing"):
        mend(given, {**SMALL, "algorithm": "grpo", "output_dir": str(tmp_path / "a")})
    with pytest.raises(KintsugiError, match="a run is there already"):
        mend(given, {**SMALL, "output_dir": str(found.directory)})


def test_the_commands_say_what_came_of_it(iop_run: TrainResult, tmp_path: Path) -> None:
    rows = pq.read_table(iop_run.directory / "rollouts").to_pylist()
    failed = [r for r in rows if r["kind"] == "rollout" and r["verdict"] == "fail"][:4]
    lines = [{"prompt": r["question"], "completion": r["text"], "answer": r["gold"]} for r in failed]
    (tmp_path / "failures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["--model", "nano", "--verifier", "exact", "--output", str(tmp_path / "run"), "prompts=terse-v1"]
    words += ["sampling.max_new_tokens=80", "sampling.group_size=4", "threads=1"]
    done = CliRunner().invoke(app, ["mend", str(tmp_path / "failures.jsonl"), *words])
    assert done.exit_code == 0, done.output
    assert "4 of 4 solutions failed" in done.output and (tmp_path / "run/report.html").is_file()
    done = CliRunner().invoke(app, ["harvest", str(iop_run.directory), "--as", "preference", "--cut"])
    path = iop_run.directory / "harvest-preference.jsonl"
    assert f"harvested: {path} ({len(path.read_text().splitlines())} lines)" in done.output


# ---- harvest


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_preferences_are_repair_over_failure_cut_after_the_seam_or_whole(
    iop_run: TrainResult, tmp_path: Path
) -> None:
    run = Run.open(iop_run)
    texts = {
        (s, p.episode.problem.id, kind, i): r.text
        for s in run.written for p in run.problems(s)
        for kind, rs in (("failed", p.episode.rollouts), ("repair", [x.rollout for x in p.episode.repairs]))
        for i, r in enumerate(rs)
    }  # fmt: skip
    whole = read(harvest(iop_run, "preference", tmp_path / "whole.jsonl").path)
    cut = read(harvest(iop_run, "preference", tmp_path / "cut.jsonl", cut=True).path)
    assert whole and cut
    for lines in (whole, cut):
        for line in lines:
            of = line["provenance"]
            where = of["step"], of["problem"]
            chosen, rejected = (line[side][0]["content"] for side in ("chosen", "rejected"))
            repair, failed = texts[*where, "repair", of["repair"]], texts[*where, "failed", of["failed"]]
            assert line["prompt"][-1]["role"] == "user"
            if of["cut"]:
                assert repair.startswith(chosen) and failed.startswith(rejected) and chosen != rejected
                assert "\n" in repair[len(chosen) :][:1] or chosen == repair.rstrip()  # whole steps
            else:
                assert (chosen, rejected) == (repair, failed)


def test_steps_are_labelled_up_to_the_first_wrong_one(iop_run: TrainResult, tmp_path: Path) -> None:
    lines = read(harvest(iop_run, "stepwise", tmp_path / "s.jsonl").path)
    assert {line["provenance"]["side"] for line in lines} == {"failed", "repair"}
    for line in lines:
        wrong = line["provenance"]["side"] == "failed"
        assert line["labels"] == [True] * (len(line["completions"]) - 1) + [not wrong]
    sides = {json.dumps({**line["provenance"], "side": ""}): {} for line in lines}
    for line in lines:
        sides[json.dumps({**line["provenance"], "side": ""})][line["provenance"]["side"]] = line[
            "completions"
        ]
    both = [pair for pair in sides.values() if len(pair) == 2]
    assert both
    for pair in both:  # the same steps before the one where they part
        assert pair["failed"][:-1] == pair["repair"][:-1] and pair["failed"][-1] != pair["repair"][-1]


def test_only_what_passed_is_taught(iop_run: TrainResult, tmp_path: Path) -> None:
    lines = read(harvest(iop_run, "sft", tmp_path / "s.jsonl").path)
    rows = pq.read_table(iop_run.directory / "rollouts").to_pylist()
    passed = {r["text"] for r in rows if r["verdict"] == "pass" and r["kind"] in ("rollout", "repair")}
    texts = [(line["prompt"][-1]["content"], line["completion"][0]["content"]) for line in lines]
    assert {text for _, text in texts} <= passed and len(set(texts)) == len(texts)


def test_held_out_problems_never_leave(tmp_path: Path) -> None:
    """A run on four problems; then its recipe's task calls two of them held out."""
    rows = [{"prompt": f"a={i}+1,b=a+2", "answer": str((i + 3) % 10)} for i in range(8)]
    files = {"train": rows[:6], "held": rows[6:]}
    for name, some in files.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    task = {"name": "table", "path": str(tmp_path / "train.jsonl"), "eval_path": str(tmp_path / "held.jsonl")}
    result = train(
        tiny(tmp_path / "run", task=task, verifier="exact", steps=1, eval={"problems": 2, "samples": 1})
    )
    before = read(harvest(result, "sft").path)
    asked = sorted({line["prompt"][-1]["content"] for line in before})
    assert len(asked) > 1
    (tmp_path / "held.jsonl").write_text(json.dumps({"prompt": asked[0], "answer": "0"}) + "\n")
    found = harvest(result, "sft")
    assert found.notes == ("1 held-out problems are left out",)
    assert sorted({line["prompt"][-1]["content"] for line in read(found.path)}) == asked[1:]


def test_a_run_that_found_nothing_says_so(tmp_path: Path) -> None:
    result = train(tiny(tmp_path / "run", steps=1, algorithm="grpo"))
    with pytest.raises(KintsugiError, match="nothing to harvest as preference: no failure was mended"):
        harvest(result, "preference")
    (tmp_path / "mine.jsonl").write_text("{}")
    with pytest.raises(KintsugiError, match=r"mine\.jsonl"):
        harvest(result, "sft", tmp_path / "mine.jsonl")
