"""`kintsugi init`: a recipe for data that nobody has described yet, made of what is found in them.

print(draft("train.csv", "Qwen/Qwen3-0.6B", "runs/mine"))
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kintsugi.config import Recipe
from kintsugi.models.nano import NANO, NOTE
from kintsugi.plugins import Spec
from kintsugi.records import KintsugiError, Problem
from kintsugi.tasks import evaluation_problems, load_task, training_problems
from kintsugi.tasks.table import TableTask
from kintsugi.verifiers import load_verifier
from kintsugi.yamls import load_yaml

ASKED = 100
RIGHT = 0.95
"""The share of gold answers that a verifier must know again."""
TESTS = {"tests", "test_list", "test", "input_output"}
"""Columns by which verifier `code` judges."""
FORMULA = re.compile(r"[\d\\]")
FORMS = ("####", "\\boxed", "<answer>")
"""Marks of an answer: a question that holds one says itself how to answer."""
LETTERS = 3
"""Characters that make a token, to be on the safe side."""


def init(recipe: Path, data: str, model: str, overwrite: bool = False, **named: Any) -> str:
    """Writes a recipe for these data and returns it. `named`: arguments of task `table` that are known.

    KintsugiError for data that cannot be read, and where a file is in the way.
    """
    if recipe.exists() and not overwrite:
        raise KintsugiError(f"{recipe}: there is a file already; pass --overwrite, or another name")
    text = draft(data, model, f"runs/{recipe.stem}", **named)
    try:
        recipe.write_text(text, encoding="utf-8")
    except OSError as error:
        raise KintsugiError(f"{recipe}: cannot be written ({error.strerror})") from None
    return text


def draft(data: str, model: str, output_dir: str, **named: Any) -> str:
    """The text of a recipe, with comments that say what was found."""
    spec = {"name": "table", "path": data, **{key: value for key, value in named.items() if value}}
    task = load_task(dict(spec))
    assert isinstance(task, TableTask)
    train, held_out = training_problems(task), evaluation_problems(task)
    if (
        len(taken := set(task.taken)) == 1
    ):  # two tables may name their columns differently: then each finds its own
        (columns,) = taken
        spec |= {"prompt": columns.prompt[0] if len(columns.prompt) == 1 else list(columns.prompt)}
        spec |= {"answer": columns.answer}
    verifier, known = guess(train)
    longest, written = text_lengths(train)
    wording = (
        "plain-v2"
        if share_that(train, lambda p: any(form in p.prompt for form in FORMS)) > 0.5
        else "chat-v2"
    )
    if model in NANO:
        wording = "terse-v1"
    told = f"{known:.0%} of the gold answers pass it"
    doubt = "" if known >= RIGHT else ": write a function of your own, verifier: my_rewards.py:score"
    parts: list[tuple[str, Any, str]] = [
        ("model", model, NOTE if model in NANO else ""),
        ("task", spec, f"{len(train):,} problems to train on, {len(held_out):,} held out"),
        ("verifier", verifier, told + doubt),
        ("prompts", wording, WORDINGS[wording]),
        ("algorithm", "kintsugi", ""),
        ("steps", 100, ""),
        ("output_dir", output_dir, ""),
        (
            "sampling",
            {"problems": min(8, len(train)), "group_size": 8, "max_new_tokens": room(written)},
            f"questions have up to {longest:,} characters"
            + (f", worked solutions mostly up to {written:,}" if written else ""),
        ),
        ("optim", {"lr": 1e-6}, ""),
    ]
    text = f"# Written by kintsugi init. Next: kintsugi doctor\n{''.join(map(line, parts))}"
    Recipe.parse(load_yaml(text), "init")
    return text


WORDINGS = {
    "chat-v2": "asks for steps, and for the answer after ####",
    "terse-v1": "adds nothing: nano's own",
    "plain-v2": "adds nothing: the questions say themselves how to answer",
}


def line(part: tuple[str, Any, str]) -> str:
    """One key of a recipe as YAML, with a comment."""
    key, value, comment = part
    said = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)
    comment = f"  # {comment}" if comment else ""
    return f"{key}: {said.removesuffix('...' + chr(10)).rstrip()}{comment}\n"


def guess(problems: Sequence[Problem]) -> tuple[Spec, float]:
    """(the verifier that knows most gold answers again, the share that it knows)."""
    asked = list(problems[:: max(1, len(problems) // ASKED)])[:ASKED]
    if share_that(asked, lambda p: bool(TESTS & p.columns.keys())) > 0.5:
        names: tuple[str, ...] = ("code",)
    elif share_that(asked, lambda p: bool(FORMULA.search(p.answer))) > 0.5:
        names = ("math", "exact")
    else:
        names = ("exact", "math")
    rates = dict(pass_rates(names, asked))
    best = next((name for name in names if rates[name] >= RIGHT), max(names, key=lambda name: rates[name]))
    return best, rates[best]


def pass_rates(names: Sequence[str], problems: Sequence[Problem]) -> Iterator[tuple[str, float]]:
    for name in names:
        verifier = load_verifier(name)
        form = "```python\n{}\n```" if name == "code" else "#### {}"
        yield name, share_that(problems, lambda p, v=verifier, f=form: v(p, [f.format(p.answer)])[0].passed)


def share_that(problems: Sequence[Problem], holds: Any) -> float:
    return sum(map(bool, map(holds, problems))) / len(problems)


def text_lengths(problems: Sequence[Problem]) -> tuple[int, int]:
    """(the longest question, the length of nineteen in twenty worked solutions or 0), in characters."""
    longest = max(len(p.prompt) + sum(len(t.content) for t in p.before or ()) for p in problems)
    solutions = sorted(map(solution, (p.columns for p in problems)))
    return longest, solutions[len(solutions) * 19 // 20]


def solution(columns: Mapping[str, Any]) -> int:
    """The characters of a worked solution, where the data have one."""
    texts = (columns.get(name) for name in ("solution", "rationale", "reasoning", "explanation", "code"))
    return max((len(text) for text in texts if isinstance(text, str)), default=0)


def room(written: int) -> int:
    """Tokens of a completion: twice a worked solution of so many characters in steps of 128, or 512 where there is none
    to go by."""
    return min(4096, max(256, -(-2 * written // LETTERS // 128) * 128)) if written else 512
