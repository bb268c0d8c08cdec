"""The nano model and its words, and what is assumed of tokenizers that lack something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from kintsugi.config import Recipe
from kintsugi.models.loading import HFCodec, load_model, pick_autocast, settle_tokenizer
from kintsugi.models.nano import nano_model, nano_tokenizer
from kintsugi.plugins import Spec
from kintsugi.prompts import CHAT, TERSE, load_prompts
from kintsugi.records import KintsugiError, Turn


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


THINKING = "{% if enable_thinking is defined and not enable_thinking %}<none>{% endif %}" + (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    "({{ m.role }}){{ m.content }}{% endfor %}"
)


def test_the_turns_before_a_question_are_part_of_the_prompt() -> None:
    codec = HFCodec(nano_tokenizer(), (0,))
    before = (Turn("user", "Hi"), Turn("assistant", "Yes?"))
    decoded = codec.tokenizer.decode(codec.chat("1+1?", before))
    assert decoded.index("Hi") < decoded.index("Yes?") < decoded.index("1+1?")
    codec.tokenizer.chat_template = None
    assert codec.decode(codec.chat("1+1?", before)) == "Hi\nYes?\n1+1?\n"


def test_thinking_is_the_chat_templates_own_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = nano_tokenizer()
    tokenizer.chat_template = THINKING
    texts = [tokenizer.decode(HFCodec(tokenizer, (0,), on).chat("1+1?")) for on in (None, True, False)]
    assert texts == ["(user)1+1?", "(user)1+1?", "<none>(user)1+1?"]
    assert any("enable_thinking" in note for note in load_model("nano", device="cpu", thinking=False).notes)


def test_a_template_that_refuses_a_conversation_is_one_line() -> None:
    tokenizer = nano_tokenizer()
    tokenizer.chat_template = THINKING
    with pytest.raises(KintsugiError, match="refuses a conversation of system, user: no system here"):
        HFCodec(tokenizer, (0,)).chat("1+1?", (Turn("system", "Be brief."),))


def test_a_recipe_may_word_the_question_and_open_the_conversation() -> None:
    mine = load_prompts({"name": "chat-v2", "solve": "{question} Box it: \\boxed{}", "system": "Be brief."})
    assert mine.solve("1+1?") == "1+1? Box it: \\boxed{}"
    assert mine.repair("q", "f", None) == CHAT.repair("q", "f", None)
    assert mine.opening(None) == (("system", "Be brief."),)
    assert mine.opening((Turn("user", "Hi"),)) == (("system", "Be brief."), ("user", "Hi"))
    assert mine.opening((Turn("system", "Own"),)) == (("system", "Own"),)
    assert load_prompts("chat-v2") == CHAT and CHAT.opening(None) == ()


def test_examples_are_earlier_turns_of_the_policy_alone() -> None:
    mine = load_prompts({"name": "plain-v2", "examples": [{"question": "1+1?", "answer": "#### 2"}]})
    shown = (Turn("user", "1+1?"), Turn("assistant", "#### 2"))
    assert mine.solving("2+2?", None) == ("2+2?", shown)
    # After a system message, before the conversation's own turns; a repair prompt opens without them.
    own = (Turn("system", "Own"), Turn("user", "Hi"), Turn("assistant", "Hello"))
    assert mine.solving("2+2?", own) == ("2+2?", (own[0], *shown, *own[1:]))
    assert mine.opening(own) == own


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"name": "chat-v2", "examples": [{"question": "1+1?"}]},
            "prompts chat-v2: examples.0.answer: field required, got {'question': '1+1?'}",
        ),
        ("chat-v1", "prompts: unknown 'chat-v1'; did you mean 'chat-v2'?"),
        (
            {"name": "chat-v2", "solve": "{q}"},
            "prompts.solve: expected {question} somewhere in it, got '{q}'",
        ),
        (
            {"name": "chat-v2", "thinking": "maybe"},
            "prompts chat-v2: thinking: input should be a valid boolean",
        ),
        (
            {"name": "chat-v2", "think": True},
            "prompts chat-v2: unknown argument 'think'; did you mean 'thinking'? It takes solve, system,",
        ),
    ],
)
def test_a_mistake_in_prompts_is_one_line(spec: Spec, message: str) -> None:
    with pytest.raises(KintsugiError, match=f"^{re.escape(message)}"):
        load_prompts(spec)


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


@pytest.mark.parametrize("pad", ["<|pad|>", None])
def test_a_tokenizer_without_an_end_token_is_refused(pad: str | None) -> None:
    tokenizer = nano_tokenizer()
    tokenizer.pad_token, tokenizer.eos_token = pad, None
    with pytest.raises(KintsugiError, match="has no end-of-sequence token: no answer could be taught to end"):
        settle_tokenizer(tokenizer)


@pytest.mark.parametrize("name", ["./nowhere", "nowhere", "/no/such/dir"])
def test_an_unknown_model_is_one_line(name: str) -> None:
    with pytest.raises(KintsugiError, match=r"no such directory.*; expected nano, .*nano-random"):
        load_model(name)


def test_a_hub_that_is_away_is_said_without_a_second_try(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: float) -> None:
        raise AssertionError("the Hub's client waits to try again")

    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr("time.sleep", refuse)
    with pytest.raises(KintsugiError, match=r"cache, and http://127\.0\.0\.1:9 cannot be reached") as error:
        load_model("acme/nowhere")
    assert "\n" not in str(error.value)


def test_a_directory_that_holds_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(KintsugiError, match="could not be loaded") as error:
        load_model(str(tmp_path))
    assert "\n" not in str(error.value)


def test_the_recipe_names_the_shipped_prompts() -> None:
    recipe = Recipe.load(Path(__file__).parents[3] / "recipes" / "quickstart.yaml")
    assert (recipe.model, recipe.prompts) == ("nano", "terse-v1")


def test_an_end_that_only_the_template_knows_ends_answers_and_is_said(tmp_path: Path) -> None:
    loaded = load_model("nano-random", device="cpu")
    loaded.tokenizer.chat_template = "{% for m in messages %}<|user|>{{ m.content }}<|pad|>{% endfor %}"
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    again = load_model(str(tmp_path), device="cpu")
    (note,) = again.notes
    assert note.startswith("the chat template ends a turn with '<|pad|>', which neither the tokenizer nor")
    assert set(again.codec.stop_ids) == {again.tokenizer.eos_token_id, again.codec.end_id}
    assert again.codec.answer(again.codec.chat("1+1?"), "2")[-1] == again.tokenizer.pad_token_id


@pytest.mark.parametrize(
    ("dtype", "flags", "found"),
    [
        ("auto", "fpu sse2 amx_bf16 amx_tile", torch.bfloat16),
        ("auto", "fpu sse2 avx2", None),
        ("auto", "fpu avx512_bf16", None),  # not measured
        ("float32", "amx_bf16", None),
        ("bfloat16", "avx2", torch.bfloat16),
    ],
)
def test_the_precision_of_a_cpu_is_a_rule_of_its_instructions(
    dtype: str, flags: str, found: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kintsugi.models.loading.processor", {"flags": flags}.__getitem__)
    assert pick_autocast(dtype, "cpu") is found
