"""Dr. GRPO (arXiv:2503.20783, "GRPO done right"): GRPO without its two divisions.

1. Rollouts as in GRPO; advantage = r - mean of the group, not divided by its std, which weighs problems
   by how unequal their rewards happen to be.
2. A rollout's loss is the sum over its tokens divided by one constant, the longest completion, and not by
   its own length, which favours short passes and long failures.
3. No KL term. Described after the abstract; equation numbers could not be checked.

    kintsugi train recipes/quickstart.yaml algorithm=dr_grpo
"""

from functools import partial

from kintsugi.algorithms.base import Algorithm, centred, outcome_rows, run_rollouts

DR_GRPO = Algorithm(
    "dr_grpo",
    run_rollouts,
    partial(outcome_rows, credit=centred),
    level="token",
    clip_low=0.2,
    clip_high=0.2,
    reduction="constant",
)
