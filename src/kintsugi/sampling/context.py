"""The context that every run of a step works with: verifier, words and tokens, settings, clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from kintsugi.config import Recipe
from kintsugi.prompts import Prompts
from kintsugi.records import Completion, Phase, Problem, Reach, Rollout, Turn
from kintsugi.sampling.base import Fork, Request, SamplingParams, Score, derive_seed
from kintsugi.sampling.play import Ask, Asking, Meter
from kintsugi.verifiers.base import UNTRAINED, Sampled, Verifier


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


@dataclass(frozen=True, slots=True)
class Context:
    """One step's surroundings. `memory` maps problem ids to the text of an earlier pass. `state` is for reward
    functions that ask how far the training is.

    Prompts longer than `max_prompt` tokens leave the model no room to answer (None: no limit).
    """

    codec: Codec
    verifier: Verifier
    prompts: Prompts
    recipe: Recipe
    step: int = 0
    memory: Mapping[str, str] = field(default_factory=dict)
    meter: Meter = field(default_factory=Meter)
    max_prompt: int | None = None
    state: Any = UNTRAINED

    def solve_prompt(self, problem: Problem) -> tuple[int, ...]:
        """x: what the policy is asked, and what every policy row conditions on."""
        return self.codec.chat(*self.prompts.solving(problem.prompt, problem.before))

    def ask(self, problem: Problem, message: str) -> tuple[int, ...]:
        """The prompt of a user message about the problem, after the turns of its conversation."""
        return self.codec.chat(message, self.prompts.opening(problem.before))

    def rollouts(self, problem: Problem, n: int) -> Asking[tuple[Rollout, ...]]:
        """n rollouts of the policy on the problem, with verdicts."""
        return self.sample(problem, self.solve_prompt(problem), n, "rollout")

    def group(self, problem: Problem) -> Asking[tuple[Rollout, ...]]:
        """The problem's group: G rollouts, of which the first `sampling.scouts` alone where none of them passes."""
        size, scouts = self.recipe.sampling.group_size, self.recipe.sampling.scouts
        first = yield from self.rollouts(problem, min(scouts, size) or size)
        missing = size - len(first)
        if not missing or not any(r.verdict.passed for r in first):
            return first
        rest = yield from self.sample(problem, self.solve_prompt(problem), missing, "rollout", "rest")
        return (*first, *rest)

    def sample(
        self,
        problem: Problem,
        prompt_ids: tuple[int, ...],
        n: int,
        phase: Phase,
        index: object = 0,
        prefix: tuple[int, ...] = (),
        draft: tuple[int, ...] = (),
    ) -> Asking[tuple[Rollout, ...]]:
        """n completions of `prompt_ids + prefix`, each judged as prefix + completion.

        `index` tells calls of one problem and phase apart, so that each has a seed of its own. `draft`: what the
        completions are thought to copy (see Request).
        """
        sampling = self.recipe.sampling
        params = SamplingParams(
            max_new_tokens=max(1, sampling.max_new_tokens - len(prefix)),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=derive_seed(self.recipe.seed, self.step, problem.id, phase, index),
            stop_ids=self.codec.stop_ids,
        )
        whole = (*prompt_ids, *prefix)
        judge = partial(self.judge, problem, whole, prefix=prefix)
        answers: list[tuple[Rollout, ...]] = yield [Ask(Request(whole, params, n, draft), phase, judge)]
        return answers[0]

    def score(self, wanted: Sequence[Score]) -> Asking[list[tuple[float, ...]]]:
        """The log-probabilities of completions under the policy that is trained."""
        return (yield list(wanted)) if wanted else []

    def reach(self, forks: Sequence[Fork]) -> Asking[list[Reach | None]]:
        """The reach of each fork under the policy that is trained; None where the trainer cannot be asked."""
        return (yield list(forks)) if forks else []

    def judge(
        self,
        problem: Problem,
        prompt_ids: tuple[int, ...],
        completions: Sequence[Completion],
        prefix: tuple[int, ...] = (),
    ) -> tuple[Rollout, ...]:
        """The completions as rollouts: decoded after `prefix` and verified in one call."""
        written = [(*prefix, *c.token_ids) for c in completions]
        texts = [self.codec.decode(ids) for ids in written]
        verdicts = self.verifier(problem, texts, Sampled(written, self.state))
        return tuple(
            Rollout(prompt_ids, completion, text, verdict)
            for completion, text, verdict in zip(completions, texts, verdicts, strict=True)
        )
