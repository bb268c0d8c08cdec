"""Kintsugi without its seams: the outcome-only control of what it gains with them.

Every rollout keeps its group advantage and nothing is mended: GRPO with the mean over tokens.

    kintsugi train recipes/learning/brackets.yaml algorithm=benchmarks/without_seams.py:WITHOUT_SEAMS
"""

from kintsugi.algorithms.base import Algorithm, outcome_rows, run_rollouts

WITHOUT_SEAMS = Algorithm("without_seams", run_rollouts, outcome_rows, level="token", reduction="token")
