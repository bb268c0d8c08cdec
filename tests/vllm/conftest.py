"""One vLLM for all tests: the shipped model, at weights of the test's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from kintsugi.models.loading import LoadedModel, load_model
from kintsugi.records import Completion
from kintsugi.sampling.base import Request, Sampler, SamplingParams, generate
from kintsugi.sampling.sample import Limits
from kintsugi.sampling.vllm import VllmEngine, VllmSampler, start


@dataclass(slots=True)
class Bench:
    """A model, a sampler over it with its vllm.LLM, the version that it is told, and how far it said it was."""

    loaded: LoadedModel
    sampler: Any = None
    llm: Any = None
    version: int = 0
    told: list[float] = field(default_factory=list)

    def change(self, seed: int, size: float = 0.02) -> None:
        """Moves every weight by normal noise."""
        noise = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in self.loaded.model.parameters():
                p.add_(torch.randn(p.shape, generator=noise), alpha=size)


@pytest.fixture(scope="session")
def shared() -> Bench:
    bench = Bench(load_model("nano", device="cpu"))
    engine = VllmEngine(memory=0.25, max_model_len=256)
    bench.llm = start(bench.loaded.model, engine, torch.float32, 256)
    limits = Limits(bench.loaded.model.config.vocab_size, 256)
    bench.sampler = VllmSampler(
        bench.loaded.model,
        engine,
        bench.llm,
        limits,
        lambda: bench.version,
        lambda share: bench.told.append(share()),
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
