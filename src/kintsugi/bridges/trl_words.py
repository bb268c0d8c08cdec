"""Prompts and rewards as TRL has them, for what an algorithm samples beside the rollouts. Needs no TRL."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kintsugi.models.loading import HFCodec
from kintsugi.prompts import Prompts, load_prompts
from kintsugi.records import KintsugiError, Turn, Verdict
from kintsugi.verifiers.user import UserVerifier, reward_verdict
from kintsugi.verifiers.weighted import combined


def wording(name: object) -> Prompts:
    """The templates of repair prompts. KintsugiError for more than a name: questions and chat template are TRL's."""
    if not isinstance(name, str):
        raise KintsugiError(
            f"prompts: expected a name here, got {name!r}: questions are asked as the data set has them, and what the "
            "chat template is told is GRPOConfig's chat_template_kwargs"
        )
    return load_prompts(name)


class TextCodec(HFCodec):
    """For data sets of texts: TRL gives them to the model as they stand, without a chat template."""

    def chat(self, message: str, before: Sequence[Turn] = ()) -> tuple[int, ...]:
        return tuple(self.tokenizer(text=message)["input_ids"])


def check_rewards(functions: Any, data: Any) -> None:
    """KintsugiError for a reward function that requires a parameter which is no column of TRL's data set."""
    columns = getattr(data, "column_names", None)
    for function in functions if isinstance(functions, list | tuple) else [functions]:
        if isinstance(columns, list) and callable(function) and not hasattr(function, "forward"):
            UserVerifier(function, getattr(function, "__name__", "reward")).check(columns)


def verdict_of(rewards: Sequence[float], weights: Mapping[str, float], outcome: str) -> Verdict:
    """TRL's rewards of one rollout, by function as the weights are (NaN: none), as a verdict."""
    each = {
        name: reward_verdict(None if math.isnan(reward) else reward, name)
        for name, reward in zip(weights, rewards, strict=True)
    }
    return combined(each, weights, outcome)
