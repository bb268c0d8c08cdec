"""`math` on real data: does each gold answer pass for itself and for its own solution, and how long do verdicts take?

For every problem a group of eight texts is judged: the gold answer in three dresses, the whole solution, and the
answers of four other problems. Those are to fail, unless they are equal in value.

    python benchmarks/verdicts.py gsm8k/test.jsonl                                    # question, answer with `####`
    python benchmarks/verdicts.py math500/test.jsonl --prompt problem --solution solution
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from kintsugi.tasks.table import TableTask
from kintsugi.verifiers import load_verifier
from kintsugi.verifiers.extract import final_answer

DRESSES = ("#### {}", "\\boxed{{{}}}", "The answer is {}.")
OTHERS = (1, 2, 3, 5)
"""How many problems further on the four other answers stand."""


def main(
    path: Path,
    prompt: str = "question",
    answer: str = "answer",
    solution: Annotated[str | None, typer.Option(help="column of the solution; else the answer's")] = None,
    problems: int = 1250,
) -> None:
    task = TableTask(str(path), prompt=prompt, answer=answer, limit=problems, eval_share=0.0)
    asked = list(task.train())[:problems]
    judge = load_verifier("math")
    golds = [final_answer(p.answer) or p.answer for p in asked]
    judge(asked[0], ["#### 1"])  # the worker starts
    missed: list[str] = []
    equal: list[str] = []
    start = time.perf_counter()
    for i, problem in enumerate(asked):
        whole = str(problem.columns.get(solution or answer, problem.answer))
        others = [golds[(i + step) % len(golds)] for step in OTHERS]
        right = [*(dress.format(golds[i]) for dress in DRESSES), whole]
        verdicts = judge(problem, [*right, *(f"#### {other}" for other in others)])
        missed += [
            f"{text[-60:]!r} for {golds[i]!r}"
            for text, v in zip(right, verdicts, strict=False)
            if not v.passed
        ]
        equal += [
            f"{other!r} for {golds[i]!r}"
            for other, v in zip(others, verdicts[len(right) :], strict=True)
            if v.passed and other != golds[i]
        ]
    seconds, n = time.perf_counter() - start, 4 * len(asked)
    print(
        f"{len(asked)} problems: {n - len(missed)} of {n} right texts pass", *missed[:20], sep="\n  missed: "
    )
    print(f"{len(equal)} of {n} answers of others pass in another spelling", *equal[:20], sep="\n  ")
    print(f"{2 * n} texts in {seconds:.2f} s")


if __name__ == "__main__":
    typer.run(main)
