"""The main job on the shipped model: a run, its directory, its files read back, resume, Ctrl-C."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from conftest import tiny
from transformers import AutoModelForCausalLM, AutoTokenizer

from kintsugi import KintsugiError, Problem, assemble, train
from kintsugi.algorithms import ALGORITHMS
from kintsugi.models.loading import NANO_DIR
from kintsugi.records import Verdict
from kintsugi.run.checkpoint import saved
from kintsugi.run.evaluation import Estimate, EvalResult, evaluate
from kintsugi.run.session import TrainResult
from kintsugi.trainer import problems_of_step


def table(run: TrainResult, name: str) -> list[dict]:
    return pq.read_table(run.directory / name).to_pylist()


def metrics_of(directory: Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_the_run_mends_failures_and_writes_everything_down(iop_run: TrainResult) -> None:
    steps = [m for m in metrics_of(iop_run.directory) if "accuracy" in m]
    assert [m["step"] for m in steps] == [1, 2]
    rollouts = table(iop_run, "rollouts")
    for m in steps:
        mine = [r for r in rollouts if r["step"] == m["step"]]
        sampled = [r for r in mine if r["kind"] == "rollout"]
        assert len(sampled) == 4 * 4
        assert m["accuracy"] == sum(r["verdict"] == "pass" for r in sampled) / 16
        assert m["tokens/rollout"] == sum(len(r["token_ids"]) for r in sampled)
        assert m["tokens/generated"] == sum(len(r["token_ids"]) for r in mine)
        assert sum(m[f"groups/{kind}"] for kind in ("mixed", "all_passed", "all_failed")) == 4
        assert m["sampler_gap"] < 1e-4  # the sampler's log-probabilities are the learner's, up to fp32 noise
    assert sum(m["repair/success_per_sample"] or 0 for m in steps) > 0  # the shipped model can mend
    assert {"python", "torch", "transformers"} <= set(
        json.loads((iop_run.directory / "versions.json").read_text())
    )


def test_a_seam_on_disk_joins_a_failure_and_a_passing_repair(iop_run: TrainResult) -> None:
    rollouts = table(iop_run, "rollouts")
    seams = table(iop_run, "seams")
    assert seams
    for seam in seams:
        here = [r for r in rollouts if (r["step"], r["problem_id"]) == (seam["step"], seam["problem_id"])]
        (failed,) = [r for r in here if r["kind"] == "rollout" and r["index"] == seam["failed"]]
        (repair,) = [r for r in here if r["kind"] == "repair" and r["index"] == seam["repair"]]
        assert failed["verdict"] in ("fail", "unscorable")
        assert (repair["verdict"], repair["audit"]) == ("pass", "")
        assert 1 <= seam["kept"] <= len(seam["edit_kinds"])
        gated = [t for t, g in enumerate(seam["failed_mask"]) if g]
        # Strict masks gate the failure where the first edits are; extended ones add at most one a side.
        assert gated[0] == seam["edit_failed_at"][0] or seam["edit_failed_at"][0] == len(seam["failed_mask"])
        assert len(gated) <= seam["kept"]


def test_the_loss_of_a_policy_row_can_be_recomputed_from_the_file(iop_run: TrainResult) -> None:
    # From file to number: w = exp(sum g (log pi - log pi_old) / sum g), loss = -min(w A, clip(w) A) with
    # IOP's clip 1 - 3e-4 s .. 1 + 4e-4 s, where s = sqrt(T / active tokens).
    rows = [r for r in table(iop_run, "rows") if "seam" in dict(r["credit"])]
    assert any(r["ratio"] != 1.0 for r in rows)  # the second minibatch is off the old policy
    for row in rows:
        g = row["mask"]
        w = math.exp(
            sum(a - b for m, a, b in zip(g, row["logprobs"], row["old_logprobs"], strict=True) if m) / sum(g)
        )
        advantage = -1.0 if row["kind"] == "rollout" else 1.0
        assert {a for a, m in zip(dict(row["credit"])["seam"], g, strict=True) if m} == {advantage}
        s = math.sqrt(len(g) / sum(g))
        clipped = min(max(w, 1 - 3e-4 * s), 1 + 4e-4 * s)
        assert row["ratio"] == pytest.approx(w, abs=1e-5)
        assert row["loss"] == pytest.approx(-min(w * advantage, clipped * advantage), abs=1e-5)


def test_the_log_probabilities_on_disk_are_those_of_the_model_given_the_problem_alone(
    iop_run: TrainResult,
) -> None:
    # Step 1 starts from the shipped weights: a fresh forward pass of prompt + completion must agree, for the
    # failure and for the repair, which was sampled under another prompt.
    model = AutoModelForCausalLM.from_pretrained(NANO_DIR, dtype=torch.float32)
    rows = [r for r in table(iop_run, "rows") if r["step"] == 1 and "seam" in dict(r["credit"])]
    for row in rows[:4]:
        ids = torch.tensor([row["prompt_ids"] + row["completion_ids"]])
        with torch.no_grad():
            logprobs = model(ids).logits[0].log_softmax(-1)
        start = len(row["prompt_ids"])
        fresh = [
            logprobs[start + t - 1, token].item() if gate else math.nan
            for t, (token, gate) in enumerate(zip(row["completion_ids"], row["mask"], strict=True))
        ]
        assert row["old_logprobs"] == pytest.approx(fresh, abs=1e-4, nan_ok=True)


def test_the_checkpoint_loads_with_transformers_alone(iop_run: TrainResult) -> None:
    path = iop_run.directory / "checkpoints" / "step-000002"
    model = AutoModelForCausalLM.from_pretrained(path)
    base = AutoModelForCausalLM.from_pretrained(NANO_DIR)
    tokenizer = AutoTokenizer.from_pretrained(path)
    moved = [not torch.equal(a, b) for a, b in zip(model.parameters(), base.parameters(), strict=True)]
    assert any(moved)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "a=1+1"}], add_generation_prompt=True, return_dict=False
    )
    assert tokenizer.decode(ids) == "<|user|>a=1+1<|assistant|>"


def test_an_existing_run_is_never_overwritten_by_itself(iop_run: TrainResult) -> None:
    with pytest.raises(KintsugiError, match="--resume, --overwrite or output_dir"):
        train(tiny(iop_run.directory))


def test_resume_ends_where_the_uninterrupted_run_ends(iop_run: TrainResult, tmp_path: Path) -> None:
    # Step 1 with a checkpoint, then --resume to step 2: the same metrics and weights as two steps at once.
    train(tiny(tmp_path / "run", steps=1))
    train(tiny(tmp_path / "run", steps=2), resume=True)
    a, b = (
        [{k: v for k, v in m.items() if "seconds" not in k} for m in metrics_of(d) if m["step"] == 2]
        for d in (iop_run.directory, tmp_path / "run")
    )
    assert a == b
    weights = [
        AutoModelForCausalLM.from_pretrained(d / "checkpoints" / "step-000002").state_dict()
        for d in (iop_run.directory, tmp_path / "run")
    ]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


def test_a_budget_of_tokens_ends_the_run_and_spaces_its_evaluations(tmp_path: Path) -> None:
    # Steps cost about 1,000 tokens: the run ends with the first step at or past 5,000, and is evaluated before it,
    # after the first step at or past 2,000 and at or past 4,000, and at its end. A run cut in two does the same.
    changes = {
        "algorithm": "grpo",
        "budget": 5000,
        "steps": 1000,
        "eval": {"problems": 4, "samples": 2, "every_tokens": 2000},
    }
    whole = train(tiny(tmp_path / "whole", **changes))
    train(tiny(tmp_path / "cut", **{**changes, "budget": 2500}))
    cut = train(tiny(tmp_path / "cut", **changes), resume=True)
    metrics = metrics_of(whole.directory)
    totals = [m["tokens/total"] for m in metrics if "accuracy" in m]
    assert totals[-2] < 5000 <= totals[-1]
    assert whole.steps == cut.steps == len(totals)
    evaluated = [m["tokens/total"] for m in metrics if "eval/pass@1" in m]
    first_past = [next(t for t in totals if t >= mark) for mark in (2000, 4000)]
    assert evaluated == [0, *first_past, totals[-1]]
    assert [m["loss"] for m in metrics if "loss" in m] == [
        m["loss"] for m in metrics_of(cut.directory) if "loss" in m
    ]


def test_a_run_ends_when_its_evaluations_get_no_better(tmp_path: Path) -> None:
    # At a rate of 1e-30 no weight changes, so no evaluation is better than the first: the second and the third (after
    # steps 1 and 2) are the patience of two. What was evaluated is not evaluated again at the end.
    changes = {
        "algorithm": "grpo", "steps": 9, "optim": {"lr": 1e-30, "warmup": 0},
        "eval": {"problems": 2, "samples": 1, "every": 1, "patience": 2},
    }  # fmt: skip
    assert train(tiny(tmp_path / "run", **changes)).steps == 2
    assert [m["step"] for m in metrics_of(tmp_path / "run") if "eval/pass@1" in m] == [0, 1, 2]
    assert train(tiny(tmp_path / "run", **changes), resume=True).steps == 2
    assert [m["step"] for m in metrics_of(tmp_path / "run") if "eval/pass@1" in m] == [0, 1, 2]
    patient = {**changes, "steps": 3, "eval": {**changes["eval"], "patience": 0}}
    assert train(tiny(tmp_path / "run", **patient), resume=True).steps == 3


def test_a_better_evaluation_is_saved_and_gives_new_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pass@1 by step: 0.2, then 0.1, 0.3 (better: saved), 0.3, 0.2: two in a row that are no better than 0.3.
    scores = iter((0.2, 0.1, 0.3, 0.3, 0.2))

    def scored(parts: object, **_: object) -> EvalResult:
        p = Estimate(next(scores), 0.0, 1.0)
        return EvalResult(p, p, p, 1, p, 2, 0, 0.0, {}, ((Verdict("fail"),),), (("",),))

    monkeypatch.setattr("kintsugi.run.session.evaluate", scored)
    evaluation = {"problems": 2, "samples": 1, "every": 1, "patience": 2}
    assert train(tiny(tmp_path / "run", algorithm="grpo", steps=9, save_every=0, eval=evaluation)).steps == 4
    assert [p.name for p in saved(tmp_path / "run")] == ["step-000002", "step-000004"]


def test_a_resumed_run_must_be_the_same_run(iop_run: TrainResult) -> None:
    with pytest.raises(KintsugiError, match=r"the recipe has changed: seed \(0 -> 9\)"):
        train(tiny(iop_run.directory, seed=9, steps=3), resume=True)


def test_no_problem_comes_twice_in_a_step_and_every_epoch_is_shuffled_anew(tmp_path: Path) -> None:
    # 5 problems, 2 a step: two steps an epoch, the fifth problem is left out of the epoch.
    problems = [Problem(str(i), f"q{i}", "0") for i in range(5)]
    recipe = tiny(tmp_path, sampling={"problems": 2, "group_size": 2})
    epochs = [
        [p.id for step in (2 * e + 1, 2 * e + 2) for p in problems_of_step(problems, recipe, step)]
        for e in range(20)
    ]
    assert all(len(set(epoch)) == 4 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 10
    everything = tiny(tmp_path, sampling={"problems": 9, "group_size": 2})
    assert sorted(p.id for p in problems_of_step(problems, everything, 3)) == ["0", "1", "2", "3", "4"]


def test_held_out_problems_may_be_kept_for_another_purpose(tmp_path: Path) -> None:
    first, others = (
        assemble(tiny(tmp_path, eval={"problems": 3, "skip": skip})).eval_problems for skip in (0, 3)
    )
    assert len({p.id for p in (*first, *others)}) == 6
    with pytest.raises(KintsugiError, match=r"beyond eval\.skip=9999: expected at least one problem"):
        assemble(tiny(tmp_path, eval={"skip": 9999}))


@pytest.mark.parametrize("name", sorted(ALGORITHMS.built_in))
def test_every_algorithm_trains(name: str, tmp_path: Path) -> None:
    result = train(tiny(tmp_path / "run", algorithm=name, steps=1))
    (step,) = [m for m in metrics_of(tmp_path / "run") if "accuracy" in m]
    assert result.steps == 1
    assert step["updates"] == 2
    assert step["grad_norm"] > 0
    assert math.isfinite(step["loss"])
    # Every sampled text is on disk, and its tokens count once, in the phase they were spent in.
    spent = Counter[str]()
    for text in table(result, "rollouts"):
        if text["sibling"] is not None:
            continue  # a passing sibling taken as the repair: its tokens are those of its rollout
        spent[text["phase"] or text["kind"]] += len(text["token_ids"])
    assert sum(spent.values()) == step["tokens/generated"]
    assert all(step[f"tokens/{phase}"] == tokens for phase, tokens in spent.items())


def test_ctrl_c_ends_with_a_checkpoint_and_says_how_to_go_on(tmp_path: Path) -> None:
    recipe = tmp_path / "long.yaml"
    recipe.write_text(tiny(tmp_path / "run", steps=10_000).to_yaml())
    command = [sys.executable, "-m", "kintsugi.cli", "train", str(recipe)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ}
    ) as run:
        assert run.stdout is not None
        lines = []
        for line in run.stdout:
            lines.append(line)
            if line.startswith("step    2  accuracy"):
                run.send_signal(signal.SIGINT)
                break
        lines += run.stdout.readlines()
    assert run.returncode == 130, lines
    assert "--resume" in lines[-1]
    (saved,) = (tmp_path / "run" / "checkpoints").glob("step-*")
    assert int(saved.name.removeprefix("step-")) >= 2


def test_lora_trains_resumes_and_is_evaluated(tmp_path: Path) -> None:
    optim = {"lr": 1e-3, "warmup": 0, "lora": 2, "gradient_checkpointing": True}
    recipe = tiny(tmp_path / "run", optim=optim, steps=1)
    train(recipe)
    saved = tmp_path / "run" / "checkpoints" / "step-000001"
    assert (saved / "adapter_model.safetensors").is_file()
    assert not (saved / "model.safetensors").exists()  # the model itself is where it was
    base = json.loads((saved / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert Path(base).is_absolute() and (Path(base) / "model.safetensors").is_file()
    moved = tmp_path / "moved"  # to another machine, where the shipped model lies elsewhere
    shutil.copytree(saved, moved)
    settings = (moved / "adapter_config.json").read_text()
    (moved / "adapter_config.json").write_text(settings.replace(base, "nano"))
    assert assemble(tiny(tmp_path, model=str(moved))).loaded.model.peft_config
    result = train(tiny(tmp_path / "run", optim=optim, steps=2), resume=True)
    assert result.steps == 2
    adapted = assemble(tiny(tmp_path, model=str(saved)))  # a recipe without LoRA finds the adapters, too
    trained = [name for name, p in adapted.loaded.model.named_parameters() if p.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    assert evaluate(adapted).problems == 8
