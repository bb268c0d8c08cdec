"""verl with Kintsugi's algorithms, from a single GPU to a Ray cluster:

    python -m verl.trainer.main_ppo hydra.searchpath=[pkg://kintsugi.bridges.conf] +kintsugi=default ...

1. Each prompt runs the algorithm's coroutine in one agent loop: verl's servers draw rollouts, repairs and checks alike.
   The loop returns one output per row; the gate is verl's response mask, the credit its token scores.
2. With all rows of a batch at hand the trainer folds each row's place in the loss into its credit, drops the rows that
   train nothing, and makes as many optimizer steps as `train_batch_size / ppo_mini_batch_size` says.
3. The workers' loss is the plain sum over tokens: the local learner's loss.

verl finds this module by its entry point `verl.plugins`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transfer_queue as tq
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDict
from transformers import AutoConfig, GenerationConfig
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput, register
from verl.trainer.ppo.core_algos import register_adv_est
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils import tensordict_utils as tu

from kintsugi.algorithms import Algorithm
from kintsugi.bridges.common import bridge_algorithm, bridge_recipe, problem_of
from kintsugi.bridges.verl_rows import NOTE, Note, jagged, numbers, place_of, row_of, sampler_gap, token_sum
from kintsugi.config import Recipe, split_spec
from kintsugi.engines.base import SamplingParams, derive_seed
from kintsugi.internalize.context import Context
from kintsugi.loading import load_object
from kintsugi.models.loading import HFCodec
from kintsugi.objective import Objective, flattened
from kintsugi.prompts import load_prompts
from kintsugi.records import Completion, Episode, KintsugiError, Row
from kintsugi.trainer import check_algorithm, remember
from kintsugi.verifiers import load_verifier
from kintsugi.verifiers.base import Verifier
from kintsugi.verifiers.user import UserVerifier

NAME, ANCHOR, MEMORY = "kintsugi", "kintsugi_anchor", "kintsugi_memory.json"
WANTED: Mapping[str, object] = {
    "algorithm.adv_estimator": NAME,
    "algorithm.use_kl_in_reward": False,
    "algorithm.filter_groups.enable": False,
    "actor_rollout_ref.rollout.n": 1,
    "actor_rollout_ref.actor.use_kl_loss": False,
    "actor_rollout_ref.actor.entropy_coeff": 0,
    "reward.reward_model.enable": False,
}
"""Settings under which the loss is the algorithm's; the config group sets those that verl does not."""


class Plan(NamedTuple):
    """What the configuration comes to; `updates` is the number of optimizer steps per batch."""

    recipe: Recipe
    algorithm: Algorithm
    objective: Objective
    updates: int


