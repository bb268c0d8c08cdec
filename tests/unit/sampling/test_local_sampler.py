"""The local engine against transformers' generate, against a fresh forward pass, and against hand counts."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM as Auto
from transformers import (
    BloomConfig,
    Gemma3TextConfig,
    GPT2Config,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    Qwen3Config,
)

from kintsugi.records import Completion, KintsugiError
from kintsugi.sampling.base import Request, SamplingParams, generate
from kintsugi.sampling.draw import inverse_cdf
from kintsugi.sampling.local import LocalSampler
from kintsugi.sampling.play import Ask, Asking, play
from kintsugi.sampling.prefill import shared_lengths

PAD = 0
SHAPE = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    # Large weights: near-uniform logits would hide a wrong mask or position.
    "initializer_range": 0.3,
}
NO_ENDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": PAD}
CONFIGS = {
    "llama": LlamaConfig(**SHAPE, **NO_ENDS),
    "llama-eager": LlamaConfig(**SHAPE, **NO_ENDS, attn_implementation="eager"),
    "qwen3": Qwen3Config(**SHAPE, **NO_ENDS),
    "gpt2": GPT2Config(
        vocab_size=48, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.3, **NO_ENDS
    ),
    # The first layer sees 6 positions back, so prompts and completions both outgrow its window.
    "gemma3": Gemma3TextConfig(
        **SHAPE, **NO_ENDS, sliding_window=6, layer_types=["sliding_attention", "full_attention"]
    ),
    "gemma3-eager": Gemma3TextConfig(
        **SHAPE,
        **NO_ENDS,
        sliding_window=6,
        layer_types=["sliding_attention", "full_attention"],
        attn_implementation="eager",
    ),
    # Every layer has the window.
    "mistral": MistralConfig(**SHAPE, **NO_ENDS, sliding_window=6),
    # A layer of convolutions, whose states are no keys and values: it decodes in rounds.
    "lfm2": Lfm2Config(**SHAPE, **NO_ENDS, layer_types=["conv", "full_attention"]),
    # Takes neither position_ids nor a 4-dimensional mask.
    "bloom": BloomConfig(
        vocab_size=48, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3, **NO_ENDS
    ),
}
PROMPTS = ((5, 9, 2), (7, 3, 3, 40, 11, 23, 4, 8, 15, 16, 42), (30, 31, 6, 1, 12), (9,) * 8)


def build(name: str) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return Auto.from_config(CONFIGS[name]).eval()


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return build("llama")


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return build(request.param)


Call = tuple[LocalSampler, Request]


def call(sampler: LocalSampler, prompt: Sequence[int], params: SamplingParams, n: int = 1) -> Call:
    return sampler, Request(tuple(prompt), params, n)


def run(*calls: Call) -> list[list[Completion]]:
    """The calls' completions, all in one session."""
    ((sampler, *_),) = {(sampler,) for sampler, _ in calls}
    return generate(sampler, [request for _, request in calls])


def watch(model: PreTrainedModel) -> list[tuple[int, int]]:
    """The (rows, positions) of every forward pass the model makes from now on."""
    shapes: list[tuple[int, int]] = []
    model.register_forward_pre_hook(lambda module, args: shapes.append(tuple(args[0].shape)))
    return shapes


def constant_model(probabilities: list[float]) -> PreTrainedModel:
    """A model that gives token i the probability probabilities[i], whatever came before."""
    shape = {"vocab_size": len(probabilities), "n_embd": 4, "n_layer": 1, "n_head": 1, "n_positions": 256}
    model = Auto.from_config(GPT2Config(**shape, tie_word_embeddings=False))
    with torch.no_grad():
        # The last norm now always gives (1, 0, 0, 0), so the logits are the head's first column.
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        model.lm_head.weight[:, 0] = torch.tensor(probabilities).log()
    return model


