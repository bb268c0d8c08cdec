"""TensorBoard: event files in RUN/tensorboard. `tensorboard --logdir runs` shows them."""

from __future__ import annotations

from collections.abc import Mapping

import yaml
from torch.utils.tensorboard import SummaryWriter

from kintsugi.trackers.base import Beginning


class TensorBoard:
    """`trackers: [tensorboard]`. Steps that a resumed run makes again replace those of before."""

    def start(self, beginning: Beginning) -> str:
        again = beginning.step + 1 if beginning.id else None
        self.writer = SummaryWriter(str(beginning.directory / "tensorboard"), purge_step=again)
        text = yaml.safe_dump(dict(beginning.recipe), sort_keys=False, allow_unicode=True)
        self.writer.add_text("recipe", f"```yaml\n{text}\n```", beginning.step)
        return "tensorboard"

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def finish(self) -> None:
        self.writer.close()
