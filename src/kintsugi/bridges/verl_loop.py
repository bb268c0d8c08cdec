"""The agent loop of the verl bridge: one prompt in, the rows of its whole group out."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput, register
from verl.utils.fs import copy_to_local

from kintsugi.algorithms.base import row
from kintsugi.bridges.common import problem_of
from kintsugi.bridges.verl_rows import NOTE, Note, place_of
from kintsugi.bridges.verl_settings import ANCHOR, NAME, PROBLEM, plan, verifier
from kintsugi.models.loading import HFCodec, stop_tokens
from kintsugi.prompts import load_prompts
from kintsugi.records import Completion, Episode, Finish, KintsugiError, Rollout, Row
from kintsugi.sampling.base import Fork, SamplingParams, Score, derive_seed
from kintsugi.sampling.context import Context
from kintsugi.sampling.play import Asking, Meter, Wanted
from kintsugi.sampling.sample import positions_of
from kintsugi.verifiers import begun_in_thoughts
from kintsugi.verifiers.base import TrainerState
from kintsugi.verifiers.heard import Heard

SAID: set[str] = set()
"""The faults of reward functions that this process has told of."""


def problem_name(source: object, prompt: object) -> str:
    """A problem's id: the same question is the same problem in every epoch, on every worker."""
    return f"{source}/{hashlib.sha256(json.dumps(prompt, default=str).encode()).hexdigest()[:16]}"


@lru_cache
def model_facts(path: str, trust: bool) -> tuple[GenerationConfig | None, int | None]:
    """(the model's generation config or None, positions of the model or None)."""
    place = copy_to_local(path)
    try:
        generation = GenerationConfig.from_pretrained(place)
    except OSError:  # a model may come without one: the tokenizer's end token is then the only one
        generation = None
    return generation, positions_of(AutoConfig.from_pretrained(place, trust_remote_code=trust))


class ServerSampler:
    """Answers asks by verl's servers. `versions` are the policies, by global step, that sampled."""

    def __init__(self, client: Any, sampling: Mapping[str, Any], seeded: bool) -> None:
        self.client, self.sampling, self.seeded = client, sampling, seeded
        self.versions: set[int] = set()

    async def answered(self, ask: Wanted, meter: Meter) -> tuple[Rollout, ...] | None:
        if isinstance(ask, Fork):
            return None  # verl's servers tell no more than the log-probabilities of what they sampled
        if isinstance(ask, Score):
            raise KintsugiError(
                "verl: the algorithm asks for log-probabilities of the trainer: set its `scores`"
            )
        request = ask.request
        with meter.phase(ask.phase):
            drawn = (self._one(request.prompt_ids, request.params, i) for i in range(request.n))
            return ask.judge(await asyncio.gather(*drawn))

    async def _one(self, prompt_ids: Sequence[int], params: SamplingParams, index: int) -> Completion:
        seed = derive_seed(params.seed, index)
        asked = {
            **self.sampling,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "max_tokens": params.max_new_tokens,
            "stop_token_ids": list(params.stop_ids),
            "logprobs": True,
            **({"seed": seed} if self.seeded else {}),
        }
        found = await self.client.generate(f"{seed:x}", prompt_ids=list(prompt_ids), sampling_params=asked)
        ids = tuple(found.token_ids)
        version = int(found.extra_fields.get("global_steps") or 0)
        self.versions.add(version)
        finish: Finish = "stop" if ids and ids[-1] in params.stop_ids else "length"
        return Completion(ids, tuple(found.log_probs), finish, version)


async def played(run: Asking[Episode], sampler: ServerSampler, meter: Meter) -> Episode:
    """Plays the run and returns its result. Its asks go to the servers as they come."""
    answers: Any = None
    while True:
        try:
            asks = run.send(answers)
        except StopIteration as end:
            episode: Episode = end.value
            return episode
        answers = list(await asyncio.gather(*(sampler.answered(ask, meter) for ask in asks)))


