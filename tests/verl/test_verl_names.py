"""The names that docs/recipe.md says are verl's are verl's."""

from __future__ import annotations

from pathlib import Path

import verl
from omegaconf import OmegaConf

from kintsugi.names import NAMES

MISSING = object()


def test_the_names_of_verl_are_its_own() -> None:
    place = Path(verl.__file__).parent / "trainer" / "config" / "_generated_ppo_trainer.yaml"
    config = OmegaConf.to_container(OmegaConf.load(place))

    def value(key: str) -> object:
        found: object = config
        for part in key.split("."):
            found = found.get(part, MISSING) if isinstance(found, dict) else MISSING
        return found

    assert [name.theirs for name in NAMES["verl"] if value(name.theirs) is MISSING] == []
