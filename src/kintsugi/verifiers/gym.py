"""`verifier: gym`: reasoning-gym's own scorers.

Some of them evaluate the model's text (countdown: sympy's parse_expr), so they can hang and run code:
they are called in a Worker.
"""

from __future__ import annotations

import importlib.util
import math
import pickle
from collections.abc import Sequence
from functools import cache
from typing import Any

from kintsugi.records import KintsugiError, Problem, Verdict
from kintsugi.verifiers.base import UNKNOWN, Sampled
from kintsugi.verifiers.extract import UNENDED, final_answer, spoken
from kintsugi.verifiers.guard import Judge, Worker

COLUMNS = ("dataset", "config", "entry")


class GymVerifier:
    """Reward 1 iff the generator's scorer gives at least 1, else 0: partial scores are not paid.

    Needs the problem columns `dataset` (the generator's name), `config` (its arguments) and `entry`.
    timeout: seconds one text may take. KintsugiError when reasoning-gym is not installed.
    """

    def __init__(self, timeout: float = 10.0) -> None:
        if importlib.util.find_spec("reasoning_gym") is None:
            raise KintsugiError("verifier gym: needs reasoning-gym (pip install -e '.[gym]')")
        self.worker = Worker("kintsugi.verifiers.gym:prepare", "reasoning_gym", timeout)

    def __call__(self, problem: Problem, texts: Sequence[str], sampled: Sampled = UNKNOWN) -> list[Verdict]:
        missing = [name for name in COLUMNS if name not in problem.columns]
        if missing:
            raise KintsugiError(
                f"problem {problem.id} has no column {missing[0]!r}: verifier gym is for task reasoning_gym"
            )
        name, config, entry = (problem.columns[column] for column in COLUMNS)
        return self.worker.judge((name, pickle.dumps(dict(config)), dict(entry)), texts)


def prepare(payload: tuple[str, bytes, dict[str, Any]]) -> Judge:
    """The judge of one text for an entry of a generator (runs in the worker)."""
    name, config, entry = payload
    dataset = generator(name, config)
    lines = str(entry.get("answer") or "").count("\n") + 1

    def judge(text: str) -> Verdict:
        said = spoken(text)
        if said is None:
            return UNENDED
        answer = final_lines(said, lines)
        if answer is None:
            return Verdict("unscorable", message="the completion is empty")
        score = float(dataset.score_answer(answer, entry))
        if math.isnan(score):
            return Verdict("error", message=f"reasoning-gym's {name} scored NaN")
        return Verdict.scored(float(score >= 1), f"score {score:g}")

    return judge


@cache
def generator(name: str, config: bytes) -> Any:
    """The generator object; arguments come pickled, which makes them a key."""
    import reasoning_gym

    return reasoning_gym.create_dataset(name, **pickle.loads(config))


def final_lines(text: str, lines: int) -> str | None:
    """The final answer, else the last non-empty line; None when there is none.

    Where the gold answer has several lines (a grid), all that follows the last `####`, else as many lines
    from the end.
    """
    if lines == 1:
        rows = [row.strip() for row in text.splitlines() if row.strip()]
        return final_answer(text) or (rows[-1] if rows else None)
    _, marker, rest = text.rpartition("####")
    # Indentation may matter in a grid, but not the space that belongs to the marker.
    grid = rest.removeprefix(" ") if marker else "\n".join(text.rstrip().splitlines()[-lines:])
    return grid.strip("\n").rstrip() or None
