"""vLLM against the local engine and against a fresh forward pass of the learner's model."""

from __future__ import annotations

import math
from contextlib import closing

import pytest
import torch
from conftest import Bench, call, run
from transformers import AutoModelForCausalLM, LlamaConfig

from kintsugi.records import Completion, KintsugiError
from kintsugi.sampling.base import Request, SamplingParams, generate
from kintsugi.sampling.local import LocalSampler
from kintsugi.sampling.registry import load_engine
from kintsugi.sampling.sample import Limits
from kintsugi.sampling.vllm import VllmEngine, stance, wanted

PROBLEMS = ("a=4+7,b=a-3", "a=2*3,b=a+9,c=b-a", "a=1+1", "a=9-4,b=a*2,c=b+a,d=c-1", "a=0+7,b=a-3,c=b*2")
ROUNDING = 1e-3
"""What two fp32 implementations may differ by at one token; measured 4e-5 at most."""
LIMITS = Limits(2048, 256)


def prompts(bench: Bench) -> list[tuple[int, ...]]:
    return [bench.loaded.codec.chat(text) for text in PROBLEMS]


def expected(
    model: torch.nn.Module, prompt: tuple[int, ...], c: Completion, t: float = 1.0, top_p: float = 1.0
) -> list[float]:
    """Log-probabilities of the completion under temperature and nucleus, from one forward pass."""
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *c.token_ids]])).logits[0].double() / t
    found = []
    for token, row in zip(c.token_ids, logits[len(prompt) - 1 :], strict=False):
        p = row.softmax(-1).tolist()
        kept, mass = set(), 0.0
        for i in sorted(range(len(p)), key=lambda i: -p[i]):
            if mass < top_p:
                kept.add(i)
                mass += p[i]
        assert token in kept
        found.append(math.log(p[token] / mass))
    return found


def test_greedy_equals_the_local_engine(bench: Bench) -> None:
    params = SamplingParams(80, temperature=0.0, top_p=0.5, stop_ids=bench.loaded.codec.stop_ids)
    local = LocalSampler(bench.loaded.model, pad_id=0)
    theirs = run(*[call(bench.sampler, p, params) for p in prompts(bench)])
    ours = run(*[call(local, p, params) for p in prompts(bench)])
    for (a,), (b,) in zip(theirs, ours, strict=True):
        assert (a.token_ids, a.finish) == (b.token_ids, b.finish)
        assert a.finish == "stop" and a.token_ids[-1] in params.stop_ids
        # Unscaled, whatever top_p says: both engines report the plain distribution when greedy.
        assert a.logprobs == pytest.approx(b.logprobs, abs=ROUNDING)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.0, 0.8), (1.5, 0.6)])
def test_log_probabilities_are_those_of_the_distribution_sampled_from(
    bench: Bench, temperature: float, top_p: float
) -> None:
    params = SamplingParams(40, temperature, top_p, seed=3)
    answers = run(*[call(bench.sampler, p, params, 3) for p in prompts(bench)])
    for prompt, group in zip(prompts(bench), answers, strict=True):
        for c in group:
            assert (len(c.token_ids), c.finish) == (40, "length")
            reference = expected(bench.loaded.model, prompt, c, temperature, top_p)
            assert c.logprobs == pytest.approx(reference, abs=ROUNDING)


def test_greedy_and_sampled_calls_share_a_round(bench: Bench) -> None:
    greedy, warm = SamplingParams(20, 0.0), SamplingParams(20, 1.7, 0.9, seed=1)
    prompt = prompts(bench)[0]
    (a,), (b,) = run(call(bench.sampler, prompt, greedy), call(bench.sampler, prompt, warm))
    assert a.logprobs == pytest.approx(expected(bench.loaded.model, prompt, a), abs=ROUNDING)
    assert b.logprobs == pytest.approx(expected(bench.loaded.model, prompt, b, 1.7, 0.9), abs=ROUNDING)


def test_seed_and_index_alone_decide(bench: Bench) -> None:
    prompt, other = prompts(bench)[:2]

    def params(seed: int, tokens: int = 24) -> SamplingParams:
        return SamplingParams(tokens, temperature=1.5, seed=seed)

    ((first, second, third),) = run(call(bench.sampler, prompt, params(7), 3))
    among = run(
        call(bench.sampler, other, params(8), 9),
        call(bench.sampler, prompt, params(7), 2),
        call(bench.sampler, prompt, params(2**63 - 1), 1),
        call(bench.sampler, prompt, params(7, tokens=6), 1),
    )
    assert [c.token_ids for c in among[1]] == [first.token_ids, second.token_ids]
    assert among[3][0].token_ids == first.token_ids[:6]
    assert len({c.token_ids for c in (first, second, third, among[2][0])}) == 4


