"""One of several processes of a run (see test_trl_processes.py): trains, and writes down what it saw.

torchrun --nproc_per_node 2 tests/trl/worker.py DIRECTORY
"""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

from datasets import Dataset
from runs import Watched, correct, data, nano_trainer

from kintsugi.tasks.dag import DagTask

SPOILED = "*"
"""The answer of problems whose every rollout passes: there is nothing to mend."""
AT_ONCE = {"per_device_train_batch_size": 12, "shuffle_dataset": False, "max_grad_norm": 1e9}
"""Three groups of eight in two processes of twelve rollouts: the middle group lies in both."""
IN_TURNS = AT_ONCE | {"per_device_train_batch_size": 4, "steps_per_generation": 3, "max_steps": 6}
"""The same batch in three updates, twice."""
RUNS: dict[str, tuple[Any, dict[str, Any]]] = {
    "one": ({"name": "kintsugi", "source": "rewrite"}, AT_ONCE | {"learning_rate": 1e-9}),
    "kintsugi": ("kintsugi", IN_TURNS),
    "iop": ("iop", AT_ONCE | {"max_steps": 2}),
    "sdpo": ("sdpo", IN_TURNS),
    "dapo": ("dapo", IN_TURNS),
}


def lenient(completions: list[Any], answer: list[str], **columns: Any) -> list[float]:
    return [max(r, float(a == SPOILED)) for r, a in zip(correct(completions, answer), answer, strict=True)]


def uneven() -> Dataset:
    """Of three groups the first and third are the first process's share; the second, where all pass, is the other's."""
    rows = data(DagTask().train()[:12]).to_list()
    return Dataset.from_list([row | {"answer": SPOILED} if i % 3 == 1 else row for i, row in enumerate(rows)])


class Counted(Watched):
    """Keeps how many prompts each of its generations had."""

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        self.__dict__.setdefault("asked", []).append(len(prompt_ids))
        return super()._generate_single_turn(prompt_ids, *args, **kwargs)


def seen(name: str, directory: Path) -> dict[str, Any]:
    """The run of this name, and what this process saw of it."""
    algorithm, settings = RUNS[name]
    trainer = nano_trainer(
        directory / name,
        kind=Counted,
        settings=settings,
        algorithm=algorithm,
        train_dataset=uneven(),
        reward_funcs=lenient,
    )
    trainer.train()
    model = trainer.accelerator.unwrap_model(trainer.model)
    return {
        "rows": trainer.rows[0],
        "sizes": [len(batch["prompt_ids"]) for batch in trainer.batches],
        "gates": [int(batch["tool_mask"].sum()) for batch in trainer.batches],
        "items": [int(batch["num_items_in_batch"]) for batch in trainer.batches],
        "asked": trainer.asked,
        "grad_norm": trainer.logged("grad_norm"),
        "gradient": trainer.gradient,
        "losses": trainer.losses,
        "memory": trainer._memory,
        "samples": trainer.logged("kintsugi/repair/samples"),
        "weights": {name: t.clone() for name, t in model.state_dict().items()},
    }


if __name__ == "__main__":
    place = Path(sys.argv[1])
    found = {name: seen(name, place) for name in RUNS}
    (place / f"seen-{os.environ['RANK']}.pickle").write_bytes(pickle.dumps(found))
