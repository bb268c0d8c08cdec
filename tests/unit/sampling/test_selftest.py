"""Kinds of models that are sampled and scored right, and kinds that are refused before a run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

from kintsugi.learning.selftest import check_learner
from kintsugi.records import KintsugiError
from kintsugi.sampling.sample import positions_of
from kintsugi.sampling.selftest import check_sampler, prompts

SIZES: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0,
}  # fmt: skip
MODERN = SIZES | {"intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 64}
STATE = {"state_size": 8, "bos_token_id": None, "eos_token_id": None}
MAKERS = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**MODERN)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**MODERN, head_dim=8, sliding_window=4)),
    # Its 12 positions leave six for the longer prompt.
    "gpt2": lambda: hf.GPT2LMHeadModel(
        hf.GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4, n_positions=12)
    ),
    "mamba": lambda: hf.MambaForCausalLM(hf.MambaConfig(**SIZES, **STATE)),
    "mamba2": lambda: hf.Mamba2ForCausalLM(
        hf.Mamba2Config(**SIZES, **STATE, num_heads=4, head_dim=16, n_groups=1, chunk_size=8)
    ),
    "falcon_mamba": lambda: hf.FalconMambaForCausalLM(hf.FalconMambaConfig(**SIZES, **STATE)),
    "rwkv": lambda: hf.RwkvForCausalLM(hf.RwkvConfig(**SIZES, attention_hidden_size=32)),
    "recurrent_gemma": lambda: hf.RecurrentGemmaForCausalLM(
        hf.RecurrentGemmaConfig(**{**MODERN, "num_hidden_layers": 3}, head_dim=8, lru_width=32)
    ),
    "bert": lambda: hf.BertLMHeadModel(hf.BertConfig(**SIZES, intermediate_size=48)),
    "roberta": lambda: hf.RobertaForCausalLM(
        hf.RobertaConfig(**SIZES, intermediate_size=48, is_decoder=True, max_position_embeddings=64)
    ),
}  # fmt: skip
REFUSED = ("rwkv", "recurrent_gemma", "bert", "roberta")


def model_of(kind: str) -> Any:
    """A tiny model of this kind; its matrices are drawn wide, as near-uniform logits would hide any fault."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model: Any = MAKERS[kind]()
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "A_log" not in name:
                nn.init.normal_(weight, std=0.3)
        return model.eval()


@pytest.mark.parametrize("kind", [kind for kind in MAKERS if kind not in REFUSED])
def test_models_that_keep_to_the_cache_pass(kind: str) -> None:
    model = model_of(kind).train()
    state = torch.random.get_rng_state()
    check_sampler(model, 0)
    check_learner(model, 0)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("kind", REFUSED)
def test_models_that_would_draw_wrong_samples_are_refused(kind: str) -> None:
    said = rf"^model type {kind}: the sampler's log-probabilities differ by \d\S* nats"
    with pytest.raises(KintsugiError, match=said):
        check_sampler(model_of(kind), 0)


@pytest.mark.parametrize("kind", ["rwkv", "bert", "roberta"])
def test_models_that_would_be_scored_wrong_are_refused(kind: str) -> None:
    said = rf"^model type {kind}: the learner's log-probabilities differ"
    with pytest.raises(KintsugiError, match=said):
        check_learner(model_of(kind), 0)


def test_a_model_that_cannot_run_is_one_line() -> None:
    model = model_of("llama")

    def fail(*_: object) -> None:
        raise TypeError("no such\nargument")

    model.model.register_forward_pre_hook(fail)
    for who, check in (("sampler", check_sampler), ("learner", check_learner)):
        said = rf"^model type llama: the {who} cannot run it \(TypeError: no such argument\)"
        with pytest.raises(KintsugiError, match=said):
            check(model, 0)


def test_the_prompts_are_unequal_and_hold_no_padding() -> None:
    short, long = prompts(model_of("gpt2"), 37)
    # The multiples of 0.618.. modulo 1 begin .618 .236 .854 .472 .090: token 37 of 60 is the padding here.
    assert short == (38, 14, 51)
    assert len(long) == 12 - 6 and 37 not in long


LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4,
}  # fmt: skip


def test_longrope_ends_where_a_longer_neighbour_would_change_every_sample() -> None:
    ends = {"original_max_position_embeddings": 16}
    config = hf.Phi3Config(**MODERN, **ends, rope_parameters=LONGROPE, bos_token_id=1, eos_token_id=2)
    assert config.max_position_embeddings == 64
    assert positions_of(config) == 16
    # By kind of layer, as some configs have it.
    config.rope_parameters = {
        "full_attention": LONGROPE | ends,
        "sliding_attention": {"rope_type": "default"},
    }
    assert positions_of(config) == 16
    assert positions_of(hf.LlamaConfig(**MODERN)) == 64
    assert positions_of(hf.MambaConfig(**SIZES)) is None
