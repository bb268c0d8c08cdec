"""Every name of another trainer is explained by what it is here."""

from __future__ import annotations

from typing import Any

import pytest

from kintsugi.algorithms import load_algorithm
from kintsugi.config import Recipe, apply_overrides, known_keys
from kintsugi.names import NAMES, Name, elsewhere, translated
from kintsugi.records import KintsugiError

MINIMAL = {"model": "nano", "task": "dag"}
ROWS = [(whose, name) for whose, table in NAMES.items() for name in table]


@pytest.mark.parametrize(("whose", "name"), ROWS, ids=[name.theirs for _, name in ROWS])
def test_a_name_of_another_trainer_is_explained(whose: str, name: Name) -> None:
    with pytest.raises(KintsugiError) as error:
        recipe = Recipe.parse(apply_overrides(MINIMAL, [f"{name.theirs}=1"]))
        load_algorithm(recipe.algorithm)  # whose own section has names, too
    said = str(error.value)
    assert said.count("\n") == 0 and f"{whose}'s {name.theirs}" in said and name.note in said
    if name.ours:
        assert name.ours in set(known_keys()) and f"{name.theirs} is {name.ours} here" in said
    else:
        assert name.note  # a name that has no counterpart says why


def test_no_name_is_there_twice_or_is_a_key() -> None:
    names = [name.theirs for _, name in ROWS]
    assert len(set(names)) == len(names) and not set(names) & set(known_keys())


def test_all_names_of_a_script_are_explained_at_once() -> None:
    with pytest.raises(KintsugiError) as error:
        Recipe.parse(
            apply_overrides(MINIMAL, ["learning_rate=1e-5", "actor_rollout_ref.rollout.n=8", "modle=x"])
        )
    assert str(error.value) == (
        "recipe: unknown keys: TRL's learning_rate is optim.lr here; "
        "verl's actor_rollout_ref.rollout.n is sampling.group_size here"
    )


@pytest.mark.parametrize(
    ("key", "theirs"),
    [
        ("optim.learning_rate", "learning_rate"),
        ("rollout.n", "actor_rollout_ref.rollout.n"),
        ("ppo_mini_batch_size", "actor_rollout_ref.actor.ppo_mini_batch_size"),
        ("algorithm.beta", "beta"),
        ("name", None),
        ("lrr", None),
    ],
)
def test_a_name_is_known_in_another_section_and_by_its_end(key: str, theirs: str | None) -> None:
    found = elsewhere(key)
    assert (found and found[1].theirs) == theirs


def test_nested_keys_are_read_to_their_ends() -> None:
    value: Any = {"rollout": {"n": 8}, "actor": {"optim": {"lr": 1e-6}, "unknown": 1}}
    assert translated("actor_rollout_ref", value) == [
        "verl's actor_rollout_ref.rollout.n is sampling.group_size here",
        "verl's actor_rollout_ref.actor.optim.lr is optim.lr here",
    ]


def test_the_names_of_verifiers_are_its_own() -> None:
    pytest.importorskip("verifiers.v1")
    from verifiers.v1.configs.cli.eval import EvalConfig
    from verifiers.v1.configs.select import SelectConfig
    from verifiers.v1.types import SamplingConfig

    sections = {"sampling": SamplingConfig, "select": SelectConfig}
    for name in NAMES["verifiers"]:
        head, _, rest = name.theirs.partition(".")
        model = sections.get(head, EvalConfig)
        key = rest if head in sections else head
        fields = set(model.model_fields)
        aliases = {a for f in model.model_fields.values() for a in getattr(f.validation_alias, "choices", ())}
        assert key in fields | aliases, name.theirs