def plan(config: DictConfig) -> Plan:
    """KintsugiError for what would spoil the credit."""
    for key, wanted in WANTED.items():
        if (found := OmegaConf.select(config, key)) != wanted and found is not None:
            raise KintsugiError(f"verl: {key}: expected {wanted}, got {found} (docs/verl.md says why)")
    told, rollout = OmegaConf.to_container(config.kintsugi, resolve=True), config.actor_rollout_ref.rollout
    name, options = split_spec(told["algorithm"], "algorithm")
    if name == "sdpo" or options.get("capped"):
        raise KintsugiError(f"verl: {name}: expected an algorithm whose credit needs no log-probabilities of the trainer "
            "(not sdpo, no capped); leave it to the local trainer")  # fmt: skip
    recipe = bridge_recipe(
        told["algorithm"],
        group_size=told["group_size"],
        max_new_tokens=rollout.response_length,
        temperature=rollout.temperature,
        top_p=rollout.top_p,
        seed=told["seed"],
        prompts=told["prompts"],
    )
    check_algorithm(recipe)
    algorithm = bridge_algorithm(recipe)
    batch, mini = config.data.train_batch_size, config.actor_rollout_ref.actor.ppo_mini_batch_size
    if batch % mini:
        raise KintsugiError(f"verl: ppo_mini_batch_size: expected a divisor of train_batch_size={batch}, got {mini}")
    objective = algorithm.objective(rollout.response_length, told["clip_low"], told["clip_high"])
    return Plan(recipe, algorithm, objective, batch // mini)


def problem_name(source: object, prompt: object) -> str:
    """A problem's id: the same question is the same problem in every epoch, on every worker."""
    return f"{source}/{hashlib.sha256(json.dumps(prompt, default=str).encode()).hexdigest()[:16]}"


@lru_cache
def model_facts(path: str) -> tuple[tuple[int, ...], int | None]:
    """(tokens that end an answer beside the tokenizer's, positions of the model or None)."""
    try:
        ends = GenerationConfig.from_pretrained(path).eos_token_id
    except OSError:
        ends = None
    positions = getattr(AutoConfig.from_pretrained(path).get_text_config(), "max_position_embeddings", None)
    return tuple(ends if isinstance(ends, list) else [] if ends is None else [ends]), positions


class ServerSampler:
    """A Sampler over verl's servers. `versions` are the policies, by global step, that sampled."""

    def __init__(self, client: Any, sampling: Mapping[str, Any], seeded: bool) -> None:
        self.client, self.sampling, self.seeded = client, sampling, seeded
        self.versions: set[int] = set()

    async def generate(
        self, prompt_ids: Sequence[int], params: SamplingParams, n: int = 1
    ) -> list[Completion]:
        return await asyncio.gather(*(self._one(prompt_ids, params, i) for i in range(n)))

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
        finish = "stop" if ids and ids[-1] in params.stop_ids else "length"
        return Completion(ids, tuple(found.log_probs), finish, version)


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
    first = episode.rollouts[0]
    idle = Row(first.prompt_ids, first.completion.token_ids, *([(0,) * len(first.completion.token_ids)] * 2), None,
        "policy", episode.problem.id, "", 0.0)  # fmt: skip
    made = []
    for i, row in enumerate(rows or [idle]):
        note = Note(place_of(row) if rows else None, *((episode, dict(seconds)) if i == 0 else ()))
        made.append(
            RowOutput(
                prompt_ids=list(row.prompt_ids),
                response_ids=list(row.completion_ids),
                response_mask=list(row.mask),
                # 0 where this prompt was not what the sampler saw; verl wants the field of all rows or of none.
                response_logprobs=list(row.sampling_logprobs or [0.0] * len(row.mask)),
                advantages=list(row.advantages),
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
    """Runs the algorithm's coroutine on one prompt: a whole group, its repairs and its checks."""

    def __init__(self, *args: Any, hf_model_type: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, hf_model_type=None, **kwargs)  # verl's own tokens of turns are not needed here

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> list[RowOutput]:
        recipe, algorithm, _, _ = plan(self.config)
        truth = (kwargs.get("reward_model") or {}).get("ground_truth")
        columns = {key: kwargs[key] for key in ("data_source", "extra_info") if key in kwargs}
        prompt = list(kwargs["raw_prompt"])
        problem = problem_of(problem_name(kwargs.get("data_source"), prompt), prompt, truth, columns)
        prompts = load_prompts(recipe.prompts)
        ends, positions = model_facts(self.config.actor_rollout_ref.model.path)
        stops = tuple(sorted({*ends, self.tokenizer.eos_token_id} - {None}))
        most = self.rollout_config.max_model_len or positions
        sampler = ServerSampler(self.server_manager, sampling_params, self.rollout_config.name != "sglang")
        ctx = Context(
            sampler=sampler,
            codec=HFCodec(self.tokenizer, stops, prompts.thinking, dict(self.apply_chat_template_kwargs)),
            verifier=verifier(self.config, truth),
            prompts=prompts,
            recipe=recipe,
            step=int(kwargs["global_steps"]),
            memory={problem.id: kwargs[ANCHOR]} if kwargs.get(ANCHOR) else {},
            max_prompt=None if most is None else most - 1,
        )
        episode = await algorithm.run(problem, ctx)
        return outputs(episode, algorithm.rows(episode), sampler.versions, ctx.meter.seconds)


def verifier(config: DictConfig, truth: object) -> Verifier:
    """`kintsugi.verifier`, or else verl's reward function, which gets the ground truth as the data set has it."""
    if config.kintsugi.verifier is not None:
        return load_verifier(OmegaConf.to_container(OmegaConf.create({"v": config.kintsugi.verifier}))["v"])
    own = config.reward.get("custom_reward_function") or {}
    arguments = {**(own.get("reward_kwargs") or {}), "ground_truth": truth}
    if own.get("path"):
        name = f"{own['path']}:{own['name']}"
        return UserVerifier(load_object(name, "reward function"), name, arguments)
    from verl.utils.reward_score import default_compute_score

    return UserVerifier(default_compute_score, "verl's default_compute_score", arguments)


@register_adv_est(NAME)
def token_credit(token_level_rewards: torch.Tensor, **_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(advantages, returns): the credit as the trainer folded it."""
    return token_level_rewards, token_level_rewards


@register_trainer(NAME)
class KintsugiTrainer(PPOTrainerSync):  # type: ignore[misc]
    """verl's synchronous trainer over rows of varying number."""

    def __init__(self, config: DictConfig) -> None:
        self.plan = plan(config)
        verifier(config, None)  # a mistake there is told now, not by every worker
        config.trainer.v1.trainer_mode = "sync"  # which is what it is, to all of verl's other parts
        self.memory: dict[str, str] = {}
        super().__init__(config)

    def on_init_end(self) -> None:
        on_policy = self.plan.updates == 1 and self.config.actor_rollout_ref.actor.ppo_epochs == 1
        loss = partial(token_sum, objective=self.plan.objective, on_policy=on_policy)
        self.actor_rollout_wg.set_loss_fn(loss)
        super().on_init_end()

    def _submit_batch_to_rollout(self, batch: TensorDict) -> int:
        """Training prompts alone go to the loop; validation keeps verl's own."""
        tu.assign_non_tensor_data(batch, "agent_name", NAME)
        sources, prompts = batch["data_source"], batch["raw_prompt"]
        names = [problem_name(s, list(p)) for s, p in zip(sources, prompts, strict=True)]
        tu.assign_non_tensor_stack(batch, ANCHOR, [self.memory.get(name, "") for name in names])
        return int(super()._submit_batch_to_rollout(batch))

    def _balance_batch(self, batch: Any, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The first thing done with a sampled batch: fold, say, and keep what trains."""
        return super()._balance_batch(self._folded(batch, metrics), metrics, *args, **kwargs)

    def _folded(self, batch: Any, metrics: dict[str, Any]) -> Any:
        fields = ["prompts", "responses", "response_mask", "rm_scores", "extra_fields"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        notes = [Note.unpacked(extra[NOTE]) for extra in data["extra_fields"].tolist()]
        columns = [[values.tolist() for values in data[name].unbind()] for name in fields[:4]]
        placed = [i for i, note in enumerate(notes) if note.place is not None]
        rows = [row_of(*(column[i] for column in columns), notes[i]) for i in placed]
        episodes = [note.episode for note in notes if note.episode is not None]
        remember(self.memory, episodes)
        found = numbers(episodes, rows, [note.seconds or {} for note in notes])
        metrics.update({f"kintsugi/{name}": value for name, value in found.items()})
        folded = {i: row for i, row in zip(placed, flattened(rows, self.plan.objective), strict=True)}
        live = [i for i, row in folded.items() if row.active and any(row.advantages)] or [0]
        dead = sorted(set(range(len(notes))) - set(live))
        if dead:
            tq.kv_clear(keys=[batch.keys[i] for i in dead], partition_id=batch.partition_id)
        batch = batch.select_keys([batch.keys[i] for i in live])
        # Each of several updates sees its share of the rows: times their number it is the whole batch's mean.
        credit = [[a * self.plan.updates for a in folded[i].advantages] if i in folded else columns[3][i] for i in live]
        tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id,
            fields=TensorDict({"rm_scores": jagged(credit)}, batch_size=len(live)))  # fmt: skip
        return batch

    def _get_required_batch_multiple(self, dp_size: int) -> int:
        return dp_size * self.plan.updates

    def _compute_old_log_prob(self, batch: Any, metrics: dict[str, Any]) -> Any:
        batch = super()._compute_old_log_prob(batch, metrics=metrics)
        names = ["response_mask", "old_log_probs", "rollout_log_probs"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=names)
        found = sampler_gap(*(data[name].values() for name in names))
        metrics.update({f"kintsugi/{name}": value for name, value in found.items()})
        return batch

    def _update_actor(self, batch: Any, metrics: dict[str, Any]) -> Any:
        self.config.actor_rollout_ref.actor.ppo_mini_batch_size = len(batch) // self.plan.updates
        return super()._update_actor(batch, metrics=metrics)

    def _save_checkpoint(self) -> None:
        """The anchors of earlier passes first: verl names a checkpoint complete as the last thing."""
        folder = Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MEMORY).write_text(json.dumps(self.memory), encoding="utf-8")
        super()._save_checkpoint()

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        told = self.config.trainer.resume_from_path if self.config.trainer.resume_mode == "resume_path" else None
        folder = Path(told or Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}")
        if self.global_steps and (folder / MEMORY).is_file():
            self.memory = json.loads((folder / MEMORY).read_text(encoding="utf-8"))
