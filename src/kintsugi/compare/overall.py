"""Tables of one comparison over several tasks: each task counts the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from kintsugi.compare.results import Curve, censored_median, interval, paired
from kintsugi.compare.tables import by_label, markdown, signed

Tasks = Mapping[str, Mapping[str, Sequence[Curve]]]
"""Task -> label -> its finished main runs; every task with the same labels."""


def shared(curves: Mapping[str, Sequence[Curve]]) -> Tasks:
    """The main runs of each task, of the algorithms that all tasks have."""
    found = {task: by_label(c for c in runs if c.head.stage == "main") for task, runs in curves.items()}
    labels = set.intersection(*(set(runs) for runs in found.values()))
    return {task: {label: c for label, c in runs.items() if label in labels} for task, runs in found.items()}


def outcome_only(tasks: Tasks) -> list[str]:
    return [label for label, runs in next(iter(tasks.values())).items() if runs[0].head.outcome_only]


def means(tasks: Tasks, label: str, what: str = "accuracy") -> dict[int, float]:
    """Seed -> the mean over tasks of what its runs end with, for the seeds that every task has."""
    ends = [{c.head.seed: c.final(what) for c in runs[label]} for runs in tasks.values()]
    seeds = set.intersection(*(set(end) for end in ends))
    return {seed: fmean(end[seed] for end in ends) for seed in sorted(seeds)}


PARTS = {"at 1/4": 0.25, "at 1/2": 0.5}
"""Shares of the budget at which the mean over tasks is told, beside its end."""
SHARE = 0.9
"""Tokens are counted to this share of the reference's final accuracy: its very end is noise."""


def best_outcome_only(tasks: Tasks) -> str | None:
    """The outcome-only algorithm with the best mean over tasks."""
    finals = {label: means(tasks, label) for label in outcome_only(tasks)}
    return max((x for x in finals if finals[x]), key=lambda x: fmean(finals[x].values()), default=None)


def overall_table(tasks: Tasks) -> str:
    """One line per algorithm, best first: accuracy at the budget by task and in the mean of tasks.

    The difference from the best outcome-only algorithm, and the share of its tokens, are taken seed by seed.
    """
    finals = {label: means(tasks, label) for label in next(iter(tasks.values()))}
    finals = {label: found for label, found in finals.items() if found}
    plain, reference = outcome_only(tasks), best_outcome_only(tasks)
    lines = []
    for label in sorted(finals, key=lambda label: -fmean(finals[label].values())):
        each = [f"{fmean(c.final() for c in runs[label]):.3f}" for runs in tasks.values()]
        less = None if reference in (None, label) else paired(finals[label], finals[str(reference)])
        lines.append(
            [
                f"`{label}`" + (" (outcome only)" if label in plain else ""),
                str(len(finals[label])),
                *each,
                *(f"{part_way(tasks, label, share):.3f}" for share in PARTS.values()),
                str(interval(list(finals[label].values()))),
                "" if less is None else signed(less),
                "" if reference in (None, label) else token_ratio(tasks, label, str(reference)),
            ]
        )
    ways = [*PARTS, "mean", f"less `{reference}`", f"tokens to {SHARE:.0%} of `{reference}`"]
    return markdown(["algorithm", "seeds", *tasks, *ways], lines)


def part_way(tasks: Tasks, label: str, share: float) -> float:
    """Mean accuracy over tasks and seeds after a share of the budget."""
    return fmean(fmean(c.at(share * c.head.budget) for c in runs[label]) for runs in tasks.values())


def token_ratio(tasks: Tasks, label: str, reference: str) -> str:
    """Tokens to SHARE of the reference's final accuracy, as a multiple of the reference's, with its 95% interval.

    Geometric means over tasks, then over seeds. `>`: some run of `label` never got there and counts its budget.
    """
    logs: dict[int, list[float]] = {}
    never = False
    for runs in tasks.values():
        target = SHARE * fmean(c.final() for c in runs[reference])
        theirs = {c.head.seed: tokens_or_budget(c, target) for c in runs[reference]}
        for curve in runs[label]:
            if curve.head.seed in theirs:
                never |= curve.tokens_to_reach(target) is None
                ratio = tokens_or_budget(curve, target) / theirs[curve.head.seed]
                logs.setdefault(curve.head.seed, []).append(math.log(ratio))
    whole = [fmean(found) for found in logs.values() if len(found) == len(tasks)]
    if not whole:
        return ""
    found = interval(whole)
    sign = "> " if never else ""
    if found.half is None:
        return f"{sign}{math.exp(found.mean):.2f}"
    low, high = math.exp(found.mean - found.half), math.exp(found.mean + found.half)
    return f"{sign}{math.exp(found.mean):.2f} ({low:.2f} to {high:.2f})"


def tokens_or_budget(curve: Curve, target: float) -> float:
    """Tokens to the target, at least one; the budget where it was not reached."""
    found = curve.tokens_to_reach(target)
    return float(curve.head.budget) if found is None else max(1.0, found)


def speed_table(tasks: Tasks) -> str:
    """One line per outcome-only algorithm: what share of its tokens others need to its mean final accuracy.

    A cell holds the share by task (median over seeds; `>1`: not within the budget), and the mean where all got there.
    """
    plain = outcome_only(tasks)
    others = [label for label in next(iter(tasks.values())) if label not in plain]
    lines = [[f"`{label}`", *(shares(tasks, label, other) for other in others)] for label in plain]
    return markdown(["to the score of", *(f"`{other}`" for other in others)], lines)


def shares(tasks: Tasks, label: str, other: str) -> str:
    found = []
    for runs in tasks.values():
        target, budget = fmean(c.final() for c in runs[label]), runs[label][0].head.budget
        tokens = censored_median([c.tokens_to_reach(target) for c in runs[other]])
        found.append(None if tokens is None else tokens / budget)
    each = ", ".join(">1" if share is None else f"{share:.2f}" for share in found)
    reached = [share for share in found if share is not None]
    return f"{each}; mean {fmean(reached):.2f}" if len(reached) == len(found) else each