def test_samples_are_those_of_vllm_s_own_generate(bench: Bench) -> None:
    params = SamplingParams(30, temperature=1.2, seed=5, stop_ids=bench.loaded.codec.stop_ids)
    samples = [s for p in prompts(bench) for s in LIMITS.samples(Request(p, params, 3))]
    found = run(*[call(bench.sampler, p, params, 3) for p in prompts(bench)])
    asked = [{"prompt_token_ids": list(s.prompt_ids)} for s in samples]
    with stance(VllmEngine()):
        outputs = bench.llm.generate(asked, list(map(wanted, samples)), use_tqdm=False)
    assert [c.token_ids for group in found for c in group] == [
        tuple(out.outputs[0].token_ids) for out in outputs
    ]


def test_asks_are_answered_as_they_end_and_others_enter_meanwhile(bench: Bench) -> None:
    first, second, third = prompts(bench)[:3]
    lengths = {1: (first, 40), 2: (second, 3), 3: (third, 5)}
    asked = {ticket: Request(p, SamplingParams(n, seed=ticket), 2) for ticket, (p, n) in lengths.items()}
    alone = {ticket: generate(bench.sampler, [request])[0] for ticket, request in asked.items()}
    bench.told.clear()
    with closing(bench.sampler.session()) as session:
        session.put(1, asked[1])
        session.put(2, asked[2])
        answers = session.take()
        session.put(3, asked[3])  # while the first goes on
        answers += session.take() + session.take()
    assert [ticket for ticket, _ in answers] == [2, 3, 1]
    assert {t: [c.token_ids for c in drawn] for t, drawn in answers} == {
        t: [c.token_ids for c in drawn] for t, drawn in alone.items()
    }
    # Two of four samples have ended after three steps, four of six after eight, all after forty.
    assert bench.told == pytest.approx([0, 0, 1 / 2, *[1 / 3] * 4, *[2 / 3] * 32, 1])


def test_what_a_session_leaves_running_is_dropped(bench: Bench) -> None:
    prompt, params = prompts(bench)[0], SamplingParams(6, seed=3)
    ((expected,),) = run(call(bench.sampler, prompt, params))
    with closing(bench.sampler.session()) as session:
        session.put(1, Request(prompt, SamplingParams(80, seed=1), 4))
        session.put(2, Request(prompt, params))
        assert [ticket for ticket, _ in session.take()] == [2]
    assert not bench.llm.llm_engine.has_unfinished_requests()
    bench.version += 1  # a push refuses to run beside requests
    ((again,),) = run(call(bench.sampler, prompt, params))
    assert again.token_ids == expected.token_ids


def test_a_round_of_more_prompts_than_a_step_takes(bench: Bench) -> None:
    # 50 different prompts of 200 tokens are 10,000; a step takes 8,192 and no prompt in pieces.
    many = [tuple((i * 7 + j) % 256 for j in range(200)) for i in range(50)]
    params = SamplingParams(4, seed=2)
    together = run(*[call(bench.sampler, prompt, params) for prompt in many])
    for number in (0, 40, 41, 49):
        assert together[number][0].logprobs == pytest.approx(
            expected(bench.loaded.model, many[number], together[number][0]), abs=ROUNDING
        )
    ((alone,),) = run(call(bench.sampler, many[41], params))
    assert alone.token_ids == together[41][0].token_ids


def test_stop_ids_end_a_sample_and_stay_in_it(bench: Bench) -> None:
    prompt = prompts(bench)[1]
    ((whole,),) = run(call(bench.sampler, prompt, SamplingParams(12, seed=4)))
    stop = whole.token_ids[5]
    end = whole.token_ids.index(stop) + 1
    stops = ((stop,), whole.token_ids[-1:], (bench.loaded.tokenizer.pad_token_id,))
    one, last, free = run(
        *[call(bench.sampler, prompt, SamplingParams(12, seed=4, stop_ids=ids)) for ids in stops]
    )
    assert (one[0].token_ids, one[0].finish) == (whole.token_ids[:end], "stop")
    assert last[0].finish == "stop"  # a stop id as the very last token allowed is a stop
    assert (free[0].token_ids, free[0].finish) == (whole.token_ids, "length")
    # The tokenizer's end token is no stop id here, so it does not end anything.
    greedy = SamplingParams(80, 0.0)
    ((through,),) = run(call(bench.sampler, prompt, greedy))
    assert bench.loaded.tokenizer.eos_token_id in through.token_ids[:-1] and len(through.token_ids) == 80


