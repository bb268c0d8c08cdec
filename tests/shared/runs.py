"""A small run directory, written as the trainer writes it: one problem, one mended failure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fakes import make_recipe, make_repair, make_rollout
from tokenizers import Tokenizer, decoders, models

from kintsugi.algorithms import load_algorithm
from kintsugi.records import Edit, Episode, Problem, Reach, Row, Seam
from kintsugi.run.directory import RunLog
from kintsugi.sampling.base import RowStats

FAILED, MENDED = "a\n#### 4", "a\n#### 5"
"""They differ in token 7 of 9 (one token a character, and the stop token)."""


REACH = Reach(failed=-0.5, failed_rank=1, fix=-1.5, fix_rank=2, entropy=0.7)


def make_episode(failed: str = FAILED, mended: str = MENDED) -> Episode:
    """Rollout 0 fails and is mended, 1 passes, 2 fails and its repair was rejected."""
    at = next(i for i, (a, b) in enumerate(zip(failed, mended, strict=True)) if a != b)
    gates = tuple(int(i == at) for i in range(len(failed) + 1))
    seam = Seam(0, 0, (Edit("replace", at, at),), 1, "K", (), gates, gates, REACH)
    return Episode(
        Problem("p/1", "2+3?", "5"),
        rollouts=(make_rollout(failed), make_rollout("#### 5", 1.0), make_rollout("#### 9")),
        repairs=(
            make_repair(0, mended, distance=0.125, score=1.0),
            make_repair(2, "#### 5", audit="answer_only", distance=0.2),
        ),
        seams=(seam,),
    )


def write_run(
    directory: Path, *episodes: Episode, tokenizer: bool = True, algorithm: str = "kintsugi", **recipe: Any
) -> Path:
    """A run of one step per episode, and two evaluations; `recipe` as in make_recipe."""
    log = RunLog.open(make_recipe(output_dir=str(directory), algorithm=algorithm, **recipe))
    if tokenizer:
        save_tokenizer(directory)
    log.metrics({"step": 0, "tokens/total": 0, "eval/pass@1": 0.25})
    for step, episode in enumerate(episodes, 1):
        rows = load_algorithm(algorithm).rows(episode)
        log.write(step, [episode], rows, [stats(row) if row.active else None for row in rows])
        log.metrics({"step": step, "loss": 0.0, "accuracy": 1 / 3, "tokens/total": 100 * step})
    log.metrics({"step": len(episodes), "tokens/total": 100 * len(episodes), "eval/pass@1": 0.5})
    return directory


def stats(row: Row) -> RowStats:
    nothing = (float("nan"),) * len(row.mask)
    return RowStats(nothing, nothing, ratio=1.0, clipped=0.0, loss=0.0)


def save_tokenizer(directory: Path) -> None:
    """One token a character, numbered as in Unicode; 0 is the stop token."""
    vocab = {chr(i): i for i in range(1, 0x2100)} | {"<stop>": 0}
    made = Tokenizer(models.WordLevel(vocab, unk_token="<stop>"))
    made.decoder = decoders.Fuse()
    (directory / "tokenizer").mkdir()
    made.save(str(directory / "tokenizer" / "tokenizer.json"))


def with_question(episode: Episode, question: str) -> Episode:
    return replace(episode, problem=replace(episode.problem, prompt=question))
