"""One training step, frozen: the shipped model, problems, completions sampled once, and what the local trainer makes
of them. A bridge that is fed the same completions must come to the same rows, loss and gradient.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kintsugi.bridges.common import bridge_recipe
from kintsugi.config import Optim
from kintsugi.learning.learner import LocalLearner
from kintsugi.learning.loss import LOSSES
from kintsugi.learning.objective import Objective, row_scales
from kintsugi.models.loading import LoadedModel, load_model
from kintsugi.plugins import Spec
from kintsugi.prompts import load_prompts
from kintsugi.records import Completion, Problem, Row
from kintsugi.sampling.base import Request, Sampler, Session
from kintsugi.sampling.context import Context
from kintsugi.sampling.local import LocalSampler
from kintsugi.sampling.play import play
from kintsugi.tasks.dag import DagTask
from kintsugi.trainer import check_algorithm
from kintsugi.verifiers import load_verifier

GROUP, LONGEST, PROMPTS = 8, 80, "terse-v1"
Ids = tuple[int, ...]


@dataclass(slots=True)
class Tape:
    """Completions by prompt, in the order in which they were sampled; `take` hands them out again."""

    recorded: dict[Ids, list[Completion]] = field(default_factory=lambda: defaultdict(list))
    taken: dict[Ids, int] = field(default_factory=lambda: defaultdict(int))

    def take(self, prompt_ids: Sequence[int]) -> Completion:
        """The next completion of this prompt. KeyError or IndexError where none is left: a bridge asked otherwise."""
        prompt = tuple(prompt_ids)
        self.taken[prompt] += 1
        return self.recorded[prompt][self.taken[prompt] - 1]

    def rewind(self) -> None:
        self.taken.clear()

    @property
    def used_up(self) -> bool:
        return all(self.taken[prompt] == len(found) for prompt, found in self.recorded.items())


@dataclass(slots=True)
class Recorder:
    """A Sampler that keeps what `sampler` answers."""

    sampler: Sampler
    tape: Tape = field(default_factory=Tape)

    def session(self) -> RecordedSession:
        return RecordedSession(self.sampler.session(), self.tape)


@dataclass(slots=True)
class RecordedSession:
    session: Session
    tape: Tape
    prompts: dict[int, Ids] = field(default_factory=dict)

    def put(self, ticket: int, request: Request) -> None:
        self.prompts[ticket] = request.prompt_ids
        self.session.put(ticket, request)

    def take(self) -> list[tuple[int, list[Completion]]]:
        answers = self.session.take()
        for ticket, found in answers:
            self.tape.recorded[self.prompts[ticket]] += found
        return answers

    def close(self) -> None:
        self.session.close()


@dataclass(frozen=True, slots=True)
class Scene:
    """The step, and the local trainer's rows, loss, gradient norm and gradient by parameter name."""

    loaded: LoadedModel
    problems: tuple[Problem, ...]
    tape: Tape
    rows: tuple[Row, ...]
    loss: float
    grad_norm: float
    gradient: Mapping[str, Tensor]


def freeze(algorithm: Spec, problems: int = 4, seed: int = 5) -> Scene:
    """The scene of an algorithm, in fp32; `loaded.model` is as it was before the step."""
    loaded = load_model("nano", device="cpu")
    recipe = bridge_recipe(algorithm, group_size=GROUP, max_new_tokens=LONGEST, seed=seed, prompts=PROMPTS)
    chosen, task = check_algorithm(recipe), DagTask()
    recorder = Recorder(LocalSampler(loaded.model, pad_id=loaded.tokenizer.pad_token_id))
    ctx = Context(
        codec=loaded.codec,
        verifier=load_verifier(task.verifier),
        prompts=load_prompts(PROMPTS),
        recipe=recipe,
    )
    asked = tuple(task.train()[:problems])

    learner = LocalLearner(
        copy.deepcopy(loaded.model),
        Optim(lr=1e-9, warmup=0, grad_clip=1e9),
        chosen.objective(LONGEST),
        pad_id=loaded.tokenizer.pad_token_id,
    )
    episodes = play([chosen.run(problem, ctx) for problem in asked], recorder, scorer=learner.logprobs)
    rows = [row for episode in episodes for row in chosen.rows(episode)]
    stats = learner.step(rows)
    gradient = {name: p.grad for name, p in learner.model.named_parameters() if p.grad is not None}
    return Scene(loaded, asked, recorder.tape, tuple(rows), stats.loss, stats.grad_norm, gradient)


def objective_loss(
    rows: Sequence[Row], old: Sequence[Sequence[float]], now: Sequence[Sequence[float]], objective: Objective
) -> tuple[float, list[float]]:
    """(the batch's loss by the objective's own functions, each row's clipped share), from log-probabilities."""
    total, clipped = 0.0, []
    for row, before, after, scale in zip(rows, old, now, row_scales(rows, objective), strict=True):
        parts = [torch.tensor([v], dtype=torch.float32) for v in (after, before, row.mask, row.advantages)]
        losses = LOSSES[objective.level](*parts, objective, torch.tensor([len(row.mask)]))
        total += scale * float(losses.loss_B)
        clipped.append(float(losses.clipped_B))
    return total, clipped


def credit(rows: Sequence[Row]) -> list[tuple]:
    """What training reads of the rows, whatever their problems are called and whoever sampled them."""
    return [(r.term, r.prompt_ids, r.completion_ids, r.mask, r.advantages, r.weight) for r in rows]
