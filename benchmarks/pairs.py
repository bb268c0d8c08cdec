"""The difference of two labels of the results, taken seed by seed, with its 95% interval.

python benchmarks/pairs.py law/brackets-85/kintsugi law/brackets-85/raft
python benchmarks/pairs.py 'smollm2-credit/sums/exact_labels by seams' smollm2-long/sums/kintsugi
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from kintsugi.compare.results import Curve, latest_runs, paired, read_rows
from kintsugi.compare.tables import main_runs

RESULTS = Path(__file__).parent / "results" / "learning.jsonl"


def ends(curves: Sequence[Curve], name: str) -> dict[int, float]:
    """Accuracy at the budget, by seed, of COMPARISON/TASK/LABEL; empty where it was never run."""
    comparison, task, label = name.split("/")
    found = [c for c in curves if (c.head.comparison, c.head.task) == (comparison, task)]
    return {c.head.seed: c.final() for c in main_runs(found).get(label, ())}


if __name__ == "__main__":
    if [name.count("/") for name in sys.argv[1:]] != [2, 2]:
        sys.exit(f"two of COMPARISON/TASK/LABEL were expected, got {sys.argv[1:]}\n\n{__doc__}")
    runs, _ = latest_runs(read_rows(RESULTS))
    ours, theirs = (ends(runs, name) for name in sys.argv[1:])
    if (difference := paired(ours, theirs)) is None:
        sys.exit(f"no seed has both: the first has {sorted(ours)}, the second {sorted(theirs)}")
    print(f"{difference} ({difference.n} seeds)")
