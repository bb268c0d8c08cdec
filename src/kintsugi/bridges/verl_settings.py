"""The plan that verl's configuration comes to. The trainer and every agent loop read it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from verl.utils.import_utils import load_extern_object
from verl.utils.reward_score import default_compute_score

from kintsugi.algorithms import Algorithm
from kintsugi.bridges.common import all_of, bridge_recipe
from kintsugi.bridges.journal import Journal
from kintsugi.config import Recipe
from kintsugi.learning.objective import Objective
from kintsugi.records import KintsugiError
from kintsugi.trainer import check_algorithm
from kintsugi.verifiers import load_verifier
from kintsugi.verifiers.base import Verifier
from kintsugi.verifiers.user import UserVerifier

NAME = "kintsugi"
ANCHOR = "kintsugi_anchor"
"""The column that carries a problem's earlier pass to its agent loop."""
PROBLEM = "kintsugi_problem"
"""The column that carries a problem's name: its own, where a batch asks a question twice."""
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


class Settled(NamedTuple):
    """The values that the configuration comes to. `updates` is the number of optimizer steps per batch."""

    recipe: Recipe
    algorithm: Algorithm
    objective: Objective
    updates: int


def plan(config: DictConfig) -> Settled:
    """One KintsugiError tells all that would spoil the credit."""
    against = [
        KintsugiError(f"verl: {key}: expected {wanted}, got {found} (docs/verl.md says why)")
        for key, wanted in WANTED.items()
        if (found := OmegaConf.select(config, key)) != wanted and found is not None
    ]
    told, rollout = OmegaConf.to_container(config.kintsugi, resolve=True), config.actor_rollout_ref.rollout
    recipe = bridge_recipe(
        told["algorithm"],
        group_size=told["group_size"],
        max_new_tokens=rollout.response_length,
        temperature=rollout.temperature,
        top_p=rollout.top_p,
        seed=told["seed"],
        prompts=told["prompts"],
        scouts=told["scouts"],
        witnesses=told["witnesses"],
        **told_by(config),
    )
    algorithm = check_algorithm(recipe)
    if algorithm.scores:
        against.append(
            KintsugiError(
                f"verl: algorithm {algorithm.name}: expected credit that needs no log-probabilities of the trainer; "
                "leave it to the local trainer"
            )
        )
    batch, mini = config.data.train_batch_size, config.actor_rollout_ref.actor.ppo_mini_batch_size
    if batch % mini:
        against.append(
            KintsugiError(
                f"verl: ppo_mini_batch_size: expected a divisor of train_batch_size={batch}, got {mini}"
            )
        )
    all_of(against)
    objective = algorithm.objective(rollout.response_length, told["clip_low"], told["clip_high"])
    return Settled(recipe, algorithm, objective, batch // mini)


def told_by(config: DictConfig) -> dict[str, Any]:
    """The recipe of a run of verl's, as far as it has the keys."""
    actor, data = config.actor_rollout_ref.actor, config.data
    own = config.reward.get("custom_reward_function") or {}
    function = f"{own['path']}:{own['name']}" if own.get("path") else "verl's default_compute_score"
    updates = data.train_batch_size // actor.ppo_mini_batch_size * actor.ppo_epochs
    return {
        "model": str(config.actor_rollout_ref.model.path),
        "task": data.train_files if isinstance(data.train_files, str) else ", ".join(data.train_files),
        "verifier": verifier_specs(config) or function,
        "output_dir": Journal.place(config.trainer.default_local_dir),
        "optim": {"lr": actor.optim.lr, "minibatches": max(1, updates)},
        "problems": data.train_batch_size,
    }


def verifier_specs(config: DictConfig) -> Any:
    """`kintsugi.verifier`: a spec, a list of them, or None."""
    return OmegaConf.to_container(config.kintsugi, resolve=True)["verifier"]


def verifier(config: DictConfig, truth: object) -> Verifier:
    """`kintsugi.verifier`, or else verl's reward function, which gets the ground truth as the data set has it."""
    if spec := verifier_specs(config):
        return load_verifier(spec)
    own = config.reward.get("custom_reward_function") or {}
    arguments = {**(own.get("reward_kwargs") or {}), "ground_truth": truth}
    if own.get("path"):
        return UserVerifier(
            reward_function(own["path"], own["name"]), f"{own['path']}:{own['name']}", arguments
        )
    return UserVerifier(default_compute_score, "verl's default_compute_score", arguments)


@lru_cache
def reward_function(path: str, name: str) -> Any:
    """The user's function, loaded as verl loads it, once in each process."""
    return load_extern_object(module_path=path, object_name=name)
