"""The reward functions of one TRL script, unchanged: in `kintsugi train` and in the bridge they say the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from runs import nano_trainer

from kintsugi.config import Recipe
from kintsugi.plugins import load_object
from kintsugi.run.reading import Run
from kintsugi.tasks.dag import DagTask
from kintsugi.trainer import train

SCRIPT = '''
import re

from trl.rewards import accuracy_reward

async def correctness(prompts, completions, solution, log_metric, trainer_state, **kwargs):
    """2 for the right number, 0 for another."""
    said = [completion[0]["content"].rpartition("####")[2].strip() for completion in completions]
    log_metric("steps_made", trainer_state.global_step)
    return [2.0 if f"{{{a}}}" in gold else 0.0 for a, gold in zip(said, solution)]

def steps(completions, completion_ids, log_extra, **kwargs):
    """A penalty for each line of work; none without any."""
    lines = [completion[0]["content"].count("\\n") for completion in completions]
    assert all(len(ids) > n for ids, n in zip(completion_ids, lines))
    log_extra("lines", lines)
    return [-0.1 * n if n else None for n in lines]
'''
NAMES = ("correctness", "steps", "accuracy_reward")
WEIGHTS = (1.0, 0.5, 0.2)


def rows() -> list[dict[str, Any]]:
    return [
        {"prompt": [{"role": "user", "content": p.prompt}], "solution": f"\\boxed{{{p.answer}}}"}
        for p in DagTask().train()[:24]
    ]


def checked(run: Run) -> None:
    """What both runs must have: each function's mean, the sum, what was logged, and repairs by the first function."""
    (step,) = run.steps
    paid = {name: step[f"reward/{name}"] for name in NAMES}
    assert paid["correctness"] == 2 * step["accuracy"] > 0 > paid["steps"]
    assert paid["accuracy_reward"] == 0  # the model writes no box
    assert step["verdict/error"] == 0
    assert step["logged/lines"] == pytest.approx(-10 * paid["steps"], abs=1e-4)
    assert step["logged/steps_made"] == 0
    verdicts = [r.verdict for p in run.problems(1) for r in p.episode.rollouts]
    for verdict in verdicts:
        found = {part.name: part.reward for part in verdict.parts}
        expected = found["correctness"] - 0.5 * 0.1 * verdict.logged["lines"]
        assert verdict.passed == (found["correctness"] == 2) and verdict.total == pytest.approx(
            expected, abs=1e-5
        )
    assert any(p.episode.repairs for p in run.problems(1))


def test_a_scripts_functions_run_in_recipes_and_in_trl(tmp_path: Path) -> None:
    script, table = tmp_path / "rewards.py", tmp_path / "train.jsonl"
    script.write_text(SCRIPT)
    table.write_text("\n".join(map(json.dumps, rows())))
    specs = [{"name": f"{script}:{name}", "weight": w} for name, w in zip(NAMES, WEIGHTS, strict=True)]
    recipe = Recipe.load(
        "recipes/quickstart.yaml", [f"output_dir={tmp_path / 'run'}", "steps=1", "eval.problems=2"]
    ).model_copy(
        update={
            "task": {"name": "table", "path": str(table), "answer": "solution", "eval_share": 0.2},
            "verifier": specs,
        }
    )
    train(recipe)
    checked(Run.open(tmp_path / "run"))
    functions = [load_object(f"{script}:{name}", "reward") for name in NAMES]
    trainer = nano_trainer(
        tmp_path / "trl",
        reward_funcs=functions,
        train_dataset=Dataset.from_list(rows()),
        settings={"reward_weights": list(WEIGHTS)},
    )
    trainer.train()
    checked(Run.open(tmp_path / "trl" / "kintsugi"))
    (theirs,) = trainer.logged("rewards/steps/mean")
    assert trainer.logged("kintsugi/reward/steps") == [pytest.approx(theirs, abs=1e-6)]
