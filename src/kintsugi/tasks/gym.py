"""Problems made by reasoning-gym's generators (`pip install -e '.[gym]'`).

    task: {name: reasoning_gym, dataset: chain_sum, config: {min_terms: 3, max_terms: 5}}

Two seeds often make the same question, so the split is by text, never by seed. Three generators
(isomorphic_strings, polynomial_multiplication, ransom_note) walk over sets of strings: they repeat
themselves from process to process only under a fixed PYTHONHASHSEED.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from kintsugi.plugins import did_you_mean
from kintsugi.records import KintsugiError, Problem
from kintsugi.tasks.base import check_count, filled, require_problems

EVALUATION_SHARE = 0.1
"""Fixed, not derived from the sizes: a text stays in its split whatever sizes a recipe asks for."""
BLOCK = 500
"""Entries asked of one generator object: some make them all at once, word_ladder refuses many."""
SEED_STRIDE = 1_000_000
"""Entry i of seed s is entry 0 of seed s + i, so that seeds 0 and 1 would share all entries but one."""


class GymTask:
    """`task: {name: reasoning_gym, dataset: chain_sum, config: {max_terms: 3}}`.

    dataset: a generator's name. config: its options; they may also stand beside `dataset`. problems,
    evaluation_problems: how many distinct texts of each, or fewer where the generator has no more.
    """

    verifier = "gym"

    def __init__(
        self,
        dataset: str,
        problems: int = 2000,
        evaluation_problems: int = 200,
        seed: int = 0,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if config is not None and not isinstance(config, Mapping):
            raise KintsugiError(f"task reasoning_gym: config: expected a mapping, got {config!r}")
        self.dataset, self.config = dataset, {**(config or {}), **options}
        self.sizes = (
            check_count("task reasoning_gym: problems", problems, 1),
            check_count("task reasoning_gym: evaluation_problems", evaluation_problems, 1),
        )
        self.seed = check_count("task reasoning_gym: seed", seed, 0)
        self.what = f"task reasoning_gym: {dataset}"
        self.generator, config_class = find_generator(dataset)
        self.config_class = config_class
        check_config(self.what, config_class, self.config)

    def train(self) -> Sequence[Problem]:
        return require_problems(self._splits[0], f"{self.what}: training problems")

    def evaluation(self) -> Sequence[Problem]:
        return require_problems(self._splits[1], f"{self.what}: evaluation problems")

    @cached_property
    def _splits(self) -> tuple[list[Problem], list[Problem]]:
        train, evaluation, trouble = filled(self._problems(), self.sizes, EVALUATION_SHARE)
        if trouble and not train and not evaluation:
            raise KintsugiError(f"{self.what} made no problem: {reason(trouble)}") from trouble
        return train, evaluation

    def _problems(self) -> Iterator[Problem | Exception]:
        for number, entry in enumerate(self._entries()):
            yield entry if isinstance(entry, Exception) else self._problem(number, entry)

    def _entries(self) -> Iterator[dict[str, Any] | Exception]:
        """Endless entries, or in an entry's place what the generator raised."""
        start = self.seed * SEED_STRIDE
        while True:
            generator = None
            for index in range(BLOCK):
                with contained(start + index):
                    try:
                        if generator is None:
                            generator = self._generator(start)
                        entry: dict[str, Any] | Exception = generator[index]
                    except Exception as error:
                        entry = error
                yield entry
                if isinstance(entry, Exception):
                    break  # a generator that raised may be spent; the next block starts afresh
            start += BLOCK

    def _generator(self, seed: int) -> Any:
        return self.generator(config=self.config_class(**self.config, seed=seed, size=BLOCK))

    def _problem(self, number: int, entry: dict[str, Any]) -> Problem:
        """`columns` are what the gym verifier reads: the entry, and what made it."""
        answer = "" if entry["answer"] is None else str(entry["answer"])
        columns = {"entry": entry, "dataset": self.dataset, "config": self.config}
        return Problem(f"{self.dataset}/{self.seed}/{number}", str(entry["question"]), answer, columns)


def find_generator(name: str) -> tuple[Any, Any]:
    """(dataset class, config class) that reasoning-gym registers under `name`."""
    try:
        import reasoning_gym  # noqa: F401  (importing it fills the registry)
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise KintsugiError(
            f"task reasoning_gym needs the reasoning-gym package: pip install -e '.[gym]' ({error})"
        ) from None
    if not isinstance(name, str) or name not in DATASETS:
        raise KintsugiError(
            f"task reasoning_gym: unknown dataset {name!r}{did_you_mean(str(name), DATASETS)}"
        )
    dataset_class, config_class = DATASETS[name]
    return dataset_class, config_class


def check_config(what: str, config_class: Any, config: Mapping[str, Any]) -> None:
    """KintsugiError when a generator has no such option, or its own validation rejects a value."""
    options = [field.name for field in dataclasses.fields(config_class) if field.name not in ("seed", "size")]
    for key in config:
        if key in ("seed", "size"):
            raise KintsugiError(f"{what}: config cannot hold {key}; give seed and problems beside dataset")
        if key not in options:
            accepted = ", ".join([*options, "problems", "evaluation_problems", "seed"])
            raise KintsugiError(f"{what}: unknown option {key!r}; accepted: {accepted}")
    try:
        config_class(**config, seed=0, size=BLOCK).validate()
    except Exception as error:
        # Their checks are assertions, and comparisons that raise TypeError for a value of another type.
        raise KintsugiError(f"{what}: config rejected: {reason(error)}") from None


@contextlib.contextmanager
def contained(seed: int) -> Iterator[None]:
    """Shields the process from a generator: some draw from the global generator, some print to stdout."""
    state = random.getstate()
    random.seed(seed)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        random.setstate(state)


def reason(error: Exception) -> str:
    """An exception as one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
