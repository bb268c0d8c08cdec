"""`kintsugi repeat RUN`: the same recipe again, elsewhere, and whether it came to the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from kintsugi.config import Recipe
from kintsugi.files import digest
from kintsugi.records import KintsugiError
from kintsugi.run.checkpoint import saved
from kintsugi.run.directory import METRICS
from kintsugi.run.owned import apart
from kintsugi.run.reading import Run

HOW = {"made by", "threads", "dtype", "device"}
"""The keys that versions.json must hold for a run to be made again as it was."""
WEIGHTS = ("model.safetensors", "adapter_model.safetensors")


@dataclass(frozen=True, slots=True)
class Repeated:
    """The comparison of a repeated run with the first: lines of metrics and the last checkpoint compared, how the
    versions differ, and the first difference in the results ("" if there is none)."""

    directory: Path
    lines: int
    checkpoint: str
    versions: tuple[str, ...]
    difference: str


def repeat(run: Run, output: Path, *, overwrite: bool = False) -> Repeated:
    """Runs the recipe of `run` again into `output`, on as many threads and in the same type, and compares.

    A run that was stopped early is compared as far as it went. KintsugiError where it cannot be repeated, and where
    `output` is the run itself or holds it.
    """
    apart(output, run.directory)
    before = run.versions
    if HOW - set(before):
        raise KintsugiError(
            f"{run.directory}: versions.json does not say how it was made ({', '.join(sorted(HOW))}); only runs of "
            "`kintsugi train` and `sft` can be repeated"
        )
    recipe = Recipe.parse(
        {
            **run.recipe,
            "output_dir": str(output),
            "threads": before["threads"],
            "dtype": str(before["dtype"]).removeprefix("torch."),
            "device": before["device"],
            "trackers": [],
        },
        str(run.directory / "recipe.yaml"),
    )
    if before["made by"] == "sft":
        from kintsugi.coldstart import sft

        sft(recipe, overwrite=overwrite)
    else:
        from kintsugi.trainer import train

        train(recipe, overwrite=overwrite)
    return beside(run, Run.open(output))


def beside(first: Run, second: Run) -> Repeated:
    """The second run beside the first."""
    lines = [(d.directory / METRICS).read_bytes().splitlines() for d in (first, second)]
    common = min(map(len, lines))
    both = {p.name for p in saved(first.directory)} & {p.name for p in saved(second.directory)}
    last = max(both, default="")
    found = next(parted(first, second, lines, last), "")
    changed = (
        f"{name}: {first.versions.get(name)} -> {second.versions.get(name)}"
        for name in sorted({*first.versions, *second.versions})
        if first.versions.get(name) != second.versions.get(name)
    )
    return Repeated(second.directory, common, last, tuple(changed), found)


def parted(first: Run, second: Run, lines: list[list[bytes]], last: str) -> Iterator[str]:
    for number, (a, b) in enumerate(zip(*lines, strict=False), 1):
        if a != b:
            yield f"line {number} of {METRICS}: {changed_key(a, b)}"
    for name in WEIGHTS if last else ():
        files = [run.directory / "checkpoints" / last / name for run in (first, second)]
        if files[0].is_file() and digest(files[0]) != digest(files[1]):
            yield f"the weights of {last}"


def changed_key(first: bytes, second: bytes) -> str:
    """The first key that differs between two lines of metrics, with both values."""
    try:
        a, b = json.loads(first), json.loads(second)
    except ValueError:
        return "one of them is cut off"
    for key, other in zip_longest(a, b):
        if key != other or a[key] != b[key]:
            return f"step {a.get('step')}: {key} is {a.get(key)} and then {b.get(key)}"
    return "spelled differently"
