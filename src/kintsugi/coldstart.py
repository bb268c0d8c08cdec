"""Cold start: supervised fine-tuning on solutions and on repair pairs, before any reinforcement.

1. Examples come from a file (`sft.data`), or a task that can write solutions (Demonstrator), or
   else the model's own verified samples (no outside model), drawn with the examples of `prompts` in view and
   learned without them: prompts are shorter from then on.
2. Each step trains on `sft.batch` examples, a share of them in repair mode: repair prompt in, repair out.
3. Token mean per example, mean over examples; the same learner as in reinforcement.

    kintsugi sft recipes/nano_base.yaml
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

from kintsugi import loop
from kintsugi.assembly import Ground, Parts
from kintsugi.config import Recipe
from kintsugi.files import sought_in, write_whole
from kintsugi.learning.learner import LocalLearner
from kintsugi.learning.objective import Objective
from kintsugi.loop import Batch, Lessons, OnStep
from kintsugi.mending.align import distance
from kintsugi.mending.repair import mendable
from kintsugi.prompts import Prompts
from kintsugi.records import KintsugiError, Problem, Rollout, Row, Turn
from kintsugi.run.checkpoint import Progress
from kintsugi.run.console import Reporter
from kintsugi.run.directory import EXAMPLES
from kintsugi.run.session import TrainResult
from kintsugi.sampling.context import Context
from kintsugi.sampling.play import Meter, play
from kintsugi.tasks import Rows, as_task
from kintsugi.tasks.base import Demonstrator, RepairPair, Task
from kintsugi.tasks.chat import conversation, message_text
from kintsugi.trackers import load_trackers
from kintsugi.verifiers.base import Verifier
from kintsugi.verifiers.user import Reward

NUMBER = re.compile(r"\d+")
SAMPLED_PROBLEMS = 64  # at least so many, and so many at once: a thousand rows of a 135M model held 5 GB


class Solution(NamedTuple):
    """A passing solution of a problem text, and the turns before that."""

    prompt: str
    text: str
    before: tuple[Turn, ...] | None = None


def sft(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    *,
    task: Task | Rows | None = None,
    verifier: Verifier | Reward | Sequence[Any] | None = None,
    on_step: OnStep | None = None,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> TrainResult:
    """Fine-tunes as the recipe says; returns held-out pass@1 before and after.

    Arguments as in kintsugi.trainer.train.
    """
    recipe = Recipe.of(recipe, task=as_task(task), verifier=verifier)
    return loop.run_lessons(
        recipe, ColdStart(), on_step=on_step, resume=resume, overwrite=overwrite, reporter=reporter
    )


def outline(recipe: Recipe) -> list[str]:
    """The counts of a cold start by the recipe, in words, once all is checked that needs no model. KintsugiError as
    `sft` would raise it."""
    load_trackers(recipe.trackers)
    ground, s = Ground.of(recipe), recipe.sampling
    repairs = repairs_of_batch(recipe)
    wanted = ((recipe.sft.batch - repairs, "solutions"), (repairs, "repair pairs"))
    lines = [
        f"{recipe.sft.batch} examples a step: " + " and ".join(f"{count} {what}" for count, what in wanted),
        f"{recipe.steps} steps = {recipe.steps * recipe.sft.batch:,} examples",
    ]
    if recipe.sft.data is not None:
        solutions, pairs = read_examples(Path(recipe.sft.data))
        over_and_over((solutions, pairs), recipe)
        lines += [
            f"{size:,} {what} in {recipe.sft.data}: each is seen {recipe.steps * count / size:.1f} times"
            for size, (count, what) in zip((len(solutions), len(pairs)), wanted, strict=True)
            if size
        ]
    elif isinstance(ground.task, Demonstrator):
        lines.append("the task writes them")
    else:
        asked = len(ground.train_problems[: max(SAMPLED_PROBLEMS, s.problems)])
        lines.append(
            f"the model writes them first: {asked} problems x {s.group_size} samples = {asked * s.group_size:,} "
            f"completions, at most {asked * s.group_size * s.max_new_tokens:,} tokens"
        )
    return ground.told(recipe, lines)


class ColdStart(Lessons):
    """Examples, the next `sft.batch` of them in each step. Those that the model wrote itself are kept in the run
    directory: a model that has learned them would write others."""

    made_by = "sft"

    def __init__(self) -> None:
        self.solutions: Iterator[Solution] = iter(())
        self.pairs: Iterator[RepairPair] = iter(())
        self.sampled: tuple[list[Solution], list[RepairPair]] | None = None

    def objective(self, recipe: Recipe) -> Objective:
        return Objective("nll")

    def temperature(self, recipe: Recipe) -> float:
        return 1.0

    def prepare(self, parts: Parts, out: Reporter, run: Path | None, done: int) -> None:
        recipe = parts.recipe
        if recipe.sft.data is None and isinstance(parts.task, Demonstrator):
            written = parts.task.demonstrations(recipe.seed)
            self.solutions = (Solution(prompt, text) for prompt, text in written)
            self.pairs = parts.task.repair_pairs(recipe.seed)
        else:
            self.solutions, self.pairs = over_and_over(self.examples(parts, out, run), recipe)
        parts.prompts = replace(parts.prompts, examples=())  # evaluated as it is taught: without them
        repairs = repairs_of_batch(recipe)
        self.solutions = islice(self.solutions, done * (recipe.sft.batch - repairs), None)
        self.pairs = islice(self.pairs, done * repairs, None)

    def examples(
        self, parts: Parts, out: Reporter, run: Path | None
    ) -> tuple[list[Solution], list[RepairPair]]:
        """Those of the file, those that a run wrote for itself when it began, or the model's own, sampled now."""
        recipe = parts.recipe
        if recipe.sft.data is not None:
            return read_examples(Path(recipe.sft.data))
        if run is not None and (run / EXAMPLES).is_file():
            return read_examples(run / EXAMPLES)
        problems = parts.train_problems[: max(SAMPLED_PROBLEMS, recipe.sampling.problems)]
        out.say(f"sampling {len(problems)} problems for verified solutions and repair pairs")
        self.sampled = sample_examples(parts, problems, out)
        solutions, pairs = self.sampled
        out.say(f"found {len(solutions)} passing solutions and {len(pairs)} repair pairs")
        return solutions, pairs

    def keep(self, run: Path) -> None:
        if self.sampled is not None:
            solutions, pairs = self.sampled
            lines = [solution_line(s) for s in solutions] + [pair_line(p) for p in pairs]
            write_whole(run / EXAMPLES, "".join(json.dumps(line) + "\n" for line in lines))

    def batch(self, parts: Parts, learner: LocalLearner, progress: Progress, meter: Meter) -> Batch:
        return Batch(mixed_rows(parts, self.solutions, self.pairs))


