"""`kintsugi harvest RUN`: what a run found, as TRL's trainers read it. JSON Lines; no torch.

stepwise    PRMTrainer: prompt, completions (steps), labels. A mended failure up to the step where its seam begins,
            which is false, and its repair up to the same place, where every step is true.
preference  DPOTrainer: prompt, chosen (the repair), rejected (the failure); whole, or cut after the step in which the
            seam ends: what follows is a consequence of it.
sft         SFTTrainer: prompt, completion; every passing rollout and every accepted repair.

Every line has `provenance`: run, model, step, problem, and which of its texts these are. All texts were written by the
model: no gold answer and no solution of the data set is among them. Held-out problems are left out.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kintsugi.files import write_whole, writing
from kintsugi.mending.align import cut_points
from kintsugi.plugins import IN_PYTHON, is_file_spec, spec_name
from kintsugi.prompts import Prompts, load_prompts
from kintsugi.records import KintsugiError, Problem, Rollout, Seam, Turn
from kintsugi.run.owned import may_replace_file
from kintsugi.run.reading import Run
from kintsugi.run.tables import ProblemStep
from kintsugi.tasks import evaluation_problems, load_task, training_problems
from kintsugi.tasks.table import one_spaced

Form = Literal["stepwise", "preference", "sft"]
Example = dict[str, Any]
STEP = re.compile(r"\n+|(?<=[.!?])\s+(?=\S)")
"""The end of a step of reasoning: a line break, or the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Harvest:
    """The file that was written, the number of its lines, and what had to be left out or could not be checked."""

    path: Path
    lines: int
    notes: tuple[str, ...]

    def __fspath__(self) -> str:
        return str(self.path)


def harvest(
    run: str | os.PathLike[str], kind: Form, output: str | Path | None = None, *, cut: bool = False
) -> Harvest:
    """Writes the harvest of a run (RUN/harvest-KIND.jsonl without `output`). `cut`: preferences end after the seam.

    KintsugiError where the run found nothing of this kind, or the file is none of ours.
    """
    source = Run.open(os.fspath(run))
    path = Path(output) if output else source.directory / f"harvest-{kind}.jsonl"
    may_replace_file(path, b'"provenance"', "harvest of Kintsugi")
    own, held_out, notes = problems_of(source)
    left, found, model = set[str](), dict[str, Example](), spec_name(source.recipe["model"])
    for step in source.written:
        for problem in source.problems(step):
            name = problem.episode.problem.id
            if one_spaced(problem.episode.problem.prompt) in held_out:
                left.add(name)
                continue
            for line in MAKERS[kind](Field(source, problem, own.get(name), cut)):
                of = line.pop("of")
                place = {"run": str(source.directory), "model": model, "step": step, "problem": name, **of}
                found.setdefault(json.dumps(line, sort_keys=True), line | {"provenance": place})
    if left:
        notes.append(f"{len(left)} held-out problems are left out")
    if not found:
        raise KintsugiError(f"{source.directory}: nothing to harvest as {kind}: {NOTHING[kind]}")
    with writing(path):
        write_whole(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in found.values()))
    return Harvest(path, len(found), tuple(notes))


def problems_of(run: Run) -> tuple[dict[str, Problem], set[str], list[str]]:
    """(the training problems by id, the texts of the held-out ones, notes) of a run's task, as it is now.

    A file of the user's own is not run for them: whoever reads a run may not know it.
    """
    unknown = "which problems are held out cannot be checked: "
    name = spec_name(run.recipe["task"])
    if is_file_spec(name) or name.startswith(IN_PYTHON):
        return {}, set(), [f"{unknown}the task is {name}"]
    try:
        task = load_task(run.recipe["task"], judged=True)
        held_out = {one_spaced(p.prompt) for p in evaluation_problems(task)}
        return {p.id: p for p in training_problems(task)}, held_out, []
    except KintsugiError as error:
        return {}, set(), [f"{unknown}{error}"]


