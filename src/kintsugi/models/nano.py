"""The nano model: a 0.3M-parameter Qwen3 over bytes, small enough to learn on a laptop in minutes.

Its tokenizer reads any text (one token per byte, plus a few markers), so the whole path runs on real
data too; its knowledge is the built-in task `dag` alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kintsugi.prompts import TERSE_MARKERS

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SPECIALS = {"pad": "<|pad|>", "end": "<|end|>", "user": "<|user|>", "assistant": "<|assistant|>"}
CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}<|assistant|>{{ m['content'] }}<|end|>"
    "{% else %}<|user|>{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MAX_POSITIONS = 8192
NANO = ("nano", "nano-random")
KNOWN = re.compile(r"\w=\w[+-]\w(,\w=\w[+-]\w)*")
"""A problem of task `dag`."""
NOTE = (
    "nano knows the built-in task alone, in the prompts terse-v1; for other text take smollm2-135m-instruct "
    "(make smollm2)"
)


def nano_tokenizer() -> PreTrainedTokenizerBase:
    """A byte-level tokenizer: 256 bytes, four special tokens, and the markers of the terse prompts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return with_turns(core)


def with_turns(core: Tokenizer) -> PreTrainedTokenizerBase:
    """The tokenizer with the special tokens and the chat template of nano, and the markers of the terse prompts."""
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    core.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIALS.values()])
    core.add_tokens([AddedToken(text, normalized=False) for text in TERSE_MARKERS])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=SPECIALS["pad"],
        eos_token=SPECIALS["end"],
        chat_template=CHAT_TEMPLATE,
        model_max_length=MAX_POSITIONS,
        clean_up_tokenization_spaces=False,
    )


def nano_model(
    tokenizer: PreTrainedTokenizerBase, seed: int, hidden: int = 96, layers: int = 3
) -> PreTrainedModel:
    """The nano architecture at random weights drawn from `seed`.

    Weights start at a standard deviation of 1/sqrt(hidden): at the usual 0.02 a model this narrow took
    several times as many steps to learn its first fact. Query-key norms keep it steady under RL.
    """
    import torch
    from transformers import AutoModelForCausalLM, Qwen3Config

    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 32,
        head_dim=32,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        initializer_range=hidden**-0.5,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config)
