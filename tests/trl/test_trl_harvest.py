"""What `kintsugi harvest` writes is what TRL's trainers read: two steps of each on the harvest of a tiny run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from transformers import AutoModelForTokenClassification
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from kintsugi import Recipe, train
from kintsugi.models.loading import NANO_DIR, load_model
from kintsugi.run.harvest import Form, harvest

SETTINGS: dict[str, Any] = {
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-4,
    "bf16": False,
    "use_cpu": True,
    "gradient_checkpointing": False,
    "save_strategy": "no",
    "logging_steps": 1,
    "report_to": [],
    "disable_tqdm": True,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One step of sixteen rollouts, of which some are mended."""
    recipe = {
        "model": "nano", "task": "dag", "prompts": "terse-v1", "steps": 1, "dtype": "float32", "threads": 1,
        "sampling": {"problems": 4, "group_size": 4, "max_new_tokens": 80}, "eval": {"problems": 4, "samples": 1},
        "output_dir": str(tmp_path_factory.mktemp("harvest") / "run"),
    }  # fmt: skip
    return train(Recipe.parse(recipe)).directory


def rows(run: Path, kind: Form, **choice: bool) -> Any:
    """The harvest as TRL's users load it."""
    path = harvest(run, kind, run / f"{kind}.jsonl", **choice)
    return load_dataset("json", data_files=str(path.path), split="train", cache_dir=str(run / "cache"))


def losses(trainer: Any) -> list[float]:
    """The loss of each step; the model must have moved."""
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    trainer.train()
    assert any((before[n] != p).any() for n, p in trainer.model.named_parameters())
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


@pytest.mark.parametrize("cut", [False, True])
def test_preferences_train_dpo(run: Path, tmp_path: Path, cut: bool) -> None:
    loaded = load_model("nano")
    found = losses(
        DPOTrainer(
            model=loaded.model,
            args=DPOConfig(str(tmp_path), **SETTINGS),
            processing_class=loaded.tokenizer,
            train_dataset=rows(run, "preference", cut=cut),
        )
    )
    # At the first step policy and reference are one: -log sigmoid(0) = log 2 = 0.693.
    assert len(found) == 2 and found[0] == pytest.approx(0.693, abs=1e-3)


def test_passes_and_repairs_train_sft(run: Path, tmp_path: Path) -> None:
    loaded = load_model("nano")
    found = losses(
        SFTTrainer(
            model=loaded.model,
            args=SFTConfig(str(tmp_path), **SETTINGS),
            processing_class=loaded.tokenizer,
            train_dataset=rows(run, "sft"),
        )
    )
    assert len(found) == 2 and all(0 < loss < 10 for loss in found)


def test_steps_train_a_process_reward_model(run: Path, tmp_path: Path) -> None:
    """TRL 1.13 was the last that had this trainer; the form of its data is that of others, too."""
    prm = pytest.importorskip("trl.experimental.prm")
    model = AutoModelForTokenClassification.from_pretrained(NANO_DIR, num_labels=2)
    found = losses(
        prm.PRMTrainer(
            model=model,
            args=prm.PRMConfig(str(tmp_path), **SETTINGS),
            processing_class=load_model("nano").tokenizer,
            train_dataset=rows(run, "stepwise"),
        )
    )
    assert len(found) == 2 and all(loss > 0 for loss in found)
