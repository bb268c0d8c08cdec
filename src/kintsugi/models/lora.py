"""LoRA through peft: low-rank adapters on every linear layer are trained, the model itself stays as it is.

LoRA, arXiv:2106.09685: W x becomes W x + (alpha / r) B A x, with B starting at zero. A checkpoint holds the
adapters alone, in peft's own format, and names the model that they belong to: by an absolute path, or an id of the Hub.
A relative path would be looked up on the Hub from elsewhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kintsugi.records import KintsugiError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER = "adapter_config.json"
ALPHA = 2
"""alpha / r: what adapters are scaled by."""


def adapted(model: PreTrainedModel, home: str, rank: int, seed: int) -> Any:
    """`model`, stored at `home`, with fresh adapters of this rank (drawn from `seed`) as all that is trained."""
    import torch

    peft = import_peft()
    settings = peft.LoraConfig(
        r=rank, lora_alpha=ALPHA * rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wrapped = peft.get_peft_model(model, settings)
    wrapped.peft_config["default"].base_model_name_or_path = home
    return wrapped


def with_adapter(model: PreTrainedModel, path: Path) -> Any:
    """`model` with the adapters saved at `path`, ready to be trained on."""
    return import_peft().PeftModel.from_pretrained(model, path, is_trainable=True)


def adapter_base(path: Path) -> str | None:
    """The name of the model that the adapters at `path` belong to; None where there are none."""
    settings = path / ADAPTER
    if not settings.is_file():
        return None
    return str(json.loads(settings.read_text(encoding="utf-8"))["base_model_name_or_path"])


def import_peft() -> Any:
    try:
        import peft
    except ImportError:
        raise KintsugiError("LoRA adapters need the package peft: pip install -e '.[lora]'") from None
    return peft
