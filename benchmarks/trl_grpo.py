"""TRL's own GRPOTrainer on what a recipe trains on: its model, prompts, verifier, held-out problems, rate and tokens.

    .venv-trl/bin/python benchmarks/trl_grpo.py recipes/smollm2/chain_sum.yaml budget=40000 eval.every_tokens=20000 \
      eval.samples=8 seed=0

Everything else is as TRL has it, its loss too. Its rows go beside those of `kintsugi compare` with the same recipe,
under the label `trl_grpo`: the budget counts completion tokens, evaluations cost neither tokens nor seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

import kintsugi
from kintsugi.assembly import Parts, assemble
from kintsugi.compare.plan import recipe_fingerprint
from kintsugi.compare.results import ResultRow, append_rows
from kintsugi.compare.run import commit_of
from kintsugi.config import Recipe
from kintsugi.plugins import spec_name
from kintsugi.records import Problem
from kintsugi.run.evaluation import evaluate


class Meter(TrainerCallback):  # type: ignore[misc]
    """Counts tokens and seconds, evaluates every `every` tokens, and ends the training at the budget."""

    def __init__(self, budget: int, every: int, evaluated: Callable[[int, int, float], None]) -> None:
        self.budget, self.every, self.evaluated = budget, every, evaluated
        self.tokens = self.seen = 0
        self.seconds, self.since = 0.0, 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.since = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - self.since
        done = self.tokens >= self.budget
        if done or self.tokens // self.every > self.seen:
            self.seen = self.tokens // self.every
            self.evaluated(state.global_step, self.tokens, self.seconds)
        control.should_training_stop = done
        self.since = time.perf_counter()


def settings(recipe: Recipe, folder: str, cuda: bool) -> dict[str, Any]:
    """GRPOConfig's, where the recipe says something, at a constant rate; one step a batch, in bfloat16 on a GPU."""
    sampling = recipe.sampling
    return {
        "output_dir": folder,
        "seed": recipe.seed,
        "max_steps": 10**6,
        "per_device_train_batch_size": sampling.problems * sampling.group_size,
        "num_generations": sampling.group_size,
        "max_completion_length": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": 0,
        "learning_rate": recipe.optim.lr,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": recipe.optim.warmup,
        "max_grad_norm": recipe.optim.grad_clip,
        "gradient_checkpointing": False,
        "bf16": cuda,
        "use_cpu": not cuda,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def prompts_of(parts: Parts, problems: Sequence[Problem]) -> Dataset:
    """The prompts as text: what TRL makes token ids of are the ids that the recipe's prompts come to."""
    rows = []
    for i, problem in enumerate(problems):
        ids = list(parts.loaded.codec.chat(*parts.prompts.solving(problem.prompt, problem.before)))
        text = parts.loaded.tokenizer.decode(ids)
        assert parts.loaded.tokenizer(text)["input_ids"] == ids, f"other ids for the text of {problem.id}"
        rows.append({"prompt": text, "number": i})
    return Dataset.from_list(rows)


def train(recipe: Recipe, label: str, comparison: str, task: str) -> list[ResultRow]:
    """The rows of one run, its start first."""
    parts = assemble(recipe)
    cuda = parts.machine["device"] == "cuda"
    start = ResultRow(
        comparison=comparison, stage="main", task=task, algorithm=label, outcome_only=True, reference=False,
        model=spec_name(recipe.model), seed=recipe.seed, lr=recipe.optim.lr, budget=recipe.budget or 0,
        step=0, generated_tokens=0, wall_s=0.0, accuracy=None, pass_at_8=None,
        commit=commit_of(Path(kintsugi.__file__).parent), recipe=recipe_fingerprint(recipe), dynamics={},
        machine=f"{parts.machine['hardware']}, {'bfloat16' if cuda else 'float32'}",
    )  # fmt: skip
    rows: list[ResultRow] = []

    def evaluated(step: int, tokens: int, seconds: float) -> None:
        found = evaluate(parts)
        rows.append(
            replace(
                start,
                step=step,
                generated_tokens=tokens,
                wall_s=round(seconds, 2),
                accuracy=found.pass_at_1.value,
                pass_at_8=found.pass_at_k.value,
            )
        )
        print(f"step {step}: {tokens:,} tokens, {seconds:.0f} s, {found.pass_at_1}", flush=True)

    def reward(completions: list[str], number: list[int], **columns: Any) -> list[float]:
        asked = zip(completions, number, strict=True)
        return [parts.verifier(parts.train_problems[n], [text])[0].reward for text, n in asked]

    meter = Meter(recipe.budget or 0, recipe.eval.every_tokens, evaluated)
    evaluated(0, 0, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=parts.loaded.model,
            reward_funcs=reward,
            args=GRPOConfig(**settings(recipe, folder, cuda)),
            train_dataset=prompts_of(parts, parts.train_problems),
            processing_class=parts.loaded.tokenizer,
            callbacks=[meter],
        )
        sample = trainer._generate_and_score_completions

        def counted(inputs: Any) -> dict[str, Any]:
            output: dict[str, Any] = sample(inputs)
            meter.tokens += int(output["completion_mask"].sum())
            return output

        trainer._generate_and_score_completions = counted
        trainer.train()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE, as in kintsugi train")
    parser.add_argument("--comparison", default="smollm2-gpu")
    parser.add_argument("--task", default="chain_sum", help="its name in the rows")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/learning.jsonl"))
    asked = parser.parse_args()
    recipe = Recipe.load(asked.recipe, asked.overrides)
    if recipe.budget is None or not recipe.eval.every_tokens:
        parser.error("expected budget=TOKENS and eval.every_tokens=TOKENS")
    print(f"trl {trl.__version__}, torch {torch.__version__}")
    append_rows(asked.results, train(recipe, "trl_grpo", asked.comparison, asked.task))


if __name__ == "__main__":
    main()
