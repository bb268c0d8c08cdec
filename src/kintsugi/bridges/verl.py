"""verl with Kintsugi's algorithms, from a single GPU to a Ray cluster:

    python -m verl.trainer.main_ppo hydra.searchpath=[pkg://kintsugi.bridges.conf] +kintsugi=default ...

1. Each prompt plays the algorithm's run in one agent loop: verl's servers draw rollouts, repairs and checks alike.
   The loop returns one output per row; the gate is verl's response mask, the credit its token scores.
2. With all rows of a batch at hand the trainer folds each row's place in the loss into its credit, drops the rows that
   train nothing, and makes as many optimizer steps as `train_batch_size / ppo_mini_batch_size` says.
3. The workers' loss is the plain sum over tokens: the local learner's loss.

verl finds this module by its entry point `verl.plugins`.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transfer_queue as tq
from omegaconf import DictConfig
from ray.exceptions import RayActorError
from tensordict import TensorDict
from verl.trainer.ppo.core_algos import register_adv_est
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils import tensordict_utils as tu

from kintsugi.bridges.common import keep_memory, kept_memory, logged_numbers, told_apart
from kintsugi.bridges.verl_diary import VerlDiary
from kintsugi.bridges.verl_loop import KintsugiAgentLoop, problem_name
from kintsugi.bridges.verl_rows import NOTE, Note, jagged, row_of, sampler_gap, seconds_of, token_sum
from kintsugi.bridges.verl_settings import ANCHOR, NAME, PROBLEM, plan, verifier, verifier_specs
from kintsugi.learning.objective import flattened
from kintsugi.loop import remember
from kintsugi.records import KintsugiError, Problem
from kintsugi.verifiers import check_columns, goes_on
from kintsugi.verifiers.heard import require

__all__ = ["KintsugiAgentLoop", "KintsugiTrainer", "token_credit"]

NOTHING_CAME = "no materializable trajectories"
"""The words by which verl says that every prompt of a batch failed."""


@register_adv_est(NAME)  # type: ignore[untyped-decorator]
def token_credit(token_level_rewards: torch.Tensor, **_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(advantages, returns): the credit as the trainer folded it."""
    return token_level_rewards, token_level_rewards