class RowOutput(AgentLoopOutput):  # type: ignore[misc]
    """One row on its way to verl: `rm_scores` carries its credit, token by token."""

    advantages: list[float]

    def as_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = super().as_dict()
        found["rm_scores"] = torch.tensor(found.pop("advantages"), dtype=torch.float32)
        return found


def outputs(
    episode: Episode, rows: Sequence[Row], versions: set[int], seconds: Mapping[str, float]
) -> list[RowOutput]:
    """The rows for verl. Without any, a rollout that trains nothing carries the episode."""
    first = row(episode, 0)
    idle = replace(first, mask=(0,) * len(first.mask))
    made = []
    for i, one in enumerate(rows or [idle]):
        note = Note(place_of(one) if rows else None, i, *((episode, dict(seconds)) if i == 0 else ()))
        made.append(
            RowOutput(
                prompt_ids=list(one.prompt_ids),
                response_ids=list(one.completion_ids),
                response_mask=list(one.mask),
                # 0 where this prompt was not what the sampler saw; verl wants the field of all rows or of none.
                response_logprobs=list(one.sampling_logprobs or [0.0] * len(one.mask)),
                advantages=list(one.advantages),
                reward_score=0.0,  # given: verl asks its reward workers for nothing
                num_turns=2,
                metrics=AgentLoopMetrics(),
                extra_fields={
                    NOTE: note.packed(),
                    "reward_extra_info": {},
                    "min_global_steps": min(versions, default=0),
                    "max_global_steps": max(versions, default=0),
                },
            )
        )
    return made


@register(NAME)
class KintsugiAgentLoop(AgentLoopBase):  # type: ignore[misc]
    """Plays the algorithm's run on one prompt: a whole group, its repairs and its checks."""

    def __init__(self, *args: Any, hf_model_type: str | None = None, **kwargs: Any) -> None:
        try:
            super().__init__(*args, hf_model_type=hf_model_type, **kwargs)
        except ValueError:  # a tokenizer unlike its model family's; its tokens of turns are not needed here
            super().__init__(*args, hf_model_type=None, **kwargs)

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> list[RowOutput]:
        recipe, algorithm, _, _ = plan(self.config)
        truth = (kwargs.get("reward_model") or {}).get("ground_truth")
        columns: dict[str, Any] = {key: kwargs[key] for key in ("data_source", "extra_info") if key in kwargs}
        prompt = list(kwargs["raw_prompt"])
        name = kwargs.get(PROBLEM) or problem_name(kwargs.get("data_source"), prompt)
        problem = problem_of(name, prompt, truth, columns)
        prompts = load_prompts(recipe.prompts)
        model = self.config.actor_rollout_ref.model
        generation, positions = model_facts(model.path, bool(model.get("trust_remote_code")))
        stops = stop_tokens(generation, self.tokenizer)
        most = self.rollout_config.max_model_len or positions
        sampler = ServerSampler(self.server_manager, sampling_params, self.rollout_config.name != "sglang")
        codec = HFCodec(self.tokenizer, stops, prompts.thinking, dict(self.apply_chat_template_kwargs))
        judge = verifier(self.config, truth)
        heard = Heard(begun_in_thoughts(judge) if codec.opens_thoughts() else judge, print, said=SAID)
        ctx = Context(
            codec=codec,
            verifier=heard,
            prompts=prompts,
            recipe=recipe,
            step=int(kwargs["global_steps"]),
            memory={problem.id: kwargs[ANCHOR]} if kwargs.get(ANCHOR) else {},
            max_prompt=None if most is None else most - 1,
            state=TrainerState(
                int(kwargs["global_steps"]) - 1, int(self.config.trainer.total_training_steps or 0)
            ),
        )
        episode = await played(algorithm.run(problem, ctx), sampler, ctx.meter)
        return outputs(episode, algorithm.rows(episode), sampler.versions, ctx.meter.seconds)
