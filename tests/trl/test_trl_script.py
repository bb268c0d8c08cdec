"""A script as TRL's pages have them, with two weighted rewards, LoRA and an evaluation set: three lines make it
Kintsugi's, and `kintsugi report` shows the failures that it mended."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from kintsugi.look.report import write_report
from kintsugi.models.loading import NANO_DIR
from kintsugi.run.reading import Run
from kintsugi.tasks.dag import DagTask

SCRIPT = """
import re

from datasets import load_dataset
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

dataset = load_dataset("json", data_files={"train": "train.jsonl", "test": "test.jsonl"})


def accuracy_reward(completions, solution, **kwargs):
    contents = [completion[0]["content"] for completion in completions]
    return [1.0 if c.rpartition("####")[2].strip() == s else 0.0 for c, s in zip(contents, solution)]


def format_reward(completions, **kwargs):
    contents = [completion[0]["content"] for completion in completions]
    return [1.0 if re.search(r"#### -?[0-9]+$", c.strip()) else 0.0 for c in contents]


training_args = GRPOConfig(
    output_dir="grpo",
    learning_rate=2e-3,
    reward_weights=[1.0, 0.2],
    per_device_train_batch_size=48,
    num_generations=8,
    max_completion_length=80,
    max_steps=STEPS,
    eval_strategy="steps",
    eval_steps=5,
    per_device_eval_batch_size=48,
    logging_steps=1,
    save_strategy="no",
    report_to=[],
    bf16=False,
    use_cpu=True,
)
trainer = GRPOTrainer(
    model=MODEL,
    args=training_args,
    reward_funcs=[accuracy_reward, format_reward],
    train_dataset=dataset["train"],
    eval_dataset=dataset["test"],
    peft_config=LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"),
)
trainer.train()
"""
CHANGES = (
    (
        "from trl import GRPOConfig, GRPOTrainer\n",
        "from trl import GRPOConfig\nfrom kintsugi.bridges.trl import KintsugiGRPOTrainer\n",
    ),
    ("trainer = GRPOTrainer(\n", "trainer = KintsugiGRPOTrainer(\n"),
    ("    args=training_args,\n", '    args=training_args,\n    algorithm="kintsugi",\n'),
)  # fmt: skip


def run(script: str, folder: Path, steps: int) -> Any:
    """The trainer of a script that was run in a folder with its data."""
    folder.mkdir()
    for name, problems in {"train": DagTask().train()[:400], "test": DagTask().evaluation()[:24]}.items():
        rows = [{"prompt": [{"role": "user", "content": p.prompt}], "solution": p.answer} for p in problems]
        lines = (json.dumps(row) for row in rows)
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    (folder / "train.py").write_text(
        script.replace("MODEL", repr(str(NANO_DIR))).replace("STEPS", str(steps))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return runpy.run_path("train.py")["trainer"]


def changed() -> str:
    script = SCRIPT
    for before, after in CHANGES:
        assert script.count(before) == 1
        script = script.replace(before, after)
    return script


def test_three_lines_make_a_script_of_trls_kintsugis(tmp_path: Path) -> None:
    assert type(run(SCRIPT, tmp_path / "before", 1)).__name__ == "GRPOTrainer"
    trainer = run(changed(), tmp_path / "after", 5)
    assert type(trainer).__name__ == "KintsugiGRPOTrainer"
    found = Run.open(tmp_path / "after" / "grpo")
    assert [line["step"] for line in found.steps] == [1, 2, 3, 4, 5]
    assert found.recipe["verifier"] == "accuracy_reward, format_reward"
    assert sum(len(p.episode.seams) for step in found.written for p in found.problems(step)) > 5
    # Passing is the first function's word alone; the group compares the weighted sum of both.
    rollouts = [r for p in found.problems(1) for r in p.episode.rollouts]
    assert all(r.verdict.passed == (r.verdict.reward == 1.0) for r in rollouts)
    page = write_report(tmp_path / "after" / "grpo").read_text()
    assert "Failures mended" in page and "Held-out accuracy" in page
