"""Tables of one comparison over several tasks: each task counts the same."""

from __future__ import annotations

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


def overall_table(tasks: Tasks) -> str:
    """One line per algorithm, best first: accuracy at the budget by task and in the mean of tasks.

    The difference is from the outcome-only algorithm with the best mean, seed by seed.
    """
    finals = {label: means(tasks, label) for label in next(iter(tasks.values()))}
    finals = {label: found for label, found in finals.items() if found}
    plain = [label for label in outcome_only(tasks) if label in finals]
    reference = max(plain, key=lambda label: fmean(finals[label].values()), default=None)
    lines = []
    for label in sorted(finals, key=lambda label: -fmean(finals[label].values())):
        each = [f"{fmean(c.final() for c in runs[label]):.3f}" for runs in tasks.values()]
        less = None if reference in (None, label) else paired(finals[label], finals[str(reference)])
        lines.append(
            [
                f"`{label}`" + (" (outcome only)" if label in plain else ""),
                str(len(finals[label])),
                *each,
                str(interval(list(finals[label].values()))),
                "" if less is None else signed(less),
                f"{fmean(means(tasks, label, 'pass_at_8').values()):.3f}",
            ]
        )
    return markdown(["algorithm", "seeds", *tasks, "mean", f"less `{reference}`", "pass@8"], lines)


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