def reference_logprobs(
    model: PreTrainedModel, prompt: tuple[int, ...], c: Completion, t: float, top_p: float
) -> list[float]:
    """Log-probabilities of a completion from one fresh forward pass over prompt and completion."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + c.token_ids])).logits[0].double() / t
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


def test_greedy_equals_generate_for_prompts_of_unequal_lengths(model: PreTrainedModel) -> None:
    sampler = LocalSampler(model, PAD)
    params = SamplingParams(max_new_tokens=20, temperature=0.0, top_p=0.5)
    answers = run(*[call(sampler, prompt, params) for prompt in PROMPTS])
    for prompt, (completion,) in zip(PROMPTS, answers, strict=True):
        ids = torch.tensor([prompt])
        expected = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20, pad_token_id=PAD
        )
        assert completion.token_ids == tuple(expected[0, len(prompt) :].tolist())
        # temperature 0: log-probabilities of the plain distribution, whatever top_p
        assert completion.logprobs == pytest.approx(
            reference_logprobs(model, prompt, completion, 1.0, 1.0), abs=1e-5
        )


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_logprobs_equal_a_fresh_forward_pass(
    model: PreTrainedModel, temperature: float, top_p: float
) -> None:
    sampler = LocalSampler(model, PAD)
    params = SamplingParams(max_new_tokens=20, temperature=temperature, top_p=top_p, seed=3)
    answers = run(*[call(sampler, prompt, params, 2) for prompt in PROMPTS])
    for prompt, completions in zip(PROMPTS, answers, strict=True):
        for completion in completions:
            expected = reference_logprobs(model, prompt, completion, temperature, top_p)
            assert completion.logprobs == pytest.approx(expected, abs=1e-5)


def test_a_sample_is_the_same_alone_and_among_others(model: PreTrainedModel) -> None:
    sampler = LocalSampler(model, PAD)
    mine = SamplingParams(max_new_tokens=15, seed=11)
    others = [
        SamplingParams(max_new_tokens=40, temperature=0.5, top_p=0.9, seed=1, stop_ids=(3, 4)),
        SamplingParams(max_new_tokens=4, temperature=0.0),
        SamplingParams(max_new_tokens=15, seed=12),
    ]
    ((alone,),) = run(call(sampler, PROMPTS[2], mine))
    together = run(
        call(sampler, PROMPTS[2], mine, 3),
        *[call(sampler, p, params, 2) for p, params in zip(PROMPTS, [*others, mine], strict=True)],
    )
    assert together[0][0].token_ids == alone.token_ids
    assert together[0][0].logprobs == pytest.approx(alone.logprobs, abs=1e-5)


@pytest.mark.parametrize(
    ("temperature", "top_p", "expected"),
    [
        (1.0, 1.0, (0.5, 0.2, 0.3, 0.0)),
        # squares .25 .04 .09 over their sum .38
        (0.5, 1.0, (0.6579, 0.1053, 0.2368, 0.0)),
        # .5 is short of .7, .5 + .3 is not: tokens 0 and 2, over .8
        (1.0, 0.7, (0.625, 0.0, 0.375, 0.0)),
    ],
)
def test_frequencies_match_the_distribution(
    temperature: float, top_p: float, expected: tuple[float, ...]
) -> None:
    # Token 3 has probability 0 and comes last, where a rounding error of the cumulative sum would fall.
    sampler = LocalSampler(constant_model([0.5, 0.2, 0.3, 0.0]), PAD)
    params = SamplingParams(max_new_tokens=100, temperature=temperature, top_p=top_p, seed=5)
    (completions,) = run(call(sampler, (1, 2), params, 100))
    drawn = [token for c in completions for token in c.token_ids]
    # 10,000 independent draws: a frequency has standard deviation sqrt(p (1 - p) / 10,000) <= 0.005, so four of
    # them are 0.02; tokens of probability 0 must not appear at all.
    for token, probability in enumerate(expected):
        frequency = drawn.count(token) / len(drawn)
        assert frequency == pytest.approx(probability, abs=0.02 if probability else 0.0)


def test_no_number_draws_a_token_of_probability_0() -> None:
    logprobs = torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0]).log().expand(4, -1)
    # The smallest and the largest float64 in [0, 1), and those about the middle.
    uniforms = torch.tensor([[0.0], [0.499999], [0.500001], [1 - 2.0**-53]], dtype=torch.float64)
    assert inverse_cdf(logprobs, uniforms)[:, 0].tolist() == [1, 1, 3, 3]


def test_stop_ids_end_a_sample_and_stay_in_it(llama: PreTrainedModel) -> None:
    sampler = LocalSampler(llama, PAD)
    free = SamplingParams(max_new_tokens=12, seed=4)
    ((whole,),) = run(call(sampler, PROMPTS[0], free))
    assert (whole.finish, len(whole.token_ids)) == ("length", 12)
    stop = whole.token_ids[5]
    end = whole.token_ids.index(stop) + 1
    stops = ((stop,), (47, stop, 46), whole.token_ids[-1:])
    stopping = [SamplingParams(max_new_tokens=12, seed=4, stop_ids=ids) for ids in stops]
    (one,), (two,), (three,) = run(*[call(sampler, PROMPTS[0], params) for params in stopping])
    assert (one.token_ids, one.finish) == (whole.token_ids[:end], "stop")
    assert (two.token_ids, two.finish) == (one.token_ids, one.finish)
    assert two.logprobs == pytest.approx(one.logprobs, abs=1e-5)  # sampled in another batch: other rounding
    # a stop id as the very last token allowed is a stop
    assert three.finish == "stop"


@pytest.mark.parametrize(
    ("token_budget", "shares"),
    [
        (32_768, [0.25, 0.5, 0.75, 1.0]),  # nothing ends before four tokens
        (6, [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0]),  # 2 + 4 positions a row: one row at a time
    ],
)
def test_a_round_tells_its_share_after_each_token(token_budget: int, shares: list[float]) -> None:
    told: list[float] = []
    sampler = LocalSampler(
        constant_model([0.5, 0.5]), PAD, token_budget, pulse=lambda share: told.append(share())
    )
    generate(sampler, [Request((0, 1), SamplingParams(max_new_tokens=4), 2)])
    assert told == shares


def test_rows_that_end_count_as_done() -> None:
    told: list[float] = []
    sampler = LocalSampler(constant_model([0.0, 1.0]), PAD, pulse=lambda share: told.append(share()))
    stop = SamplingParams(max_new_tokens=4, temperature=0.0, stop_ids=(1,))
    generate(sampler, [Request((0, 1), stop, 1), Request((0, 1), replace(stop, stop_ids=()), 1)])
    # One of two rows ends at its first token; the other goes on to its fourth: 1 - 1/2 (1 - t / 4).
    assert told == [0.625, 0.75, 0.875, 1.0]


def test_seed_and_index_alone_decide(llama: PreTrainedModel) -> None:
    sampler = LocalSampler(llama, PAD)
    params = SamplingParams(max_new_tokens=10, seed=2**63 - 1)
    two, five, other, short = run(
        call(sampler, PROMPTS[1], params, 2),
        call(sampler, PROMPTS[1], params, 5),
        call(sampler, PROMPTS[1], SamplingParams(max_new_tokens=10, seed=2**32 - 1), 2),
        call(sampler, PROMPTS[1], SamplingParams(max_new_tokens=4, seed=2**63 - 1), 2),
    )
    assert two == five[:2]
    assert len({c.token_ids for c in five + other}) == 7
    assert [c.token_ids[:4] for c in two] == [c.token_ids for c in short]


def test_a_shared_prompt_is_prefilled_once() -> None:
    model = build("llama")
    shapes = watch(model)
    sampler = LocalSampler(model, PAD)
    a, b = (1, 2, 3, 4, 5), (6, 7, 8, 9, 10)
    first, second = SamplingParams(max_new_tokens=4, seed=1), SamplingParams(max_new_tokens=4, seed=2)
    run(call(sampler, a, first, 3), call(sampler, a, second, 2), call(sampler, b, first, 1))
    # Two distinct prompts of 5: one forward of 2 x 5. Four tokens a row take three more, of 3 + 2 + 1 rows.
    assert shapes == [(2, 5), (6, 1), (6, 1), (6, 1)]
    assert sum(rows * positions for rows, positions in shapes) == 28


def test_a_beginning_that_prompts_share_is_read_once() -> None:
    model = build("llama")
    shapes = watch(model)
    sampler = LocalSampler(model, PAD)
    question, other, last = tuple(range(1, 36)), tuple(range(11, 43)), SamplingParams(max_new_tokens=1)
    prompts = [(*question, 40), *((*question, 41, i) for i in range(7)), (*other, 9), (6, 7, 8)]
    run(*(call(sampler, p, last) for p in prompts))
    # Eight begin with the question and share 35 tokens, in multiples of 16: 32. Seven of them are saved: 224 tokens,
    # more than eight times the 24 that a pass costs. The others share nothing: two parts, for 30 tokens of padding are
    # too many. Then the question as one row, and on top of it what is left of 36 and 37 tokens, padded to 5.
    assert shapes == [(1, 33), (1, 3), (1, 32), (8, 5)]


def test_a_long_beginning_is_not_padding_for_short_ones() -> None:
    model = build("llama")
    shapes = watch(model)
    long, short, last = tuple(range(48)), tuple(range(11, 27)), SamplingParams(max_new_tokens=1)
    prompts = [*((*long, i) for i in range(6)), *((*short, i) for i in range(6))]
    sampler = LocalSampler(model, PAD)
    run(*(call(sampler, p, last) for p in prompts))
    # 5 x 48 and 5 x 16 tokens are saved; side by side the second beginning would be read with 32 of padding.
    assert shapes == [(1, 48), (6, 1), (1, 16), (6, 1)]


def test_a_long_draft_beside_a_prompt_near_the_last_position() -> None:
    """GPT-2 has a table of positions: one beyond it is an error, not another angle."""
    model = build("gpt2")
    near, drafted = (*range(1, 47), *range(1, 15)), tuple(range(9, 46))
    # Of 64 positions the first prompt takes 60; both are read with 15 tokens of the other's draft.
    long = Request(near, SamplingParams(4, seed=1))
    copied = Request(drafted, SamplingParams(25, seed=2), draft=tuple(range(1, 26)))
    alone = [generate(LocalSampler(model, PAD, copies=False), [r])[0] for r in (long, copied)]
    together = generate(LocalSampler(model, PAD), [long, copied])
    for (one,), (other,) in zip(together, alone, strict=True):
        assert one.token_ids == other.token_ids
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_a_beginning_that_is_read_once_changes_no_sample(model: PreTrainedModel, seed: int) -> None:
    """Families of prompts, with drafts and without, and prompts that share nothing beside them."""
    draw = random.Random(seed)

    def some(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw.choices(range(1, 48), k=draw.randint(low, high)))

    prompts = [some(1, 30)]
    for _ in range(3):
        question = some(33, 36)
        anchored = (*question, *some(0, 4))
        prompts += [(*draw.choice([question, anchored]), *some(1, 9)) for _ in range(6)]
    requests = [
        Request(
            p, SamplingParams(draw.randint(1, 16), seed=i, stop_ids=(3,)), draft=some(1, 12) if i % 3 else ()
        )
        for i, p in enumerate(prompts)
    ]
    alone = [generate(LocalSampler(model, PAD, copies=False), [r])[0] for r in requests]
    shapes = watch(model)
    together = generate(LocalSampler(model, PAD), requests)
    for (one,), (other,) in zip(together, alone, strict=True):
        assert one.token_ids == other.token_ids
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
    if LocalSampler(model, PAD).notes == ():
        assert (3, 32) in shapes  # three beginnings of 33 tokens and more


def test_the_cut_that_saves_most() -> None:
    a, b, c = tuple(range(100, 180)), tuple(range(200, 240)), (1,) * 20
    prompts = [(*c, *a, 1), (*c, *a, 2), (*c, *a, 3), (*c, *b, 1), (*c, *b, 2), (9, 9)]
    # c alone, shared by five, saves 4 x 16 tokens. With a 2 x 96 (of 100), with b 48 (of 60): 240 in all.
    assert shared_lengths(prompts, 24) == {
        **dict.fromkeys(prompts[:3], 96),
        **dict.fromkeys(prompts[3:5], 48),
    }
    # Families need not lie side by side: the pair shares 32 more with each other than with the three, who share 16.
    # All five 4 x 16 = 64; the pair by itself 48, and the three 2 x 16: 80.
    d = (7,) * 16
    few = [(*d, 1), (*d, 2, 2), (*d, 3, *a[:32], 1), (*d, 3, *a[:32], 2), (*d, 4)]
    assert shared_lengths(few, 9) == {
        **dict.fromkeys([few[0], few[1], few[4]], 16),
        **dict.fromkeys(few[2:4], 48),
    }
    # 240 tokens are no more than eight passes of 30.
    assert shared_lengths(prompts, 30) == {}
    # A prompt that is the beginning of another one keeps its last token: of 33 tokens 32 are shared.
    assert shared_lengths([a[:33], a], 3) == {a[:33]: 32, a: 32}
    assert shared_lengths([a[:32], a], 3) == {}  # 16 tokens are less than eight passes of 3


def test_rows_that_ended_leave_and_change_nothing() -> None:
    model = build("gpt2")
    long, short = SamplingParams(max_new_tokens=40, seed=1), SamplingParams(max_new_tokens=2, seed=2)
    ((alone,),) = run(call(LocalSampler(model, PAD), PROMPTS[0], long))
    shapes = watch(model)
    sampler = LocalSampler(model, PAD)
    ((together,), _) = run(call(sampler, PROMPTS[0], long), call(sampler, PROMPTS[1], short, 3))
    assert together.token_ids == alone.token_ids
    assert together.logprobs == pytest.approx(alone.logprobs, abs=1e-5)
    # Draw 1, a step of 4 rows, draw 2 ends three of them; 1 of 4 going is below 3/4, so the other 38 steps that
    # bring 40 tokens are of one row. Prompts of 3 and 11 tokens are padded to 11.
    assert shapes == [(2, 11), (4, 1)] + [(1, 1)] * 38


def test_a_row_that_ended_never_passes_the_last_position() -> None:
    # 4 of 5 rows go on (above 3/4: nobody leaves) while the first has used up all 64 positions of the model.
    sampler = LocalSampler(build("gpt2"), PAD)
    full = call(sampler, (3,) * 60, SamplingParams(max_new_tokens=4))
    others = call(sampler, (3,) * 20, SamplingParams(max_new_tokens=30), 4)
    (ended,), rest = run(full, others)
    assert [len(c.token_ids) for c in (ended, *rest)] == [4, 30, 30, 30, 30]


def test_runs_meet_in_one_batch() -> None:
    model = build("llama")
    shapes = watch(model)
    sampler = LocalSampler(model, PAD)
    params = SamplingParams(max_new_tokens=1)

    def late(number: int) -> Asking[None]:
        for turn in range(3):
            yield [Ask(Request((number, turn), params), "rollout", lambda _: ())]

    play([late(10 + i) for i in range(4)], sampler)
    # One new token needs no step after the prompt is read: four prompts of two tokens, thrice.
    assert shapes == [(4, 2)] * 3


def test_an_answer_is_out_and_the_next_request_in_while_others_are_still_drawn() -> None:
    model = build("llama")
    shapes = watch(model)
    session = LocalSampler(model, PAD).session()
    session.put(1, Request((1, 2), SamplingParams(max_new_tokens=6), n=2))
    session.put(2, Request((3, 4), SamplingParams(max_new_tokens=2), n=1))
    assert [ticket for ticket, _ in session.take()] == [2]
    # The prompts, and a step that brings the second token of all three rows.
    assert shapes == [(2, 2), (3, 1)]
    session.put(3, Request((5, 6, 7), SamplingParams(max_new_tokens=3)))
    assert [ticket for ticket, _ in session.take()] == [3]
    # The new prompt enters at once beside the two rows that go on, and ends two steps later.
    assert shapes[2:] == [(1, 3), (3, 1), (3, 1)]
    assert [ticket for ticket, _ in session.take()] == [1]
    # Four of its six tokens were there; its two rows go on alone.
    assert shapes[5:] == [(2, 1), (2, 1)]
    assert session.take() == []


def test_models_with_other_states_decode_in_rounds_and_say_so() -> None:
    model = build("lfm2")
    sampler = LocalSampler(model, PAD)
    assert "lfm2" in sampler.notes[0] and "rounds" in sampler.notes[0]
    assert LocalSampler(build("llama"), PAD).notes == ()
    shapes = watch(model)
    session = sampler.session()
    session.put(1, Request((1, 2), SamplingParams(max_new_tokens=3)))
    session.put(2, Request((3, 4), SamplingParams(max_new_tokens=1)))
    assert [ticket for ticket, _ in session.take()] == [2]
    session.put(3, Request((5, 6), SamplingParams(max_new_tokens=1)))
    assert [ticket for ticket, _ in session.take()] == [1]
    assert [ticket for ticket, _ in session.take()] == [3]
    # The third prompt is read only once the first request has its three tokens.
    assert shapes == [(2, 2), (1, 1), (1, 1), (1, 2)]


def test_a_sample_is_the_same_whatever_enters_beside_it(model: PreTrainedModel) -> None:
    """Rows of many lengths come and go, with drafts and without: each sample is what it is alone."""
    draw = random.Random(5)
    requests = [
        Request(
            tuple(draw.choices(range(1, 48), k=draw.randint(1, 20))),
            SamplingParams(draw.randint(1, 30), draw.choice([0.0, 0.7, 1.0]), seed=i, stop_ids=(3,)),
            n=draw.randint(1, 3),
            draft=tuple(draw.choices(range(1, 48), k=draw.choice([0, 0, 25]))),
        )
        for i in range(24)
    ]
    alone = [generate(LocalSampler(model, PAD, copies=False), [r])[0] for r in requests]
    session = LocalSampler(model, PAD, token_budget=300).session()
    found: dict[int, list[Completion]] = {}
    for ticket, request in enumerate(requests):
        session.put(ticket, request)
        if ticket % 4 == 3:
            found |= dict(session.take())
    while len(found) < len(requests):
        found |= dict(session.take())
    for ticket, expected in enumerate(alone):
        assert [c.token_ids for c in found[ticket]] == [c.token_ids for c in expected]
        for one, other in zip(found[ticket], expected, strict=True):
            # A temperature of 0.7 magnifies what rounding does to a logit.
            assert one.logprobs == pytest.approx(other.logprobs, abs=2e-5)


@pytest.mark.parametrize("seed", range(4))
def test_a_draft_changes_no_sample(model: PreTrainedModel, seed: int) -> None:
    """Drafts are the completion itself with tokens left out, put in and replaced at random places."""
    draw = random.Random(seed)
    asked = [Request(p, SamplingParams(30, seed=seed, stop_ids=(40,)), n=2) for p in PROMPTS]
    plain = generate(LocalSampler(model, PAD), asked)

    def edited(ids: tuple[int, ...]) -> tuple[int, ...]:
        found = list(ids)
        for _ in range(draw.randint(0, 5)):
            at = draw.randrange(len(found)) if found else 0
            found[at : at + draw.randint(0, 2)] = draw.choices(range(48), k=draw.randint(0, 2))
        return tuple(found)

    drafted = [replace(r, draft=edited(c[0].token_ids)) for r, c in zip(asked, plain, strict=True)]
    copied = generate(LocalSampler(model, PAD), drafted)
    for one, other in zip(copied, plain, strict=True):
        assert [c.token_ids for c in one] == [c.token_ids for c in other]
        assert [c.finish for c in one] == [c.finish for c in other]
        for c, d in zip(one, other, strict=True):
            assert c.logprobs == pytest.approx(d.logprobs, abs=1e-5)


def test_a_draft_that_is_right_is_read_not_drawn_token_by_token() -> None:
    model = build("llama")
    sampler = LocalSampler(model, PAD)
    params = SamplingParams(max_new_tokens=20, seed=2)
    ((whole,),) = run(call(sampler, (1, 2, 3), params))
    shapes = watch(model)
    ((copied,),) = generate(sampler, [Request((1, 2, 3), params, draft=whole.token_ids)])
    assert copied.token_ids == whole.token_ids
    # One row: 16 tokens a pass draw most a token, (1 - 0.9^n) / (1 - 0.9) / (24 + n) = 0.204 for 16 (8: 0.178).
    # The prompt is read with 15 tokens of the draft, of which all and the one after it count; four are left.
    assert shapes == [(1, 18), (1, 4)]


def test_long_prompts_are_read_in_pieces(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = LocalSampler(model, PAD)
    requests = [Request(p, SamplingParams(12, seed=4), n=2, draft=(7, 3, 9)) for p in PROMPTS]
    whole = generate(sampler, requests)
    monkeypatch.setattr("kintsugi.sampling.prefill.READ_TOKENS", 5)
    shapes = watch(model)
    pieces = generate(sampler, requests)
    for one, other in zip(pieces, whole, strict=True):
        assert [c.token_ids for c in one] == [c.token_ids for c in other]
        assert one[0].logprobs == pytest.approx(other[0].logprobs, abs=1e-5)
    if sampler.notes == ():
        # Prompts of 11 and 8 tokens, each alone: five, and what is left with three tokens of the draft.
        assert shapes[:4] == [(1, 5), (1, 6 + 3), (1, 5), (1, 3 + 3)]


def test_an_error_is_raised_and_the_next_session_works() -> None:
    model = build("llama")
    sampler = LocalSampler(model, PAD)
    params = SamplingParams(max_new_tokens=3)

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    hook = model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        run(*[call(sampler, prompt, params) for prompt in PROMPTS])
    hook.remove()
    assert len(run(call(sampler, PROMPTS[0], params))[0][0].token_ids) == 3


def test_weights_that_diverged_are_named() -> None:
    model = build("llama")
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)
    with pytest.raises(KintsugiError, match="not finite"):
        run(call(LocalSampler(model, PAD), PROMPTS[0], SamplingParams(max_new_tokens=3)))


def test_rows_keep_the_token_budget(llama: PreTrainedModel) -> None:
    params = SamplingParams(max_new_tokens=9, seed=6)
    wide, narrow = (
        run(*[call(sampler, p, params, 3) for p in PROMPTS])
        for sampler in (LocalSampler(llama, PAD, token_budget=budget) for budget in (10_000, 30))
    )
    assert [c.token_ids for call in wide for c in call] == [c.token_ids for call in narrow for c in call]


def test_sampling_is_in_eval_mode_and_leaves_the_mode_alone() -> None:
    model = build("gpt2")
    params = SamplingParams(max_new_tokens=10, temperature=0.0)
    expected = run(call(LocalSampler(model, PAD), PROMPTS[0], params))
    model.train()  # GPT-2 has dropout 0.1
    model.transformer.h[0].eval()
    modes = [module.training for module in model.modules()]
    assert run(call(LocalSampler(model, PAD), PROMPTS[0], params)) == expected
    assert [module.training for module in model.modules()] == modes


def test_the_models_last_position_limits_the_completion(llama: PreTrainedModel) -> None:
    sampler = LocalSampler(llama, PAD)
    params = SamplingParams(max_new_tokens=20)
    ((fits,),) = run(call(sampler, (3,) * 60, params))
    assert (len(fits.token_ids), fits.finish) == (4, "length")
    with pytest.raises(KintsugiError, match=r"prompt of 64 tokens .* 64 positions"):
        run(call(sampler, (3,) * 64, params))


def test_arguments_that_make_no_sense_are_refused(llama: PreTrainedModel) -> None:
    sampler = LocalSampler(llama, PAD)
    good = SamplingParams(max_new_tokens=2)
    assert run(call(sampler, (1,), good, 0)) == [[]]
    for prompt, params, n, message in [
        ((), good, 1, "prompt is empty"),
        ((1, 48), good, 1, r"\[0, 48\), got 1 to 48"),
        ((1,), good, -1, "n=-1"),
        ((1,), SamplingParams(max_new_tokens=0), 1, "max_new_tokens=0"),
        ((1,), SamplingParams(max_new_tokens=2, top_p=0.0), 1, "top_p=0.0"),
        ((1,), SamplingParams(max_new_tokens=2, temperature=-1.0), 1, "temperature=-1.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            run(call(sampler, prompt, params, n))


def test_version_and_autocast_hold_at_decoding_time() -> None:
    model = build("llama")
    seen: set[torch.dtype] = set()
    model.model.layers[0].mlp.register_forward_hook(lambda module, args, output: seen.add(output.dtype))
    steps = 3
    sampler = LocalSampler(model, PAD, version=lambda: steps, autocast=torch.bfloat16)
    params = SamplingParams(max_new_tokens=2)
    ((before,),) = run(call(sampler, PROMPTS[0], params))
    steps = 4
    ((after,),) = run(call(sampler, PROMPTS[0], params))
    assert (before.version, after.version) == (3, 4)
    assert seen == {torch.bfloat16}


def test_weights_are_cast_once_a_batch_and_are_the_trained_ones_again_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Same samples and log-probabilities, bit for bit, as with autocast alone, which casts at every token."""
    model = build("llama")
    layer = model.model.layers[0].mlp.down_proj
    trained = layer.weight
    seen: set[torch.dtype] = set()
    layer.register_forward_hook(lambda module, args, output: seen.add(module.weight.dtype))
    params = SamplingParams(max_new_tokens=8, seed=5)
    sampler = LocalSampler(model, PAD, autocast=torch.bfloat16)
    cast = run(call(sampler, PROMPTS[0], params, 2))
    assert seen == {torch.bfloat16}
    assert layer.weight is trained and trained.dtype == torch.float32 and trained.requires_grad
    monkeypatch.setattr("kintsugi.sampling.forward.cast", lambda *_: {})
    assert run(call(sampler, PROMPTS[0], params, 2)) == cast
    assert torch.float32 in seen
