"""The names that TRL, verl and verifiers have for a recipe's keys: errors explain by them, docs/recipe.md prints them.

kintsugi train my.yaml learning_rate=1e-5
kintsugi: my.yaml: unknown key 'learning_rate': TRL's learning_rate is optim.lr here
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple


class Name(NamedTuple):
    """A name of another trainer, the recipe's key for it ("": there is none), and what is to be known beside it."""

    theirs: str
    ours: str
    note: str = ""


ANSWERS = (
    "answer", "reward_model.ground_truth", "ground_truth", "final_answer", "expected_answer", "gold", "solution",
    "target", "label", "code", "canonical_solution",
)  # fmt: skip
"""Names of columns that are taken, in this order and any case, where none is given. verl's files have the second."""

NO_KL = "there is no KL term and no reference model: updates are held by ratio clips and the learning rate"
NO_DECAY = "AdamW runs without weight decay, betas 0.9 and 0.99"
ALONE = "sampling knows temperature and top_p alone: what is sampled is what is trained on"
COUNTS = "it counts completions: divide by the group size; memory is bounded by optim.token_budget"
EPOCHS = "steps are counted, not epochs: an epoch has (problems of the data) / sampling.problems steps"
BATCHES = "batches are filled up to optim.token_budget tokens"
PASSES = "optimizer steps per batch, each on a part of it; no row is trained on twice"
DATA = "task: {name: table, path: ..., eval_path: ...}: files, folders or Hub ids"

