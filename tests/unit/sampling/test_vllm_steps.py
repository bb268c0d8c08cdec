"""The vLLM engine's sessions over a scripted vLLM: order of calls, order of answers, failures. Needs no vLLM."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from kintsugi.records import Completion, KintsugiError
from kintsugi.sampling.base import Request, SamplingParams, generate
from kintsugi.sampling.play import Ask, Asking, play
from kintsugi.sampling.sample import Limits
from kintsugi.sampling.vllm import VllmEngine, VllmSampler

PARAMS = SamplingParams(max_new_tokens=8, stop_ids=(9,))


class ScriptedVllm:
    """A vllm.LLM and its LLMEngine: a request whose prompt begins with n ends at the n-th step after it came in.

    `said` are the calls in order. `reasons` are the finish reasons of prompts that do not end with a stop token;
    prompts in `lost` are forgotten at their first step.
    """

    def __init__(self, reasons: Mapping[int, str] = {}, lost: tuple[int, ...] = ()) -> None:
        self.llm_engine = self
        self.reasons, self.lost = reasons, lost
        self.said: list[str] = []
        self.going: dict[str, list[int]] = {}

    def collective_rpc(self, name: str, kwargs: Mapping[str, Any]) -> None:
        assert [tuple(w.shape) for _, w in kwargs["weights_iterator"]]
        self.said.append(name)

    def apply_model(self, function: Any) -> None:
        self.said.append(function.__name__)

    def reset_prefix_cache(self) -> bool:
        self.said.append("reset_prefix_cache")
        return not self.going

    def sleep(self, level: int) -> None:
        self.said.append(f"sleep {level}")

    def wake_up(self) -> None:
        self.said.append("wake_up")

    def add_request(self, name: str, prompt: Mapping[str, list[int]], params: Any) -> None:
        assert name not in self.going and params.output_kind == "final"
        first = prompt["prompt_token_ids"][0]
        self.said.append(f"add {first}")
        self.going[name] = [first, first]

    def has_unfinished_requests(self) -> bool:
        return bool(self.going)

    def abort_request(self, names: list[str]) -> None:
        self.said += [f"abort {self.going.pop(name)[0]}" for name in names if name in self.going]

    def step(self) -> list[Any]:
        self.said.append("step")
        for request in self.going.values():
            request[1] -= 1
        ended = {name: first for name, (first, left) in self.going.items() if left == 0 or first in self.lost}
        for name in ended:
            del self.going[name]
        return [self.output(name, first) for name, first in ended.items() if first not in self.lost]

    def output(self, name: str, first: int) -> Any:
        reason = self.reasons.get(first, "stop")
        ids = [first, 9] if reason == "stop" else [first]
        drawn = SimpleNamespace(
            token_ids=ids, logprobs=[{i: SimpleNamespace(logprob=-1.0)} for i in ids], finish_reason=reason
        )
        return SimpleNamespace(request_id=name, outputs=[drawn])


@pytest.fixture(autouse=True)
def _vllm_of_names_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two names that the engine takes from vLLM to say what it wants."""
    named = ModuleType("vllm.sampling_params")
    named.SamplingParams = SimpleNamespace  # type: ignore[attr-defined]
    named.RequestOutputKind = SimpleNamespace(FINAL_ONLY="final")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", ModuleType("vllm"))
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", named)
    monkeypatch.setattr("kintsugi.sampling.vllm.find_spec", lambda name: True)


def sampler(
    llm: ScriptedVllm, version: list[int], sleep: bool = False, told: list[float] | None = None
) -> Any:
    from kintsugi.models.nano import nano_model, nano_tokenizer

    model = nano_model(nano_tokenizer(), 0)
    shares = [] if told is None else told
    return VllmSampler(
        model,
        VllmEngine(sleep=sleep),
        llm,
        Limits(100, 50),
        lambda: version[0],
        lambda share: shares.append(share()),
    )


def request(first: int, n: int = 1) -> Request:
    return Request((first, 1), PARAMS, n)


PUSH = ["reload_weights", "repack_heads", "reset_prefix_cache"]


def test_asks_are_answered_in_the_order_of_their_ends_and_told_as_they_end() -> None:
    llm, told = ScriptedVllm(), list[float]()
    session = sampler(llm, [0], told=told).session()
    session.put(1, request(3))
    session.put(2, request(1))
    session.put(3, request(2))
    assert [ticket for ticket, _ in session.take()] == [2]
    session.put(4, request(1))  # beside the others, which go on
    assert [ticket for ticket, _ in session.take()] == [3, 4]
    assert [ticket for ticket, _ in session.take()] == [1]
    assert session.take() == []
    # One of three, then three of four, then all: the shares that have ended.
    assert told == pytest.approx([1 / 3, 3 / 4, 1])
    assert llm.said == [*PUSH, "add 3", "add 1", "add 2", "step", "add 1", "step", "step"]


