"""A comparison file and the runs it comes to.

name: main
recipe: recipes/quickstart.yaml
settings: {task: {name: dag, steps: 8}, eval: {problems: 100}}
algorithms: [grpo, {label: iop-k8, algorithm: {name: iop, k: 8}}]
budget: 400000
seeds: [0, 1, 2, 3, 4]
tuning: {lrs: [3.0e-5, 1.0e-4, 3.0e-4], seeds: [100, 101]}
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator

from kintsugi.algorithms import load_algorithm
from kintsugi.config import Recipe, Section, Spec, apply_overrides, parse_section, read_yaml, split_spec
from kintsugi.records import KintsugiError

Stage = Literal["tuning", "main"]
OUTCOME_ONLY = ("grpo", "dr_grpo", "dapo", "gspo", "rloo", "raft", "extra_rollouts")
"""Algorithms whose only signal is the outcome of whole rollouts: the best of them is what others must beat."""
SAMPLES = 8
"""Samples per held-out problem, so that every row has a pass@8."""
SAME_RESULT = {"output_dir", "threads", "device", "save_every", "keep_last", "trackers"}
"""Recipe keys that may differ between two runs that count as the same."""


class Tuning(Section):
    lrs: tuple[PositiveFloat, ...] = Field(
        min_length=1, description="the grid of learning rates, for every algorithm"
    )
    seeds: tuple[NonNegativeInt, ...] = Field(
        min_length=1, description="seeds of tuning runs; none may be a seed of `seeds`"
    )
    budget: int | None = Field(None, ge=1, description="tokens of a tuning run; null: those of a run")
    extend: int = Field(
        0, ge=0, description="how often an algorithm's grid may grow by one where its best lies at the edge"
    )


class Comparison(Section):
    """What `kintsugi compare FILE` is told."""

    name: str = Field(
        "main", pattern=r"^[\w-]+$", description="of the table: main, ablation, ...; tasks may share one"
    )
    task: str | None = Field(None, description="the task's name in rows and tables; null: the recipe's")
    recipe: str = Field(description="the recipe that all runs start from")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="recipe keys that all runs change; sections are merged"
    )
    algorithms: tuple[Spec, ...] = Field(
        min_length=1,
        description="names, or mappings of `label`, `algorithm` and recipe keys; one that sets optim.lr is not tuned",
    )
    baselines: tuple[str, ...] = Field(
        (), description="labels that count as outcome-only beside those of " + ", ".join(OUTCOME_ONLY)
    )
    reference: str | None = Field(
        None, description="label that the others are compared with; null: the best outcome-only one"
    )
    budget: int = Field(ge=1, description="generated tokens of a run, all phases")
    evaluations: int = Field(
        8,
        ge=1,
        description="evaluations of a run beside the first, evenly spaced in tokens; tuning runs: as far apart",
    )
    seeds: tuple[NonNegativeInt, ...] = Field(
        (0, 1, 2, 3, 4), min_length=1, description="one run of each algorithm per seed"
    )
    tuning: Tuning | None = Field(None, description="null: every algorithm takes the recipe's learning rate")
    jobs: int = Field(2, ge=1, description="runs side by side, each a process of one thread")
    results: str = Field("benchmarks/results/learning.jsonl", description="the file that rows are added to")
    output_dir: str = Field("runs/compare", description="run directories, the table and the plot")
    keep: bool = Field(False, description="keep rollouts, rows and checkpoints of finished runs")

    @model_validator(mode="after")
    def _separate_seeds(self) -> Comparison:
        if self.tuning and (shared := sorted(set(self.seeds) & set(self.tuning.seeds))):
            raise ValueError(f"tuning.seeds: expected seeds that no run has, got {shared} in both")
        return self


@dataclass(frozen=True, slots=True)
class Entry:
    """One algorithm of a comparison: its label, its recipe, and whether its learning rate is to be tuned."""

    label: str
    recipe: Recipe
    outcome_only: bool
    reference: bool
    tuned: bool


@dataclass(frozen=True, slots=True)
class Run:
    """One run: an entry's recipe with learning rate, seed, budget and directory set."""

    comparison: str
    task: str
    stage: Stage
    label: str
    outcome_only: bool
    reference: bool
    recipe: Recipe

    @property
    def fingerprint(self) -> str:
        """Eight hex digits of everything in the recipe that decides its result."""
        return fingerprint(self.recipe)

    @property
    def budget(self) -> int:
        assert self.recipe.budget is not None
        return self.recipe.budget


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked comparison: every recipe in it is whole."""

    comparison: Comparison
    task: str
    entries: tuple[Entry, ...]

    def tuning_runs(self, rates: Mapping[str, Iterable[float]] | None = None) -> list[Run]:
        """The tuning runs of every tuned entry, over the grid or over the `rates` given by label."""
        tuning = self.comparison.tuning
        if tuning is None:
            return []
        budget = tuning.budget or self.comparison.budget
        return [
            self._run(entry, "tuning", lr, seed, budget)
            for seed in tuning.seeds
            for entry in self.entries
            if entry.tuned
            for lr in (tuning.lrs if rates is None else rates.get(entry.label, ()))
        ]

    def main_runs(self, rates: Mapping[str, float]) -> list[Run]:
        """One run per seed and entry, seeds first; tuned entries take their rate from `rates`, or are left out."""
        chosen = {e.label: e.recipe.optim.lr for e in self.entries if not e.tuned} | dict(rates)
        return [
            self._run(entry, "main", chosen[entry.label], seed, self.comparison.budget)
            for seed in self.comparison.seeds
            for entry in self.entries
            if entry.label in chosen
        ]

    def _run(self, entry: Entry, stage: Stage, lr: float, seed: int, budget: int) -> Run:
        c = self.comparison
        place = (
            Path(c.output_dir) / f"{self.task}-{c.name}" / stage / f"{safe(entry.label)}-lr{lr:g}-seed{seed}"
        )
        recipe = entry.recipe
        # A rate is not chosen on the problems that methods are compared on.
        skip = recipe.eval.skip + (recipe.eval.problems if stage == "tuning" else 0)
        changed = {
            "seed": seed,
            "budget": budget,
            "steps": budget,  # a step generates at least one token, so that the budget decides
            "output_dir": str(place),
            "optim": recipe.optim.model_copy(update={"lr": lr}),
            "eval": recipe.eval.model_copy(
                update={
                    "every": 0,
                    "every_tokens": ceil(c.budget / c.evaluations),
                    "samples": SAMPLES,
                    "skip": skip,
                }
            ),
        }
        return Run(
            comparison=c.name,
            task=self.task,
            stage=stage,
            label=entry.label,
            outcome_only=entry.outcome_only,
            reference=entry.reference,
            recipe=recipe.model_copy(update=changed),
        )


def load_plan(path: Path, overrides: Sequence[str] = ()) -> Plan:
    """The plan in a comparison file with `key=value` overrides; KintsugiError (one line) for what is wrong in it."""
    comparison = parse_section(Comparison, apply_overrides(read_yaml(path), overrides), str(path))
    base = merge(
        read_yaml(Path(comparison.recipe)), {"threads": 1, **comparison.settings, "budget": comparison.budget}
    )
    entries = tuple(parse_entry(comparison, base, spec, str(path)) for spec in comparison.algorithms)
    repeated = [label for label, count in Counter(e.label for e in entries).items() if count > 1]
    if repeated:
        raise KintsugiError(f"{path}: algorithms: the label {repeated[0]!r} occurs twice; set `label`")
    named = {*comparison.baselines, *([comparison.reference] if comparison.reference else [])}
    if unknown := sorted(named - {e.label for e in entries}):
        raise KintsugiError(f"{path}: baselines or reference: {unknown[0]!r} is no label of `algorithms`")
    task = comparison.task or split_spec(entries[0].recipe.task, "task")[0]
    return Plan(comparison, safe(task), entries)


def parse_entry(comparison: Comparison, base: Mapping[str, Any], spec: Spec, where: str) -> Entry:
    """One item of `algorithms`, as an entry with a recipe of its own."""
    changes = {"algorithm": spec} if isinstance(spec, str) else dict(spec)
    label = changes.pop("label", None)
    if "algorithm" not in changes:
        raise KintsugiError(
            f"{where}: algorithms: expected a name or a mapping with `algorithm`, got {spec!r}"
        )
    name = split_spec(changes["algorithm"], "algorithm")[0]
    label = str(label or name.rpartition(":")[2].lower())
    recipe = Recipe.parse(merge(base, changes), f"{where}: algorithm {label}")
    load_algorithm(recipe.algorithm)
    tuned = comparison.tuning is not None and "lr" not in (changes.get("optim") or {})
    outcome_only = name in OUTCOME_ONLY or label in comparison.baselines
    return Entry(label, recipe, outcome_only, label == comparison.reference, tuned)


def outline(plan: Plan) -> list[str]:
    """What the plan comes to, in words and numbers."""
    c, tuning = plan.comparison, plan.tuning_runs()
    main = len(plan.entries) * len(c.seeds)
    tokens = sum(run.budget for run in tuning) + main * c.budget
    said = [
        f"{plan.task}, {c.name}: {', '.join(e.label for e in plan.entries)}",
        f"{main} runs of {c.budget:,} generated tokens ({len(c.seeds)} seeds), evaluated 1 + {c.evaluations} times",
    ]
    if c.tuning:
        grid = ", ".join(f"{lr:g}" for lr in c.tuning.lrs)
        said.append(
            f"{len(tuning)} tuning runs before them: lr {grid} on seeds {', '.join(map(str, c.tuning.seeds))}"
        )
    return [*said, f"{tokens:,} tokens in all, {c.jobs} runs side by side; rows go to {c.results}"]


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes`: sections are merged key by key, specs (they have a `name`) and values replaced."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping) and "name" not in value
        result[key] = {**old, **value} if both and isinstance(old, Mapping) else value
    return result


def fingerprint(recipe: Recipe) -> str:
    text = json.dumps(recipe.model_dump(exclude=SAME_RESULT), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def safe(name: str) -> str:
    """The name with anything but letters, digits, `-`, `.` and `_` replaced, so that it can be a file's."""
    return re.sub(r"[^\w.-]+", "-", name)
