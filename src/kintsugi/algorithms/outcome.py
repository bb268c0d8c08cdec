"""Five algorithms that know outcomes alone: G rollouts, what their rewards earn, and the loss.

| name | paper | credit of a rollout, on every token | ratio, and clip range | loss: mean over |
|---|---|---|---|---|
| grpo | arXiv:2402.03300, eq. 3 | (r - mean) / std of the group | token, 0.2 | tokens of a row, rows |
| gspo | arXiv:2507.18071, eq. 7, section 5.1 | the same | sequence, 3e-4 and 4e-4 | the same |
| dr_grpo | arXiv:2503.20783 | r - mean: std weighs problems by how unequal rewards are | token, 0.2 | one constant |
| rloo | arXiv:2402.14740 | r - mean of the others, which is unbiased | none: A grad log pi | one constant |
| raft | arXiv:2504.11343 (RAFT++) | 1 - pass rate for a pass; failures are dropped | token, 0.2 | passes |

With one update a batch every ratio is 1: grpo and gspo are then one algorithm (kintsugi.learning.loss). The
constant is the longest completion, so that a rollout's length never divides its credit.

Departures: none has a KL term to a reference model, as most later work has none. rloo's later minibatches are not
corrected for the first; up to G / (G - 1) its first is dr_grpo's. raft weighs passes by how hard their problem still is
[ours], which is the positive half of r - mean; the paper weighs all alike. dr_grpo, rloo and raft are described after
their abstracts; equation numbers could not be checked.

    kintsugi train recipes/quickstart.yaml algorithm=grpo
"""

from __future__ import annotations

from functools import partial

from kintsugi.algorithms.base import (
    Algorithm,
    centred,
    leave_one_out,
    outcome_rows,
    rollout_rows,
    run_rollouts,
)
from kintsugi.records import Episode, Row


def passes(episode: Episode) -> list[Row]:
    """One row per passing rollout, credited 1 - pass rate of those that have a reward."""
    group = rollout_rows(episode)
    passing = [r for r in group if episode.rollouts[r.index].verdict.passed]
    return [r.add("pass", 1 - len(passing) / len(group)) for r in passing]


BY_MEAN, BY_OTHERS = partial(outcome_rows, credit=centred), partial(outcome_rows, credit=leave_one_out)

GRPO = Algorithm("grpo", run_rollouts, outcome_rows, level="token", outcome_only=True)
GSPO = Algorithm(
    "gspo", run_rollouts, outcome_rows, level="sequence", clip_low=3e-4, clip_high=4e-4, outcome_only=True
)
DR_GRPO = Algorithm(
    "dr_grpo",
    run_rollouts,
    BY_MEAN,
    level="token",
    reduction="constant",
    outcome_only=True,
    reasons={"group": "reward − mean of the group's rewards, on every token"},
)
RLOO = Algorithm(
    "rloo",
    run_rollouts,
    BY_OTHERS,
    level="nll",
    reduction="constant",
    outcome_only=True,
    reasons={"group": "reward − mean of the other rollouts' rewards, on every token"},
)
RAFT = Algorithm(
    "raft",
    run_rollouts,
    passes,
    level="token",
    outcome_only=True,
    reasons={"pass": "1 − pass rate of the group, on every token of a rollout that passed"},
)
