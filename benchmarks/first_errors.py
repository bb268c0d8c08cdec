"""What goes wrong first in the rollouts of a run on chain_sum: form, copies, or sums.

    python benchmarks/first_errors.py runs/smollm2_chain_sum

Prints the shares of passing and of failed rollouts by their first error, in the first and in the last steps of a run.
Solutions are read as the recipe asks for them, from left to right. The verifier sees answers only, so passes may hold
errors, too.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq

STEP = re.compile(r"(-?\d+) ([+-]) (\d+) = (-?\d+)")


def first_error(question: str, text: str) -> str:
    """The first thing that is wrong in a solution, `none` if nothing is."""
    terms = question.partition(":")[2]
    numbers, operators = [int(n) for n in re.findall(r"\d+", terms)], re.findall(r"[+-](?= \d)", terms)
    total, done = numbers[0], 0
    for line in text.split("<|im_end|>")[0].splitlines():
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


def tally(files: Iterable[Path]) -> dict[str, Counter[str]]:
    """First errors of the rollouts in these files, by verdict."""
    found: dict[str, Counter[str]] = {"pass": Counter(), "fail": Counter()}
    for file in files:
        for row in pq.read_table(file).to_pylist():
            if row["kind"] == "rollout":
                found["pass" if row["verdict"] == "pass" else "fail"][
                    first_error(row["question"], row["text"])
                ] += 1
    return found


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


if __name__ == "__main__":
    main()
