"""Problems from a Hugging Face Hub data set.

    task: {name: hub, path: openai/gsm8k, subset: main, prompt: question}

Needs `datasets` (`pip install kintsugi-rl[hub]`), which is imported when such a task is made.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from kintsugi.records import KintsugiError
from kintsugi.tasks.jsonl import Columns, Line, TableTask


class HubTask(TableTask):
    """`task: {name: hub, path: openai/gsm8k, subset: main, prompt: question}`.

    path, subset, split, eval_split: as the Hub calls them; `eval_split: null` holds out `eval_share` of
    the texts instead. The other arguments are those of `jsonl`.
    """

    def __init__(
        self,
        path: str,
        subset: str | None = None,
        split: str = "train",
        eval_split: str | None = "test",
        prompt: str | Sequence[str] = "prompt",
        answer: str = "answer",
        id: str | None = None,
        eval_share: float = 0.1,
        limit: int | None = None,
        eval_limit: int | None = None,
    ) -> None:
        columns = Columns.named("task hub", prompt, answer, id)
        load = dataset_loader()
        table = partial(read_split, load, path, subset, split)
        held_out = partial(read_split, load, path, subset, eval_split) if eval_split else None
        super().__init__(f"task hub: {path}", columns, (table, held_out), eval_share, limit, eval_limit)


def dataset_loader() -> Callable[..., Any]:
    """`datasets.load_dataset`; KintsugiError when the package is missing."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise KintsugiError(
            f"task hub needs the datasets package: pip install kintsugi-rl[hub] ({error})"
        ) from None
    loader: Callable[..., Any] = load_dataset
    return loader


def read_split(load: Callable[..., Any], path: str, subset: str | None, split: str) -> Iterator[Line]:
    """The rows of one split; KintsugiError carries whatever the Hub answered, on one line."""
    where = f"{path}, split {split}" if subset is None else f"{path}, subset {subset}, split {split}"
    try:
        rows = load(path, subset, split=split)
    except Exception as error:
        # `datasets` raises a dozen unrelated types here: network, permissions, unknown names, broken files.
        reason = " ".join(str(error).split())
        raise KintsugiError(f"task hub: {where}: {type(error).__name__}: {reason}") from error
    narrow = narrow_columns(getattr(rows, "features", None) or {})
    number = 0
    for number, row in enumerate(rows, 1):
        cells = row | {name: kind(row[name]) for name, kind in narrow.items() if row[name] is not None}
        yield Line(f"{path}/{split}/{number}", f"{where}, row {number}", cells)
    if not number:
        raise KintsugiError(f"task hub: {where}: expected at least one row, found none")


FORMS = {"float16": ("e", 5), "float32": ("f", 9)}
"""struct's letter for a narrow float, and the decimal digits that always tell two of its numbers apart."""


def narrow_columns(features: Mapping[str, Any]) -> dict[str, Callable[[float], float]]:
    """By column of floats below double precision: what undoes their widening (0.1 comes as 0.10000000149011612)."""
    kinds = {name: getattr(feature, "dtype", None) for name, feature in features.items()}
    return {name: partial(shortest_double, *FORMS[kind]) for name, kind in kinds.items() if kind in FORMS}


def shortest_double(form: str, digits: int, value: float) -> float:
    """The double of the fewest decimal digits that is `value` in the narrow form."""
    if not math.isfinite(value):
        return value
    written = (float(f"{value:.{n}g}") for n in range(1, digits + 1))
    stored = struct.pack(form, value)
    return next((short for short in written if packed(form, short) == stored), value)


def packed(form: str, value: float) -> bytes:
    """The value in the narrow form; empty where rounding took it out of range."""
    try:
        return struct.pack(form, value)
    except OverflowError:
        return b""
