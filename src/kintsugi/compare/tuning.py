"""Tunes the settings that an algorithm is run with: a coarse grid, then finer or wider around its best point.

A point gives every tuned recipe key one value. The same grid holds for all algorithms; one whose ratio can leave 1
may have further keys of its own. Points are judged by their tuning runs alone (Curve.score).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean

from kintsugi.compare.results import Curve

Point = tuple[tuple[str, float], ...]
"""(key, value) of each tuned key, in the grid's order. A key such as `optim.clip_low, optim.clip_high` sets both."""
Grid = Mapping[str, Sequence[float]]
ONE_UPDATE = "optim.minibatches"
CLIP = "optim.clip_"
FINALISTS = 2
"""The best points of the first tuning seed that run on the other seeds, too."""


def points(grid: Grid) -> list[Point]:
    """Every combination of the grid's values, the last key fastest; points that would be the same run come once.

    With one update a batch every ratio is 1, so that clip ranges decide nothing: the first one stands for all.
    """
    found = (tuple(zip(grid, values, strict=True)) for values in product(*grid.values()))
    return [point for point in found if not clips_nothing(point, grid)]


def clips_nothing(point: Point, grid: Grid) -> bool:
    """True if the point differs from an earlier one in clip ranges alone, and those act on no ratio."""
    values = dict(point)
    return values.get(ONE_UPDATE) == 1 and any(
        key.startswith(CLIP) and value != grid[key][0] for key, value in point
    )


@dataclass(frozen=True, slots=True)
class Tuned:
    """The point an algorithm is run with. `scores` by point are means over tuning seeds, of which it has `seeds`."""

    point: Point
    scores: Mapping[Point, float]
    seeds: Mapping[Point, int]

    def edges(self) -> dict[str, str]:
        """key -> `lowest` or `highest`, where the best point has no neighbour on that side along that key."""
        found = {}
        for key, value in self.point:
            values = self.along(key)
            if len(values) > 1 and value in (values[0], values[-1]):
                found[key] = "lowest" if value == values[0] else "highest"
        return found

    def along(self, key: str) -> list[float]:
        """The values of `key` that were tried at all, ascending."""
        return sorted({dict(point)[key] for point in self.scores})

    def beyond(self) -> Iterator[Point]:
        """One point further out along each key at whose edge the best one lies, by the step of the grid there."""
        for key, side in self.edges().items():
            first, second = self.along(key)[:2] if side == "lowest" else self.along(key)[:-3:-1]
            value = rounded_setting(first * first / second, all_whole(self.along(key)))
            if value > 0 and value != first:
                yield at(self.point, key, value)

    def between(self) -> Iterator[Point]:
        """The points halfway (by ratio) between the best one and its neighbours along each key."""
        for key, value in self.point:
            values = self.along(key)
            place = values.index(value)
            for other in values[max(0, place - 1) : place] + values[place + 1 : place + 2]:
                middle = rounded_setting(math.sqrt(value * other), all_whole(values))
                if middle not in values:
                    yield at(self.point, key, middle)

    def finalists(self) -> list[Point]:
        """The best points, which further seeds decide between."""
        return sorted(self.scores, key=lambda point: (-self.scores[point], point))[:FINALISTS]


def at(point: Point, key: str, value: float) -> Point:
    """The point with another value of one key."""
    return tuple((k, value if k == key else v) for k, v in point)


def all_whole(values: Sequence[float]) -> bool:
    return all(isinstance(value, int) for value in values)


def rounded_setting(value: float, to_whole: bool) -> float:
    """To three digits, or to a whole number of at least 1."""
    return max(1, round(value)) if to_whole else float(f"{value:.3g}")


def choose(curves: Iterable[Curve]) -> Tuned | None:
    """The best point of one algorithm's tuning runs: the highest mean score, the lower values on a tie.

    Only points with the most seeds are eligible: the finalists, once they have run. None where no run has finished.
    """
    scores: dict[Point, dict[int, float]] = {}
    for curve in curves:
        scores.setdefault(point_of(curve), {})[curve.head.seed] = curve.score()
    if not scores:
        return None
    means = {point: fmean(found.values()) for point, found in sorted(scores.items())}
    seeds = {point: len(scores[point]) for point in means}
    eligible = [point for point in means if seeds[point] == max(seeds.values())]
    return Tuned(max(eligible, key=lambda point: means[point]), means, seeds)


def point_of(curve: Curve) -> Point:
    """The tuned settings of a run; rows older than grids name the learning rate alone."""
    return tuple(curve.head.settings.items()) or (("optim.lr", curve.head.lr),)


def short_key(key: str) -> str:
    """`lr` for `optim.lr`, `clip_low, clip_high` for both keys of a clip range."""
    return ", ".join(part.strip().rpartition(".")[2] for part in key.split(","))


def point_words(point: Point) -> str:
    """`lr 0.0002, minibatches 4`."""
    return ", ".join(f"{short_key(key)} {value:g}" for key, value in point)