def test_weights_are_pushed_when_the_version_moves_and_only_then(bench: Bench) -> None:
    prompt, params = prompts(bench)[3], SamplingParams(30, seed=1)

    def draw() -> Completion:
        ((c,),) = run(call(bench.sampler, prompt, params))
        return c

    before = draw()
    old = expected(bench.loaded.model, prompt, before)
    assert before.version == bench.version
    bench.change(seed=1)
    stale = draw()
    assert stale == before  # nobody said that there were new weights
    assert stale.logprobs == pytest.approx(old, abs=ROUNDING)
    bench.version += 1
    after = draw()
    assert after.version == before.version + 1
    assert after.logprobs == pytest.approx(expected(bench.loaded.model, prompt, after), abs=ROUNDING)
    assert max(abs(a - b) for a, b in zip(before.logprobs, after.logprobs, strict=False)) > 0.1


def test_a_push_clears_what_was_cached_of_a_prompt(bench: Bench) -> None:
    # 200 tokens fill six cache blocks of 32: the second call reads them, the third must not.
    prompt, params = tuple(range(200)), SamplingParams(3, seed=1)
    ((first,),) = run(call(bench.sampler, prompt, params))
    ((second,),) = run(call(bench.sampler, prompt, params))
    assert second.token_ids == first.token_ids
    assert second.logprobs == pytest.approx(first.logprobs, abs=ROUNDING)
    bench.change(seed=2)
    bench.version += 1
    ((third,),) = run(call(bench.sampler, prompt, params))
    assert third.logprobs == pytest.approx(expected(bench.loaded.model, prompt, third), abs=ROUNDING)


def test_lengths_end_at_max_model_len(bench: Bench) -> None:
    # max_model_len is 256 here: 250 tokens leave room for 6, 256 for none.
    ((c,),) = run(call(bench.sampler, (5,) * 250, SamplingParams(80)))
    assert (len(c.token_ids), c.finish) == (6, "length")
    with pytest.raises(
        KintsugiError, match="256 tokens leaves no room to answer in a model of 256 positions"
    ):
        run(call(bench.sampler, (5,) * 256, SamplingParams(1)))


@pytest.mark.parametrize("temperature", [0.001, 2.5])
def test_a_temperature_vllm_would_change_or_refuse_is_one_line(bench: Bench, temperature: float) -> None:
    with pytest.raises(KintsugiError, match=r"expected 0 or 0.01 to 2.0, got"):
        run(call(bench.sampler, (5,), SamplingParams(1, temperature)))


def test_weights_that_diverged_are_named_and_the_next_round_works(bench: Bench) -> None:
    before = bench.loaded.model.model.norm.weight.detach().clone()
    with torch.no_grad():
        bench.loaded.model.model.norm.weight.fill_(torch.nan)
    bench.version += 1
    with pytest.raises(KintsugiError, match="not finite"):
        run(call(bench.sampler, prompts(bench)[0], SamplingParams(3)))
    with torch.no_grad():
        bench.loaded.model.model.norm.weight.copy_(before)
    bench.version += 1
    ((c,),) = run(call(bench.sampler, prompts(bench)[0], SamplingParams(3)))
    assert len(c.token_ids) == 3


@pytest.mark.parametrize("tied", [False, True])
def test_a_grouped_query_model_with_and_without_an_output_head_of_its_own(tied: bool) -> None:
    config = LlamaConfig(
        vocab_size=48,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=64,
        initializer_range=0.3,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(config).eval()
    make = load_engine({"name": "vllm", "memory": 0.25}).sampler
    sampler = make(model, pad_id=0, token_budget=1, version=lambda: 0, autocast=None, pulse=print)
    prompt = (5, 9, 2, 40)
    ((c,),) = run(call(sampler, prompt, SamplingParams(100, 0.0)))
    assert len(c.token_ids) == 60
    assert c.logprobs == pytest.approx(expected(model, prompt, c), abs=ROUNDING)
    ((ours,),) = run(call(LocalSampler(model, pad_id=0), prompt, SamplingParams(100, 0.0)))
    assert c.token_ids == ours.token_ids


def test_a_model_that_vllm_cannot_run_is_one_line(bench: Bench) -> None:
    # One sequence of 8192 positions needs 8192 * 3 layers * 2 * 96 * 4 bytes = 18 MiB; 1 MiB is not enough.
    make = load_engine({"name": "vllm", "memory": 1 / 1024}).sampler
    with pytest.raises(KintsugiError, match=r"engine vllm: could not start: .*engine.memory is") as error:
        make(bench.loaded.model, pad_id=0, token_budget=1, version=lambda: 0, autocast=None, pulse=print)
    assert "\n" not in str(error.value)
