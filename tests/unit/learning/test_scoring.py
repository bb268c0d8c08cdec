"""Log-probabilities of completions on tiny models of several kinds, against a plain forward pass."""

from __future__ import annotations

import copy
import dataclasses
import math
import random
from typing import Any

import pytest
import torch
from fakes import make_row
from torch import Tensor

from kintsugi.learning import scoring
from kintsugi.learning.scoring import (
    Scorer,
    chunked_logprobs,
    forked,
    keeps_plain_cache,
    micro_batches,
    reaches,
    sequences,
    split_head,
)
from kintsugi.records import Reach, Row
from kintsugi.sampling.base import Fork

VOCABULARY = 60


def model_of(kind: str) -> Any:
    """A causal LM of this kind with 2 layers of 32 at random weights far from uniform."""
    import transformers as hf

    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "initializer_range": 0.3,
    }  # fmt: skip
    modern = sizes | {"intermediate_size": 64, "num_key_value_heads": 1, "max_position_embeddings": 64}
    gemma = modern | {"head_dim": 16, "pad_token_id": 0}
    makers = {
        "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**modern)),
        "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**modern, head_dim=16, tie_word_embeddings=True)),
        "gpt2": lambda: hf.GPT2LMHeadModel(
            hf.GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=64)
        ),
        "bloom": lambda: hf.BloomForCausalLM(
            hf.BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=2)
        ),
        # Gemma 2 caps its logits after the head; a window of 8 is shorter than the sequences here.
        "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**gemma, sliding_window=8)),
        "gemma3": lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**gemma, sliding_window=8)),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return makers[kind]().eval()


KINDS = ("llama", "qwen3", "gpt2", "bloom", "gemma2", "gemma3")


def rows_of(seed: int = 0) -> list[Row]:
    """Three prompts of 3, 7 and 12 tokens with three completions each; some gates are sparse."""
    rng = random.Random(seed)
    rows = []
    for length in (3, 7, 12):
        prompt = tuple(rng.randrange(1, VOCABULARY) for _ in range(length))
        for size in (1, 5, 9):
            ids = tuple(rng.randrange(1, VOCABULARY) for _ in range(size))
            mask = tuple(int(t == 0 or rng.random() < 0.5) for t in range(size))
            rows.append(make_row(prompt, ids, 1.0, mask))
    return rows


def by_forward(model: Any, row: Row, temperature: float) -> Tensor:
    """log pi of every completion token from one plain pass over the whole sequence."""
    ids = torch.tensor([[*row.prompt_ids, *row.completion_ids]])
    logprobs = (model(ids).logits[0].float() / temperature).log_softmax(-1)
    start = len(row.prompt_ids)
    return torch.stack([logprobs[start + t - 1, token] for t, token in enumerate(row.completion_ids)])


def loss_of(model: Any, rows: list[Row], temperature: float) -> Tensor:
    """The sum, over all gated tokens, of (1 + place) * log pi."""
    total = torch.zeros(())
    for row in rows:
        found = by_forward(model, row, temperature)
        total = total + sum((1 + t) * found[t] for t, gate in enumerate(row.mask) if gate)
    return total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", [4096, 20], ids=["together", "apart"])
def test_scores_and_gradients_are_those_of_a_plain_pass(kind: str, budget: int) -> None:
    model, rows = model_of(kind), rows_of()
    plain = copy.deepcopy(model)
    loss_of(plain, rows, 0.7).backward()
    scorer = Scorer(model, 0, 0.7, None)
    scorer.passing = 0  # so that prompts of a few tokens are worth a pass of their own
    for chunk in micro_batches(sequences(rows, range(len(rows))), budget):
        scores_BT = scorer(chunk)
        for item, scores in zip(chunk, scores_BT, strict=True):
            (place,) = item.rows
            expected = by_forward(plain, rows[place], 0.7).detach()[: len(item.wanted)] * torch.tensor(
                item.wanted
            )
            assert torch.allclose(scores[: len(item.wanted)], expected, atol=2e-5)
            assert not scores[len(item.wanted) :].any()
        (scores_BT * (1 + torch.arange(scores_BT.shape[1]))).sum().backward()
    for (name, mine), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        scale = float(theirs.grad.abs().max())
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-4 * max(1.0, scale)), name


def test_the_reach_of_two_tokens() -> None:
    """Probabilities 1/2, 1/4, 1/8, 1/8 at temperature 1 from logits at temperature 2, and entropy 7/4 log 2: the sum of
    p log 1/p is log 2 (1/2 + 2/4 + 3/8 + 3/8). Two tokens of the same probability share their rank."""
    logits = 2 * torch.tensor([[1 / 2, 1 / 4, 1 / 8, 1 / 8]]).log()
    ((reach),) = reaches(logits, torch.tensor([[1, 3]]), temperature=2.0)
    expected = Reach(math.log(1 / 4), 2, math.log(1 / 8), 3, 7 / 4 * math.log(2))
    assert (reach.failed_rank, reach.fix_rank) == (expected.failed_rank, expected.fix_rank)
    found = (reach.failed, reach.fix, reach.entropy)
    assert found == pytest.approx((expected.failed, expected.fix, expected.entropy))


