"""Checkpoints: a folder that AutoModelForCausalLM loads, plus what the trainer needs to go on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from kintsugi.card import write_card
from kintsugi.learner import LocalLearner
from kintsugi.models.loading import LoadedModel
from kintsugi.records import KintsugiError

STATE_FILE = "trainer.pt"


@dataclass(slots=True)
class Progress:
    """Where a run stands: steps done, tokens generated so far, earlier passes by problem id."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    memory: dict[str, str] = field(default_factory=dict)
    before: Mapping[str, Any] | None = None


def save(directory: Path, loaded: LoadedModel, learner: LocalLearner, progress: Progress) -> Path:
    """Writes checkpoints/step-NNNNNN under a temporary name, then renames it; returns its path."""
    final = directory / "checkpoints" / f"step-{progress.step:06d}"
    partial = final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    # Adapters alone (LoRA): peft would look the base model up to see whether its vocabulary has changed.
    adapters = {"save_embedding_layers": False} if hasattr(loaded.model, "peft_config") else {}
    loaded.model.save_pretrained(partial, **adapters)
    loaded.tokenizer.save_pretrained(partial)
    torch.save({"learner": learner.state_dict(), "progress": asdict(progress)}, partial / STATE_FILE)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    write_card(directory, final)
    return final


def latest(directory: Path) -> Path:
    """The newest checkpoint of a run; KintsugiError when there is none."""
    found = sorted((directory / "checkpoints").glob("step-*"))
    if not found:
        raise KintsugiError(f"{directory}: no checkpoint to resume from; start again with --overwrite")
    return found[-1]


def load_state(path: Path) -> tuple[dict[str, Any], Progress]:
    """(learner state, progress) of a checkpoint."""
    try:
        state = torch.load(path / STATE_FILE, weights_only=True, map_location="cpu")
        return state["learner"], Progress(**state["progress"])
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, UnpicklingError) as error:
        raise KintsugiError(
            f"{path}: trainer state cannot be read ({type(error).__name__}); remove this checkpoint to go on "
            "from the one before"
        ) from None
