"""A run of TRL's as it is written down: the batches that were generated and what their updates came to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import trl
from torch import Tensor
from transformers import TrainerCallback

from kintsugi.bridges.journal import Journal, evaluation
from kintsugi.bridges.replay import Lockstep
from kintsugi.config import Recipe
from kintsugi.learning.learner import row_losses, row_stats, step_stats
from kintsugi.learning.objective import Objective
from kintsugi.records import Episode, Row
from kintsugi.sampling.base import RowStats

NUMBER = "kintsugi_row"
"""The column of TRL's batches that says which row each line is (-1: a filler)."""


class TrlDiary(TrainerCallback):  # type: ignore[misc]
    """Collects what a step made and hands it to the journal, which the main process alone has.

    A step's tables are written when the last update of its generated batches is made: their number is that update's.
    `uses` is how often each batch is cut up and run through, in micro-batches.
    """

    def __init__(
        self, recipe: Recipe, objective: Objective, processes: Lockstep, tokenizer: Any, uses: int
    ) -> None:
        self.recipe, self.objective, self.processes, self.uses = recipe, objective, processes, uses
        self.tokenizer = tokenizer
        self.journal: Journal | None = None
        self.waiting: list[Mapping[str, Any]] = []
        self.clear()

    def clear(self) -> None:
        self.episodes: list[Episode] = []
        self.rows: list[Row] = []
        self.stats: dict[int, RowStats] = {}
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.lr = 0.0
        self.seconds = Counter[str]()
        self.generated = self.used = 0
        self.since = time.perf_counter()

    def begin(self, steps: int, done: int) -> None:
        """Opens the journal of a run of so many steps, of which some were made before."""
        self.clear()
        if self.processes.rank:
            return
        recipe = self.recipe.model_copy(update={"steps": steps})
        self.journal = Journal(recipe, f"TRL {trl.__version__}", self.tokenizer, done)
        for line in self.waiting if not done else ():
            self.journal.evaluated(0, line)
        self.waiting = []

    def batch(self, episodes: Sequence[Episode], rows: Sequence[Row], seconds: Mapping[str, float]) -> int:
        """Notes a generated batch. Returns the number of its first row."""
        first = len(self.rows)
        self.episodes += episodes
        self.rows += rows
        self.seconds.update(seconds)
        self.generated += 1
        self.since = time.perf_counter()
        return first

    def learned(self, inputs: Mapping[str, Any], loss: float, logprobs_BT: Tensor | None) -> None:
        """Notes a micro-batch: its loss and, where they are known, its rows' log-probabilities."""
        self.used += 1
        self.losses.append(loss)
        places = [i for i, number in enumerate(inputs[NUMBER].tolist()) if number >= 0]
        if logprobs_BT is None or not places:
            return
        numbers = inputs[NUMBER][places].tolist()
        rows, now_BT = [self.rows[number] for number in numbers], logprobs_BT[places]
        now = now_BT.tolist()
        old_BT = inputs.get("old_per_token_logps")
        before = now if old_BT is None else old_BT[places].tolist()
        losses = row_losses(self.objective, rows, now_BT, before)
        self.stats.update(zip(numbers, row_stats(rows, now, before, losses), strict=True))

    def updated(self, norm: float, lr: float) -> None:
        """Notes the gradient norm and the learning rate of an update."""
        self.norms.append(norm)
        self.lr = lr

    def write(self, step: int) -> None:
        """Writes what is noted as a step's, and forgets it. All processes take part."""
        everyone = self.processes.everyone((self.stats, sum(self.losses)))
        updates = max(1, len(self.norms))
        if self.journal is not None:
            stats = step_stats(
                self.rows,
                {number: found for own, _ in everyone for number, found in own.items()},
                losses=[
                    loss / updates for _, loss in everyone
                ],  # each counts its own rows as often as there are processes
                norms=self.norms,
                lr=self.lr,
                updates=len(self.norms),
                seconds=time.perf_counter() - self.since,
            )
            self.journal.step(step, self.episodes, self.rows, stats, self.seconds)
        self.clear()

    def evaluated(self, step: int, rewards: Sequence[float], samples: int) -> None:
        """Writes an evaluation's line; one made before training is kept until then."""
        if not rewards:
            return
        line = evaluation(rewards[start : start + samples] for start in range(0, len(rewards), samples))
        if self.journal is not None:
            self.journal.evaluated(step, line)
        else:
            self.waiting.append(line)

    def close(self) -> None:
        """Lets go of the directory."""
        if self.journal is not None:
            self.journal.close()

    # ---- what TRL calls

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.begin(state.max_steps, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.generated and self.used >= self.generated * self.uses:
            self.write(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.generated and self.used:
            self.write(state.global_step)
