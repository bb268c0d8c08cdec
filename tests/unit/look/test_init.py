"""`kintsugi init`: what a recipe says of data that nobody described."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kintsugi import trainer
from kintsugi.config import Recipe
from kintsugi.look.start import init
from kintsugi.records import KintsugiError


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_csv_file_becomes_a_recipe_that_passes_the_checks_of_a_run(tmp_path: Path) -> None:
    data = tmp_path / "train.csv"
    data.write_text("Question,Answer,level\n" + "".join(f"What is {i} + 1?,{i + 1},1\n" for i in range(40)))
    path = tmp_path / "my.yaml"
    text = init(path, str(data), "nano")
    said = yaml.safe_load(text)
    assert said["task"] == {"name": "table", "path": str(data), "prompt": "Question", "answer": "Answer"}
    assert (said["model"], said["verifier"], said["prompts"]) == ("nano", "math", "terse-v1")
    assert said["sampling"]["max_new_tokens"] == 512
    assert "# 100% of the gold answers pass it" in text
    assert "# questions have up to 15 characters" in text  # What is 39 + 1?
    train, held_out = map(
        int, text.partition("}  # ")[2].split(" held out")[0].split(" problems to train on, ")
    )
    assert train + held_out == 40
    assert trainer.outline(Recipe.load(path))[0] == f"{train} training problems, {held_out} held out"
    notes = [
        line for line in trainer.outline(Recipe.load(path)) if "nano knows the built-in task alone" in line
    ]
    assert len(notes) == 1  # not its task, though its prompts
    known = ("task=dag", "verifier=null")
    assert not any("nano knows" in line for line in trainer.outline(Recipe.load(path, known)))
    chat = trainer.outline(Recipe.load(path, (*known, "prompts=chat-v2")))
    assert sum("nano knows" in line for line in chat) == 1
    with pytest.raises(KintsugiError, match="there is a file already; pass --overwrite"):
        init(path, str(data), "nano")
    assert init(path, str(data), "nano", overwrite=True) == text


def test_answers_and_questions_decide_verifier_wording_and_lengths(tmp_path: Path) -> None:
    words = [{"question": f"The colour {i}?", "answer": ["red", "blue"][i % 2]} for i in range(30)]
    assert "verifier: exact" in init(tmp_path / "a.yaml", write(tmp_path / "a.jsonl", words), "nano")
    # Solutions of 899 characters: twice that is 600 tokens of three characters, in steps of 128 640.
    boxed = [
        {"problem": f"Find {i}. Put it into \\boxed{{}}.", "solution": "x" * 890 + f"\\boxed{{{i % 10}}}"}
        for i in range(30)
    ]
    said = yaml.safe_load(init(tmp_path / "b.yaml", write(tmp_path / "b.jsonl", boxed), "some/model"))
    assert (said["prompts"], said["verifier"], said["sampling"]["max_new_tokens"]) == (
        "plain-v2",
        "math",
        640,
    )
    verl = [
        {"prompt": [{"role": "user", "content": f"{i} + 1?"}], "reward_model": {"ground_truth": str(i + 1)}}
        for i in range(30)
    ]
    said = yaml.safe_load(init(tmp_path / "c.yaml", write(tmp_path / "c.jsonl", verl), "nano"))
    assert said["task"]["answer"] == "reward_model.ground_truth"


def test_a_verifier_that_does_not_fit_is_doubted(tmp_path: Path) -> None:
    rows = [{"question": f"Tell of {i}.", "answer": f"First {i}\nand then\nmore of {i}."} for i in range(30)]
    text = init(tmp_path / "a.yaml", write(tmp_path / "a.jsonl", rows), "nano")
    assert "of the gold answers pass it: write a function of your own" in text


def test_two_tables_with_other_columns_keep_them(tmp_path: Path) -> None:
    train = write(tmp_path / "t.jsonl", [{"question": f"{i}+1?", "answer": i + 1} for i in range(9)])
    held_out = write(tmp_path / "e.jsonl", [{"problem": "7+8?", "answer": 15}])
    said = yaml.safe_load(init(tmp_path / "a.yaml", train, "nano", eval_path=held_out))
    assert said["task"] == {"name": "table", "path": train, "eval_path": held_out}
