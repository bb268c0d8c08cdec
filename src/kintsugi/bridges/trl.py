"""TRL's GRPOTrainer with Kintsugi's algorithms, by three changed lines of a TRL script:

    from kintsugi.bridges.trl import KintsugiGRPOTrainer
    trainer = KintsugiGRPOTrainer(model=..., reward_funcs=..., args=..., train_dataset=..., algorithm="iop")

1. TRL samples and rewards a batch as ever. Then every group plays the algorithm's run: its rollouts are what TRL
   sampled, and whatever it samples beside them goes through TRL's generation, in rounds.
2. Credit turns episodes into rows. Their place in the loss is folded into their advantages, so that TRL's sum over
   tokens is the algorithm's loss; gates are TRL's tool mask.
3. Several processes sample in lockstep, share all episodes, and take equal parts of the rows.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl import GRPOTrainer
from trl.data_utils import apply_chat_template, is_conversational
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter

from kintsugi.algorithms import ALGORITHMS
from kintsugi.bridges.common import bridge_recipe, keep_memory, kept_memory, logged_numbers
from kintsugi.bridges.journal import Journal
from kintsugi.bridges.replay import Lockstep, grouped
from kintsugi.bridges.trl_diary import NUMBER, TrlDiary
from kintsugi.bridges.trl_rows import Layout, dealt, idle_row, unpadded
from kintsugi.bridges.trl_settings import SUM, deciding, masked, on_policy, settle
from kintsugi.bridges.trl_words import TextCodec, check_rewards, verdict_of, wording
from kintsugi.loop import remember
from kintsugi.models.loading import HFCodec
from kintsugi.plugins import Spec, split_spec
from kintsugi.records import Completion, Episode, KintsugiError, Row
from kintsugi.sampling.base import Score
from kintsugi.sampling.given import Group, GroupContext
from kintsugi.sampling.play import Meter, play
from kintsugi.sampling.rounds import Rounds
from kintsugi.sampling.sample import Limits, Sample
from kintsugi.trainer import check_algorithm
from kintsugi.verifiers.calls import Log
from kintsugi.verifiers.heard import Heard
from kintsugi.verifiers.user import UserVerifier
from kintsugi.verifiers.weighted import Weighted, distinct_names


class KintsugiGRPOTrainer(GRPOTrainer):  # type: ignore[misc]
    """A GRPOTrainer that trains as `algorithm` says; all other arguments are TRL's.

    algorithm: a name, or a mapping such as {"name": "kintsugi", "failures": 3}. prompts: the wording of repair
    prompts. outcome: name or number of the reward function that says whether an answer is right (None: the one called
    `outcome`, else the first); group advantages compare the weighted sum of all. witnesses: passes a group needs
    before it is credited. KintsugiError for what would spoil the credit (docs/trl.md).
    """

    def __init__(
        self,
        *args: Any,
        algorithm: Spec = "kintsugi",
        prompts: str = "plain-v2",
        outcome: str | int | None = None,
        witnesses: int = 1,
        **kwargs: Any,
    ) -> None:
        name, _ = split_spec(algorithm, "algorithm")
        self._prompts = wording(prompts)
        given = inspect.signature(GRPOTrainer).bind_partial(*args, **kwargs).arguments
        check_rewards(given.get("reward_funcs"), given.get("train_dataset"))  # before a model is loaded
        super().__init__(*args, **kwargs)
        self._recipe = bridge_recipe(
            algorithm,
            group_size=self.num_generations,
            max_new_tokens=self.max_completion_length,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.args.seed,
            prompts=prompts,
            witnesses=witnesses,
            **told_by(self),
        )
        beyond = self._is_vlm or self.tools or self.rollout_func or self.environment_factories
        alone = KintsugiError(
            "expected text in and text out, got images, tools, a rollout_func or environments"
        )
        settings = settle(self.args, check_algorithm(self._recipe), [alone] if beyond else [])
        self._algorithm = settings.algorithm
        self._objective = self._algorithm.objective(
            self.max_completion_length, settings.clip_low, settings.clip_high
        )
        self.importance_sampling_level = self.args.importance_sampling_level = settings.level
        self.epsilon_low, self.epsilon_high = settings.clip_low, settings.clip_high
        # Its ratio needs a sampler's log-probabilities, and a repair, given x, was sampled by none.
        self.vllm_importance_sampling_correction = False
        # Credit is laid out for a sum over tokens, and what TRL masks and divides is in it already.
        self.loss_type = self.args.loss_type = SUM
        self.mask_truncated_completions = False
        self._judge_by(outcome)
        self._processes = Lockstep(
            gather_object, self.accelerator.process_index, self.accelerator.num_processes
        )
        unsloth = hasattr(self.args, "unsloth_num_chunks")
        self._layout = Layout(
            self._tokenizer.pad_token_id, self.pad_to_multiple_of, self.accelerator.device, unsloth
        )
        self._limits = Limits.of(self.accelerator.unwrap_model(self.model))
        self._scores_samples = name not in ALGORITHMS.built_in
        self._memory: dict[str, str] = {}
        self._rewards = torch.zeros(0)
        self._evaluated: list[float] = []
        self._logprobs: Tensor | None = None
        uses = self.args.steps_per_generation * self.num_iterations
        self._diary = TrlDiary(self._recipe, self._objective, self._processes, self._tokenizer, uses)
        self.add_callback(self._diary)

    def _judge_by(self, outcome: str | int | None) -> None:
        """Makes one verifier of the reward functions, of which `outcome` decides."""
        names = distinct_names(self.reward_func_names)
        self._weights = dict(zip(names, self.reward_weights.tolist(), strict=True))
        self._outcome = deciding(names, outcome)
        functions = dict(zip(names, map(self._function, range(len(names))), strict=True))
        verifiers = {name: UserVerifier(function, name) for name, function in functions.items()}
        self._judge = Heard(
            Weighted(verifiers, self._weights, self._outcome), partial(warnings.warn, stacklevel=2)
        )

    # ---- what TRL calls

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        self._log = Log()
        self._rewards = super()._calculate_rewards(*args, **kwargs)
        return self._rewards

    def _log_completion_extra(self, column: str, values: list[Any]) -> None:
        self._log.extra(column, values)
        super()._log_completion_extra(column, values)

    def _log_metric(self, name: str, value: float) -> None:
        self._log.metric(name, value)
        super()._log_metric(name, value)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        meter = Meter()
        with meter.phase("rollout"):
            output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if not self.model.training:
            self._evaluated += self._rewards[:, list(self._weights).index(self._outcome)].tolist()
            return output
        episodes = self._episodes(self._groups(inputs, output), meter)
        rows = [row for e in episodes for row in self._algorithm.rows(e)]
        remember(self._memory, episodes)
        for name, value in logged_numbers(episodes, rows).items():
            self._metrics["train"][f"kintsugi/{name}"].append(value)
        return self._batch(rows, self._diary.batch(episodes, rows, meter.seconds))

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        found = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        if torch.is_grad_enabled():  # those of the loss
            self._logprobs = found[0]
        return found

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        self._logprobs = None
        loss: Tensor = super().compute_loss(model, inputs, *args, **kwargs)
        if NUMBER in inputs:
            known = None if self._logprobs is None else self._logprobs.detach()
            self._diary.learned(inputs, float(loss.detach()), known)
        return loss

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        norm = super()._get_grad_norm(*args, **kwargs)
        self._diary.updated(float(norm), self._get_learning_rate())
        return norm

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's own, whose tables are closed whatever ends it."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self._diary.close()

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """TRL's own; the share of passes is written down too."""
        self._evaluated = []
        found: dict[str, float] = super().evaluate(*args, **kwargs)
        self._diary.evaluated(self.state.global_step, self._evaluated, self.num_generations_eval)
        self._evaluated = []  # of several data sets each was written by a call of its own
        return found

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            folder = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            keep_memory(Path(self._get_output_dir(trial=trial)) / folder, self._memory)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self._memory = kept_memory(Path(checkpoint))

    # ---- from TRL's batch to episodes

    def _groups(self, inputs: Sequence[Mapping[str, Any]], output: Mapping[str, Any]) -> list[Group]:
        """The groups of all processes, in TRL's order; a group may be spread over several."""
        prompts = unpadded(output["prompt_ids"], output["prompt_mask"])
        written = unpadded(output["completion_ids"], output["completion_mask"])
        unknown = torch.full(output["completion_ids"].shape, math.nan)  # transformers tells none, vLLM does
        logprobs = unpadded(output.get("sampling_per_token_logps", unknown), output["completion_mask"])
        completions = map(self._completion, written, logprobs)
        members = self._processes.gather(list(zip(inputs, prompts, completions, strict=True)))
        logs = self._processes.gather([self._log.of(i) for i in range(len(inputs))])
        verdicts = [
            replace(verdict_of(row, self._weights, self._outcome), logged=log)
            for row, log in zip(self._rewards.tolist(), logs, strict=True)
        ]
        groups = grouped(members, verdicts, self.num_generations)
        for group in groups:
            self._judge.hear(group.problem, group.verdicts)
        return groups

    def _episodes(self, groups: Sequence[Group], meter: Meter) -> list[Episode]:
        """Every group's episode, on every process; each process plays the runs of its share."""
        share = self._processes.share(groups)
        runs = [self._algorithm.run(g.problem, self._context(g)) for g in share]
        mine = play(runs, self, meter, lambda asked: self._round(asked) or [])
        while self._round([]) is not None:
            pass  # others are still asking, and every process takes part in that
        return self._processes.together(mine)

    def session(self) -> Rounds:
        """Sampling by all processes in step: each round answers what all of them ask for."""
        return Rounds(self._limits.samples, lambda batch: self._round(batch) or [])

    def _round(self, asked: Sequence[Sample | Score]) -> list[Any] | None:
        """One round of all processes; None where none of them has asked for anything."""
        return self._processes.answer(asked, {Sample: self._sample, Score: self._score})

    def _context(self, group: Group) -> GroupContext:
        return GroupContext(
            codec=self._codec(is_conversational(group.problem.columns)),
            verifier=self._judge,
            prompts=self._prompts,
            recipe=self._recipe,
            step=self.state.global_step,
            memory=self._memory,
            max_prompt=None if self._limits.positions is None else self._limits.positions - 1,
            state=self.state,
            given=group,
        )

    def _function(self, index: int) -> Callable[..., Any]:
        """Reward function number `index`; a reward model, which cannot decide, as a function of its first logit."""
        model, tokenizer = self.reward_funcs[index], self.reward_processing_classes[index]
        if not hasattr(model, "forward"):
            function: Callable[..., Any] = model
            return function
        if distinct_names(self.reward_func_names)[index] == self._outcome:
            raise KintsugiError(
                f"reward function {self._outcome}: expected a function to say whether an answer is right, this "
                "one is a model; name another as outcome"
            )

        def score(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float]:
            talks = is_conversational({"prompt": prompts[0]})
            whole = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
            if talks:
                more = self.chat_template_kwargs
                whole = [apply_chat_template({"messages": m}, tokenizer, **more)["text"] for m in whole]
            inputs = tokenizer(
                text=whole, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False
            )
            with torch.inference_mode():
                found: list[float] = model(**inputs.to(model.device)).logits[:, 0].tolist()
            return found

        return score

    def _codec(self, conversational: bool) -> HFCodec:
        if not conversational:
            return TextCodec(self._tokenizer, tuple(self.eos_token_ids))
        return HFCodec(self._tokenizer, tuple(self.eos_token_ids), extra=self.chat_template_kwargs)

    def _completion(self, ids: Sequence[int], logprobs: Sequence[float]) -> Completion:
        ended = ids[-1] in (*self.eos_token_ids, self._tokenizer.pad_token_id)
        return Completion(tuple(ids), tuple(logprobs), "stop" if ended else "length", self.state.global_step)

    def _sample(self, samples: list[Sample]) -> list[Completion]:
        """Completions by TRL's generation, at most as many at once as TRL's own rollouts."""
        found: list[Completion] = []
        size = self.args.per_device_train_batch_size * self.args.steps_per_generation
        for start in range(0, len(samples), size):
            batch = samples[start : start + size]
            prompts = [list(sample.prompt_ids) for sample in batch]
            written, logprobs = self._generate_single_turn(prompts, None, {}, num_generations=1)
            if logprobs is None and self._scores_samples:
                logprobs = self._score(
                    [Score(tuple(p), tuple(ids)) for p, ids in zip(prompts, written, strict=True)]
                )
            known = logprobs or [[math.nan] * len(ids) for ids in written]
            for sample, ids, values in zip(batch, written, known, strict=True):
                numbers = [math.nan if value is None else value for value in values]
                found.append(sample.completion(list(ids), numbers, self.state.global_step))
        return found

    # ---- from episodes to TRL's batch

    def _batch(self, rows: Sequence[Row], first: int) -> dict[str, Any]:
        """This process's rows as TRL's batch; `first` is the number of the first row of all."""
        filler = masked(rows[0]) if rows and self._layout.flush else idle_row(self._layout.pad_id)
        steps, keep = self.args.steps_per_generation, bool(self.beta)  # a KL needs no credit
        numbered, items = dealt(rows, self._objective, self._processes, steps, filler, keep)
        batch = self._layout.batch([row for _, row in numbered], items, self.importance_sampling_level)
        numbers = [-1 if i < 0 else first + i for i, _ in numbered]
        batch[NUMBER] = torch.tensor(numbers, device=self.accelerator.device)
        if not on_policy(self.args):
            batch["old_per_token_logps"] = self._scored(self.model, batch)
        if self.beta:
            batch["ref_per_token_logps"] = self._reference(batch)
        return batch

    def _scored(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """(B, T) log pi of the batch's completions under a model, as TRL's loss computes it, without gradient."""
        ids_BS = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
        mask_BS = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
        width, size = batch["completion_ids"].shape[1], self.args.per_device_train_batch_size
        recomputing = self.args.gradient_checkpointing_kwargs
        with torch.no_grad(), disable_gradient_checkpointing(self.model, recomputing):
            found = self._get_per_token_logps_and_entropies(model, ids_BS, mask_BS, width, size)
        logprobs_BT: Tensor = found[0]
        return logprobs_BT

    def _reference(self, batch: Mapping[str, Tensor]) -> Tensor:
        """log pi_ref: TRL's reference model, or the model without its adapters."""
        if self.ref_model is not None:
            return self._scored(self.ref_model, batch)
        model = self.accelerator.unwrap_model(self.model)
        with use_adapter(model, adapter_name="ref" if "ref" in model.peft_config else None):
            return self._scored(self.model, batch)

    def _score(self, scores: list[Score]) -> list[tuple[float, ...]]:
        """log pi of every completion token; those of like length are scored together."""
        order = sorted(
            range(len(scores)), key=lambda i: (len(scores[i].prompt_ids), len(scores[i].completion_ids))
        )
        found: dict[int, tuple[float, ...]] = {}
        size = self.args.per_device_train_batch_size
        for start in range(0, len(order), size):
            places = order[start : start + size]
            chunk = [scores[i] for i in places]
            values = self._scored(self.model, self._layout.sequences(chunk)).tolist()
            found |= {
                i: tuple(v[n : n + len(scores[i].completion_ids)])
                for i, n, v in zip(places, self._layout.begun(chunk), values, strict=True)
            }
        return [found[i] for i in range(len(scores))]


def told_by(trainer: GRPOTrainer) -> dict[str, Any]:
    """The recipe of a run of TRL's, as far as it has the keys."""
    args = trainer.args
    updates = args.steps_per_generation * args.num_iterations / args.gradient_accumulation_steps
    return {
        "model": getattr(trainer.model.config, "_name_or_path", "") or "a model given to the trainer",
        "task": "train_dataset",
        "verifier": ", ".join(trainer.reward_func_names),
        "output_dir": Journal.place(args.output_dir),
        "optim": {"minibatches": max(1, round(updates))}
        | ({"lr": args.learning_rate} if args.learning_rate else {}),
        "problems": args.generation_batch_size // args.num_generations,
    }
