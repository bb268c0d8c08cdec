"""The nano model and its words, and what is assumed of tokenizers that lack something."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kintsugi.config import Recipe
from kintsugi.models.loading import HFCodec, load_model, settle_tokenizer
from kintsugi.models.nano import nano_model, nano_tokenizer
from kintsugi.prompts import TERSE
from kintsugi.records import KintsugiError


@pytest.mark.parametrize("text", ["a=4+7,b=a-3", "Ünïcödé £5 → 数学\n\ttabs", "#### 42", "<|end|> as text?"])
def test_the_nano_tokenizer_reads_and_writes_any_text(text: str) -> None:
    tokenizer = nano_tokenizer()
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_a_step_is_eight_tokens_and_an_answer_two() -> None:
    # "b=1-3=8\n": eight bytes. "#### 8": the marker is one token, then the digit.
    tokenizer = nano_tokenizer()
    assert len(tokenizer("b=1-3=8\n", add_special_tokens=False).input_ids) == 8
    assert len(tokenizer("#### 8", add_special_tokens=False).input_ids) == 2


def test_a_chat_prompt_is_the_message_between_the_role_tokens() -> None:
    codec = HFCodec(nano_tokenizer(), (0,))
    decoded = codec.tokenizer.decode(codec.chat(TERSE.repair("a=1+1", "x", "y")))
    assert decoded == "<|user|>a=1+1\nwrong:\nx\nright:\ny\nmend:\n<|assistant|>"


def test_random_weights_are_those_of_the_seed() -> None:
    tokenizer = nano_tokenizer()
    first, again, other = (nano_model(tokenizer, seed).state_dict() for seed in (1, 1, 2))
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])


def test_the_shipped_base_is_small_and_loads() -> None:
    loaded = load_model("nano", device="cpu")
    assert sum(p.numel() for p in loaded.model.parameters()) * 4 <= 4_000_000
    assert loaded.notes == ()
    assert loaded.codec.stop_ids == (loaded.tokenizer.eos_token_id,)


def test_a_tokenizer_without_pad_token_or_chat_template_gets_a_fallback_that_is_said() -> None:
    tokenizer = nano_tokenizer()
    tokenizer.pad_token = None
    tokenizer.chat_template = None
    notes = settle_tokenizer(tokenizer)
    assert tokenizer.pad_token == "<|end|>"
    assert [("pad token" in n, "chat template" in n) for n in notes] == [(True, False), (False, True)]
    codec = HFCodec(tokenizer, (tokenizer.eos_token_id,))
    assert codec.decode(codec.chat("1+1?")) == "1+1?\n"


def test_a_tokenizer_with_neither_pad_nor_end_token_is_refused() -> None:
    tokenizer = nano_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token = None
    with pytest.raises(KintsugiError, match="neither a pad token nor an end-of-sequence"):
        settle_tokenizer(tokenizer)


@pytest.mark.parametrize("name", ["./nowhere", "nowhere", "/no/such/dir"])
def test_an_unknown_model_is_one_line(name: str) -> None:
    with pytest.raises(KintsugiError, match=r"no such directory; expected nano, .*nano-random"):
        load_model(name)


def test_a_directory_that_holds_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(KintsugiError, match="could not be loaded") as error:
        load_model(str(tmp_path))
    assert "\n" not in str(error.value)


def test_the_recipe_names_the_shipped_prompts() -> None:
    recipe = Recipe.load(Path(__file__).parents[2] / "recipes" / "quickstart.yaml")
    assert (recipe.model, recipe.prompts, recipe.algorithm) == ("nano", "terse-v1", "iop")
