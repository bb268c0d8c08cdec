"""The lead of `kintsugi` over each other method of `fair`: mean over the tasks, paired by seed, with its 95% interval.

python benchmarks/leads.py           # all seeds that both have
python benchmarks/leads.py 5         # the first five
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from kintsugi.compare.overall import means
from kintsugi.compare.results import Curve, latest_runs, paired, read_rows

RESULTS = Path(__file__).parent / "results" / "learning.jsonl"


def main(most: int) -> None:
    curves, _ = latest_runs(row for row in read_rows(RESULTS) if row.comparison == "fair")
    tasks: dict[str, dict[str, list[Curve]]] = defaultdict(lambda: defaultdict(list))
    for curve in curves:
        if curve.head.stage == "main" and curve.head.seed < most:
            tasks[curve.head.task][curve.head.algorithm].append(curve)
    ours = means(tasks, "kintsugi")
    for label in sorted({c.head.algorithm for c in curves} - {"kintsugi"}):
        theirs = means(tasks, label)
        print(f"{label}: {paired(ours, theirs)} ({len(theirs)} seeds)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else sys.maxsize)
