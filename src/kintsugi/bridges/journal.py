"""The tables of a bridge's run: what `report`, `show` and `diagnose` read, written by one process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kintsugi.config import Recipe
from kintsugi.files import write_whole, writing
from kintsugi.records import PASS_THRESHOLD, Episode, Row
from kintsugi.run.directory import BESIDE, METRICS, RunLog
from kintsugi.run.evaluation import bootstrap
from kintsugi.run.metrics import step_metrics
from kintsugi.run.reading import read_metrics
from kintsugi.sampling.base import StepStats


class Journal:
    """A run directory, the folder `kintsugi` beside another trainer's checkpoints (`recipe.output_dir`).

    done     Steps made before: their tables stay, later ones go. 0 begins anew, as the other trainer does, which
             replaces the checkpoints of an earlier run.
    made_by  The other trainer with its version.
    KintsugiError where another process is writing there, or the folder is none of ours.
    """

    def __init__(self, recipe: Recipe, made_by: str, tokenizer: Any, done: int) -> None:
        self.log = RunLog.open(recipe, resume=done > 0, overwrite=True, machine={"made by": made_by})
        place = self.log.directory
        with writing(place):
            # What is not known is left out: a recipe's defaults are not what the other trainer does.
            told = recipe.model_dump(exclude_unset=True)
            write_whole(place / "recipe.yaml", yaml.safe_dump(told, sort_keys=False, allow_unicode=True))
            tokenizer.save_pretrained(place / "tokenizer")
        kept = [line for line in read_metrics(place / METRICS) if line["step"] <= done]
        self.log.rewind(done, len(kept))
        self.tokens = max((line.get("tokens/total", 0) for line in kept), default=0)

    @staticmethod
    def place(checkpoints: str | Path) -> str:
        """The run directory beside a trainer's checkpoints."""
        return str(Path(checkpoints) / BESIDE)

    def step(
        self,
        step: int,
        episodes: Sequence[Episode],
        rows: Sequence[Row],
        stats: StepStats,
        seconds: Mapping[str, float],
    ) -> None:
        """Writes a step's tables and its line of metrics."""
        metrics = step_metrics(step, episodes, rows, stats, seconds)
        self.tokens += metrics["tokens/generated"]
        self.log.write(step, episodes, rows, stats.rows)
        self.log.metrics(metrics | {"tokens/total": self.tokens})

    def evaluated(self, step: int, line: Mapping[str, Any]) -> None:
        """Writes the line of an evaluation."""
        self.log.metrics({"step": step, "tokens/total": self.tokens, **line})

    def close(self) -> None:
        """Lets go of the directory."""
        self.log.__exit__()


def evaluation(problems: Iterable[Sequence[float]]) -> dict[str, Any]:
    """The numbers of an evaluation, from the rewards of each problem's samples (NaN: none)."""
    shares = [sum(r >= PASS_THRESHOLD for r in rewards) / len(rewards) for rewards in problems]
    found = bootstrap(shares)
    return {
        "eval/pass@1": found.value, "eval/pass@1_ci": [found.low, found.high], "eval/problems": len(shares),
    }  # fmt: skip
