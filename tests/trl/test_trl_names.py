"""The names that docs/recipe.md says are TRL's are TRL's."""

from __future__ import annotations

import inspect
from dataclasses import fields

from transformers import EarlyStoppingCallback
from trl import GRPOConfig, GRPOTrainer, ModelConfig, ScriptArguments

from kintsugi.names import NAMES


def test_the_names_of_trl_are_its_own() -> None:
    known = {field.name for kind in (GRPOConfig, ModelConfig, ScriptArguments) for field in fields(kind)}
    known |= set(inspect.signature(GRPOTrainer.__init__).parameters)
    known |= set(inspect.signature(EarlyStoppingCallback.__init__).parameters)
    known |= {"resume_from_checkpoint"}  # of trainer.train
    assert [name.theirs for name in NAMES["TRL"] if name.theirs not in known] == []