TRL = (
    Name("model_name_or_path", "model"),
    Name("train_dataset", "task", DATA),
    Name("eval_dataset", "task", DATA),
    Name("dataset_name", "task", "task: {name: table, path: owner/name}"),
    Name("reward_funcs", "verifier", "my_rewards.py:function, with TRL's signature"),
    Name(
        "reward_weights", "verifier", "verifier: [{name: my_rewards.py:accuracy}, {name: ..., weight: 0.2}]"
    ),
    Name("num_generations", "sampling.group_size"),
    Name("num_generations_eval", "eval.samples"),
    Name("max_completion_length", "sampling.max_new_tokens"),
    Name("temperature", "sampling.temperature"),
    Name("top_p", "sampling.top_p"),
    Name("top_k", "", ALONE),
    Name("min_p", "", ALONE),
    Name("repetition_penalty", "", ALONE),
    Name("per_device_train_batch_size", "sampling.problems", COUNTS),
    Name("generation_batch_size", "sampling.problems", COUNTS),
    Name("per_device_eval_batch_size", "", BATCHES),
    Name("gradient_accumulation_steps", "optim.token_budget", BATCHES),
    Name("steps_per_generation", "optim.minibatches", PASSES),
    Name("num_iterations", "optim.minibatches", PASSES),
    Name("max_steps", "steps"),
    Name("num_train_epochs", "steps", EPOCHS),
    Name("learning_rate", "optim.lr"),
    Name("warmup_steps", "optim.warmup"),
    Name("lr_scheduler_type", "optim.schedule", "constant or cosine"),
    Name("max_grad_norm", "optim.grad_clip"),
    Name("weight_decay", "", NO_DECAY),
    Name("adam_beta2", "", NO_DECAY),
    Name("beta", "", NO_KL),
    Name("sync_ref_model", "", NO_KL),
    Name("entropy_coef", "", "there is no entropy bonus"),
    Name("epsilon", "optim.clip_low", "and optim.clip_high; null: the algorithm's own"),
    Name("epsilon_high", "optim.clip_high"),
    Name("delta", "", "there is no second clip of large ratios"),
    Name("loss_type", "algorithm", "grpo, dr_grpo and dapo are algorithms"),
    Name("scale_rewards", "algorithm", "dr_grpo scales none"),
    Name("importance_sampling_level", "algorithm", "gspo takes the ratio of the sequence"),
    Name("mask_truncated_completions", "algorithm", "dapo leaves truncated rollouts out"),
    Name("bf16", "dtype", "bfloat16 or float32"),
    Name("gradient_checkpointing", "optim.gradient_checkpointing"),
    Name("peft_config", "optim.lora", "the rank; alpha is twice as much"),
    Name("lora_r", "optim.lora"),
    Name("use_vllm", "engine", "engine: vllm"),
    Name("vllm_gpu_memory_utilization", "engine", "engine: {name: vllm, memory: GiB}"),
    Name("chat_template_kwargs", "prompts", "prompts: {name: chat-v2, thinking: false}"),
    Name("eval_steps", "eval.every"),
    Name("eval_strategy", "eval.every"),
    Name("early_stopping_patience", "eval.patience"),
    Name("load_best_model_at_end", "", "kintsugi export RUN --best takes the best checkpoint"),
    Name("save_steps", "save_every"),
    Name("save_total_limit", "keep_last"),
    Name("report_to", "trackers"),
    Name("logging_steps", "", "every step is written"),
    Name("log_completions", "", "every text is written; kintsugi report and show read them"),
    Name("resume_from_checkpoint", "", "kintsugi train ... --resume goes on from the last checkpoint"),
)
"""Of GRPOConfig, GRPOTrainer, and what TRL's scripts take beside them."""

ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
VERL = (
    Name("actor_rollout_ref.model.path", "model"),
    Name("actor_rollout_ref.model.lora_rank", "optim.lora"),
    Name("actor_rollout_ref.model.enable_gradient_checkpointing", "optim.gradient_checkpointing"),
    Name("data.train_files", "task", DATA),
    Name("data.val_files", "task", DATA),
    Name("data.prompt_key", "task", "task: {name: table, prompt: COLUMN}"),
    Name("data.train_batch_size", "sampling.problems"),
    Name("data.max_response_length", "sampling.max_new_tokens"),
    Name(
        "data.max_prompt_length",
        "",
        "the model's context is the limit: what is too long is left out and named",
    ),
    Name("custom_reward_function.path", "verifier", "my_rewards.py:compute_score, with verl's signature"),
    Name(
        "reward.custom_reward_function.path", "verifier", "my_rewards.py:compute_score, with verl's signature"
    ),
    Name(f"{ROLLOUT}.n", "sampling.group_size"),
    Name(f"{ROLLOUT}.response_length", "sampling.max_new_tokens"),
    Name(f"{ROLLOUT}.temperature", "sampling.temperature"),
    Name(f"{ROLLOUT}.top_p", "sampling.top_p"),
    Name(f"{ROLLOUT}.top_k", "", ALONE),
    Name(f"{ROLLOUT}.name", "engine", "local or vllm"),
    Name(f"{ROLLOUT}.gpu_memory_utilization", "engine", "engine: {name: vllm, memory: GiB}"),
    Name(f"{ROLLOUT}.val_kwargs.n", "eval.samples"),
    Name(f"{ACTOR}.optim.lr", "optim.lr"),
    Name(f"{ACTOR}.optim.lr_warmup_steps", "optim.warmup"),
    Name(f"{ACTOR}.optim.lr_scheduler_type", "optim.schedule", "constant or cosine"),
    Name(f"{ACTOR}.optim.weight_decay", "", NO_DECAY),
    Name(f"{ACTOR}.optim.clip_grad", "optim.grad_clip"),
    Name(f"{ACTOR}.grad_clip", "optim.grad_clip"),
    Name(f"{ACTOR}.ppo_mini_batch_size", "optim.minibatches", "data.train_batch_size / ppo_mini_batch_size"),
    Name(f"{ACTOR}.ppo_micro_batch_size_per_gpu", "optim.token_budget", BATCHES),
    Name(f"{ACTOR}.ppo_max_token_len_per_gpu", "optim.token_budget"),
    Name(f"{ACTOR}.ppo_epochs", "optim.minibatches", PASSES),
    Name(f"{ACTOR}.clip_ratio", "optim.clip_low", "and optim.clip_high; null: the algorithm's own"),
    Name(f"{ACTOR}.clip_ratio_low", "optim.clip_low"),
    Name(f"{ACTOR}.clip_ratio_high", "optim.clip_high"),
    Name(f"{ACTOR}.use_kl_loss", "", NO_KL),
    Name(f"{ACTOR}.kl_loss_coef", "", NO_KL),
    Name(f"{ACTOR}.entropy_coeff", "", "there is no entropy bonus"),
    Name(f"{ACTOR}.loss_agg_mode", "algorithm", "what the loss is a mean over belongs to the algorithm"),
    Name("algorithm.adv_estimator", "algorithm", "algorithm: grpo"),
    Name("algorithm.norm_adv_by_std_in_grpo", "algorithm", "dr_grpo divides by none"),
    Name("algorithm.filter_groups.enable", "algorithm", "dapo draws unmixed groups again"),
    Name("algorithm.use_kl_in_reward", "", NO_KL),
    Name("algorithm.kl_ctrl.kl_coef", "", NO_KL),
    Name("trainer.total_training_steps", "steps"),
    Name("trainer.total_epochs", "steps", EPOCHS),
    Name("trainer.save_freq", "save_every"),
    Name("trainer.max_actor_ckpt_to_keep", "keep_last"),
    Name("trainer.test_freq", "eval.every"),
    Name("trainer.val_before_train", "", "a run is evaluated before and after"),
    Name("trainer.default_local_dir", "output_dir"),
    Name("trainer.logger", "trackers"),
    Name("trainer.resume_mode", "", "kintsugi train ... --resume goes on from the last checkpoint"),
)
"""Of verl's configuration of PPO."""

