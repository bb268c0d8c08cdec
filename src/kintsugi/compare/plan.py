"""A comparison file and the runs it comes to.

name: main
recipe: recipes/quickstart.yaml
settings: {task: {name: dag, steps: 8}, eval: {problems: 100}}
algorithms: [grpo, {label: iop-k8, algorithm: {name: iop, k: 8}}]
budget: 400000
seeds: [0, 1, 2, 3, 4]
tuning: {grid: {optim.lr: [2.0e-4, 8.0e-4], optim.minibatches: [1, 4]}, seeds: [100, 101], extend: 1, refine: 1}
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

from pydantic import Field, NonNegativeInt, PositiveFloat, StrictInt, model_validator

from kintsugi.algorithms import load_algorithm
from kintsugi.compare.tuning import Grid, Point, points, short_key
from kintsugi.config import EVALUATED, Recipe, Section, apply_overrides, parse_section
from kintsugi.plugins import Spec, split_spec
from kintsugi.records import KintsugiError
from kintsugi.yamls import read_yaml

Stage = Literal["tuning", "main"]
"""Algorithms whose only signal is the outcome of whole rollouts: the best of them is what others must beat."""
SAMPLES = 8
"""Samples per held-out problem unless `settings` say otherwise: rows then have a pass@8."""
SAME_RESULT = {"output_dir", "threads", "device", "save_every", "keep_last", "trackers"}
"""Recipe keys that may differ between two runs that count as the same."""


class Tuning(Section):
    grid: dict[str, tuple[StrictInt | PositiveFloat, ...]] = Field(
        min_length=1,
        description="recipe key -> values, the same for every algorithm; `a, b` sets two keys to one value",
    )
    seeds: tuple[NonNegativeInt, ...] = Field(
        min_length=1,
        description="the grid is run on the first, the two best points on all; none may be one of `seeds`",
    )
    budget: int | None = Field(None, ge=1, description="tokens of a tuning run; null: those of a run")
    evaluations: int = Field(2, ge=1, description="evaluations of a tuning run beside the first")
    extend: int = Field(
        0, ge=0, description="how often a best point at an edge of the grid asks for the point beyond it"
    )
    refine: int = Field(
        0, ge=0, description="how often the points halfway between the best and its neighbours are asked for"
    )


class Comparison(Section):
    """The comparison that `kintsugi compare FILE` reads."""

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
        description="names, or mappings of `label`, `algorithm`, recipe keys (not tuned then) and an own `grid`",
    )
    baselines: tuple[str, ...] = Field(
        (), description="labels that count as outcome-only beside the algorithms that say so of themselves"
    )
    reference: str | None = Field(
        None, description="label that the others are compared with; null: the best outcome-only one"
    )
    budget: int = Field(ge=1, description="generated tokens of a run, all phases")
    evaluations: int = Field(
        8,
        ge=1,
        description="evaluations of a run beside the first, evenly spaced in tokens",
    )
    seeds: tuple[NonNegativeInt, ...] = Field(
        (0, 1, 2, 3, 4), min_length=1, description="one run of each algorithm per seed"
    )
    tuning: Tuning | None = Field(None, description="null: every algorithm takes the recipe's settings")
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
    """One algorithm of a comparison: its label, its recipe, and the grid of what is to be tuned (empty: nothing)."""

    label: str
    recipe: Recipe
    outcome_only: bool
    reference: bool
    grid: Grid


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run: an entry's recipe with the point's settings, seed, budget and directory set."""

    comparison: str
    task: str
    stage: Stage
    label: str
    outcome_only: bool
    reference: bool
    recipe: Recipe
    point: Point

    @property
    def fingerprint(self) -> str:
        """Eight hex digits of everything in the recipe that decides its result."""
        return recipe_fingerprint(self.recipe)

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

    def tuning_runs(
        self, chosen: Mapping[str, Iterable[Point]] | None = None, seeds: Sequence[int] | None = None
    ) -> list[PlannedRun]:
        """The tuning runs of every tuned entry, over its grid or over the points given by label.

        On the first tuning seed unless `seeds` are given.
        """
        tuning = self.comparison.tuning
        if tuning is None:
            return []
        budget = tuning.budget or self.comparison.budget
        return [
            self._run(entry, "tuning", point, seed, budget, tuning.evaluations)
            for seed in (tuning.seeds[:1] if seeds is None else seeds)
            for entry in self.entries
            if entry.grid
            for point in (points(entry.grid) if chosen is None else chosen.get(entry.label, ()))
        ]

    def main_runs(self, chosen: Mapping[str, Point]) -> list[PlannedRun]:
        """One run per seed and entry, seeds first; tuned entries take their point from `chosen`, or are left out."""
        c = self.comparison
        settled = {entry.label: () for entry in self.entries if not entry.grid} | dict(chosen)
        return [
            self._run(entry, "main", settled[entry.label], seed, c.budget, c.evaluations)
            for seed in c.seeds
            for entry in self.entries
            if entry.label in settled
        ]

    def _run(
        self, entry: Entry, stage: Stage, point: Point, seed: int, budget: int, evaluations: int
    ) -> PlannedRun:
        c = self.comparison
        values = "".join(f"-{safe(short_key(key))}{value:g}" for key, value in point)
        place = (
            Path(c.output_dir) / f"{self.task}-{c.name}" / stage / f"{safe(entry.label)}{values}-seed{seed}"
        )
        recipe = with_settings(entry.recipe, point)
        # Settings are not chosen on the problems that methods are compared on.
        skip = recipe.eval.skip + ((recipe.eval.problems or EVALUATED) if stage == "tuning" else 0)
        evaluation = {"every": 0, "every_tokens": ceil(budget / evaluations), "skip": skip}
        changed = {
            "seed": seed,
            "budget": budget,
            "steps": budget,  # a step generates at least one token, so that the budget decides
            "output_dir": str(place),
            "eval": recipe.eval.model_copy(update=evaluation),
        }
        return PlannedRun(
            comparison=c.name,
            task=self.task,
            stage=stage,
            label=entry.label,
            outcome_only=entry.outcome_only,
            reference=entry.reference,
            recipe=recipe.model_copy(update=changed),
            point=point,
        )


