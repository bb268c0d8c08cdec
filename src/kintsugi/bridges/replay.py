"""Groups of what another trainer has sampled and judged, and the work of several processes in lockstep."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from kintsugi.bridges.common import problem_of, told_apart
from kintsugi.names import ANSWERS
from kintsugi.records import Completion, Verdict
from kintsugi.sampling.given import Group

Item = TypeVar("Item")
Result = TypeVar("Result")
Answering = Callable[[list[Any]], Sequence[Any]]
Member = tuple[Mapping[str, Any], tuple[int, ...], Completion]
"""A row of the data set, the prompt that was made of it, and one rollout."""


def grouped(members: Sequence[Member], verdicts: Sequence[Verdict], size: int) -> list[Group]:
    """Every `size` rollouts and their verdicts as a group; problems are named by their prompts. The columns of a
    problem are its row of the data set."""
    starts = range(0, len(members), size)
    asked = (json.dumps(members[start][0]["prompt"]).encode() for start in starts)
    names = told_apart(hashlib.sha256(prompt).hexdigest()[:12] for prompt in asked)
    groups = []
    for start, name in zip(starts, names, strict=True):
        example, prompt_ids, _ = members[start]
        gold = next(
            (example[key] for key in ANSWERS if key in example), None
        )  # for readers: nobody judges by it
        problem = problem_of(name, example["prompt"], gold, example)
        completions = tuple(completion for _, _, completion in members[start : start + size])
        groups.append(Group(problem, prompt_ids, completions, tuple(verdicts[start : start + size])))
    return groups


class Lockstep:
    """Work shared by several processes. Each calls the same methods in the same order.

    `gather` returns the lists of all processes joined, in their order; `rank` is this one of `world`.
    """

    def __init__(self, gather: Callable[[Any], Any], rank: int, world: int) -> None:
        self.gather, self.rank, self.world = gather, rank, world

    def everyone(self, item: Item) -> list[Item]:
        """Each process's item."""
        found: list[Item] = self.gather([item])
        return found

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This process's part of what all processes hold."""
        return list(items[self.rank :: self.world])

    def together(self, mine: Sequence[Item]) -> list[Item]:
        """The results of all processes for their shares, in the order of the whole."""
        parts = self.everyone(list(mine))
        return [parts[i % self.world][i // self.world] for i in range(sum(map(len, parts)))]

    def spread(self, items: Sequence[Item], work: Callable[[list[Item]], Sequence[Result]]) -> list[Result]:
        """work(items), the work shared out; what all processes hold. As many items come to each process
        (some come twice), so that `work` may do things that all must do alike."""
        mine = self.share(items)
        mine += items[: -(-len(items) // self.world) - len(mine)]
        return self.together(work(mine) if mine else [])[: len(items)]

    def answer(self, asked: Sequence[Any], work: Mapping[type, Answering]) -> list[Any] | None:
        """One round: what becomes of `asked`, or None where no process has asked for anything.

        `work` by the type of what is asked, which processes may ask for in another order: all do one type at a time.
        """
        asking = self.everyone(list(asked))
        everything = [item for one in asking for item in one]
        done: dict[int, Any] = {}
        for kind, do in work.items():
            places = [i for i, item in enumerate(everything) if isinstance(item, kind)]
            done |= zip(places, self.spread([everything[i] for i in places], do), strict=True)
        start = sum(map(len, asking[: self.rank]))
        return [done[i] for i in range(start, start + len(asked))] if everything else None
