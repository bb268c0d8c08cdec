"""The model card of a checkpoint: what was trained, how, on what, at which cost, and what came of it.

Loads no torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from kintsugi.files import write_whole
from kintsugi.plugins import spec_name
from kintsugi.run.reading import Run
from kintsugi.run.tables import Record

PATIENCE = 5.0
"""Seconds that the Hub has to say under which license a base model stands."""
HUB_IDS = {"smollm2-135m-instruct": "HuggingFaceTB/SmolLM2-135M-Instruct"}
OPEN = ("nano", *HUB_IDS)
"""The beginnings of the names of models that are known to stand under Apache-2.0."""


def write_card(directory: Path, place: Path) -> None:
    """Writes the card of a run's checkpoint `place` into it; asks nobody."""
    step = int(place.name.removeprefix("step-"))
    text = card(Run.open(directory), step, adapters=is_adapter(place))
    write_whole(place / "README.md", text)


def is_adapter(place: Path) -> bool:
    return (place / "adapter_config.json").is_file()


def card(run: Run, step: int, *, adapters: bool = False, license: str | None = None) -> str:
    """The card of step `step` of a run as Markdown with the metadata that the Hub reads."""
    from huggingface_hub import ModelCardData

    recipe = run.recipe
    reinforced = any("accuracy" in line for line in run.steps)
    how = "Kintsugi on solutions and repairs (cold start)"
    if reinforced:
        how = (
            f"Kintsugi ({spec_name(recipe['algorithm'])}, arXiv:2605.05226) from a verifier of final answers"
        )
    data = ModelCardData(
        library_name="peft" if adapters else "transformers",
        pipeline_tag="text-generation",
        tags=["kintsugi", "reinforcement-learning", spec_name(recipe["algorithm"])]
        if reinforced
        else ["kintsugi", "sft"],
        base_model=hub_id(spec_name(recipe["model"])),
        license=license or known_license(spec_name(recipe["model"])),
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
            f"`{spec_name(recipe['model'])}` trained with {how}.",
            "",
            "    from transformers import AutoModelForCausalLM, AutoTokenizer",
            '    model = AutoModelForCausalLM.from_pretrained("this/folder")',
            '    tokenizer = AutoTokenizer.from_pretrained("this/folder")',
            "",
            *(
                ["These are LoRA adapters: peft must be installed, and loads the base model beneath.", ""]
                * adapters
            ),
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


def facts(run: Run, steps: Sequence[Record], evals: Sequence[Record]) -> dict[str, str]:
    """Name -> value of the card's table."""
    recipe = run.recipe
    versions = dict(run.versions)
    found = {
        "training problems": f"`{json.dumps(recipe['task'])}`: {versions.pop('data', 'not known')}",
        "verifier": f"`{json.dumps(recipe['verifier'])}`" if recipe["verifier"] else "the task's own",
        "steps": str(len(steps)),
    }
    for phase in ("rollout", "repair", "audit", "check"):
        if tokens := sum(s.get(f"tokens/{phase}") or 0 for s in steps):
            found[f"generated tokens, {phase}"] = f"{tokens:,}"
    for name, line in {"before": evals[0], "after": evals[-1]}.items() if evals else ():
        if {"eval/pass@1_ci", "eval/problems"} <= set(line):  # else of a damaged file
            low, high = line["eval/pass@1_ci"]
            found[f"held-out pass@1 {name} (step {line['step']})"] = (
                f"{line['eval/pass@1']:.3f} [{low:.3f}, {high:.3f}], {line['eval/problems']} problems"
            )
    return found | {name: str(version) for name, version in versions.items()}


def hub_id(model: str) -> str | None:
    """Under which id the Hub has a base model; None where it has none."""
    return HUB_IDS.get(model) or (model if on_the_hub(model) else None)


def on_the_hub(model: str) -> bool:
    """True if a model's name is an id of the Hub, which can be linked. Shipped models and local paths are none."""
    return model.count("/") == 1 and not model.startswith((".", "/", "~")) and not Path(model).exists()


def known_license(model: str) -> str | None:
    """The license that a local model's own card states; Apache-2.0 for the shipped ones and SmolLM2."""
    from huggingface_hub import ModelCard

    if model.startswith(OPEN) and not Path(model).exists():
        return "apache-2.0"
    own = Path(model).expanduser() / "README.md"
    try:
        found = ModelCard.load(own).data.license if own.is_file() else None
    except Exception:  # somebody else's file: what it says must not matter to an export
        return None
    return str(found) if isinstance(found, str) else None


def asked_license(model: str) -> str | None:
    """The license that the Hub states for a base model there; None where it cannot be asked."""
    from huggingface_hub import HfApi

    if not on_the_hub(model):
        return None
    try:
        data: Any = HfApi().model_info(model, timeout=PATIENCE).card_data
        return str(data.license) if data is not None and isinstance(data.license, str) else None
    except Exception:  # no network, no such model, no permission: the card then states no license
        return None
