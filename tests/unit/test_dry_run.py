"""A dry run makes the checks that a run makes before it loads a model, and says what the recipe comes to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kintsugi import coldstart, trainer
from kintsugi.config import Recipe
from kintsugi.records import KintsugiError


def quickstart(*overrides: str) -> Recipe:
    return Recipe.load(Path(__file__).parents[2] / "recipes" / "quickstart.yaml", overrides)


@pytest.mark.parametrize(
    ("outline", "override", "message"),
    [
        (trainer.outline, "sampling.group_size=1", "sampling.group_size: kintsugi compares the rollouts"),
        (
            trainer.outline,
            "task={name: table, path: nowhere.csv}",
            "task table: path: no such file 'nowhere.csv' in HERE",
        ),
        (trainer.outline, "verifier=rewards.py:score", "no such file 'rewards.py' in HERE"),
        (trainer.outline, "eval.skip=500", "held-out problems beyond eval.skip=500"),
        (trainer.outline, "trackers=wandbb", "unknown 'wandbb'"),
        (trainer.outline, "engine=vlm", "engine: unknown 'vlm'"),
        (coldstart.outline, "task.steps=0", "steps"),
        (coldstart.outline, "sft.data=nowhere.jsonl", "nowhere.jsonl cannot be read .* in HERE"),
    ],
)
def test_what_a_run_would_refuse_is_refused(
    outline: Callable[[Recipe], list[str]], override: str, message: str
) -> None:
    """HERE stands for the working directory, in which relative paths are looked for."""
    with pytest.raises(KintsugiError, match=message.replace("HERE", re.escape(str(Path.cwd())))):
        outline(quickstart(override))


def test_a_column_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("question,answer\n1+1?,2\n2+2?,4\n")
    task = f"task={{name: table, path: {path}, prompt: problem}}"
    with pytest.raises(KintsugiError, match=r"row 1: no column 'problem'; there are question, answer"):
        trainer.outline(quickstart(task, "verifier=math"))
    said = trainer.outline(
        quickstart(f"task={{name: table, path: {path}, eval_share: 0.5}}", "verifier=math")
    )
    assert said[0] == "1 training problems, 1 held out"
    assert said[-2] == f"note: task table: {path}: prompts from column question, answers from answer"


def test_a_cold_start_has_its_own_arithmetic(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    line = {"prompt": "a=1+1", "completion": "a=2\n#### 2"}
    pair = {"prompt": "a=1+1", "failed": "a=3\n#### 3", "anchor": None, "repaired": "a=2\n#### 2"}
    data.write_text("".join(json.dumps(x) + "\n" for x in (line, line, line, pair)))
    settings = ("sft.batch=8", "sft.repair_share=0.25", "steps=10", "budget=1000")
    said = coldstart.outline(quickstart(*settings, f"sft.data={data}"))
    # A quarter of 8 are 2 repairs. In 10 steps 60 solutions are learned out of 3, and 20 repairs out of 1.
    assert said[1:5] == [
        "8 examples a step: 6 solutions and 2 repair pairs",
        "10 steps = 80 examples",
        f"3 solutions in {data}: each is seen 20.0 times",
        f"1 repair pairs in {data}: each is seen 20.0 times",
    ]
    assert "ends after 1,000 tokens trained on" in said
    assert coldstart.outline(quickstart(*settings))[3] == "the task writes them"
    task = tmp_path / "t.jsonl"
    task.write_text("".join(json.dumps({"prompt": f"{i}+1?", "answer": i + 1}) + "\n" for i in range(100)))
    held = tmp_path / "h.jsonl"
    held.write_text(json.dumps({"prompt": "x?", "answer": 1}))
    own = f"task={{name: table, path: {task}, eval_path: {held}}}"
    few = ("sampling.group_size=4", "sampling.max_new_tokens=50")
    said = coldstart.outline(quickstart(*settings, own, "verifier=math", *few))
    # 64 of the 100 problems, 4 samples of each, 50 tokens at most.
    assert (
        said[3]
        == "the model writes them first: 64 problems x 4 samples = 256 completions, at most 12,800 tokens"
    )
