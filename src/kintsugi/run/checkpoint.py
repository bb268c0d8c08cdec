"""Checkpoints: a folder that AutoModelForCausalLM loads, plus what the trainer needs to go on. No pickle anywhere.

    model.safetensors  config.json  tokenizer...   the policy (or its adapters)
    optimizer.safetensors                          AdamW's moments, by number of the parameter
    trainer.json                                   Progress, and the number of updates
    checksums.json  README.md                      SHA-256 of every file; the model card

No state of a random generator is kept: whatever is drawn is a function of the seed and the step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from kintsugi.files import damage, numbered, partial_of, seal, sync, write_whole, writing
from kintsugi.learning.learner import LocalLearner
from kintsugi.models.loading import LoadedModel
from kintsugi.records import KintsugiError
from kintsugi.run.card import write_card
from kintsugi.run.owned import remove
from kintsugi.run.reading import Run

MOMENTS, STATE = "optimizer.safetensors", "trainer.json"
CARD = frozenset({"README.md"})
"""Written again when the run ends, and no part of the state."""


@dataclass(slots=True)
class Progress:
    """The progress of a run: steps done, tokens generated so far and before the last step, lines in metrics.jsonl, step
    last evaluated, steps in a row that could not update, earlier passes by problem id, the first evaluation and the
    latest, the best held-out pass@1, evaluations in a row that were no better."""

    step: int = 0
    tokens: int = 0
    tokens_before: int = 0
    seconds: float = 0.0
    lines: int = 0
    evaluated: int = 0
    stuck: int = 0
    memory: dict[str, str] = field(default_factory=dict)
    before: Mapping[str, Any] | None = None
    latest: Mapping[str, Any] | None = None
    best: float = -1.0
    worse: int = 0


def write_checkpoint(
    directory: Path, loaded: LoadedModel, learner: LocalLearner, progress: Progress, keep_last: int = 0
) -> Path:
    """Writes checkpoints/step-NNNNNN beside, flushed and with checksums, then renames it; returns its path.

    Then removes older ones beyond the newest `keep_last` (0: none) and the best. KintsugiError where the disk refuses.
    """
    final = directory / "checkpoints" / f"step-{progress.step:06d}"
    partial = partial_of(final)
    with writing(final):
        final.parent.resolve().mkdir(parents=True, exist_ok=True)  # a link may lead to another disk
        remove(partial)
        partial.mkdir()
        # Adapters alone (LoRA): peft would look the base model up to see whether its vocabulary has changed.
        adapters = {"save_embedding_layers": False} if hasattr(loaded.model, "peft_config") else {}
        try:
            loaded.model.save_pretrained(partial, **adapters)
            loaded.tokenizer.save_pretrained(partial)
            save_file(learner.moments(), partial / MOMENTS)
        except SafetensorError as error:  # its own words for what the disk refuses
            raise OSError(str(error)) from None
        write_whole(
            partial / STATE, json.dumps({"version": learner.version, "progress": asdict(progress)}) + "\n"
        )
        seal(partial, CARD)
        remove(final)
        partial.rename(final)
        sync(final.parent)
        write_card(directory, final)
        prune(directory, keep_last)
    return final


def prune(directory: Path, keep_last: int) -> None:
    """Removes checkpoints but the newest `keep_last` and that of the best held-out pass@1; with 0 none."""
    found = saved(directory)
    if not keep_last or len(found) <= keep_last:
        return
    best = Run.open(directory).best([step_number(path) for path in found])
    for path in found[:-keep_last]:
        if step_number(path) != best:
            remove(path)


def saved(directory: Path) -> list[Path]:
    """A run's checkpoints, oldest first; unfinished and foreign folders have other names."""
    return [path for path in numbered(directory / "checkpoints").values() if path.is_dir()]


def step_number(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def latest_checkpoint(directory: Path) -> tuple[Path | None, list[str]]:
    """(the newest intact checkpoint of a run, or None if it has none yet; what was wrong with newer ones).

    KintsugiError where there are some, and all are damaged.
    """
    notes: list[str] = []
    found = saved(directory)
    for path in reversed(found):
        trouble = damage(path)
        if not trouble:
            return path, notes
        notes.append(f"{path} is damaged ({trouble}): going on from the one before")
    if found:
        raise KintsugiError(f"{directory}: no checkpoint is intact ({trouble}); start again with --overwrite")
    return None, notes


def load_state(path: Path, learner: LocalLearner) -> Progress:
    """Gives the learner what a checkpoint holds beside the weights; returns the run's progress."""
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        progress = Progress(**state["progress"])
        learner.restore(load_file(path / MOMENTS), int(state["version"]))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise KintsugiError(
            f"{path}: trainer state cannot be read ({type(error).__name__}); remove this checkpoint to go on "
            "from the one before"
        ) from None
    return progress
