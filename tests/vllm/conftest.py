"""One vLLM for all tests: the shipped model, at weights of the test's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from kintsugi.models.loading import LoadedModel, load_model
from kintsugi.records import Completion
from kintsugi.sampling.base import Request, Sampler, SamplingParams, generate
from kintsugi.sampling.registry import load_engine


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
        bench.loaded.model,
        pad_id=0,
        token_budget=1,
        version=lambda: bench.version,
        autocast=None,
        pulse=lambda _: None,
    )
    return bench


@pytest.fixture
def bench(shared: Bench) -> Iterator[Bench]:
    """The shared one; the weights are put back afterwards, under a version of their own."""
    before = {name: t.clone() for name, t in shared.loaded.model.state_dict().items()}
    yield shared
    shared.loaded.model.load_state_dict(before)
    shared.version += 1


Call = tuple[Sampler, Request]


def call(sampler: Sampler, prompt: Sequence[int], params: SamplingParams, n: int = 1) -> Call:
    return sampler, Request(tuple(prompt), params, n)


def run(*calls: Call) -> list[list[Completion]]:
    """The calls' completions, all in one session."""
    return generate(calls[0][0], [request for _, request in calls])
