"""Edges of data: prompts that are too long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import kintsugi.run.measuring
from kintsugi.assembly import assemble
from kintsugi.config import Recipe
from kintsugi.models.codec import HFCodec
from kintsugi.models.nano import nano_tokenizer
from kintsugi.prompts import PLAIN, load_prompts
from kintsugi.records import KintsugiError, Problem, Turn
from kintsugi.run.measuring import measure
from kintsugi.sampling.room import CHUNK, fitting

CODEC = HFCodec(nano_tokenizer(), (256,))


def problem(prompt: str, before: tuple[Turn, ...] | None = None) -> Problem:
    return Problem(prompt[:4], prompt, "1", {}, before)


EDGES = [
    problem("1+1?"),
    problem("1" * 90),
    problem("1" * 98),
    problem("1" * 99),
    problem("é" * 49),
    problem("é" * 50),
    problem("<|end|>" * 14),
    problem("<|end|>" * 15),
    problem("1?", (Turn("user", "2" * 40), Turn("assistant", "3" * 53))),
    problem("1?", (Turn("user", "2" * 40), Turn("assistant", "3" * 54))),
]


def test_a_prompt_fits_by_its_tokens_whatever_it_holds() -> None:
    # Two role tokens and a token a byte: 98 bytes make 100 tokens. é has two bytes; a mark that is only spelled has
    # seven (14 of them: 98). The conversation has five tokens of its template and 2 + 40 + 53 bytes.
    fit, long = fitting(EDGES, CODEC, PLAIN, 100)
    assert [p in fit for p in EDGES] == [True, True, True, False, True, False, True, False, True, False]
    assert fit + long == sorted(EDGES, key=long.__contains__)
    assert CODEC.lengths([(p.prompt, p.before or ()) for p in EDGES]) == [
        len(CODEC.chat(p.prompt, p.before or ())) for p in EDGES
    ]
    assert fitting(EDGES, CODEC, PLAIN, None) == (EDGES, [])


def test_wording_and_examples_need_room_too() -> None:
    shown = {"name": "plain-v2", "examples": [{"question": "4" * 30, "answer": "5" * 30}]}
    prompts = load_prompts(shown)
    # user 30 assistant 30 end user 90 assistant: 5 + 150 tokens.
    assert fitting([problem("1" * 90)], CODEC, prompts, 155)[1] == []
    assert fitting([problem("1" * 90)], CODEC, prompts, 154)[0] == []


def test_many_prompts_are_counted_together_and_not_in_silence() -> None:
    said: list[str] = []
    many = [Problem(str(i), "1" * (100 + i % 2), "1") for i in range(CHUNK + 2)]
    fit, long = fitting(many, CODEC, PLAIN, 102, said.append)
    assert (len(fit), len(long)) == (CHUNK // 2 + 1, CHUNK // 2 + 1)
    assert said == [f"counting tokens: {start:,} of 2,002 prompts" for start in (0, 2000)]
    fitting(many[:CHUNK], CODEC, PLAIN, 102, said.append)
    assert len(said) == 2


def recipe_of(folder: Path, held_out: list[str]) -> Recipe:
    tables = {"train": [f"a={i}+1" for i in range(4)], "test": held_out}
    for name, texts in tables.items():
        lines = (json.dumps({"prompt": text, "answer": str(i)}) for i, text in enumerate(texts))
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    task = {
        "name": "table",
        "path": str(folder / "train.jsonl"),
        "eval_path": str(folder / "test.jsonl"),
        "eval_share": 0,
    }
    told = {"model": "nano", "task": task, "verifier": "exact", "prompts": "terse-v1", "dtype": "float32"}
    few = {"eval": {"problems": 3, "samples": 1}, "sampling": {"max_new_tokens": 8}, "threads": 1}
    return Recipe.parse(told | few, "test")


def test_a_held_out_prompt_that_is_too_long_is_left_out_and_named(tmp_path: Path) -> None:
    # 8,192 positions, one of which is left for an answer: two tokens of roles and 8,190 bytes are too many.
    parts = assemble(recipe_of(tmp_path, ["9" * 8_189, "9" * 8_190, "a=1+1", "not asked"]))
    name = f"{tmp_path.name}/test"
    assert [p.id for p in parts.eval_problems] == [f"{name}/1", f"{name}/3"]
    assert f"1 held-out problems do not fit 8191 tokens: left out ({name}/2)" in parts.notes
    with pytest.raises(
        KintsugiError, match="held-out problems of at most 8191 tokens: expected at least one"
    ):
        assemble(recipe_of(tmp_path, ["9" * 8_190]))


def test_two_models_are_compared_on_what_both_were_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(tmp_path, ["a=1+1", "a=1+2", "a=1+3"])
    left = iter(
        (slice(1, 3), slice(0, 2))
    )  # the first model has no room for the first, the second for the last

    def some(told: Recipe, **_: Any) -> Any:
        parts = assemble(told)
        parts.eval_problems = parts.eval_problems[next(left)]
        return parts

    monkeypatch.setattr(kintsugi.run.measuring, "assemble", some)
    found = measure(recipe, "r", before="nano")
    assert [p.prompt for p in found.problems] == ["a=1+2"]
    assert found.before is not None
    for result in (found.before.result, found.after.result):
        assert (result.problems, len(result.verdicts), len(result.texts)) == (1, 1, 1)
        assert sum(result.states.values()) == 1
    assert found.before.result.texts == found.after.result.texts
