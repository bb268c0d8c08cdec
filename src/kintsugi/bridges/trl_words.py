"""Prompts and rewards as TRL has them, for what an algorithm samples beside the rollouts. Needs no TRL."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kintsugi.models.loading import HFCodec
from kintsugi.prompts import Prompts, load_prompts
from kintsugi.records import KintsugiError, Problem, Turn, Verdict
from kintsugi.verifiers.user import UserVerifier

NO_COLUMNS = ("prompt", "completion", "completion_ids")
"""Names that TRL does not hand to reward functions as columns."""


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


class RewardVerifier:
    """Judges repairs by the reward function that decides, called as TRL calls it; a problem's column `example` is
    its row of the data set.

    What it logs of repairs is not kept: TRL's table of completions has no rows for them. An exception is an
    `error` verdict, with a warning. KintsugiError for a reward model or an async function.
    """

    def __init__(
        self,
        function: Any,
        name: str,
        encode: Callable[[str], Sequence[int]],
        given: Callable[[], Mapping[str, Any]],
    ) -> None:
        if inspect.iscoroutinefunction(function) or hasattr(function, "forward"):
            kind = "a model" if hasattr(function, "forward") else "async"
            raise KintsugiError(
                f"reward function {name}: expected a plain function to judge repairs with, this one is {kind}; "
                "name another as outcome"
            )

        def score(completions: list[Any], example: list[Mapping[str, Any]]) -> Any:
            columns = {key: [e[key] for e in example] for key in example[0] if key not in NO_COLUMNS}
            texts = [c if isinstance(c, str) else c[0]["content"] for c in completions]
            return function(
                prompts=[e["prompt"] for e in example],
                completions=completions,
                completion_ids=[list(encode(text)) for text in texts],
                **columns,
                **given(),
                log_extra=lambda *_: None,
                log_metric=lambda *_: None,
            )

        self.name, self.verifier = name, UserVerifier(score, name)

    def __call__(self, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        verdicts = self.verifier(problem, texts)
        for message in {v.message for v in verdicts if v.state == "error"}:
            warnings.warn(f"reward function {self.name} failed on a repair: {message}", stacklevel=2)
        return verdicts
