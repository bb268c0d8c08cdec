"""RAFT (arXiv:2504.11343): train on passing rollouts only.

1. Rollouts as in GRPO; those that fail are dropped.
2. The clipped token ratio on the rest, as in the paper's RAFT++, with the mean over passing rollouts.
3. Departs from the paper, which weighs all passing rollouts alike, in the weight 1 - pass rate of the
   group [ours]: a problem counts by how hard it still is, and one that is solved no longer. That is the
   positive half of r - mean. Described after the abstract; equation numbers could not be checked.

    kintsugi train recipes/quickstart.yaml algorithm=raft
"""

from kintsugi.algorithms.base import Algorithm, judged, run_rollouts, uniform_row
from kintsugi.records import Episode, Row


def rows(episode: Episode) -> list[Row]:
    """One row per passing rollout, credited 1 - pass rate of the judged ones."""
    group = judged(episode.rollouts)
    passing = [r for r in group if r.verdict.passed]
    weight = 1 - len(passing) / max(1, len(group))
    name = f"{episode.problem.id}/rollouts"
    return [uniform_row(r, weight, "policy", episode.problem, name) for r in passing]


RAFT = Algorithm("raft", run_rollouts, rows, level="token", clip_low=0.2, clip_high=0.2)
