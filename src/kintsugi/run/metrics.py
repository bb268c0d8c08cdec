"""The metrics of a step (METHOD section 6), from its records alone."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from kintsugi.mending.audit import RULES
from kintsugi.mending.repair import mendable
from kintsugi.records import Episode, KeptBy, Row, Verdict
from kintsugi.sampling.base import StepStats


def ratio(part: float, whole: float) -> float | None:
    """part / whole, or None where there was nothing to divide by (never silently 0)."""
    return part / whole if whole else None


def step_metrics(
    step: int,
    episodes: Sequence[Episode],
    rows: Sequence[Row],
    stats: StepStats,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """One flat mapping for metrics.jsonl. Token counts are generated tokens; seconds are wall time by phase.

    Of a cold start, which samples nothing, it tells the update alone.
    """
    phases = ("rollout", "repair", "audit", "check") if episodes else ()
    return {
        "step": step,
        **(episode_metrics(episodes, rows) if episodes else {}),
        "loss": stats.loss,
        "grad_norm": stats.grad_norm,
        "lr": stats.lr,
        "updates": stats.updates,
        "updates/skipped": stats.skipped,
        "clip_fraction": stats.clip_fraction,
        "ratio": stats.ratio,
        "sampler_gap": stats.sampler_gap,
        "tokens/train": stats.tokens,
        **{f"seconds/{phase}": round(seconds.get(phase, 0.0), 4) for phase in phases},
        "seconds/train": round(stats.seconds + seconds.get("train", 0.0), 4),
    }


def episode_metrics(episodes: Sequence[Episode], rows: Sequence[Row]) -> dict[str, Any]:
    """The metrics of a step's generation and credit, whoever trains; None where there is nothing to say."""
    rollouts = [r for e in episodes for r in e.rollouts]
    tokens = Counter[str]()
    for e in episodes:
        tokens.update(e.tokens)
    logprobs = [lp for r in rollouts for lp in r.completion.logprobs]
    states = Counter(r.verdict.state for r in rollouts)
    lengths = [len(r.completion.token_ids) for r in rollouts]
    # Where scouts leave groups early, what is drawn beyond them comes of problems that can be solved.
    fair = min((len(e.rollouts) for e in episodes), default=0)
    drawn = [r for e in episodes for r in e.rollouts[:fair] if not r.verdict.broken]
    judged = [(passed(e), sum(not r.verdict.broken for r in e.rollouts)) for e in episodes]
    return {
        "accuracy": ratio(sum(r.verdict.passed for r in drawn), len(drawn)),
        "groups/mixed": sum(0 < passes < all for passes, all in judged),
        "groups/all_passed": sum(0 < passes == all for passes, all in judged),
        "groups/all_failed": sum(0 == passes < all for passes, all in judged),
        **reward_metrics(r.verdict for r in rollouts),
        "verdict/unscorable": states["unscorable"],
        "verdict/error": states["error"],
        "truncated": sum(r.truncated for r in rollouts),
        "length/rollout": ratio(sum(lengths), len(lengths)),
        "entropy": ratio(-sum(logprobs), len(logprobs)),
        **repair_metrics(episodes),
        **reach_metrics(episodes),
        **gate_metrics(rows),
        **{f"tokens/{phase}": tokens[phase] for phase in ("rollout", "repair", "audit", "check")},
        "tokens/generated": tokens.total(),
    }


def passed(episode: Episode) -> int:
    return sum(r.verdict.passed for r in episode.rollouts)


def reward_metrics(verdicts: Iterable[Verdict]) -> dict[str, float]:
    """Means over the texts: `reward` (the weighted sum) and `reward/NAME` of functions of the user's own, and
    `logged/NAME` of the numbers that these log. {} where no such function judged."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.parts:
            found["reward"].append(verdict.total)
        for part in verdict.parts:
            found[f"reward/{part.name}"].append(part.reward)
        for name, value in verdict.logged.items():
            if isinstance(value, int | float) and math.isfinite(value):
                found[f"logged/{name}"].append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def repair_metrics(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Repair success per failure and per sample, audit rejections by rule, edit distances, K* counts."""
    repairs = [r for e in episodes for r in e.repairs]
    seams = [s for e in episodes for s in e.seams]
    failures = sum(mendable(r) for e in episodes for r in e.rollouts)
    tried = sum(len({r.failed for r in e.repairs}) for e in episodes)
    kept = Counter(s.kept_by for s in seams)
    audits = Counter(r.audit for r in repairs)
    lengths = [len(r.rollout.completion.token_ids) for r in repairs if r.written]
    checks = [len(r.completion.token_ids) for e in episodes for r in e.checks]
    return {
        "repair/failures": failures,
        "repair/tried": tried,
        "repair/samples": len(repairs),
        "repair/success_per_failure": ratio(len(seams), tried),
        "repair/success_per_sample": ratio(sum(r.mends for r in repairs), len(repairs)),
        **{f"audit/{rule}": audits[rule] for rule in RULES},
        "repair/distance": ratio(
            sum(e.repairs[s.repair].distance for e in episodes for s in e.seams), len(seams)
        ),
        "repair/edits": ratio(sum(len(s.edits) for s in seams), len(seams)),
        "repair/skipped_all_failed": sum(e.skipped == "all failed" for e in episodes),
        "repair/skipped_unmendable": sum(e.skipped == "nothing mendable" for e in episodes),
        "repair/verdict_error": sum(r.rollout.verdict.broken for r in repairs)
        + sum(c.rollout.verdict.broken for s in seams for c in s.checks),
        "length/check": ratio(sum(checks), len(checks)),
        "length/repair": ratio(sum(lengths), len(lengths)),
        **{f"kstar/{name}": kept[name] for name in get_args(KeptBy)},
        "kstar/kept": ratio(sum(s.kept for s in seams), len(seams)),
    }


def reach_metrics(episodes: Sequence[Episode]) -> dict[str, Any]:
    """The share of open seams, and the means at their first edits: probabilities of failed token and fix, entropy."""
    found = [s.reach for e in episodes for s in e.seams if s.reach]
    return {
        "reach/known": len(found),
        "reach/open": ratio(sum(r.open for r in found), len(found)),
        "reach/failed": ratio(sum(math.exp(r.failed) for r in found), len(found)),
        "reach/fix": ratio(sum(math.exp(r.fix) for r in found), len(found)),
        "reach/entropy": ratio(sum(r.entropy for r in found), len(found)),
    }


def gate_metrics(rows: Sequence[Row]) -> dict[str, Any]:
    """Row counts, and the share of tokens that are trained on in policy rows that have any credit."""
    policy = [row for row in rows if row.term != "repair"]
    credited = [row for row in policy if any(row.advantages)]
    tokens = sum(len(row.mask) for row in credited)
    return {
        "rows/policy": len(policy),
        "rows/repair": len(rows) - len(policy),
        "rows/empty_gate": sum(not row.active for row in rows),
        "rows/credited": len(credited),
        "active_ratio": ratio(sum(row.active for row in credited), tokens),
    }
