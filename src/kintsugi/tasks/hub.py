"""Problems from a Hugging Face Hub data set.

    task: {name: hub, path: openai/gsm8k, subset: main, prompt: question}

Needs `datasets` (`pip install kintsugi-rl[hub]`), which is imported when such a task is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    number = 0
    for number, row in enumerate(rows, 1):
        yield Line(f"{path}/{split}/{number}", f"{where}, row {number}", row)
    if not number:
        raise KintsugiError(f"task hub: {where}: expected at least one row, found none")
