"""A model for the word problems before its first step: a Llama at random weights, and a vocabulary of their words.

    python benchmarks/words_model.py 1m runs/words_1m_0

The vocabulary is byte-level BPE, learned on demonstrations of the task and on the numbers below 100, each of which is a
token: a model this small learns to copy one token far sooner than two.
"""

from __future__ import annotations

import sys
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from kintsugi.models.nano import MAX_POSITIONS, with_turns
from kintsugi.tasks import load_task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TASK = {"name": "benchmarks/tasks/words.py:WordsTask", "steps": [1, 8]}
SIZES = {"0.3m": (96, 3, 192), "1m": (128, 5, 344), "3m": (224, 5, 576), "10m": (384, 6, 1024)}
"""Width, layers, and width of the feed-forward layers."""
VOCABULARY, TEXTS, HEAD = 900, 4000, 32
NUMBERS = "".join(f" {n}\n{n}" for n in range(100))
SPLIT = r" ?[0-9]+| ?[A-Za-z]+| ?[^\sA-Za-z0-9]+\n*|\s"


def words_tokenizer() -> PreTrainedTokenizerBase:
    """At most VOCABULARY tokens beside the marks of turns and repair prompts."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    shown = islice(load_task(TASK).demonstrations(0), TEXTS)
    texts = (f"{problem}\n{solution}\n" for problem, solution in shown)
    core.train_from_iterator(chain(texts, [NUMBERS] * TEXTS), trainer)
    return with_turns(core)


def words_model(size: str, vocabulary: int, seed: int = 0) -> PreTrainedModel:
    """A Llama of this size at weights drawn from `seed`, with the standard deviation of nano's (see models.nano)."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, layers, wide = SIZES[size]
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=wide,
        num_hidden_layers=layers,
        num_attention_heads=hidden // HEAD,
        num_key_value_heads=hidden // HEAD,
        head_dim=HEAD,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        initializer_range=hidden**-0.5,
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in SIZES:
        sys.exit(f"usage: python benchmarks/words_model.py {{{','.join(SIZES)}}} FOLDER")
    size, folder = sys.argv[1], Path(sys.argv[2])
    tokenizer = words_tokenizer()
    model = words_model(size, len(tokenizer))
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.config.bos_token_id = model.generation_config.bos_token_id = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"{folder}: {model.num_parameters():,} parameters, {len(tokenizer)} tokens")
