"""What goes wrong first in the rollouts of a run on chain_sum: form, copies, or sums.

    python benchmarks/first_errors.py runs/smollm2_chain_sum

Prints the shares of passing and of failed rollouts by their first error, in the first and in the last steps of a run,
and how many passes hold an error, by how many of their group pass.
Solutions are read as the recipe asks for them, from left to right. The verifier sees answers only, so passes may hold
errors, too.

`LabelledSums` is the same task with exact labels, for the upper bound (benchmarks/exact_labels.py) and for judging
gates (benchmarks/gates.py); no method may use them.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from kintsugi.tasks.gym import GymTask

STOP = "<|im_end|>"
ZEROS = "zeros left out"
"""Right in all it says, though not in the form that was asked for: `5 - 0 + 2` solved by `5 + 2 = 7`."""
STEP = re.compile(r"(-?\d+) ([+-]) (\d+) = (-?\d+)")


def terms_of(question: str) -> tuple[list[int], list[str]]:
    """The numbers of a chain of sums, and the operators between them."""
    terms = question.partition(":")[2]
    return [int(n) for n in re.findall(r"\d+", terms)], re.findall(r"[+-](?= \d)", terms)


def right_solution(question: str) -> str:
    """The solution as the recipe asks for it: the total after each number, a line each, then the answer."""
    numbers, operators = terms_of(question)
    total, lines = numbers[0], []
    for operator, number in zip(operators, numbers[1:], strict=True):
        new = total + number if operator == "+" else total - number
        lines.append(f"{total} {operator} {number} = {new}")
        total = new
    return "\n".join([*lines, f"#### {total}"])


class LabelledSums(GymTask):
    """`task: {name: benchmarks/first_errors.py:LabelledSums, dataset: chain_sum}`: GymTask with exact labels."""

    def wrong_characters(self, problem: str, solution: str) -> tuple[int, ...]:
        """Where the solution leaves the right one; what follows is not judged. Other right texts count as wrong."""
        written, right = solution.partition(STOP)[0], right_solution(problem)
        pairs = enumerate(zip(written, right, strict=False))
        first = next((i for i, (w, r) in pairs if w != r), min(len(written), len(right)))
        return () if written == right else (first,)


def first_error(question: str, text: str) -> str:
    """The first thing that is wrong in a solution; `none` or ZEROS if nothing is."""
    strict = first_error_of(*terms_of(question), text)
    if strict != "none" and first_error_of(*without_zeros(*terms_of(question)), text) == "none":
        return ZEROS
    return strict


def without_zeros(numbers: list[int], operators: list[str]) -> tuple[list[int], list[str]]:
    """The chain without its zeros; one that began with `0 -` begins with a negative number."""
    kept = [(o, n) for o, n in zip(["+", *operators], numbers, strict=True) if n] or [("+", 0)]
    (sign, first), rest = kept[0], kept[1:]
    return [-first if sign == "-" else first, *(n for _, n in rest)], [o for o, _ in rest]


def first_error_of(numbers: list[int], operators: list[str], text: str) -> str:
    """The first thing in which a solution leaves this chain of sums, `none` if nothing does."""
    total, done = numbers[0], 0
    for line in text.partition(STOP)[0].splitlines():
        if line.startswith("####"):
            if done < len(operators):
                return "stops early"
            return "none" if line.removeprefix("####").strip() == str(total) else "answer copied wrong"
        step = STEP.fullmatch(line.strip())
        if step is None or done == len(operators):
            return "no step"
        left, operator, right, result = int(step[1]), step[2], int(step[3]), int(step[4])
        if left != total or operator != operators[done] or right != numbers[done + 1]:
            return "wrong operand or operator"
        total, done = total + right if operator == "+" else total - right, done + 1
        if result != total:
            return "wrong sum"
    return "no answer"


def rollouts(file: Path) -> list[dict[str, Any]]:
    """The rollouts of a step, without the repairs and checks that its file holds beside them."""
    return [row for row in pq.read_table(file).to_pylist() if row["kind"] == "rollout"]


def tally(files: Iterable[Path]) -> dict[str, Counter[str]]:
    """First errors of the rollouts in these files, by verdict."""
    found: dict[str, Counter[str]] = {"pass": Counter(), "fail": Counter()}
    for file in files:
        for row in rollouts(file):
            found["pass" if row["verdict"] == "pass" else "fail"][
                first_error(row["question"], row["text"])
            ] += 1
    return found


def lucky(files: Iterable[Path]) -> dict[int, tuple[int, int]]:
    """(passes that hold an error, passes), by how many of their group pass."""
    found: dict[int, tuple[int, int]] = {}
    for file in files:
        groups: dict[str, list[bool]] = defaultdict(list)
        for row in rollouts(file):
            if row["verdict"] == "pass":
                error = first_error(row["question"], row["text"])
                groups[row["problem_id"]].append(error not in ("none", ZEROS))
        for errors in groups.values():
            wrong, passes = found.get(len(errors), (0, 0))
            found[len(errors)] = wrong + sum(errors), passes + len(errors)
    return dict(sorted(found.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, default=6, help="steps at either end")
    asked = parser.parse_args()
    files = sorted((asked.run / "rollouts").glob("step-*.parquet"))
    for name, some in (("first", files[: asked.steps]), ("last", files[-asked.steps :])):
        for verdict, errors in tally(some).items():
            total = max(1, errors.total())
            shares = ", ".join(f"{error} {count / total:.0%}" for error, count in errors.most_common())
            print(f"{name} {len(some)} steps, {verdict} ({errors.total()}): {shares}")
        of = ", ".join(f"{passes} pass: {wrong} of {n}" for passes, (wrong, n) in lucky(some).items())
        print(f"{name} {len(some)} steps, passes with an error, by how many of their group pass: {of}")


if __name__ == "__main__":
    main()
