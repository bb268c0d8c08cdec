"""TRL's settings for an algorithm: those set, those refused, and the reasons. Needs neither TRL nor torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kintsugi.algorithms.base import Algorithm
from kintsugi.records import KintsugiError
from kintsugi.verifiers.weighted import decides

NEEDED: dict[str, tuple[object, str]] = {
    "loss_type": ("dapo", "credit is laid out for a sum over tokens; other losses divide by something else"),
    "scale_rewards": ("group", "advantages are the algorithm's own (algorithm='dr_grpo' scales none)"),
    "multi_objective_aggregation": ("sum_then_normalize", "advantages are the algorithm's own"),
    "mask_truncated_completions": (
        False,
        "masks are the algorithm's own (algorithm='dapo' trains on no truncated ones)",
    ),
    "top_entropy_quantile": (1.0, "it would drop tokens of a seam that the model is sure of"),
    "off_policy_mask_threshold": (None, "it would drop the blame of some seams and keep their praise"),
}
"""Setting of GRPOConfig -> (the value that it must have, why). All of them are TRL's defaults."""

EPSILON = 0.2
"""TRL's default clip range: where it stands, the algorithm's own is taken."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of TRL that an algorithm decides: level of ratios ("token" or "sequence") and clip range."""

    level: str
    clip_low: float
    clip_high: float


def settle(args: Any, algorithm: Algorithm) -> Settings:
    """The settings for TRL's trainer, given its GRPOConfig. KintsugiError where a setting spoils the credit."""
    for name, (wanted, why) in NEEDED.items():
        value = getattr(args, name)
        if value != wanted:
            raise KintsugiError(f"{name}={value!r}: expected {wanted!r} here, because {why}")
    level = "sequence" if algorithm.level == "sequence" else "token"
    if args.importance_sampling_level not in ("token", level):  # "token" is the default: it says nothing
        raise KintsugiError(
            f"importance_sampling_level={args.importance_sampling_level!r}: algorithm {algorithm.name} takes ratios "
            f"of tokens; leave it out, or take algorithm='gspo' or 'iop'"
        )
    if not on_policy(args) and (algorithm.widen or algorithm.level == "nll"):
        own = "clips each row at a range of its own" if algorithm.widen else "knows no ratios"
        raise KintsugiError(
            f"algorithm {algorithm.name} {own}, which TRL cannot: expected one update of a batch (num_iterations=1 and "
            f"steps_per_generation=gradient_accumulation_steps), got num_iterations={args.num_iterations}, "
            f"steps_per_generation={args.steps_per_generation} and "
            f"gradient_accumulation_steps={args.gradient_accumulation_steps}"
        )
    own_range = args.epsilon == EPSILON and args.epsilon_high is None
    high = args.epsilon if args.epsilon_high is None else args.epsilon_high
    low, high = (algorithm.clip_low, algorithm.clip_high) if own_range else (args.epsilon, high)
    return Settings(level, low, high)


def on_policy(args: Any) -> bool:
    """True if every row is trained on by the policy that it was made for. Ratios are then 1 and are not kept."""
    return bool(args.gradient_accumulation_steps % (args.steps_per_generation * args.num_iterations) == 0)


def deciding(names: list[str], outcome: str | int | None) -> str:
    """The name of the reward function that says whether an answer is right: `outcome` by its name or number, else the
    one called `outcome`, else the first. KintsugiError where there is none of that name or number."""
    if outcome is None:
        return decides(names)
    if isinstance(outcome, str) and outcome in names:
        return outcome
    if isinstance(outcome, int) and not isinstance(outcome, bool) and 0 <= outcome < len(names):
        return names[outcome]
    raise KintsugiError(
        f"outcome: expected the name or number of the reward function that says whether an answer is right, "
        f"got {outcome!r}; there are {', '.join(f'{i}: {name}' for i, name in enumerate(names))}"
    )
