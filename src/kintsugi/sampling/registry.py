"""Engines by name: who samples.

    engine = load_engine({"name": "vllm", "memory": 4})
    sampler = engine.sampler(model, pad_id=0, token_budget=32768, version=lambda: 0, autocast=None,
                             pulse=lambda share: None)

An engine's module, and whatever that needs, is imported when the engine is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from kintsugi.plugins import Door, Spec
from kintsugi.sampling.base import Pulse, Sampler

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

ENGINES = Door(
    "engine", {"local": "kintsugi.sampling.local:LocalEngine", "vllm": "kintsugi.sampling.vllm:VllmEngine"}
)


class Engine(Protocol):
    """The checked settings of sampling in a recipe: a frozen dataclass whose fields are the arguments."""

    def positions(self, of_model: int | None) -> int | None:
        """The most tokens a prompt and its completion may have, in a model of so many positions; None: no limit."""
        ...

    def sampler(
        self,
        model: PreTrainedModel,
        *,
        pad_id: int,
        token_budget: int,
        version: Callable[[], int],
        autocast: torch.dtype | None,
        pulse: Pulse,
    ) -> Sampler:
        """A Sampler of the policy that `model` is when a round of calls begins; `version` then names it.

        `pulse` is as in kintsugi.sampling.base.
        """
        ...


def load_engine(spec: Spec) -> Engine:
    """The engine of a spec: a name, or a mapping of `name` and its arguments.

    KintsugiError names an unknown engine or argument, a bad value, or the package that is missing.
    """
    engine: Engine = ENGINES.make(spec)
    return engine