@dataclass(frozen=True, slots=True)
class Field:
    """One problem of a step, its run, and the problem as its task has it (None where that cannot be had)."""

    run: Run
    at: ProblemStep
    known: Problem | None
    cut: bool

    @property
    def prompts(self) -> Prompts:
        return load_prompts(self.run.recipe.get("prompts", "plain-v2"))

    @property
    def prompt(self) -> list[dict[str, str]]:
        """The conversation that the policy answered."""
        before = self.known.before if self.known else None
        message, turns = self.prompts.solving(self.at.episode.problem.prompt, before)
        return [turn._asdict() for turn in (*turns, Turn("user", message))]

    def sides(self, seam: Seam) -> tuple[Rollout, Rollout]:
        episode = self.at.episode
        return episode.rollouts[seam.failed], episode.repairs[seam.repair].rollout

    def written(self, rollout: Rollout, tokens: int) -> int:
        """The characters of its text that its first so many tokens make."""
        if self.run.tokenizer is None:
            raise KintsugiError(
                f"{self.run.directory}: without tokenizer/ tokens have no place in texts; harvest --as sft, or "
                "preference without --cut"
            )
        return len(self.run.tokenizer.decode(list(rollout.completion.token_ids[:tokens])))


def reasoning_steps(text: str) -> list[tuple[int, str]]:
    """(where it ends, the step) of each step of reasoning in a text."""
    ends = [match.start() for match in STEP.finditer(text)] + [len(text)]
    begins = [0, *(match.end() for match in STEP.finditer(text))]
    return [(e, text[b:e].strip()) for b, e in zip(begins, ends, strict=True) if text[b:e].strip()]


def until(text: str, place: int) -> list[tuple[int, str]]:
    """The steps of a text up to the one that holds its character number `place`."""
    found = reasoning_steps(text)
    last = next((i for i, (end, _) in enumerate(found) if end > place), len(found) - 1)
    return found[: last + 1]


def stepwise(field: Field) -> Iterator[Example]:
    for seam in field.at.episode.seams:
        failed, repaired = field.sides(seam)
        if not seam.edits:
            continue
        first = seam.edits[0]
        wrong = until(failed.text, field.written(failed, first.failed_at))
        right = until(repaired.text, field.written(repaired, first.repaired_at))
        prompt = field.prompt[-1]["content"]
        labels = [True] * (len(wrong) - 1) + [False]
        of = {"failed": seam.failed, "repair": seam.repair}
        yield {
            "prompt": prompt,
            "completions": [s for _, s in wrong],
            "labels": labels,
            "of": of | {"side": "failed"},
        }
        yield {
            "prompt": prompt, "completions": [s for _, s in right], "labels": [True] * len(right),
            "of": of | {"side": "repair"},
        }  # fmt: skip


def preference(field: Field) -> Iterator[Example]:
    for seam in field.at.episode.seams:
        failed, repaired = field.sides(seam)
        texts = [repaired.text, failed.text]
        if field.cut:
            f, r = cut_points(seam.edits, seam.kept)
            ends = (field.written(repaired, r), field.written(failed, f))
            texts = [
                t[: until(t, max(0, e - 1))[-1][0]]
                for t, e in zip(texts, ends, strict=True)
                if reasoning_steps(t)
            ]
        if len(set(texts)) < 2:
            continue
        chosen, rejected = ([{"role": "assistant", "content": text}] for text in texts)
        distance = field.at.episode.repairs[seam.repair].distance
        of = {"failed": seam.failed, "repair": seam.repair, "distance": distance, "cut": field.cut}
        yield {"prompt": field.prompt, "chosen": chosen, "rejected": rejected, "of": of}


def solution_lines(field: Field) -> Iterator[Example]:
    episode = field.at.episode
    mended = {seam.repair for seam in episode.seams}
    texts: list[tuple[str, int, Rollout]] = [
        *(("rollout", i, r) for i, r in enumerate(episode.rollouts) if r.solved),
        *(("extra", i, e.rollout) for i, e in enumerate(episode.extras) if e.phase == "rollout" and e.rollout.solved),
        *(("repair", j, r.rollout) for j, r in enumerate(episode.repairs) if j in mended and r.written),
    ]  # fmt: skip
    for kind, index, rollout in texts:
        answer = [{"role": "assistant", "content": rollout.text}]
        yield {"prompt": field.prompt, "completion": answer, "of": {"kind": kind, "index": index}}


MAKERS: Mapping[Form, Callable[[Field], Iterator[Example]]] = {
    "stepwise": stepwise,
    "preference": preference,
    "sft": solution_lines,
}
NOTHING = {
    "stepwise": "no failure was mended",
    "preference": "no failure was mended",
    "sft": "nothing passed",
}
