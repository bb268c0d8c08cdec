"""Weights & Biases: files in RUN/wandb, sent to its server unless `mode: offline` (`wandb sync` sends them later)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import wandb

from kintsugi.trackers.base import Beginning


class WandB:
    """`trackers: [{name: wandb, project: mends, mode: offline}]`; the arguments are those of wandb.init.

    Steps that a resumed run makes again are the same numbers: the server keeps the first.
    """

    def __init__(
        self,
        project: str = "kintsugi",
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        mode: str | None = None,
    ) -> None:
        self.settings: dict[str, Any] = {
            "project": project,
            "entity": entity,
            "group": group,
            "tags": tags,
            "mode": mode,
        }
        self.name = name

    def start(self, beginning: Beginning) -> str:
        self.run = wandb.init(
            **self.settings,
            name=self.name or beginning.directory.name,
            dir=str(beginning.directory),
            config=dict(beginning.recipe),
            id=beginning.id,
            resume="allow",
        )
        return str(self.run.id)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def finish(self) -> None:
        self.run.finish()