def over_and_over(
    examples: tuple[list[Solution], list[RepairPair]], recipe: Recipe
) -> tuple[Iterator[Solution], Iterator[RepairPair]]:
    """Examples in an order drawn from the seed, over and over; KintsugiError where there are none of a kind wanted."""
    solutions, pairs = list(examples[0]), list(examples[1])
    if recipe.sft.repair_share < 1 and not solutions:
        raise KintsugiError(
            "sft: no passing solution to learn from; give sft.data, or set sft.repair_share=1"
        )
    if recipe.sft.repair_share > 0 and not pairs:
        raise KintsugiError("sft: no repair pair to learn from; give sft.data, or set sft.repair_share=0")
    rng = random.Random(recipe.seed)
    rng.shuffle(solutions)
    rng.shuffle(pairs)
    return cycle(solutions), cycle(pairs)


def repairs_of_batch(recipe: Recipe) -> int:
    """The number of examples of a step that are repairs."""
    return round(recipe.sft.batch * recipe.sft.repair_share)


def turns_line(prompt: str, before: Sequence[Turn] | None) -> Any:
    """A prompt as a file of examples has it: a text, or a conversation that ends with the question."""
    if before is None:
        return prompt
    return [{"role": t.role, "content": t.content} for t in (*before, Turn("user", prompt))]


def solution_line(solution: Solution) -> dict[str, Any]:
    return {"prompt": turns_line(solution.prompt, solution.before), "completion": solution.text}


def pair_line(pair: RepairPair) -> dict[str, Any]:
    return {
        "prompt": turns_line(pair.prompt, pair.before),
        "failed": pair.failed,
        "anchor": pair.anchor,
        "repaired": pair.repaired,
    }


def mixed_rows(parts: Parts, solutions: Iterator[Solution], pairs: Iterator[RepairPair]) -> list[Row]:
    """One step's rows: solutions under solve prompts without their examples, repairs under repair prompts."""
    settings, repairs = parts.recipe.sft, repairs_of_batch(parts.recipe)
    solved = (Solution(parts.prompts.solve(s.prompt), s.text, s.before) for s in solutions)
    mended = (repair_example(parts.prompts, pair) for pair in pairs)
    chosen = [*islice(solved, settings.batch - repairs), *islice(mended, repairs)]
    return [sft_row(parts, example) for example in chosen]


def repair_example(prompts: Prompts, pair: RepairPair) -> Solution:
    """The whole repaired solution, under the repair prompt."""
    return Solution(prompts.repair(pair.prompt, pair.failed, pair.anchor), pair.repaired, pair.before)


def sft_row(parts: Parts, example: Solution) -> Row:
    """A row that trains on every token of the example's text and on the end of the turn after it."""
    codec = parts.loaded.codec
    prompt_ids = codec.chat(example.prompt, parts.prompts.opening(example.before))
    ids = codec.answer(prompt_ids, example.text)
    return Row(prompt_ids, ids, None, "sft", "demonstration", 0, mask=(1,) * len(ids)).add(
        "demonstration", 1.0
    )


