"""Reinforcement: every problem of a batch plays the algorithm's run, and credit turns episodes into rows.

algorithms/iop.py and kintsugi.py say how a step differs from GRPO's; the loop around it is kintsugi.loop.

    kintsugi train recipes/quickstart.yaml
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kintsugi import loop
from kintsugi.algorithms import Algorithm, load_algorithm
from kintsugi.algorithms.base import believed
from kintsugi.assembly import Ground, Parts
from kintsugi.config import Recipe
from kintsugi.learning.learner import LocalLearner
from kintsugi.learning.objective import Objective
from kintsugi.loop import Batch, Lessons, OnStep
from kintsugi.records import KintsugiError, Problem
from kintsugi.run.checkpoint import Progress
from kintsugi.run.console import Reporter
from kintsugi.run.session import TrainResult, state_of
from kintsugi.sampling.base import derive_seed
from kintsugi.sampling.context import Context
from kintsugi.sampling.play import Meter, play
from kintsugi.tasks import Rows, as_task
from kintsugi.tasks.base import Task
from kintsugi.trackers import load_trackers
from kintsugi.verifiers.base import Verifier
from kintsugi.verifiers.user import Reward


def train(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    *,
    task: Task | Rows | None = None,
    verifier: Verifier | Reward | Sequence[Any] | None = None,
    algorithm: Algorithm | None = None,
    on_step: OnStep | None = None,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> TrainResult:
    """Trains as the recipe (or a mapping of its keys, or its file) says and returns the held-out result.

    task, verifier, algorithm: objects in place of those that the recipe names. A task may be a list of
    Problems, or of rows with the usual columns: a tenth of the texts are held out. A verifier is a reward function with
    TRL's or verl's signature, or takes `problem` and `texts` and returns a Verdict of each; of several, with weights, a
    list as in a recipe.
    on_step: called with each finished Step; where it returns something true the run ends there, with its checkpoint
    and its last evaluation.
    resume, overwrite: go on with the run in output_dir, or delete it; without either a run there is an error.

    Raises KintsugiError for what a user can mend.
    """
    recipe = Recipe.of(recipe, task=as_task(task), verifier=verifier, algorithm=algorithm)
    lessons = Reinforcement(check_algorithm(recipe))
    return loop.run_lessons(
        recipe, lessons, on_step=on_step, resume=resume, overwrite=overwrite, reporter=reporter
    )


def outline(recipe: Recipe) -> list[str]:
    """The counts of a run of the recipe, in words, once all is checked that needs no model. KintsugiError as `train`
    would raise it."""
    algorithm = check_algorithm(recipe)
    load_trackers(recipe.trackers)
    return [*Ground.of(recipe).told(recipe), *([algorithm.note] if algorithm.note else [])]


class Reinforcement(Lessons):
    """Sample, verify, mend, give credit."""

    made_by = "train"

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm

    def objective(self, recipe: Recipe) -> Objective:
        """The algorithm's; clip ranges of the recipe override its own."""
        optim = recipe.optim
        return self.algorithm.objective(recipe.sampling.max_new_tokens, optim.clip_low, optim.clip_high)

    def temperature(self, recipe: Recipe) -> float:
        return recipe.sampling.temperature

    def batch(self, parts: Parts, learner: LocalLearner, progress: Progress, meter: Meter) -> Batch:
        step = progress.step + 1
        ctx = Context(
            codec=parts.loaded.codec,
            verifier=parts.verifier,
            prompts=parts.prompts,
            recipe=parts.recipe,
            step=step,
            memory=progress.memory,
            meter=meter,
            max_prompt=parts.max_prompt,
            state=state_of(parts, progress),
        )
        problems = problems_of_step(parts.train_problems, parts.recipe, step)
        runs = [self.algorithm.run(problem, ctx) for problem in problems]
        episodes = play(runs, parts.sampler, meter, learner.logprobs, learner.reach)
        return Batch([row for episode in episodes for row in self.algorithm.rows(episode)], episodes)


def problems_of_step(problems: Sequence[Problem], recipe: Recipe, step: int) -> list[Problem]:
    """The problems of step number `step` (from 1): epoch after epoch, each in a shuffle of its own.

    A function of seed and step alone, so a resumed run sees the problems it would have seen. No problem
    comes twice in a step: what does not fill a step at an epoch's end is left to the next epoch.
    """
    size = min(recipe.sampling.problems, len(problems))
    epoch, place = divmod(step - 1, len(problems) // size)
    order = np.random.default_rng(derive_seed(recipe.seed, "epoch", epoch)).permutation(len(problems))
    return [problems[i] for i in order[place * size : (place + 1) * size]]


def check_algorithm(recipe: Recipe) -> Algorithm:
    """The recipe's algorithm; KintsugiError where the recipe does not suit it."""
    algorithm = believed(load_algorithm(recipe.algorithm), recipe.sampling.witnesses)
    if recipe.sampling.group_size < 2:
        raise KintsugiError(
            f"sampling.group_size: {algorithm.name} compares the rollouts of a group, expected at least 2, "
            f"got {recipe.sampling.group_size}"
        )
    return algorithm
