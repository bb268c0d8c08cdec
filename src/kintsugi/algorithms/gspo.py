"""GSPO (arXiv:2507.18071): GRPO with one ratio for the whole sequence.

1. Rollouts and advantages as in GRPO.
2. The ratio is the geometric mean of the token ratios (eq. 7), clipped to 1 - 3e-4 and 1 + 4e-4
   (section 5.1), so that whole rollouts are clipped, never single tokens.

    kintsugi train recipes/quickstart.yaml algorithm=gspo
"""

from kintsugi.algorithms.base import Algorithm, outcome_rows, run_rollouts

GSPO = Algorithm("gspo", run_rollouts, outcome_rows, level="sequence", clip_low=3e-4, clip_high=4e-4)