@register_trainer(NAME)
class KintsugiTrainer(PPOTrainerSync):  # type: ignore[misc]
    """verl's synchronous trainer over rows of varying number."""

    def __init__(self, config: DictConfig) -> None:
        self.plan = plan(config)
        asked = Problem("", "", "", {"data_source": "", "extra_info": {}})
        check_columns(verifier(config, None), [asked])  # a mistake there is told now, not by every worker
        config.trainer.v1.trainer_mode = "sync"  # which is what it is, to all of verl's other parts
        self.memory: dict[str, str] = {}
        self.diary = VerlDiary(self.plan)
        self.known = 0
        super().__init__(config)

    def fit(self, agent_loop_manager: Any) -> None:
        self.diary.begin(self.tokenizer, self.total_training_steps, self.global_steps)
        try:
            super().fit(agent_loop_manager)
        except (RayActorError, RuntimeError) as error:
            if not isinstance(error, RayActorError) and NOTHING_CAME not in str(error):
                raise
            latest = Path(self.config.trainer.default_local_dir) / "latest_checkpointed_iteration.txt"
            step = latest.read_text(encoding="utf-8") if latest.is_file() else "none"
            reason = " ".join(str(error).split())[:200]
            raise KintsugiError(
                f"verl: step {self.global_steps} could not be finished: a worker or a rollout server died, or no "
                f"prompt of the batch came to an end ({reason}); the log above says why. The same command goes on from "
                f"the last checkpoint (step {step}) in {latest.parent}"
            ) from error
        finally:
            self.diary.close()

    @property
    def on_policy(self) -> bool:
        """True if there is one update per batch."""
        return self.plan.updates == 1 and bool(self.config.actor_rollout_ref.actor.ppo_epochs == 1)

    def loss(self) -> Any:
        """The loss that the workers minimise: the algorithm's objective, in place of verl's policy losses."""
        return partial(token_sum, objective=self.plan.objective, on_policy=self.on_policy)

    def on_init_end(self) -> None:
        self.actor_rollout_wg.set_loss_fn(self.loss())
        super().on_init_end()

    def _submit_batch_to_rollout(self, batch: TensorDict) -> int:
        """Training prompts alone go to the loop; validation keeps verl's own."""
        tu.assign_non_tensor_data(batch, "agent_name", NAME)
        sources, prompts = batch["data_source"], batch["raw_prompt"]
        names = told_apart(problem_name(s, list(p)) for s, p in zip(sources, prompts, strict=True))
        anchors = [self.memory.get(name, "") for name in names]
        self.known = sum(map(bool, anchors))
        tu.assign_non_tensor_stack(batch, ANCHOR, anchors)
        tu.assign_non_tensor_stack(batch, PROBLEM, names)
        return int(super()._submit_batch_to_rollout(batch))

    def _balance_batch(self, batch: Any, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The first thing done with a sampled batch: fold, say, and keep what trains."""
        return super()._balance_batch(self._folded(batch, metrics), metrics, *args, **kwargs)

    def _folded(self, batch: Any, metrics: dict[str, Any]) -> Any:
        fields = ["prompts", "responses", "response_mask", "rm_scores", "extra_fields"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        notes = [Note.unpacked(extra[NOTE]) for extra in list(data["extra_fields"])]
        ids, texts, masks, credits = ([v.tolist() for v in data[name].unbind()] for name in fields[:4])
        placed = [i for i, note in enumerate(notes) if note.place is not None]
        rows = [row_of(ids[i], texts[i], masks[i], credits[i], notes[i]) for i in placed]
        episodes = [note.episode for note in notes if note.episode is not None]
        if not goes_on(verifier_specs(self.config) or []):
            require((r.verdict for e in episodes for r in e.rollouts), f"verl: step {self.global_steps}")
        remember(self.memory, episodes)
        self.diary.sampled(batch.keys, notes, self.timing_raw.get("gen", 0.0))
        folded = dict(zip(placed, flattened(rows, self.plan.objective), strict=True))
        live = [i for i, row in folded.items() if row.active and any(row.advantages)]
        found = logged_numbers(episodes, rows) | seconds_of(notes)
        found |= {"rows/live": len(live), "memory/known": self.known}
        metrics.update({f"kintsugi/{name}": value for name, value in found.items()})
        live = live or [0]  # verl cannot go on with nothing
        dead = sorted(set(range(len(notes))) - set(live))
        if dead:
            tq.kv_clear(keys=[batch.keys[i] for i in dead], partition_id=batch.partition_id)
        batch = batch.select_keys([batch.keys[i] for i in live])
        # Each of several updates sees its share of the rows: times their number it is the whole batch's mean.
        credit = [
            [a * self.plan.updates for a in folded[i].advantages] if i in folded else credits[i] for i in live
        ]
        tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id,
            fields=TensorDict({"rm_scores": jagged(credit)}, batch_size=len(live)))  # fmt: skip
        return batch

    def _get_required_batch_multiple(self, dp_size: int) -> int:
        return dp_size * self.plan.updates

    def _compute_old_log_prob(self, batch: Any, metrics: dict[str, Any]) -> Any:
        batch = super()._compute_old_log_prob(batch, metrics=metrics)
        names = ["response_mask", "old_log_probs", "rollout_log_probs"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=names)
        self.diary.scored(batch.keys, data["old_log_probs"].unbind())
        found = sampler_gap(*(data[name].values() for name in names))
        metrics.update({f"kintsugi/{name}": value for name, value in found.items()})
        return batch

    def _update_actor(self, batch: Any, metrics: dict[str, Any]) -> Any:
        began, updates = time.perf_counter(), 0
        if metrics["kintsugi/rows/live"]:  # without any Adam would move by its momentum alone
            actor = self.config.actor_rollout_ref.actor
            actor.ppo_mini_batch_size = len(batch) // self.plan.updates
            updates = self.plan.updates * actor.ppo_epochs
            batch = super()._update_actor(batch, metrics=metrics)
        seconds = time.perf_counter() - began + self.timing_raw.get("old_log_prob", 0.0)
        self.diary.write(self.global_steps, metrics, updates, self.on_policy, seconds)
        return batch

    def _val_metrics_update(self, sources: Any, uids: Any, infos: Any, *args: Any, **kwargs: Any) -> Any:
        self.diary.evaluated(self.global_steps, uids, infos["reward"])
        return super()._val_metrics_update(sources, uids, infos, *args, **kwargs)

    def _save_checkpoint(self) -> None:
        """The anchors of earlier passes first: verl names a checkpoint complete as the last thing."""
        folder = Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}"
        folder.mkdir(parents=True, exist_ok=True)
        keep_memory(folder, self.memory)
        super()._save_checkpoint()

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        config = self.config.trainer
        latest = Path(config.default_local_dir) / f"global_step_{self.global_steps}"
        folder = Path(config.resume_from_path) if config.resume_mode == "resume_path" else latest
        if self.global_steps:
            self.memory = kept_memory(folder)
