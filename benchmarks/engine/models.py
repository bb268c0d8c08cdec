"""The models that are measured: folders of weights and tokenizer that both sides load.

Random weights never stop by themselves on purpose: their tokenizer's end token has an id just outside the
vocabulary, which no sampler can draw. So both sides generate exactly as many tokens as they are allowed, and
neither pays for suppressing anything.
"""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, Qwen3Config

from kintsugi.models.loading import load_model
from kintsugi.models.nano import CHAT_TEMPLATE, MAX_POSITIONS
from kintsugi.tasks.dag import DagTask

PAD, END, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"
SMOLLM2 = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "rope_theta": 100_000.0,
}
"""SmolLM2-135M's architecture (its config.json), apart from the vocabulary of 49,152."""


@dataclass(frozen=True, slots=True)
class Size:
    """A Qwen3 of this shape; head_dim divides hidden, the MLP is twice as wide."""

    hidden: int
    layers: int
    head_dim: int = 32
    vocabulary: int = 2048


MENDERS = {"3m-dag": Size(256, 12), "135m-dag": Size(576, 30)}
"""Shapes that the shipped model is widened to: with its vocabulary of 264 the first has 3.6 million parameters instead
of 0.3, the second 80 million, about the arithmetic of a token of SmolLM2-135M."""
QWEN3 = {"1m": Size(160, 3), "3m": Size(256, 4), "10m": Size(384, 6), "30m": Size(640, 7, 64)}
LLAMA = {"135m": 49_152, "135m-vocab152k": 151_936}


def build(size: str, folder: Path) -> None:
    """Saves the model called `size`, and its parameter count in built.json once everything else is there.

    `nano` is the shipped model made endless, `nano-dag` the same as shipped, with its own stops; others that end in
    `-dag` say what it says at the cost of their own shape.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if size.endswith("-dag"):
        loaded = load_model("nano", device="cpu")
        model, tokenizer = loaded.model, loaded.tokenizer
        if size in MENDERS:
            model = widened(model, MENDERS[size])
    else:
        model = endless_model(size)
        tokenizer = endless_tokenizer(model.config.vocab_size)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "built.json").write_text(json.dumps({"parameters": model.num_parameters()}), encoding="utf-8")


def endless_model(size: str) -> Any:
    """The model of this name with an end token that it cannot draw; random weights come from a fixed seed."""
    if size == "nano":
        model = load_model("nano", device="cpu").model
    else:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config_of(size), dtype=torch.float32)
    for config in (model.config, model.generation_config):
        config.eos_token_id, config.pad_token_id = model.config.vocab_size, 256
    return model


def widened(model: Any, shape: Size) -> Any:
    """A larger Qwen3 with the same logits, up to rounding: what was added writes zeros.

    A norm over zeros beside x has a smaller root mean square: its weights and eps are scaled back. New layers write
    nothing into the residual stream, nor do new heads and new units of an MLP. The head dimension stays.
    """
    config = copy.deepcopy(model.config)
    share = config.hidden_size / shape.hidden
    config.hidden_size, config.intermediate_size = shape.hidden, 2 * shape.hidden
    config.num_hidden_layers = shape.layers
    config.num_attention_heads = config.num_key_value_heads = shape.hidden // config.head_dim
    config.layer_types = ["full_attention"] * shape.layers
    config.rms_norm_eps *= share
    torch.manual_seed(0)
    wide = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    small = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in wide.named_parameters():
            told = small.get(name)
            if told is None:
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    weight.zero_()
                continue
            weight.zero_()
            scale = share**0.5 if told.dim() == 1 and len(told) != len(weight) else 1.0
            weight[tuple(slice(n) for n in told.shape)] = scale * told
    wide.generation_config = model.generation_config
    return wide


def config_of(size: str) -> Any:
    common = {"max_position_embeddings": MAX_POSITIONS, "tie_word_embeddings": True, "bos_token_id": None}
    if size in LLAMA:
        return LlamaConfig(vocab_size=LLAMA[size], **SMOLLM2, **common)
    shape = QWEN3[size]
    return Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=2 * shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.hidden // shape.head_dim,
        num_key_value_heads=shape.hidden // shape.head_dim,
        head_dim=shape.head_dim,
        **common,
    )


def endless_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One token per byte, three markers, fillers up to the model's last id, and the end token right after it."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, PAD, USER, ASSISTANT]
    words += [f"<{i}>" for i in range(len(words), vocabulary)] + [END]
    core = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in (PAD, USER, ASSISTANT, END)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        chat_template=CHAT_TEMPLATE,
        model_max_length=MAX_POSITIONS,
        clean_up_tokenization_spaces=False,
    )


def write_problems(path: Path, problems: int, prompt_tokens: int | None, steps: list[int]) -> None:
    """`problems` lines of prompt and answer: random letters that make prompts of exactly so many tokens (two of
    them the chat template's), or, with None, problems of the built-in task with this many steps.
    """
    if prompt_tokens is None:
        found = [(p.prompt, p.answer) for p in DagTask(steps=steps).train()[:problems]]
    else:
        draw = random.Random(0)
        found = [
            ("".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=prompt_tokens - 2)), "0")
            for _ in range(problems)
        ]
    lines = [json.dumps({"prompt": prompt, "answer": answer}) for prompt, answer in found]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
