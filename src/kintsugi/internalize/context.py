"""What every coroutine of a step works with: sampler, verifier, words and tokens, settings, clock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from kintsugi.config import Recipe
from kintsugi.engines.base import Sampler, SamplingParams, derive_seed
from kintsugi.prompts import Prompts
from kintsugi.records import Completion, Phase, Problem, Rollout, Turn
from kintsugi.verifiers.base import Verifier


class Codec(Protocol):
    """Text to token ids and back, as the model's tokenizer and chat template do it."""

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end a completion."""
        ...

    def chat(self, message: str, before: Sequence[Turn] = ()) -> tuple[int, ...]:
        """The prompt of one user message after the turns `before`, ready for the assistant's answer."""
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """The token ids of a text, without special tokens."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of completion ids, special tokens left out."""
        ...


@dataclass(slots=True)
class Meter:
    """Wall seconds by phase. While calls of several phases wait at once, each gets its share by count."""

    seconds: dict[str, float] = field(default_factory=dict)
    _waiting: dict[str, int] = field(default_factory=dict)
    _since: float = 0.0

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        self._settle()
        self._waiting[name] = self._waiting.get(name, 0) + 1
        try:
            yield
        finally:
            self._settle()
            self._waiting[name] -= 1

    def _settle(self) -> None:
        now = time.perf_counter()
        total = sum(self._waiting.values())
        for name, count in self._waiting.items():
            if count:
                self.seconds[name] = self.seconds.get(name, 0.0) + (now - self._since) * count / total
        self._since = now


@dataclass(frozen=True, slots=True)
class Context:
    """One step's surroundings. `memory` maps problem ids to the text of an earlier pass.

    Prompts longer than `max_prompt` tokens leave the model no room to answer (None: no limit).
    """

    sampler: Sampler
    codec: Codec
    verifier: Verifier
    prompts: Prompts
    recipe: Recipe
    step: int = 0
    memory: Mapping[str, str] = field(default_factory=dict)
    meter: Meter = field(default_factory=Meter)
    max_prompt: int | None = None

    def solve_prompt(self, problem: Problem) -> tuple[int, ...]:
        """x: what the policy is asked, and what every policy row conditions on."""
        return self.codec.chat(*self.prompts.solving(problem.prompt, problem.before))

    def ask(self, problem: Problem, message: str) -> tuple[int, ...]:
        """The prompt of a user message about the problem, after the turns of its conversation."""
        return self.codec.chat(message, self.prompts.opening(problem.before))

    async def rollouts(self, problem: Problem, n: int) -> tuple[Rollout, ...]:
        """n rollouts of the policy on the problem, with verdicts."""
        return await self.sample(problem, self.solve_prompt(problem), n, "rollout")

    async def group(self, problem: Problem) -> tuple[Rollout, ...]:
        """The problem's group: G rollouts, of which the first `sampling.scouts` alone where none of them passes."""
        size, scouts = self.recipe.sampling.group_size, self.recipe.sampling.scouts
        first = await self.rollouts(problem, min(scouts, size) or size)
        missing = size - len(first)  # none where another trainer has drawn the group already
        if not missing or not any(r.verdict.passed for r in first):
            return first
        return (*first, *await self.sample(problem, self.solve_prompt(problem), missing, "rollout", "rest"))

    async def sample(
        self,
        problem: Problem,
        prompt_ids: tuple[int, ...],
        n: int,
        phase: Phase,
        index: object = 0,
        prefix: tuple[int, ...] = (),
    ) -> tuple[Rollout, ...]:
        """n completions of `prompt_ids + prefix`, each judged as prefix + completion (see `generate`)."""
        completions = await self.generate(problem, prompt_ids, n, phase, index, prefix)
        with self.meter.phase(phase):
            return self.judge(problem, (*prompt_ids, *prefix), completions, prefix)

    async def generate(
        self,
        problem: Problem,
        prompt_ids: tuple[int, ...],
        n: int,
        phase: Phase,
        index: object = 0,
        prefix: tuple[int, ...] = (),
    ) -> list[Completion]:
        """n completions of `prompt_ids + prefix`, in seconds of `phase`.

        `index` tells calls of one problem and phase apart, so that each has a seed of its own.
        """
        sampling = self.recipe.sampling
        params = SamplingParams(
            max_new_tokens=max(1, sampling.max_new_tokens - len(prefix)),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=derive_seed(self.recipe.seed, self.step, problem.id, phase, index),
            stop_ids=self.codec.stop_ids,
        )
        with self.meter.phase(phase):
            return await self.sampler.generate((*prompt_ids, *prefix), params, n)

    def judge(
        self,
        problem: Problem,
        prompt_ids: tuple[int, ...],
        completions: Sequence[Completion],
        prefix: tuple[int, ...] = (),
    ) -> tuple[Rollout, ...]:
        """The completions as rollouts: decoded after `prefix` and verified in one call."""
        texts = [self.codec.decode((*prefix, *c.token_ids)) for c in completions]
        verdicts = self.verifier(problem, texts)
        return tuple(
            Rollout(prompt_ids, completion, text, verdict)
            for completion, text, verdict in zip(completions, texts, verdicts, strict=True)
        )
