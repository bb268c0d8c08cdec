"""RLOO (arXiv:2402.14740): REINFORCE with the group's other rollouts as the baseline.

1. Rollouts as in GRPO; advantage = r - mean reward of the *other* G - 1 rollouts, which is unbiased.
2. The gradient is A grad log pi(y | x) of the whole completion, a sum over its tokens: no ratio, no clip.
   With one minibatch none is needed; with more, the later ones are not corrected for the first.
3. Departs from the paper in leaving out the KL penalty in the reward, and divides by one constant (the
   longest completion). A = G / (G - 1) (r - mean): up to that factor Dr. GRPO's first minibatch.
   Equation numbers could not be checked.

    kintsugi train recipes/quickstart.yaml algorithm=rloo
"""

from functools import partial

from kintsugi.algorithms.base import Algorithm, leave_one_out, outcome_rows, run_rollouts

RLOO = Algorithm(
    "rloo",
    run_rollouts,
    partial(outcome_rows, credit=leave_one_out),
    level="nll",
    reduction="constant",
)
