"""`kintsugi export RUN`: a checkpoint as a folder for others, with a model card. No torch."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kintsugi.reading import Line, Run
from kintsugi.records import KintsugiError

OWN = {"trainer.pt", "README.md"}
"""Files of a checkpoint that are of no use elsewhere, or are written anew."""


def export(run: Run, output: Path, step: int | None = None, *, overwrite: bool = False) -> Path:
    """Writes the run's last (or the given) checkpoint to `output`, with a model card as README.md; returns `output`.

    Transformers and vLLM load the folder. Adapters stay adapters. KintsugiError where there is no such checkpoint, or
    something is at `output` already.
    """
    source = checkpoint(run, step)
    if output.exists() and not overwrite:
        raise KintsugiError(f"{output}: exists already; choose another --output, or pass --overwrite")
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        if file.is_file() and file.name not in OWN:
            shutil.copy2(file, partial / file.name)
    (partial / "README.md").write_text(card(run, int(source.name.removeprefix("step-"))), encoding="utf-8")
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)
    return output


def checkpoint(run: Run, step: int | None) -> Path:
    found = sorted((run.directory / "checkpoints").glob("step-*"))
    if not found:
        raise KintsugiError(f"{run.directory}: there is no checkpoint to export yet")
    chosen = [f for f in found if step is None or f.name == f"step-{step:06d}"]
    if not chosen:
        there = ", ".join(str(int(f.name.removeprefix("step-"))) for f in found)
        raise KintsugiError(f"{run.directory}: no checkpoint of step {step}; there are {there}")
    return chosen[-1]


def card(run: Run, step: int) -> str:
    """The model card: what was trained, how, on what, at which cost, and what came of it."""
    from huggingface_hub import ModelCardData

    recipe = run.recipe
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["kintsugi", "reinforcement-learning", named(recipe["algorithm"])],
        # Only an id of the Hub can be linked: the shipped models and local paths have none.
        base_model=recipe["model"] if "/" in recipe["model"] and not Path(recipe["model"]).exists() else None,
    )
    evals = [e for e in run.evals if e["step"] <= step]
    steps = [s for s in run.steps if s["step"] <= step]
    return "\n".join(
        [
            "---",
            data.to_yaml().rstrip(),
            "---",
            f"# {Path(recipe['output_dir']).name}, step {step}",
            "",
            f"`{recipe['model']}` trained with Kintsugi ({named(recipe['algorithm'])}, arXiv:2605.05226) "
            "from a verifier of final answers.",
            "",
            "    from transformers import AutoModelForCausalLM, AutoTokenizer",
            '    model = AutoModelForCausalLM.from_pretrained("this/folder")',
            '    tokenizer = AutoTokenizer.from_pretrained("this/folder")',
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in facts(run, steps, evals).items()),
            "",
            "## Recipe",
            "",
            "```yaml",
            yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True).rstrip(),
            "```",
            "",
        ]
    )


def facts(run: Run, steps: list[Line], evals: list[Line]) -> dict[str, str]:
    """Name -> value of the card's table."""
    recipe = run.recipe
    found = {
        "training problems": data_hash(recipe),
        "verifier": f"`{json.dumps(recipe['verifier'])}`" if recipe["verifier"] else "the task's own",
        "steps": str(len(steps)),
    }
    for phase in ("rollout", "repair", "audit", "check"):
        if tokens := sum(s.get(f"tokens/{phase}") or 0 for s in steps):
            found[f"generated tokens, {phase}"] = f"{tokens:,}"
    for name, line in {"before": evals[0], "after": evals[-1]}.items() if evals else ():
        low, high = line["eval/pass@1_ci"]
        found[f"held-out pass@1 {name} (step {line['step']})"] = (
            f"{line['eval/pass@1']:.3f} [{low:.3f}, {high:.3f}], {line['eval/problems']} problems"
        )
    return found | {name: str(version) for name, version in run.versions.items()}


def data_hash(recipe: Mapping[str, Any]) -> str:
    """How many training problems there are and their SHA-256, over prompts and answers in order."""
    from kintsugi.tasks import load_task, training_problems

    try:
        problems = training_problems(load_task(recipe["task"]))
    except KintsugiError as error:
        return f"`{json.dumps(recipe['task'])}`, not at hand when this was written ({error})"
    text = json.dumps([[p.prompt, p.answer] for p in problems], ensure_ascii=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"`{json.dumps(recipe['task'])}`: {len(problems):,}, sha256 `{digest[:16]}`"


def named(spec: Any) -> str:
    return str(spec["name"] if isinstance(spec, Mapping) else spec)
