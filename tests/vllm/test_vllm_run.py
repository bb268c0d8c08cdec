"""The quickstart on vLLM, through the public functions."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM

from kintsugi import Recipe, train
from kintsugi.models.loading import load_model
from kintsugi.run.console import Reporter
from kintsugi.run.export import export
from kintsugi.run.reading import Run
from kintsugi.run.session import TrainResult
from kintsugi.sampling.vllm import VllmSampler

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"
OVERRIDES = ["engine.name=vllm", "engine.memory=0.25", "threads=1", "eval.problems=8", "eval.samples=2"]


def quickstart(directory: Path, *more: str) -> tuple[TrainResult, str]:
    """The run and what it said."""
    said = io.StringIO()
    recipe = Recipe.load(QUICKSTART, [*OVERRIDES, f"output_dir={directory}", *more])
    result = train(recipe, reporter=Reporter(recipe.steps, console=Console(file=said, width=1000)))
    return result, said.getvalue()


def steps_of(run: TrainResult) -> list[dict]:
    lines = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    return [m for m in lines if "accuracy" in m]


def test_the_quickstart_samples_the_policy_it_trains(tmp_path: Path) -> None:
    run, said = quickstart(tmp_path / "run", "steps=3")
    steps = steps_of(run)
    assert [m["step"] for m in steps] == [1, 2, 3]
    assert sum(m["repair/success_per_sample"] or 0 for m in steps) > 0
    # Three steps at lr 4e-5, 8e-5, 1.2e-4 (warm-up): without a push the third would be off by far more than this.
    assert all(m["sampler_gap"] < 1e-3 for m in steps)
    assert "warning" not in said
    assert run.after is not None


def test_weights_that_are_not_pushed_are_warned_of_with_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push = VllmSampler.push

    def first_only(self: VllmSampler) -> None:
        if self._held is None:
            push(self)
        self._held = self._version()

    monkeypatch.setattr(VllmSampler, "push", first_only)
    run, said = quickstart(tmp_path / "run", "steps=3", "optim.lr=1e-3", "optim.warmup=0")
    assert steps_of(run)[0]["sampler_gap"] < 1e-3 < 1e-1 < steps_of(run)[2]["sampler_gap"]
    assert "warning: sampler and learner disagree: their log-probabilities of" in said
    assert "the sampler's weights are out of date" in said


def test_adapters_are_sampled_merged_and_their_export_loads_in_plain_transformers(tmp_path: Path) -> None:
    run, said = quickstart(tmp_path / "run", "steps=3", "optim.lora=8", "optim.lr=2e-3", "optim.warmup=0")
    # Not pushed, or without the adapters, the third step would be off by far more than rounding.
    assert all(m["sampler_gap"] < 1e-3 for m in steps_of(run))
    assert "warning" not in said
    export(Run.open(run.directory), tmp_path / "merged", merge=True)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    adapters = load_model(str(run.directory / "checkpoints" / "step-000003"), device="cpu").model
    ids = torch.tensor([[5, 9, 2, 40, 7]])
    with torch.no_grad():
        assert torch.allclose(plain(ids).logits, adapters(ids).logits, atol=1e-3)
        assert not torch.allclose(
            plain(ids).logits, load_model("nano", device="cpu").model(ids).logits, atol=0.1
        )
