"""The quickstart's recipe with several algorithms and seeds: held-out pass@1 against all generated tokens.

Resumable: runs that are finished are read, not repeated. Rows go to benchmarks/results/quickstart.jsonl.
All algorithms share the recipe's learning rate, so this shows what the quickstart does and is no contest.

    python benchmarks/seeds.py iop,gspo,grpo 0,1,2 steps=120
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from kintsugi import Recipe, train

RESULTS = Path("benchmarks/results/quickstart.jsonl")


def curve(algorithm: str, seed: int, overrides: list[str]) -> list[dict]:
    """The evaluations of one run, made now if it is not finished yet."""
    directory = Path("runs/seeds") / f"{algorithm}-{seed}"
    settings = [
        # The recipe's own algorithm keeps the options that the recipe gives it.
        *([] if algorithm == "iop" else [f"algorithm={algorithm}"]),
        f"seed={seed}",
        f"output_dir={directory}",
        "eval.every=10",
        *overrides,
    ]
    recipe = Recipe.load("recipes/quickstart.yaml", settings)
    if not (directory / "checkpoints" / f"step-{recipe.steps:06d}").exists():
        train(recipe, overwrite=True)
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    seconds = 0.0
    rows = []
    for m in lines:
        seconds += sum(value for key, value in m.items() if key.startswith("seconds/"))
        if "eval/pass@1" in m:
            rows.append(
                {
                    "algorithm": algorithm,
                    "seed": seed,
                    "lr": recipe.optim.lr,
                    "step": m["step"],
                    "tokens": m["tokens/total"],
                    "seconds": round(seconds, 1),
                    "pass@1": m["eval/pass@1"],
                    "greedy": m["eval/greedy"],
                }
            )
    return rows


if __name__ == "__main__":
    names, seeds, *rest = sys.argv[1:]
    found = [row for s in seeds.split(",") for name in names.split(",") for row in curve(name, int(s), rest)]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("".join(json.dumps(row) + "\n" for row in found))
    for name in names.split(","):
        for s in seeds.split(","):
            points = [r for r in found if (r["algorithm"], r["seed"]) == (name, int(s))]
            said = "  ".join(f"{r['tokens'] // 1000}k:{r['pass@1']:.2f}" for r in points)
            print(f"{name} seed {s}  {said}")
