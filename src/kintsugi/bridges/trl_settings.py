"""TRL's settings for an algorithm: those followed, those set, those refused, and why. Needs neither TRL nor torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kintsugi.algorithms.base import OVER_THE_GROUP, Algorithm, rewards
from kintsugi.bridges.common import all_of
from kintsugi.records import Episode, KintsugiError, Reduction, Row
from kintsugi.verifiers.weighted import decides

LOSSES: dict[str, Reduction] = {"grpo": "row", "bnpo": "token", "dr_grpo": "constant"}
"""TRL's losses that differ in what they divide by, and how rows then come to one loss. The default, dapo, says nothing:
the algorithm's own stands."""
SUM = "dapo"
"""The loss that TRL computes whatever is said: the sum over tokens, for the rest is folded into the credit."""
NEEDED: dict[str, tuple[Sequence[object], str]] = {
    "loss_type": (
        (SUM, *LOSSES),
        "the others are functions of ratios that the algorithm does not have",
    ),
    "scale_rewards": (
        ("group", "none"),
        "groups are compared one by one (False scales none)",
    ),
    "multi_objective_aggregation": (("sum_then_normalize",), "a group compares the weighted sum of rewards"),
    "top_entropy_quantile": ((1.0,), "it would drop tokens of a seam that the model is sure of"),
    "off_policy_mask_threshold": ((None,), "it would drop the blame of some seams and keep their praise"),
}
"""Setting of GRPOConfig -> (the values that it may have, of which the first is TRL's default; why)."""

EPSILON = 0.2
"""TRL's default clip range: where it stands, the algorithm's own is taken."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The algorithm as TRL's settings want it, and those that it decides: level of ratios ("token" or "sequence") and
    clip range."""

    algorithm: Algorithm
    level: str
    clip_low: float
    clip_high: float


def settle(args: Any, algorithm: Algorithm, more: Sequence[KintsugiError] = ()) -> Settings:
    """The settings for TRL's trainer, given its GRPOConfig. One KintsugiError tells all that would spoil the credit,
    `more` too."""
    all_of([*refused(args, algorithm), *more])
    own_range = args.epsilon == EPSILON and args.epsilon_high is None
    high = args.epsilon if args.epsilon_high is None else args.epsilon_high
    low, high = (algorithm.clip_low, algorithm.clip_high) if own_range else (args.epsilon, high)
    return Settings(suited(args, algorithm), level_of(algorithm), low, high)


def refused(args: Any, algorithm: Algorithm) -> Iterator[KintsugiError]:
    """The settings that cannot be."""
    for name, (wanted, why) in NEEDED.items():
        value = getattr(args, name)
        if value not in wanted:
            yield KintsugiError(
                f"{name}={value!r}: expected {' or '.join(map(repr, wanted))} here, because {why}"
            )
    if args.importance_sampling_level not in (
        "token",
        level_of(algorithm),
    ):  # "token" is the default: it says nothing
        yield KintsugiError(
            f"importance_sampling_level={args.importance_sampling_level!r}: algorithm {algorithm.name} takes ratios "
            f"of tokens; leave it out, or take algorithm='gspo' or 'iop'"
        )
    if not on_policy(args) and (algorithm.widen or algorithm.level == "nll"):
        own = "clips each row at a range of its own" if algorithm.widen else "knows no ratios"
        yield KintsugiError(
            f"algorithm {algorithm.name} {own}, which TRL cannot: expected one update of a batch (num_iterations=1 and "
            f"steps_per_generation=gradient_accumulation_steps), got num_iterations={args.num_iterations}, "
            f"steps_per_generation={args.steps_per_generation} and "
            f"gradient_accumulation_steps={args.gradient_accumulation_steps}"
        )


def level_of(algorithm: Algorithm) -> str:
    """The level of ratios, in TRL's words."""
    return "sequence" if algorithm.level == "sequence" else "token"


def suited(args: Any, algorithm: Algorithm) -> Algorithm:
    """The algorithm with what a script says of its loss: the mean that it takes, group advantages that are not divided
    by their spread, no token of truncated completions, which count as rows."""
    unscaled = args.scale_rewards == "none" and algorithm.reasons.get("group", "").startswith(OVER_THE_GROUP)

    def rows(episode: Episode) -> list[Row]:
        made = algorithm.rows(episode)
        if args.mask_truncated_completions:
            made = [masked(r) if episode.text(r.kind, r.index).truncated else r for r in made]
        return times_deviation(made, episode) if unscaled else made

    return replace(algorithm, rows=rows, reduction=LOSSES.get(args.loss_type, algorithm.reduction))


def masked(row: Row) -> Row:
    """The row without a token that counts."""
    return replace(row, mask=(0,) * len(row.mask), credit={})


def times_deviation(rows: Sequence[Row], episode: Episode) -> list[Row]:
    """The rows with group advantages times the standard deviation that divided them, as a reason of its own."""
    of = {episode.extras[row.index].of for row in rows if row.kind == "extra" and "group" in row.credit}
    whole = any(row.kind == "rollout" and "group" in row.credit for row in rows)
    group = [*(episode.rollouts if whole else ()), *(e.rollout for e in episode.extras if e.of in of)]
    found = rewards(group)
    mean = sum(found) / max(1, len(found))
    std = math.sqrt(sum((r - mean) ** 2 for r in found) / max(1, len(found)))

    def unscaled(row: Row) -> Row:
        if "group" not in row.credit:
            return row
        others = {reason: values for reason, values in row.credit.items() if reason != "group"}
        return replace(row, credit=others).add("group, unscaled", [std * a for a in row.credit["group"]])

    return [unscaled(row) for row in rows]


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
