"""What goes wrong first in the rollouts of runs on a task of worked steps (kintsugi.tasks.worked): a fact, or the form.

    python benchmarks/first_steps.py runs/learning_sums

Prints, for the first and the last steps of each run and then of all together, how many rollouts there are and the
first error of each: a slip, which is the wrong result that demonstrations show; another wrong result, by its operator;
or the form. And how often a slipping fact came out wrong where nothing was wrong before it. The recipe's `task` has to
have the base's slips.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from kintsugi.records import KintsugiError, Rollout
from kintsugi.run.reading import Run
from kintsugi.tasks import load_task
from kintsugi.tasks.worked import WorkedStep, WorkedTask

Asked = tuple[str, Rollout]
RIGHT = "slips that came out right"


def first_error(task: WorkedTask[Any], question: str, text: str) -> str:
    """`none`, `slip`, `wrong +` (or another operator), or `form`."""
    errors = task.wrong_characters(question, text)
    if not errors:
        return "none"
    begin = line_start(text, errors[0])
    step = taken(task, question, text[:begin].splitlines(), text[begin:])
    written = task.RESULT.match(text, begin + len(step.stem)) if step else None
    if step is None or step.fact is None or written is None:
        return "form"
    return "slip" if task.slips.get(step.fact) == int(written[0]) else f"wrong {step.fact[1]}"


def slips_right(task: WorkedTask[Any], question: str, text: str) -> int:
    """The number of slipping facts that come out right before the first error."""
    errors = task.wrong_characters(question, text)
    lines = text[: line_start(text, errors[0])].splitlines() if errors else text.splitlines()
    steps = (taken(task, question, lines[:done], line) for done, line in enumerate(lines))
    return sum(step is not None and step.fact in task.slips for step in steps)


def line_start(text: str, place: int) -> int:
    return text.rfind("\n", 0, place) + 1


def taken(task: WorkedTask[Any], question: str, before: list[str], rest: str) -> WorkedStep | None:
    """The step with which `rest` begins, after these lines."""
    steps = task.steps(task.parse(question), before)
    return next((step for step in steps if rest.startswith(step.stem)), None)


def rollouts(run: Run, steps: Iterable[int]) -> Iterator[Asked]:
    for step in steps:
        for problem in run.problems(step):
            yield from ((problem.episode.problem.prompt, rollout) for rollout in problem.episode.rollouts)


def tally(task: WorkedTask[Any], asked: Iterable[Asked]) -> Counter[str]:
    """The first errors by kind; under RIGHT, the slipping facts that came out right before one."""
    counts: Counter[str] = Counter()
    for question, rollout in asked:
        counts[first_error(task, question, rollout.text)] += 1
        counts[RIGHT] += slips_right(task, question, rollout.text)
    return counts


def told(counts: Counter[str]) -> str:
    errors = Counter({error: count for error, count in counts.items() if error != RIGHT})
    kinds = ", ".join(f"{error} {count}" for error, count in errors.most_common())
    return f"{errors.total()} rollouts: {kinds}; slips in {errors['slip']} of {errors['slip'] + counts[RIGHT]} chances"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--steps", type=int, default=4, help="steps at either end")
    asked = parser.parse_args()
    totals: dict[str, Counter[str]] = {"first": Counter(), "last": Counter()}
    for run in map(Run.open, asked.runs):
        task = load_task(run.recipe["task"])
        if not isinstance(task, WorkedTask):
            raise KintsugiError(
                f"{run.directory}: expected a task of worked steps (kintsugi.tasks.worked), got {task!r}"
            )
        steps = [record["step"] for record in run.steps]
        for end, some in (("first", steps[: asked.steps]), ("last", steps[-asked.steps :])):
            counts = tally(task, rollouts(run, some))
            totals[end] += counts
            print(f"{run.directory}, {end} {len(some)} steps, {told(counts)}")
    if len(asked.runs) > 1:
        for end, counts in totals.items():
            print(f"all {len(asked.runs)} runs, {end} steps, {told(counts)}")


if __name__ == "__main__":
    main()