VERIFIERS = (
    Name("env.taskset.id", "task", "task: {name: verifiers, taskset: ...}"),
    Name("num_rollouts", "sampling.group_size"),
    Name("rollouts_per_example", "sampling.group_size"),
    Name("sampling.max_tokens", "sampling.max_new_tokens"),
    Name("sampling.max_completion_tokens", "sampling.max_new_tokens"),
    Name("select.limit", "eval.problems"),
    Name("select.skip", "eval.skip"),
    Name("max_concurrent", "", BATCHES),
    Name("client", "engine", "the model is loaded and sampled here"),
)
"""Of the configuration of an evaluation in verifiers."""

NAMES = {"TRL": TRL, "verl": VERL, "verifiers": VERIFIERS}


def leaves(key: str, value: object) -> Iterator[str]:
    """The dotted keys under `key` that hold values."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from leaves(f"{key}.{name}", inner)
    else:
        yield key


def elsewhere(key: str) -> tuple[str, Name] | None:
    """(whose, the name) that a key is: whole, as the end of a dotted name, or as the last part of a key."""
    names = [(whose, name) for whose, table in NAMES.items() for name in table]
    whole = (found for found in names if found[1].theirs == key)
    parts = not key.isalpha()  # `name` alone ends many a name
    ends = (found for found in names if parts and found[1].theirs.endswith(f".{key}"))
    last = (found for found in names if key.endswith(f".{found[1].theirs}"))
    return next(chain(whole, ends, last), None)


def translated(key: str, value: Any = None) -> list[str]:
    """The names here of another trainer's in or under `key`; empty where there is none."""
    found = [known for leaf in leaves(key, value) if (known := elsewhere(leaf))]
    return [said(whose, name) for whose, name in found]


def said(whose: str, name: Name) -> str:
    if not name.ours:
        return f"{whose}'s {name.theirs}: {name.note}"
    return f"{whose}'s {name.theirs} is {name.ours} here" + (f" ({name.note})" if name.note else "")


def names_table() -> Iterator[str]:
    """One Markdown table line per name: theirs, whose, ours, note. `docs/recipe.md` holds them."""
    for whose, table in NAMES.items():
        for name in table:
            yield f"| `{name.theirs}` | {whose} | {f'`{name.ours}`' if name.ours else 'none'} | {name.note} |"