def with_settings(recipe: Recipe, point: Point) -> Recipe:
    """The recipe with the point's values set; KintsugiError for a key that no recipe has."""
    overrides = [f"{key.strip()}={value!r}" for keys, value in point for key in keys.split(",")]
    return Recipe.parse(apply_overrides(recipe.model_dump(), overrides), "tuning.grid")


def load_plan(path: Path, overrides: Sequence[str] = ()) -> Plan:
    """The plan in a comparison file with `key=value` overrides; KintsugiError (one line) for what is wrong in it."""
    comparison = parse_section(Comparison, apply_overrides(read_yaml(path), overrides), str(path))
    ours = {"threads": 1, "eval": {"samples": SAMPLES}, "budget": comparison.budget}
    base = merge(merge(read_yaml(Path(comparison.recipe)), ours), comparison.settings)
    entries = tuple(parse_entry(comparison, base, spec, str(path)) for spec in comparison.algorithms)
    repeated = [label for label, count in Counter(e.label for e in entries).items() if count > 1]
    if repeated:
        raise KintsugiError(f"{path}: algorithms: the label {repeated[0]!r} occurs twice; set `label`")
    named = {*comparison.baselines, *([comparison.reference] if comparison.reference else [])}
    if unknown := sorted(named - {e.label for e in entries}):
        raise KintsugiError(f"{path}: baselines or reference: {unknown[0]!r} is no label of `algorithms`")
    name, options = split_spec(entries[0].recipe.task, "task")
    # A task that reads data is told by them: chain_sum, not reasoning_gym; of `my_task.py:MyTask`, my_task.
    task = str(options.get("dataset") or options.get("path") or name.split(":")[0])
    return Plan(comparison, safe(comparison.task or Path(task).stem), entries)


def parse_entry(comparison: Comparison, base: Mapping[str, Any], spec: Spec, where: str) -> Entry:
    """One item of `algorithms`, as an entry with a recipe of its own."""
    changes = {"algorithm": spec} if isinstance(spec, str) else dict(spec)
    label, own = changes.pop("label", None), changes.pop("grid", None)
    if "algorithm" not in changes:
        raise KintsugiError(
            f"{where}: algorithms: expected a name or a mapping with `algorithm`, got {spec!r}"
        )
    name = split_spec(changes["algorithm"], "algorithm")[0]
    label = str(label or name.rpartition(":")[2].lower())
    recipe = Recipe.parse(merge(base, changes), f"{where}: algorithm {label}")
    outcome_only = load_algorithm(recipe.algorithm).outcome_only or label in comparison.baselines
    grid = own_grid(comparison.tuning, own, changes)
    for point in points(grid)[:1]:
        with_settings(recipe, point)
    return Entry(label, recipe, outcome_only, label == comparison.reference, grid)


def own_grid(tuning: Tuning | None, own: Any, changes: Mapping[str, Any]) -> Grid:
    """The common grid with an entry's own keys, without those whose value the entry sets itself."""
    if tuning is None:
        return {}
    whole = parse_section(
        Tuning, {"grid": {**tuning.grid, **(own or {})}, "seeds": tuning.seeds}, "grid"
    ).grid

    def is_set(key: str) -> bool:
        section, _, name = key.partition(".")
        held = changes.get(section)
        return name in held if isinstance(held, Mapping) else held is not None

    return {
        key: values for key, values in whole.items() if not any(is_set(k.strip()) for k in key.split(","))
    }


def outline(plan: Plan) -> list[str]:
    """The plan in words and numbers."""
    c, tuning = plan.comparison, plan.tuning_runs()
    main = len(plan.entries) * len(c.seeds)
    e = plan.entries[0].recipe.eval
    answers = (e.problems or EVALUATED) * (e.samples + 1) * (1 + c.evaluations)
    tokens = sum(run.budget for run in tuning) + main * c.budget
    said = [
        f"{plan.task}, {c.name}: {', '.join(e.label for e in plan.entries)}",
        f"{main} runs of {c.budget:,} generated tokens ({len(c.seeds)} seeds), evaluated 1 + {c.evaluations} times: "
        f"{answers:,} answers a run beside its budget",
    ]
    if c.tuning:
        grid = "; ".join(
            f"{short_key(key)} {', '.join(f'{v:g}' for v in vs)}" for key, vs in c.tuning.grid.items()
        )
        around = ", then around the best points" if c.tuning.extend or c.tuning.refine else ""
        seeds = f", the two best on {len(c.tuning.seeds)} seeds" if c.tuning.seeds[1:] else ""
        said.append(
            f"{len(tuning)} tuning runs before them ({grid}) on seed {c.tuning.seeds[0]}{around}{seeds}"
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


def recipe_fingerprint(recipe: Recipe) -> str:
    text = json.dumps(recipe.model_dump(exclude=SAME_RESULT), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def safe(name: str) -> str:
    """The name with anything but letters, digits, `-`, `.` and `_` replaced, so that it can be a file's."""
    return re.sub(r"[^\w.-]+", "-", name)
