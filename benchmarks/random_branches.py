"""The control of branches: the same number of failures, branched at a random token instead of one in doubt.

kintsugi train recipes/learning/brackets.yaml algorithm=benchmarks/random_branches.py:RANDOM_BRANCHES
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from kintsugi.algorithms.kintsugi import kintsugi
from kintsugi.records import Rival

BRANCHES = kintsugi(branches=8)


def anywhere(rivals: Sequence[Rival], size: int) -> int:
    """Any token but the last, which ends the text; the same one whenever the rivals are."""
    return random.Random(f"{size}/{[rival.token for rival in rivals]}").randrange(max(1, len(rivals) - 1))


RANDOM_BRANCHES = replace(BRANCHES, name="random_branches", run=partial(BRANCHES.run, place=anywhere))
