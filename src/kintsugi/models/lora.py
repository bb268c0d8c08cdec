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
    from torch import Tensor
    from transformers import PreTrainedModel

ADAPTER = "adapter_config.json"
ALPHA = 2
"""alpha / r: what adapters are scaled by."""
BEYOND = (
    "use_dora", "use_qalora", "use_bdlora", "lora_bias", "alora_invocation_tokens", "modules_to_save",
    "target_parameters", "trainable_token_indices",
)  # fmt: skip
"""Settings of peft's LoRA with which a layer is more than W + (alpha / r) B A, or other weights are trained too."""


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


def without_adapters(model: Any) -> Any:
    """The model below the adapters, if there are any: its layers go on computing with them."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def mergeable(model: Any) -> bool:
    """True if the model has no adapters, or plain LoRA on layers: its weights are then what `merged_weights` says."""
    kinds = getattr(model, "peft_config", {}).values()
    return all(
        kind.peft_type == "LORA" and not any(getattr(kind, name, None) for name in BEYOND) for kind in kinds
    )


def merged_weights(model: Any) -> dict[str, Tensor]:
    """The weights by the names they have without adapters, in memory of their own where adapters changed them.

    Of a layer with adapters it is W + (alpha / r) B A.
    """
    import torch

    bare = without_adapters(model)
    weights = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in bare.state_dict().items()
        if ".lora_" not in name
    }
    with torch.no_grad():
        for name, layer in bare.named_modules():
            for adapter in layer.active_adapters if hasattr(layer, "get_delta_weight") else ():
                weights[f"{name}.weight"] = weights[f"{name}.weight"] + layer.get_delta_weight(adapter)
    return weights


def import_peft() -> Any:
    try:
        import peft
    except ImportError:
        raise KintsugiError("LoRA adapters need the package peft: pip install -e '.[lora]'") from None
    return peft
