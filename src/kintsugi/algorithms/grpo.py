"""GRPO (arXiv:2402.03300): the outcome's advantage on every token of every rollout.

1. Sample G rollouts of a problem, verify them; advantage = (r - mean) / std of the group.
2. Token-level clipped ratio, mean over the tokens of a rollout, mean over rollouts (eq. 3).
3. Departs from the paper in leaving out the KL term to a reference model, as most later work does.

    kintsugi train recipes/quickstart.yaml algorithm=grpo
"""

from kintsugi.algorithms.base import Algorithm, outcome_rows, run_rollouts

GRPO = Algorithm("grpo", run_rollouts, outcome_rows, level="token", clip_low=0.2, clip_high=0.2)
