"""trackio: a local data base (TRACKIO_DIR), or a Space on the Hub with `space_id`. `trackio show` opens it."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

import trackio

from kintsugi.trackers.base import Beginning


class Trackio:
    """`trackers: [{name: trackio, project: mends}]`; the arguments are those of trackio.init."""

    def __init__(
        self,
        project: str = "kintsugi",
        name: str | None = None,
        group: str | None = None,
        space_id: str | None = None,
    ) -> None:
        self.project, self.name, self.group, self.space_id = project, name, group, space_id

    def start(self, beginning: Beginning) -> str:
        # trackio tells runs apart by name alone: two runs of one directory must not be taken for one.
        name = beginning.id or f"{self.name or beginning.directory.name}-{uuid4().hex[:6]}"
        trackio.init(
            project=self.project,
            name=name,
            group=self.group,
            space_id=self.space_id,
            config=dict(beginning.recipe),
            resume="allow",
            embed=False,
        )
        return name

    def log(self, step: int, values: Mapping[str, float]) -> None:
        trackio.log(dict(values), step=step)

    def finish(self) -> None:
        trackio.finish()