def test_an_answer_waits_for_the_last_of_its_samples_and_equal_samples_are_drawn_once() -> None:
    llm = ScriptedVllm()
    answers = generate(sampler(llm, [7]), [request(2, n=2), request(2, n=1)])
    one = Completion((2, 9), (-1.0, -1.0), "stop", version=7)
    assert answers == [[one, one], [one]]
    assert llm.said == [*PUSH, "add 2", "add 2", "step", "step"]


def test_repairs_start_while_other_groups_still_sample() -> None:
    def group(first: int) -> Asking[None]:
        yield [Ask(request(first), "rollout", lambda _: ())]
        yield [Ask(request(first + 10), "repair", lambda _: ())]

    llm = ScriptedVllm()
    play([group(1), group(4)], sampler(llm, [0]))
    # The first group's repair (11 steps) enters after one step, the second's (14) after four: 18 steps in all.
    assert llm.said[3:7] == ["add 1", "add 4", "step", "add 11"]
    assert llm.said.count("step") == 18


def test_weights_are_pushed_once_a_version_before_the_first_request() -> None:
    llm, version = ScriptedVllm(), [0]
    engine = sampler(llm, version)
    for _ in range(2):
        generate(engine, [request(1)])
    version[0] = 1
    generate(engine, [request(1)])
    assert llm.said == [*PUSH, "add 1", "step", "add 1", "step", *PUSH, "add 1", "step"]


def test_asleep_between_sessions_and_given_its_weights_again_when_it_wakes() -> None:
    llm = ScriptedVllm()
    engine = sampler(llm, [0], sleep=True)
    generate(engine, [request(1)])
    generate(engine, [request(2)])
    assert llm.said == [
        *[*PUSH, "add 1", "step", "sleep 2"],
        *["wake_up", *PUSH, "add 2", "step", "step", "sleep 2"],
    ]


def test_a_session_that_fails_leaves_nothing_running() -> None:
    def failing() -> Asking[None]:
        yield [Ask(request(1), "rollout", judge), Ask(request(5), "rollout", judge)]

    def judge(drawn: Any) -> Any:
        raise KintsugiError("no verdict")

    llm = ScriptedVllm()
    with pytest.raises(KintsugiError, match="no verdict"):
        play([failing()], sampler(llm, [0]))
    assert llm.said[3:] == ["add 1", "add 5", "step", "abort 5"] and not llm.going


@pytest.mark.parametrize(
    ("llm", "said"),
    [
        (ScriptedVllm(reasons={2: "abort"}), "vLLM ended a sample after 1 tokens: abort"),
        (ScriptedVllm(lost=(2,)), "vLLM lost 1 of the samples"),
    ],
    ids=["cancelled", "lost"],
)
def test_a_request_that_vllm_gives_up_is_said_not_waited_for(llm: ScriptedVllm, said: str) -> None:
    with pytest.raises(RuntimeError, match=said):
        generate(sampler(llm, [0]), [request(2)])


def test_a_temperature_that_vllm_would_change_is_refused_before_anything_is_asked() -> None:
    llm = ScriptedVllm()
    with pytest.raises(KintsugiError, match=r"expected 0 or 0.01 to 2.0, got 2.5"):
        generate(sampler(llm, [0]), [Request((1,), SamplingParams(1, temperature=2.5))])
    assert llm.said == PUSH


def test_the_weights_that_are_pushed_are_the_model_s_with_adapters_merged() -> None:
    pytest.importorskip("peft")
    from kintsugi.models.loading import load_model
    from kintsugi.sampling.vllm import check_adapters, checkpoint_weights

    model: Any = load_model("nano", device="cpu", lora=4).model
    check_adapters(model)
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:  # zero at first: the adapters would change nothing
                p.copy_(torch.randn(p.shape, generator=noise) * 0.1)
    found = dict(checkpoint_weights(model))
    plain = dict(checkpoint_weights(load_model("nano", device="cpu").model))
    assert list(found) == list(plain) and not any(w.requires_grad for w in found.values())
    name = "model.layers.1.self_attn.q_proj"
    layer = model.get_base_model().model.layers[1].self_attn.q_proj
    # W + (alpha / r) B A, and alpha is 2 r.
    merged = plain[f"{name}.weight"] + 2 * layer.lora_B.default.weight @ layer.lora_A.default.weight
    assert torch.allclose(found[f"{name}.weight"], merged, atol=1e-6)
    assert not torch.allclose(found[f"{name}.weight"], plain[f"{name}.weight"], atol=1e-3)
    assert torch.equal(found["model.norm.weight"], plain["model.norm.weight"])


def test_adapters_of_another_kind_are_refused_with_a_way_out() -> None:
    peft = pytest.importorskip("peft")
    from kintsugi.models.nano import nano_model, nano_tokenizer
    from kintsugi.sampling.vllm import check_adapters

    for kind in (
        peft.LoraConfig(r=2, use_dora=True, target_modules="all-linear"),
        peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"]),
        peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[]),
    ):
        with pytest.raises(KintsugiError, match=r"adapters \(PEFT\) of a kind .*merge_and_unload"):
            check_adapters(peft.get_peft_model(nano_model(nano_tokenizer(), 0), kind))