@pytest.mark.parametrize("kind", KINDS)
def test_a_fork_is_looked_at_where_a_plain_pass_says(kind: str) -> None:
    """Prefixes of 0, 1 and 4 tokens after two prompts; the first two forks are at one place."""
    model = model_of(kind)
    forks = [
        Fork((1, 2, 3), (), 4, 5), Fork((1, 2, 3), (), 6, 4), Fork((1, 2, 3), (4,), 7, 8),
        Fork((9,), (1, 2, 3, 4), 5, 6),
    ]  # fmt: skip
    scorer = Scorer(model, 0, 0.7, None)
    chunks = micro_batches(forked(forks), 4096)
    assert sum(map(len, chunks)) == 3
    found = {i: reach for chunk in chunks for i, reach in scorer.reach(chunk, forks).items()}
    for i, fork in enumerate(forks):
        logits = model(torch.tensor([[*fork.prompt_ids, *fork.prefix]])).logits[:, -1]
        (expected,) = reaches(logits.detach(), torch.tensor([[fork.failed, fork.fix]]), 0.7)
        assert dataclasses.astuple(found[i]) == pytest.approx(dataclasses.astuple(expected), abs=2e-5)


@pytest.mark.parametrize(
    ("kind", "splits"), [("llama", True), ("qwen3", True), ("gpt2", True), ("bloom", True), ("gemma2", False)]
)
def test_a_head_is_split_off_only_where_nothing_follows_it(kind: str, splits: bool) -> None:
    model = model_of(kind)
    assert (split_head(model) is not None) == splits
    ids = torch.tensor([[1, 2, 3]])
    before = model(ids).logits
    assert torch.equal(before, model_of(kind)(ids).logits)  # the probe left nothing behind


def test_a_head_that_is_fed_something_else_is_not_split_off() -> None:
    model = model_of("llama")
    model.lm_head.register_forward_pre_hook(lambda _, inputs: (2 * inputs[0],))
    assert split_head(model) is None


def test_a_prompt_that_is_shared_is_computed_once() -> None:
    model, rows = model_of("llama"), rows_of()
    seen: list[tuple[int, ...]] = []
    model.model.embed_tokens.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape)))
    scorer = Scorer(model, 0, 1.0, None)
    scorer.passing = 0
    seen.clear()
    (chunk,) = micro_batches(sequences(rows, range(3)), 4096)
    longest = max(len(item.completion_ids) for item in chunk)
    scorer(chunk)
    assert seen == [(1, 3), (3, longest - 1)]  # the last token of a completion predicts nothing


def test_a_prompt_is_computed_once_where_that_saves_more_than_a_pass_costs() -> None:
    """Three completions of one prompt of 3 tokens: in a pass of its own the prompt takes 3 positions instead of 9."""
    model, rows = model_of("llama"), rows_of()
    passes: list[int] = []
    model.model.register_forward_hook(lambda *_: passes.append(1))
    scorer = Scorer(model, 0, 1.0, None)
    (chunk,) = micro_batches(sequences(rows, range(3)), 4096)
    for passing, expected in ((5, 2), (6, 1)):
        scorer.passing = passing
        passes.clear()
        scorer(chunk)
        assert len(passes) == expected


def test_chunks_of_logits_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept whole, or dropped and computed again in chunks of two tokens: the same numbers and gradients."""
    features, ids = torch.randn(7, 4), torch.randint(0, 5, (7,))
    found = []
    for kept, size in ((scoring.KEPT_LOGITS, scoring.CHUNK_LOGITS), (0, 2 * 4 * 5)):
        monkeypatch.setattr(scoring, "KEPT_LOGITS", kept)
        monkeypatch.setattr(scoring, "CHUNK_LOGITS", size)
        shapes: list[int] = []
        weight = torch.linspace(-1, 1, 20).reshape(5, 4).requires_grad_()
        mine = features.clone().requires_grad_()

        def head(x: Tensor, weight: Tensor = weight, shapes: list[int] = shapes) -> Tensor:
            shapes.append(len(x))
            return x @ weight.T

        scores = chunked_logprobs(mine, ids, head, 5, 0.7)
        scores.sum().backward()
        found.append((scores.detach(), mine.grad, weight.grad, shapes))
    whole, pieces = found
    assert whole[3] == [7]
    assert pieces[3][:4] == [2, 2, 2, 1] and sorted(pieces[3][4:]) == [1, 2, 2, 2]  # forward, then once more
    for a, b in zip(whole[:3], pieces[:3], strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_prompts_are_shared_through_plain_caches_alone() -> None:
    import transformers as hf

    assert keeps_plain_cache(model_of("llama").config)
    assert keeps_plain_cache(model_of("gemma3").config)
    recurrent = hf.Qwen3NextConfig(num_hidden_layers=4)  # three layers of four keep a state, not keys
    assert not keeps_plain_cache(recurrent)
