"""Cold start: from a file, from a task that demonstrates, and from the model's own verified samples."""

from __future__ import annotations

import json
import math
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import tiny

from kintsugi import KintsugiError, sft, train
from kintsugi.assembly import Parts, assemble
from kintsugi.coldstart import (
    SAMPLED_PROBLEMS,
    ColdStart,
    corrupted,
    mixed_rows,
    read_examples,
    sample_examples,
    sibling_pairs,
)
from kintsugi.files import digest
from kintsugi.records import Completion, Rollout, Row, Verdict
from kintsugi.run.console import Reporter
from kintsugi.sampling.base import Request

FEW = {"sft": {"batch": 8, "repair_share": 0.25}}


def metrics_of(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def losses(directory: Path) -> list[float]:
    return [m["loss"] for m in metrics_of(directory) if "loss" in m]


def rows_of(parts: Parts) -> list[Row]:
    """The rows of a first step."""
    lessons = ColdStart()
    lessons.prepare(parts, Reporter(0), None, 0)
    return mixed_rows(parts, lessons.solutions, lessons.pairs)


def weights(directory: Path, step: int) -> str:
    return digest(directory / "checkpoints" / f"step-{step:06d}" / "model.safetensors")


def test_a_file_of_solutions_and_repair_pairs_is_learned(tmp_path: Path) -> None:
    data = tmp_path / "examples.jsonl"
    examples = [
        {"prompt": "a=1+1", "completion": "a=1+1=2\n#### 2"},
        {
            "prompt": "a=1+1",
            "failed": "a=1+1=3\n#### 3",
            "anchor": "a=1+1=2\n#### 2",
            "repaired": "a=1+1=2\n#### 2",
        },
        {"prompt": "a=1+1", "failed": "a=1+1=3\n#### 3", "repaired": "a=1+1=2\n#### 2"},
    ]
    data.write_text("\n".join(map(json.dumps, examples)) + "\n")
    changes = {"batch": 4, "repair_share": 0.5, "data": str(data)}
    sft(tiny(tmp_path / "run", model="nano-random", steps=12, optim={"lr": 3e-3, "warmup": 2}, sft=changes))
    seen = losses(tmp_path / "run")
    # Random weights start at about log(264) = 5.6 nats a token (more, as they are confidently wrong); the same
    # three examples over and over are soon known.
    assert seen[0] > 0.8 * math.log(264)
    assert seen[-1] < 0.5 * seen[0]


def test_what_is_sampled_beside_examples_is_learned_without_them(tmp_path: Path) -> None:
    examples = [{"question": "a=7+7", "answer": "a=7+7=4\n#### 4"}]
    data = tmp_path / "train.jsonl"
    data.write_text(
        "\n".join(json.dumps({"question": f"a={i}+1", "answer": str((i + 1) % 10)}) for i in range(8))
    )
    recipe = tiny(
        tmp_path / "run",
        task={"name": "table", "path": str(data), "prompt": "question", "answer": "answer"},
        prompts={"name": "terse-v1", "examples": examples},
        steps=1,
        sft={"batch": 8, "repair_share": 0.25},
        sampling={"group_size": 8},
    )
    asked: list[str] = []
    parts = assemble(recipe)
    session = parts.sampler.session()
    put = session.put

    def listening(ticket: int, request: Request) -> None:
        asked.append(parts.loaded.tokenizer.decode(list(request.prompt_ids)))
        put(ticket, request)

    session.put = listening  # type: ignore[method-assign]
    parts.sampler = SimpleNamespace(session=lambda: session)  # type: ignore[assignment]
    rows = rows_of(parts)
    shown = "<|user|>a=7+7<|assistant|>"
    assert asked and all(shown in text for text in asked)
    assert [shown in parts.loaded.tokenizer.decode(row.prompt_ids) for row in rows] == [False] * 8


def test_rows_of_a_demonstrating_task_hold_solutions_and_repairs_in_the_asked_share(tmp_path: Path) -> None:
    parts = assemble(tiny(tmp_path / "run", **FEW))
    rows = rows_of(parts)
    decoded = [parts.loaded.tokenizer.decode(row.prompt_ids) for row in rows]
    assert ["mend:" in text for text in decoded] == [False] * 6 + [True] * 2  # 0.25 of 8
    for row in rows:
        assert row.completion_ids[-1] == parts.loaded.tokenizer.eos_token_id
        assert row.active == len(row.completion_ids)


def test_without_a_demonstrator_the_model_teaches_itself(tmp_path: Path) -> None:
    # The same problems through a JSON Lines file: no generator of solutions, only a verifier.
    dag = assemble(tiny(tmp_path / "unused"))
    data = tmp_path / "data.jsonl"
    with data.open("w") as file:
        for p in dag.train_problems[:80]:
            file.write(json.dumps({"prompt": p.prompt, "answer": p.answer}) + "\n")
    recipe = tiny(
        tmp_path / "run",
        task={"name": "table", "path": str(data), "eval_share": 0.5},
        verifier="exact",
        steps=1,
        **FEW,
    )
    parts = assemble(recipe)
    lessons = ColdStart()
    lessons.prepare(parts, Reporter(0), None, 0)
    solutions, pairs = lessons.solutions, lessons.pairs
    for prompt, text, _ in islice(solutions, 20):
        (problem,) = [p for p in parts.train_problems if p.prompt == prompt]
        assert parts.verifier(problem, [text])[0].passed
    for pair in islice(pairs, 20):
        (problem,) = [p for p in parts.train_problems if p.prompt == pair.prompt]
        verdicts = parts.verifier(problem, [pair.repaired, pair.failed])
        assert verdicts[0].passed
        assert pair.failed != pair.repaired
        assert pair.anchor != pair.repaired
    assert sft(recipe).steps == 1


@pytest.mark.parametrize("teacher", ["task", "itself"])
def test_a_cold_start_that_is_resumed_ends_as_if_it_had_not_been_stopped(
    teacher: str, tmp_path: Path
) -> None:
    """Three steps, then two more, beside five at once. What the model wrote for itself is not sampled again: after
    three steps it would write other examples."""
    changes: dict[str, Any] = {**FEW, "save_every": 1, "sampling": {"group_size": 4, "max_new_tokens": 60}}
    if teacher == "itself":
        dag = assemble(tiny(tmp_path / "unused"))
        lines = [json.dumps({"prompt": p.prompt, "answer": p.answer}) for p in dag.train_problems[:80]]
        (tmp_path / "data.jsonl").write_text("\n".join(lines))
        changes |= {"task": {"name": "table", "path": str(tmp_path / "data.jsonl"), "eval_share": 0.5}}
        changes |= {"verifier": "exact"}
    whole = sft(tiny(tmp_path / "whole", steps=5, **changes))
    sft(tiny(tmp_path / "parts", steps=3, **changes))
    resumed = sft(tiny(tmp_path / "parts", steps=5, **changes), resume=True)
    assert (whole.steps, resumed.steps) == (5, 5)
    assert weights(tmp_path / "whole", 3) == weights(tmp_path / "parts", 3)
    assert weights(tmp_path / "whole", 5) == weights(tmp_path / "parts", 5)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    assert (tmp_path / "parts" / "examples.jsonl").is_file() == (teacher == "itself")
    with pytest.raises(KintsugiError, match=r"the command has changed \(sft -> train\)"):
        train(tiny(tmp_path / "parts", steps=6, **changes), resume=True)


def test_a_budget_of_a_cold_start_is_of_tokens_trained_on(tmp_path: Path) -> None:
    # The first step's tokens are known from a run of one; a budget just above them is spent by the second.
    one = tiny(tmp_path / "one", steps=1, **FEW)
    sft(one)
    (first,) = [line["tokens/train"] for line in metrics_of(tmp_path / "one") if "loss" in line]
    assert sft(tiny(tmp_path / "run", steps=9, budget=first + 1, **FEW)).steps == 2


def test_samples_of_all_problems_asked_are_examples_and_each_text_once(tmp_path: Path) -> None:
    parts = assemble(tiny(tmp_path / "run", **FEW))
    problems = parts.train_problems[:70]  # more than are sampled at once
    solutions, _ = sample_examples(parts, problems)
    assert len(set(solutions)) == len(solutions) > 0
    solved = {solution.prompt for solution in solutions}
    assert solved <= {problem.prompt for problem in problems}
    assert solved & {problem.prompt for problem in problems[SAMPLED_PROBLEMS:]}


def test_a_corrupted_solution_changes_one_number_wherever_it_comes_later() -> None:
    import random

    # The only number is 7, twice; it becomes 8, 9 or 17 from the drawn place on.
    pair = corrupted("q", "x = 7\n#### 7", [], random.Random(0))
    assert pair is not None
    assert pair.repaired == "x = 7\n#### 7"
    assert pair.failed != pair.repaired
    assert pair.anchor is None
    assert corrupted("q", "no digits", [], random.Random(0)) is None


def test_sibling_pairs_take_the_nearest_pass_as_repair_and_the_next_as_anchor() -> None:
    def rollout(text: str) -> Rollout:
        ids = tuple(map(ord, text))
        return Rollout((1,), Completion(ids, (0.0,) * len(ids), "stop", 0), text, Verdict("pass", 1.0))

    near, far = rollout("aab"), rollout("xyz")
    (pair,) = sibling_pairs("q", [far, near], [rollout("aaa")])
    assert (pair.failed, pair.repaired, pair.anchor) == ("aaa", "aab", "xyz")
    assert sibling_pairs("q", [near], [rollout("aaa")]) == []  # the anchor would be the repair itself


@pytest.mark.parametrize(
    ("line", "said"),
    [("{oops", "line 1: not valid JSON"), ('{"prompt": "x"}', "line 1: expected prompt and completion")],
)
def test_a_bad_example_is_named_by_its_line(line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(KintsugiError, match=said):
        read_examples(path)
