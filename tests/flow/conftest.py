"""A run of the shipped nano model, small enough for a laptop: two IOP steps of two minibatches."""

from __future__ import annotations

from pathlib import Path

import pytest

from kintsugi import Recipe, train
from kintsugi.run.session import TrainResult

TINY = {
    "model": "nano",
    "task": "dag",
    "prompts": "terse-v1",
    "algorithm": {"name": "iop", "k": 1},
    "steps": 2,
    "dtype": "float32",
    "threads": 1,
    "sampling": {"problems": 4, "group_size": 4, "max_new_tokens": 80},
    "optim": {"lr": 1e-4, "warmup": 1, "minibatches": 2},
    "eval": {"problems": 8, "samples": 2},
}


def tiny(directory: Path, **changes: object) -> Recipe:
    """The tiny recipe, writing to `directory`, with some keys changed."""
    return Recipe.parse({**TINY, "output_dir": str(directory), **changes})


@pytest.fixture(scope="session")
def iop_run(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """One finished tiny run, shared by the tests that only read it."""
    return train(tiny(tmp_path_factory.mktemp("iop") / "run"))
