"""The bridge's parts in this process, without Ray: verl's own worker and FSDP2 engine, a dictionary for its queue, and
a server that plays a tape of completions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig
from runs import settings, write_data
from scene import Scene, Tape
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from transfer_queue.storage.managers.simple_storage_manager import AsyncSimpleStorageManager
from verl.experimental.agent_loop.agent_loop import DictConfigWrap
from verl.trainer.ppo import padding_utils
from verl.trainer.ppo.v1 import trainer_base
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.config import TrainingWorkerConfig
from verl.workers.engine_workers import TrainingWorker
from verl.workers.rollout.replica import TokenOutput

from kintsugi.bridges import verl as bridge
from kintsugi.bridges.verl_diary import VerlDiary
from kintsugi.bridges.verl_loop import KintsugiAgentLoop, RowOutput
from kintsugi.bridges.verl_settings import plan
from kintsugi.records import Problem


def configuration(folder: Path, **own: object) -> DictConfig:
    """verl's configuration with the group `kintsugi`, as its command line makes it; `own` are settings by their key."""
    write_data(folder)
    with initialize_config_module("verl.trainer.config", version_base=None):
        where = "hydra.searchpath=[pkg://kintsugi.bridges.conf]"
        return compose("ppo_trainer", overrides=[where, *settings(folder, **own)])


@dataclass(slots=True)
class TapeServer:
    """verl's server client, playing the tape; `asked` are the requests."""

    tape: Tape
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def generate(
        self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any]
    ) -> TokenOutput:
        self.asked.append({"request_id": request_id, "prompt_ids": prompt_ids, **sampling_params})
        found = self.tape.take(prompt_ids)
        return TokenOutput(
            token_ids=list(found.token_ids), log_probs=list(found.logprobs), extra_fields={"global_steps": 3}
        )


def loop(config: DictConfig, tokenizer: Any, server: Any) -> KintsugiAgentLoop:
    return KintsugiAgentLoop(
        DictConfigWrap(config), server, tokenizer, None, RLHFDataset, DictConfigWrap(config.data), hf_model_type="qwen2"
    )  # fmt: skip


def columns(problem: Problem, **more: Any) -> dict[str, Any]:
    """What verl hands to an agent loop for a row of the data set."""
    return {
        "raw_prompt": [{"role": "user", "content": problem.prompt}],
        "data_source": "dag", "reward_model": {"ground_truth": problem.answer}, "extra_info": {"index": 0},
        "index": 0, "global_steps": 0, "uid": problem.id, "session_id": 0, **more,
    }  # fmt: skip


def played(config: DictConfig, scene: Scene) -> list[list[RowOutput]]:
    """Each problem's outputs, all completions coming from the scene's tape."""
    scene.tape.rewind()
    server = TapeServer(scene.tape)

    async def all_outputs() -> list[list[RowOutput]]:
        loops = [(loop(config, scene.loaded.tokenizer, server), problem) for problem in scene.problems]
        return await asyncio.gather(*(one.run({"top_k": -1}, **columns(p)) for one, p in loops))

    return asyncio.run(all_outputs())


@dataclass(slots=True)
class Queue:
    """verl's transfer queue in a dictionary."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    def kv_batch_put(
        self, keys: Sequence[str], partition_id: str, fields: Any, tags: Any = None
    ) -> KVBatchMeta:
        for name in fields.keys():  # noqa: SIM118 (a TensorDict)
            found = fields[name]
            for key, value in zip(keys, found.unbind() if hasattr(found, "unbind") else found, strict=True):
                self.rows.setdefault(key, {})[name] = value
        return KVBatchMeta(keys=list(keys), tags=[{} for _ in keys], partition_id=partition_id)

    def kv_batch_get(
        self, keys: Sequence[str], partition_id: str, select_fields: Sequence[str] | None = None
    ) -> Any:
        select_fields = select_fields or list(self.rows[keys[0]])
        there = [name for name in select_fields if name in self.rows[keys[0]]]
        # As the real queue packs them: jagged, equally long or not.
        pack = AsyncSimpleStorageManager._pack_field_values
        return TensorDict({n: pack([self.rows[key][n] for key in keys]) for n in there}, batch_size=len(keys))

    def kv_clear(self, keys: Sequence[str], partition_id: str) -> None:
        for key in keys:
            del self.rows[key]


def queued(queue: Queue, groups: Sequence[Sequence[RowOutput]]) -> KVBatchMeta:
    """Puts outputs into the queue as verl's agent loop worker does."""
    for g, group in enumerate(groups):
        for i, output in enumerate(group):
            found = output.as_dict()
            ids = torch.cat([found["prompts"], found["responses"]])
            more = {"uid": f"u{g}", "input_ids": ids, "position_ids": torch.arange(len(ids))}
            queue.rows[f"u{g}_0_{i}"] = found | more | {"loss_mask": found["response_mask"]}
    keys = list(queue.rows)
    return KVBatchMeta(keys=keys, tags=[{} for _ in keys], partition_id="train")


