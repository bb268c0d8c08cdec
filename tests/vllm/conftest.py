"""One vLLM for all tests: the shipped model, at weights of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from kintsugi.engines.registry import load_engine
from kintsugi.models.loading import LoadedModel, load_model
from kintsugi.records import Completion


@dataclass(slots=True)
class Bench:
    """A model, a sampler over it, and the version that the sampler is told."""

    loaded: LoadedModel
    sampler: Any = None
    version: int = 0

    def change(self, seed: int, size: float = 0.02) -> None:
        """Moves every weight by normal noise."""
        noise = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in self.loaded.model.parameters():
                p.add_(torch.randn(p.shape, generator=noise), alpha=size)


@pytest.fixture(scope="session")
def shared() -> Bench:
    bench = Bench(load_model("nano", device="cpu"))
    bench.sampler = load_engine({"name": "vllm", "memory": 0.25, "max_model_len": 256}).sampler(
        bench.loaded.model, pad_id=0, token_budget=1, version=lambda: bench.version, autocast=None
    )
    return bench


@pytest.fixture
def bench(shared: Bench) -> Iterator[Bench]:
    """The shared one; the weights are put back afterwards, under a version of their own."""
    before = {name: t.clone() for name, t in shared.loaded.model.state_dict().items()}
    yield shared
    shared.loaded.model.load_state_dict(before)
    shared.version += 1


def run(*calls: Coroutine[Any, Any, list[Completion]]) -> list[list[Completion]]:
    async def together() -> list[list[Completion]]:
        return await asyncio.gather(*calls)

    return asyncio.run(together())
