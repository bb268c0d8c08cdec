"""Trackers by name: TensorBoard, Weights & Biases, MLflow, trackio, or a class of your own. Loads no torch.

    trackers = load_trackers(["tensorboard", {"name": "wandb", "project": "mends", "mode": "offline"}])
    with tracking(trackers, log, recipe, progress.step, print): ...

A run writes its directory in any case and first; a tracker gets the same numbers afterwards. One that fails is
dropped with a warning, and the run goes on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from kintsugi.config import Recipe
from kintsugi.files import read_json, write_whole, writing
from kintsugi.plugins import Door, Spec, split_spec
from kintsugi.records import KintsugiError
from kintsugi.run.directory import RunLog
from kintsugi.trackers.base import Beginning, Tracker

__all__ = ["TRACKERS", "Beginning", "Tracker", "load_trackers", "tracking"]

TRACKERS = Door(
    "tracker",
    {
        "tensorboard": "kintsugi.trackers.tensorboard:TensorBoard",
        "wandb": "kintsugi.trackers.wandb:WandB",
        "mlflow": "kintsugi.trackers.mlflow:MLflow",
        "trackio": "kintsugi.trackers.trackio:Trackio",
    },
    own="my_tracker.py:MyTracker",
)
IDS = "trackers.json"
"""The file of a run directory with the names that trackers give the run. With it --resume goes on with the same one."""


def load_trackers(specs: Sequence[Spec]) -> dict[str, Tracker]:
    """Name -> tracker, ready to start: each spec a name, `my_file.py:Class`, or a mapping with arguments.

    KintsugiError names an unknown tracker or argument, or the package that is missing.
    """
    found: dict[str, Tracker] = {}
    for spec in specs:
        name, _ = split_spec(spec, "trackers")
        if name in found:
            raise KintsugiError(f"trackers: {name!r} is named twice")
        found[name] = TRACKERS.make(spec)
    return found


@contextmanager
def tracking(
    trackers: Mapping[str, Tracker], log: RunLog, recipe: Recipe, step: int, say: Callable[[str], None]
) -> Iterator[None]:
    """Sends every metrics line of `log` to the trackers, from start to finish; `step` is where the run begins."""
    alive = dict(trackers)

    def attempt(name: str, act: Callable[[], object]) -> Any:
        try:
            return act()
        except Exception as error:  # a server that is down, a full quota: nothing that may cost a run
            alive.pop(name, None)
            reason = " ".join(str(error).split())[:200]
            say(
                f"warning: tracker {name} is dropped: {type(error).__name__}: {reason}; "
                f"the numbers are in {log.directory}"
            )

    path = log.directory / IDS
    try:
        ids = read_json(path)
    except (OSError, ValueError):  # none yet, or damaged: the trackers begin anew
        ids = {}
    beginning = {
        name: Beginning(log.directory, recipe.model_dump(mode="json"), step, ids.get(name))
        for name in trackers
    }
    for name, tracker in trackers.items():
        ids[name] = attempt(name, lambda t=tracker, b=beginning[name]: t.start(b))  # type: ignore[misc]
    if trackers:
        with writing(path):
            write_whole(path, json.dumps(ids) + "\n")

    def send(record: Mapping[str, Any]) -> None:
        values = numbers(record)
        for name, tracker in list(alive.items()):
            attempt(name, lambda t=tracker: t.log(int(record["step"]), values))  # type: ignore[misc]

    log.listener = send
    try:
        yield
    finally:
        log.listener = None
        for name, tracker in list(alive.items()):
            attempt(name, tracker.finish)


def numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a metrics line; an interval [low, high] becomes two, and `step` is left out."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, list | tuple) and len(value) == 2:
            flat |= {f"{key}_low": value[0], f"{key}_high": value[1]}
        elif key != "step":
            flat[key] = value
    return {k: float(v) for k, v in flat.items() if isinstance(v, int | float) and math.isfinite(v)}
