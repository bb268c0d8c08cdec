"""A run of verl's as it is written down: each step's episodes and rows, and what its update came to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from kintsugi.bridges.journal import Journal, evaluation
from kintsugi.bridges.verl_rows import Note
from kintsugi.bridges.verl_settings import Settled
from kintsugi.learning.learner import pad, row_losses, row_stats, step_stats
from kintsugi.records import Episode, Row
from kintsugi.sampling.base import RowStats


class VerlDiary:
    """Collects what a step made, by the keys of verl's queue, and hands it to the journal."""

    def __init__(self, plan: Settled) -> None:
        self.plan = plan
        self.journal: Journal | None = None
        self.clear()

    def clear(self) -> None:
        self.episodes: list[Episode] = []
        self.rows: list[Row] = []
        self.seconds = Counter[str]()
        self.numbers: dict[str, int] = {}
        self.old: dict[str, list[float]] = {}

    def begin(self, tokenizer: Any, steps: int, done: int) -> None:
        """Opens the journal of a run of so many steps, of which some were made before."""
        import verl

        recipe = self.plan.recipe.model_copy(update={"steps": steps})
        self.journal = Journal(recipe, f"verl {verl.__version__}", tokenizer, done)

    def sampled(self, keys: Sequence[str], notes: Sequence[Note], seconds: float) -> None:
        """Notes a batch, whose sampling took so long: each phase gets its share."""
        self.clear()
        first: dict[str, int] = {}
        spent = Counter[str]()
        for note in notes:
            if note.episode is not None:
                first[note.episode.problem.id] = len(self.rows)
                self.episodes.append(note.episode)
                self.rows += self.plan.algorithm.rows(note.episode)
                spent.update(note.seconds or {})
        self.seconds.update({phase: seconds * part / spent.total() for phase, part in spent.items() if part})
        self.numbers = {
            key: first[note.place["problem_id"]] + note.number
            for key, note in zip(keys, notes, strict=True)
            if note.place is not None and note.place["problem_id"] in first
        }

    def scored(self, keys: Sequence[str], old: Sequence[torch.Tensor]) -> None:
        """Notes the rows' log-probabilities before the update."""
        self.old = {key: v.tolist() for key, v in zip(keys, old, strict=True) if key in self.numbers}

    def write(
        self, step: int, metrics: Mapping[str, Any], updates: int, on_policy: bool, seconds: float
    ) -> None:
        """Writes the step that was noted. Rows have figures of their own where there was one update, whose old policy
        is the present one: of later ones verl's workers tell none."""
        if self.journal is None:
            return
        stats = step_stats(
            self.rows,
            self.figures() if updates and on_policy else {},
            losses=[metrics[name] for name in ("actor/loss",) if name in metrics],
            norms=[metrics[name] for name in ("actor/grad_norm",) if name in metrics],
            lr=metrics.get("actor/lr", 0.0),
            updates=updates,
            seconds=seconds,
        )
        self.journal.step(step, self.episodes, self.rows, stats, self.seconds)

    def figures(self) -> dict[int, RowStats]:
        """The figures of each row that trained, by number, under the policy before the update."""
        if not self.old:
            return {}
        numbers, before = [self.numbers[key] for key in self.old], list(self.old.values())
        rows = [self.rows[number] for number in numbers]
        now_BT = pad(before, max(map(len, before)), torch.device("cpu"))
        losses = row_losses(self.plan.objective, rows, now_BT, before)
        return dict(zip(numbers, row_stats(rows, before, before, losses), strict=True))

    def evaluated(self, step: int, names: Sequence[str], rewards: Sequence[float]) -> None:
        """Writes an evaluation's line, from the problem and the reward of each sample."""
        if self.journal is not None:
            found = defaultdict[str, list[float]](list)
            for name, reward in zip(names, rewards, strict=True):
                found[name].append(reward)
            self.journal.evaluated(step, evaluation(found.values()))

    def close(self) -> None:
        """Lets go of the directory."""
        if self.journal is not None:
            self.journal.close()
