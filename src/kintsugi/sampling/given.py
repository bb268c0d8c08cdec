"""A group that was sampled and judged elsewhere, as the surroundings of an algorithm's run: it gets its group without
asking, and what it asks for beside that is sampled and judged."""

from __future__ import annotations

from dataclasses import dataclass

from kintsugi.records import Completion, Problem, Rollout, Verdict
from kintsugi.sampling.context import Context
from kintsugi.sampling.play import Asking


@dataclass(frozen=True, slots=True)
class Group:
    """One problem with its rollouts: the prompt they were sampled from, and what was written and said of it."""

    problem: Problem
    prompt_ids: tuple[int, ...]
    completions: tuple[Completion, ...]
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupContext(Context):
    """A context whose problem was asked, sampled and judged elsewhere."""

    given: Group

    def solve_prompt(self, problem: Problem) -> tuple[int, ...]:
        """The prompt as it was asked there, to the token."""
        return self.given.prompt_ids

    def group(self, problem: Problem) -> Asking[tuple[Rollout, ...]]:
        """The rollouts from there: nothing is asked for."""
        yield from ()
        drawn = zip(self.given.completions, self.given.verdicts, strict=True)
        return tuple(
            Rollout(self.given.prompt_ids, c, self.codec.decode(c.token_ids), verdict) for c, verdict in drawn
        )