def read_examples(path: Path) -> tuple[list[Solution], list[RepairPair]]:
    """Solutions (`prompt`, `completion`) and repair pairs (`prompt`, `failed`, `anchor`, `repaired`) of a file."""
    solutions: list[Solution] = []
    pairs: list[RepairPair] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise KintsugiError(f"sft.data: {path} cannot be read ({error.strerror}{sought_in(path)})") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            example = json.loads(line)
        except json.JSONDecodeError as error:
            raise KintsugiError(f"{path}, line {number}: not valid JSON ({error.msg})") from None
        keys = set(example) if isinstance(example, dict) else set()
        where = f"{path}, line {number}"
        if {"prompt", "failed", "repaired"} <= keys:
            before, prompt = question_of(example["prompt"], where)
            anchor, repaired = example.get("anchor"), example["repaired"]
            pairs.append(RepairPair(prompt, example["failed"], anchor, repaired, before))
        elif {"prompt", "completion"} <= keys:
            before, prompt = question_of(example["prompt"], where)
            solutions.append(Solution(prompt, answered(example["completion"], where), before))
        else:
            raise KintsugiError(
                f"{path}, line {number}: expected prompt and completion, or prompt, failed and repaired; "
                f"found {', '.join(sorted(keys)) or type(example).__name__}"
            )
    return solutions, pairs


def question_of(prompt: Any, where: str) -> tuple[tuple[Turn, ...] | None, str]:
    """(turns before the question, the question) of a prompt: a text or a conversation."""
    return conversation(prompt, where) if isinstance(prompt, list) else (None, prompt)


def answered(completion: Any, where: str) -> str:
    """The text of a completion: a text, or a list of one message as TRL has it."""
    messages = completion if isinstance(completion, list) else [{"content": completion}]
    if len(messages) != 1 or not isinstance(messages[0], dict):
        raise KintsugiError(f"{where}: expected a completion as text or one message, found {completion!r}")
    return message_text(messages[0].get("content"), f"{where}: the completion")


def sample_examples(
    parts: Parts, problems: Sequence[Problem], out: Reporter | None = None
) -> tuple[list[Solution], list[RepairPair]]:
    """Passing samples as solutions; repair pairs from failures with passing siblings, and from corruption.

    A text that came several times in a group counts once: else easy problems would be most of what is learned.
    """
    out = out or Reporter()
    ctx = Context(parts.loaded.codec, parts.verifier, parts.prompts, parts.recipe)
    size = parts.recipe.sampling.group_size
    groups: list[tuple[Rollout, ...]] = []
    with out.working("sampling", len(problems), "problems") as reach:
        for first in range(0, len(problems), SAMPLED_PROBLEMS):
            some = problems[first : first + SAMPLED_PROBLEMS]
            reach(first, first + len(some))
            groups += play([ctx.rollouts(problem, size) for problem in some], parts.sampler)
            passed = sum(r.verdict.passed for group in groups for r in group)
            out.say(
                f"{len(groups)} of {len(problems)} problems: {passed} of {len(groups) * size} samples pass"
            )
    parts.verifier.require((r.verdict for group in groups for r in group), "the cold start's samples")
    rng = random.Random(parts.recipe.seed)
    solutions: list[Solution] = []
    pairs: list[RepairPair] = []
    for problem, rollouts in zip(problems, groups, strict=True):
        group = list({rollout.text: rollout for rollout in rollouts}.values())
        passing = [r for r in group if r.solved]
        solutions += [Solution(problem.prompt, r.text, problem.before) for r in passing]
        near = sibling_pairs(problem.prompt, passing, [r for r in group if mendable(r)])
        made = [pair for r in passing if (pair := corrupted(problem.prompt, r.text, passing, rng))]
        verdicts = parts.verifier(problem, [pair.failed for pair in made])
        near += [pair for pair, verdict in zip(made, verdicts, strict=True) if verdict.state == "fail"]
        pairs += [replace(pair, before=problem.before) for pair in near]
    return solutions, pairs


def sibling_pairs(prompt: str, passing: Sequence[Rollout], failed: Sequence[Rollout]) -> list[RepairPair]:
    """Each failure with its nearest passing sibling as the repair and the next one as the anchor.

    None from a group without two different passes: an anchor that is the repair itself would teach copying it.
    """
    pairs = []
    for failure in failed:
        ids = failure.completion.token_ids
        near = sorted(
            {p.text: p for p in passing}.values(), key=lambda p: distance(ids, p.completion.token_ids)
        )
        if len(near) > 1:
            pairs.append(RepairPair(prompt, failure.text, near[1].text, near[0].text))
    return pairs


def corrupted(prompt: str, text: str, passing: Sequence[Rollout], rng: random.Random) -> RepairPair | None:
    """A pair whose failure is `text` with one number changed: from there on, everywhere it occurs.

    None when the text holds no number. The repair is the text itself, so its edits are few and exact.
    The anchor is another passing solution, if there is one.
    """
    numbers = list(NUMBER.finditer(text))
    if not numbers:
        return None
    chosen = rng.choice(numbers)
    old, new = chosen[0], str(int(chosen[0]) + rng.choice((1, 2, 10)))
    head, tail = text[: chosen.start()], text[chosen.start() :]
    failed = head + re.sub(rf"(?<!\d){old}(?!\d)", new, tail)
    others = [p.text for p in passing if p.text != text]
    return RepairPair(prompt, failed, rng.choice(others) if others else None, text)
