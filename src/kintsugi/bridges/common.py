"""The parts that the bridges share: a recipe, a problem and an algorithm made of what another trainer knows."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kintsugi.config import Recipe
from kintsugi.files import write_whole
from kintsugi.plugins import Spec
from kintsugi.records import Episode, KintsugiError, Problem, Row, Turn
from kintsugi.run.metrics import episode_metrics

Messages = Sequence[Mapping[str, Any]]
MEMORY = "kintsugi_memory.json"
"""The anchors of earlier passes, in another trainer's checkpoints."""


def bridge_recipe(
    algorithm: Spec,
    *,
    group_size: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    prompts: Spec = "plain-v2",
    scouts: int = 0,
    witnesses: int = 1,
    problems: int = 8,
    **known: Any,
) -> Recipe:
    """The part of a recipe that generation reads, and what else is `known` of the other trainer, by the recipe's keys.

    KintsugiError for what cannot be.
    """
    sampling = {
        "problems": problems,
        "group_size": group_size,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "scouts": scouts,
        "witnesses": witnesses,
    }
    told = {"algorithm": algorithm, "prompts": prompts, "seed": seed, "sampling": sampling}
    return Recipe.parse({"model": "the trainer's", "task": "the trainer's", **known, **told}, "bridge")


def problem_of(name: str, prompt: str | Messages, answer: object, columns: Mapping[str, Any]) -> Problem:
    """A text or a conversation, whose last turn is the user's, as a Problem; `answer` is for verifiers alone.

    KintsugiError where the conversation ends otherwise or holds more than text.
    """
    told = "" if answer is None else str(answer)
    if isinstance(prompt, str):
        return Problem(name, prompt, told, columns)
    turns = [Turn(str(m.get("role")), m.get("content")) for m in prompt]  # type: ignore[arg-type]
    if not turns or turns[-1].role != "user" or not all(isinstance(t.content, str) for t in turns):
        shown = ", ".join(f"{t.role} ({type(t.content).__name__})" for t in turns) or "nothing"
        raise KintsugiError(
            f"problem {name}: expected a conversation of texts that ends with the user's, got {shown}"
        )
    return Problem(name, turns[-1].content, told, columns, tuple(turns[:-1]))


def all_of(errors: Sequence[KintsugiError]) -> None:
    """Raises what speaks against a run, if anything does: all of it at once."""
    if errors:
        raise KintsugiError("; ".join(map(str, errors)))


def told_apart(names: Iterable[str]) -> list[str]:
    """The names, with a number where one comes again: a data set may ask a question twice."""
    seen, found = Counter[str](), []
    for name in names:
        seen[name] += 1
        found.append(f"{name}/{seen[name]}" if seen[name] > 1 else name)
    return found


def logged_numbers(episodes: Sequence[Episode], rows: Sequence[Row]) -> dict[str, float]:
    """The numbers of a step that have a value, for another trainer's logs: kintsugi.run.metrics.episode_metrics."""
    found = episode_metrics(episodes, rows)
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def keep_memory(checkpoint: Path, memory: Mapping[str, str]) -> None:
    """Writes the texts of earlier passes, by problem, into a checkpoint's folder."""
    write_whole(checkpoint / MEMORY, json.dumps(memory))


def kept_memory(checkpoint: Path) -> dict[str, str]:
    """The texts that `keep_memory` wrote there, by problem; {} where it wrote nothing."""
    path = checkpoint / MEMORY
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
