"""How well a model fits a text: windows that score each token once, and cross entropies known in advance."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from kintsugi import KintsugiError, Recipe
from kintsugi.assembly import Parts, assemble
from kintsugi.run import perplexity
from kintsugi.run.perplexity import fit, windows


@pytest.fixture(scope="module")
def parts() -> Parts:
    recipe = {"model": "nano", "task": "dag", "prompts": "terse-v1", "threads": 1, "dtype": "float32"}
    return assemble(Recipe.parse(recipe))


def test_each_token_but_the_first_is_scored_once_after_half_a_window() -> None:
    # ids 0..8 in windows of 4: two tokens at a time, after the two before them (the first has one only)
    found = [(target.prompt_ids, target.completion_ids) for target in windows(range(9), 4)]
    assert found == [((0,), (1, 2)), ((1, 2), (3, 4)), ((3, 4), (5, 6)), ((5, 6), (7, 8))]
    assert [target.completion_ids for target in windows(range(4), 4)] == [(1, 2), (3,)]
    assert all(all(target.wanted) for target in windows(range(9), 4))


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary(parts: Parts) -> None:
    # All logits 0: each of V tokens has probability 1/V, so ln V nats a token and perplexity V.
    head = parts.loaded.model.get_output_embeddings()
    kept = head.weight.detach().clone()
    try:
        with torch.no_grad():
            head.weight.zero_()
        found = fit(parts, "a=1+2,b=a+3")
    finally:
        with torch.no_grad():
            head.weight.copy_(kept)
    size = kept.shape[0]
    assert found.tokens == len(parts.loaded.codec.encode("a=1+2,b=a+3")) - 1
    assert found.nats == pytest.approx(math.log(size), abs=1e-5)
    assert found.perplexity == pytest.approx(size, rel=1e-4)


def test_a_text_within_half_a_window_is_the_models_own_cross_entropy(parts: Parts) -> None:
    ids = torch.tensor([parts.loaded.codec.encode("a=1+2,b=a+3\na=3\nb=6\n#### 6")])
    with torch.no_grad():
        # transformers' own loss: the mean over the tokens but the first
        expected = float(parts.loaded.model(ids, labels=ids).loss)
    assert fit(parts, "a=1+2,b=a+3\na=3\nb=6\n#### 6").nats == pytest.approx(expected, abs=1e-4)


def test_windows_are_averaged_by_token(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three windows of different lengths, each computed alone by transformers."""
    monkeypatch.setattr(perplexity, "WINDOW", 8)
    text = "a=1+2,b=a+3"
    ids = parts.loaded.codec.encode(text)
    total = 0.0
    with torch.no_grad():
        for at in range(1, len(ids), 4):
            begin = max(0, at - 4)
            logits = parts.loaded.model(torch.tensor([ids[begin : at + 4]])).logits[0].log_softmax(-1)
            total -= sum(float(logits[t - 1 - begin, ids[t]]) for t in range(at, min(at + 4, len(ids))))
    assert fit(parts, text).nats == pytest.approx(total / (len(ids) - 1), abs=1e-4)
    # and in micro-batches of one window each, the same
    small = replace(
        parts,
        recipe=parts.recipe.model_copy(
            update={"optim": parts.recipe.optim.model_copy(update={"token_budget": 16})}
        ),
    )
    assert fit(small, text).nats == pytest.approx(total / (len(ids) - 1), abs=1e-4)


@pytest.mark.parametrize("text", ["", "a"])
def test_a_text_without_a_token_to_score_is_refused(text: str, parts: Parts) -> None:
    with pytest.raises(KintsugiError, match=r"^--text: expected a text of two tokens at least, got"):
        fit(parts, text)