def trainer(config: DictConfig) -> bridge.KintsugiTrainer:
    """The bridge's trainer without workers."""
    made = bridge.KintsugiTrainer.__new__(bridge.KintsugiTrainer)
    made.config, made.plan, made.memory, made.known = config, plan(config), {}, 0
    made.diary, made.timing_raw, made.global_steps = (
        VerlDiary(made.plan),
        {"gen": 2.0, "old_log_prob": 1.0},
        1,
    )
    return made


@contextmanager
def worker(config: DictConfig, folder: Path) -> Iterator[TrainingWorker]:
    """verl's training worker over its FSDP2 engine, the only one of its group."""
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    own = {
        "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1",
        "DIST_INIT_METHOD": f"file://{folder / 'group'}",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for key, value in own.items():
            patch.setenv(key, value)
        made = TrainingWorker(
            TrainingWorkerConfig(
                model_type="language_model",
                model_config=omega_conf_to_dataclass(config.actor_rollout_ref.model),
                engine_config=actor.engine,
                optimizer_config=actor.optim,
                checkpoint_config=actor.checkpoint,
            )
        )
        engine = made.engine_config
        engine.use_dynamic_bsz = True
        engine.max_token_len_per_gpu = engine.infer_max_token_len_per_gpu = actor.ppo_max_token_len_per_gpu
        made.reset()
        try:
            yield made
        finally:
            torch.distributed.destroy_process_group()


@dataclass(slots=True)
class Workers:
    """verl's worker group of one, over a queue in this process."""

    worker: TrainingWorker
    queue: Queue
    gradients: list[dict[str, torch.Tensor]] = field(default_factory=list)

    def _data(self, batch: KVBatchMeta, more: Sequence[str]) -> Any:
        names = ["prompts", "responses", "response_mask", "loss_mask", "input_ids", "position_ids", *more]
        data = self.queue.kv_batch_get(batch.keys, "train", names)
        for key, value in batch.extra_info.items():
            tu.assign_non_tensor_data(data, key, value)
        return data

    def compute_log_prob(self, batch: KVBatchMeta) -> KVBatchMeta:
        found = self.worker.infer_batch(self._data(batch, []))
        self.queue.kv_batch_put(batch.keys, "train", found.select("log_probs", "entropy"))
        return batch

    def update_actor(self, batch: KVBatchMeta) -> Any:
        engine = self.worker.engine
        own = engine.optimizer_step

        def seen() -> Any:
            """verl frees a gradient once it was used."""
            found = {name: p.grad for name, p in engine.module.named_parameters() if p.grad is not None}
            whole = {name: g.full_tensor() if hasattr(g, "full_tensor") else g for name, g in found.items()}
            self.gradients.append({name: g.clone() for name, g in whole.items()})
            return own()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "optimizer_step", seen)
            return self.worker.train_mini_batch(self._data(batch, ["old_log_probs", "advantages"]))


def step(
    made: bridge.KintsugiTrainer, workers: Workers, groups: Sequence[Sequence[RowOutput]], multiple: int = 1
) -> dict[str, Any]:
    """What verl's trainer does with a batch once it is sampled, by the trainer's own methods. Returns its metrics."""
    queue, metrics = workers.queue, {}
    with pytest.MonkeyPatch.context() as patch:
        for module in (bridge, trainer_base, padding_utils):
            patch.setattr(module, "tq", queue)
        made.actor_rollout_wg = workers
        batch = made._folded(queued(queue, groups), metrics)
        batch = padding_utils.upsample_batch_to_divisible_size(batch, multiple, 0)
        batch.extra_info["temperature"] = 1.0
        for stage in (made._compute_old_log_prob, made._compute_advantage, made._update_actor):
            batch = stage(batch, metrics=metrics)
    return metrics
