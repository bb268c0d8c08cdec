"""Rows to optimizer steps, on a Llama with 2 layers of 32 and 50 tokens at random weights."""

from __future__ import annotations

import copy
import math
import random
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from fakes import make_row, part_of
from torch import Tensor

from kintsugi.config import Optim
from kintsugi.learning.learner import LocalLearner
from kintsugi.learning.objective import Objective
from kintsugi.learning.scoring import Target, micro_batches, sequences
from kintsugi.records import Row
from kintsugi.sampling.base import RowStats, Score

GSPO = Objective("sequence", clip_low=0.2, clip_high=0.3)
Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def base() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,  # far from uniform, so that log-probabilities differ
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return LlamaForCausalLM(config)


def learner(
    base: Any, objective: Objective = GSPO, *, temperature: float = 1.0, **optim: Any
) -> LocalLearner:
    """A learner of a copy of the model: no warm-up, no gradient clipping, unless `optim` says otherwise."""
    settings = {"lr": 1e-5, "warmup": 0, "grad_clip": 1e9, "token_budget": 4096} | optim
    return LocalLearner(copy.deepcopy(base), Optim(**settings), objective, pad_id=0, temperature=temperature)


FAILED = make_row([5, 6, 7], [11, 12, 13, 14, 0], -1.0, [0, 1, 1, 0, 0], "failed")
REPAIRED = make_row([5, 6, 7], [11, 22, 14, 0], 1.0, [0, 1, 0, 0], "repaired")
LONG_REPAIR = make_row(range(1, 20), [11, 22, 14, 0], 1.5, part="repair", weight=0.2)
SHORT_REPAIR = make_row([9], [31], -0.5, part="repair", weight=0.2)
MIXED = [FAILED, REPAIRED, LONG_REPAIR, SHORT_REPAIR]


def weights(learned: LocalLearner) -> Weights:
    return {name: p.detach().clone() for name, p in learned.model.named_parameters()}


def gradients(learned: LocalLearner) -> Weights:
    """What the last update's backward passes left behind."""
    return {name: p.grad.clone() for name, p in learned.model.named_parameters() if p.grad is not None}


def furthest(a: Weights, b: Weights) -> float:
    """The largest difference between two sets of the same tensors."""
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def gated_mean(values: Sequence[float], mask: Sequence[int]) -> float:
    return sum(v * g for v, g in zip(values, mask, strict=True)) / sum(mask)


def scores(rows: Sequence[Row]) -> list[Score]:
    return [Score(row.prompt_ids, row.completion_ids) for row in rows]


def on_gate(values: Sequence[float], of: Row) -> list[float]:
    """What a learner says of a row: values where the mask is 1, NaN (nothing was computed) elsewhere."""
    return [v if m else math.nan for v, m in zip(values, of.mask, strict=True)]


# ---- log-probabilities


def test_logprobs_are_the_models_own_whatever_they_are_padded_with(base: Any) -> None:
    found = learner(base, temperature=0.7).logprobs(scores(MIXED))
    for this, logprobs in zip(MIXED, found, strict=True):
        ids = torch.tensor([[*this.prompt_ids, *this.completion_ids]])
        with torch.no_grad():
            whole = (base(ids).logits[0] / 0.7).log_softmax(-1)
        start = len(this.prompt_ids)
        alone = [float(whole[start + t - 1, token]) for t, token in enumerate(this.completion_ids)]
        assert logprobs == pytest.approx(alone, abs=1e-5)


# ---- the loss of a step


def test_nll_step_against_its_logprobs(base: Any) -> None:
    """Loss = mean over rows of (1/T) sum_t -A_t log pi_t, with the weights as they were before the step."""
    rows = [make_row([5, 6], [11, 12, 0], 1.0, [1, 1, 0]), make_row([7], [21, 22, 23, 0], 0.5)]
    learned = learner(base, Objective("nll"))
    first, second = learned.logprobs(scores(rows))
    by_hand = (-(first[0] + first[1]) / 2 + -0.5 * sum(second) / 4) / 2
    stats = learned.step(rows)
    assert stats.loss == pytest.approx(by_hand, rel=1e-5)
    assert stats.rows[0].loss == pytest.approx(-(first[0] + first[1]) / 2, rel=1e-5)
    assert stats.tokens == 5 + 5
    # It was a step downhill.
    after = learned.logprobs(scores(rows))
    assert sum(after[0][:2]) / 2 + sum(after[1]) / 8 > sum(first[:2]) / 2 + sum(second) / 8


def test_policy_and_repair_rows_have_means_of_their_own(base: Any) -> None:
    # On policy every ratio is 1, so a row's loss is -A. J_pol = (-1 + 1 + 0.25) / 3 over three policy rows;
    # J_rep = (1.5 - 0.5) / 2 over two repair rows, weighted by 0.2. Loss = -(0.25 / 3 + 0.2 * 0.5).
    rows = [FAILED, LONG_REPAIR, REPAIRED, make_row([8], [41, 42], 0.25), SHORT_REPAIR]
    stats = learner(base).step(rows)
    assert stats.loss == pytest.approx(-(0.25 / 3 + 0.1), abs=1e-6)
    assert [r.loss for r in stats.rows if r] == pytest.approx([1, -1.5, -1, -0.25, 0.5], abs=1e-6)
    assert stats.ratio == pytest.approx(1.0)
    assert (stats.clip_fraction, stats.updates) == (0.0, 1)


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        # Three rows with 3, 1 and 2 tokens trained on, advantages 1, -2 and 0; on policy a token's loss is -A.
        ("row", (-1 + 2 + 0) / 3),
        ("token", (-3 + 2 + 0) / 6),
        ("constant", (-3 + 2 + 0) / 8 / 3),
    ],
)
@pytest.mark.parametrize("budget", [16, 4096])
def test_a_step_reduces_as_the_objective_says(
    base: Any, reduction: str, expected: float, budget: int
) -> None:
    rows = [
        make_row([5, 6], [11, 12, 0]),
        make_row([7], [21, 22, 0], -2.0, [0, 1, 0]),
        make_row([8], [41, 0], 0.0),
    ]
    objective = Objective("token", reduction=reduction, horizon=8)
    stats = learner(base, objective, token_budget=budget).step(rows)
    assert stats.loss == pytest.approx(expected, abs=1e-6)


def test_rows_without_credit_count_in_the_mean(base: Any) -> None:
    """A group of equal rewards has advantages of 0: its rows cost nothing, but count in the mean."""
    alone, beside = learner(base), learner(base)
    assert alone.step([REPAIRED]).loss == pytest.approx(-1.0)
    stats = beside.step([REPAIRED, make_row([8], [41, 42], 0.0)])
    assert stats.loss == pytest.approx(-0.5)
    assert stats.rows[1] is None
    assert stats.tokens == 3 + 4  # what was gone through
    halved = {name: g / 2 for name, g in gradients(alone).items()}
    assert furthest(gradients(beside), halved) < 1e-6


def test_only_gated_tokens_move_the_weights(base: Any) -> None:
    """What stands behind the last gated token is never looked at: other tokens there, the same gradient."""
    other_tail = make_row([5, 6, 7], [11, 12, 13, 44, 45, 46, 0], -1.0, [0, 1, 1, 0, 0, 0, 0], "failed")
    first, second = learner(base), learner(base)
    first.step([FAILED])
    second.step([other_tail])
    assert furthest(gradients(first), gradients(second)) < 1e-6
    assert max(float(g.abs().max()) for g in gradients(first).values()) > 1e-3


# ---- packing


@pytest.mark.parametrize("objective", [GSPO, Objective("nll")], ids=lambda o: o.level)
def test_micro_batches_and_padding_change_nothing(base: Any, objective: Objective) -> None:
    """One padded batch of four rows, or rows one by one: the same loss, gradient and weights."""
    together = learner(base, objective, token_budget=4096)
    apart = learner(base, objective, token_budget=16)
    one, other = together.step(MIXED), apart.step(MIXED)
    assert one.loss == pytest.approx(other.loss, abs=1e-6)
    assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-5)
    assert furthest(gradients(together), gradients(apart)) < 1e-6 * one.grad_norm
    assert furthest(weights(together), weights(apart)) < 1e-6
    assert furthest(weights(together), weights(learner(base))) > 5e-6  # they did move


def test_statistics_stay_with_their_rows(base: Any) -> None:
    """Micro-batches go longest first; what is said of a row must still be said of that row."""
    learned = learner(base, token_budget=16)
    before = learned.logprobs(scores(MIXED))
    stats = learned.step(MIXED)
    for this, found, logprobs in zip(MIXED, stats.rows, before, strict=True):
        assert found.logprobs == pytest.approx(on_gate(logprobs, this), abs=1e-5, nan_ok=True)


def size(chunk: Sequence[Target]) -> int:
    """Padded positions: each distinct prompt once, each completion."""
    prompts = {item.prompt_ids for item in chunk}
    return len(prompts) * max(map(len, prompts)) + len(chunk) * max(len(i.completion_ids) for i in chunk)


def test_micro_batches_deal_every_row_once_and_keep_the_budget() -> None:
    rng = random.Random(1)
    rows = [make_row(range(rng.randrange(1, 40)), [rng.randrange(50) for _ in range(9)]) for _ in range(60)]
    indices = list(range(0, 60, 2))
    chunks = micro_batches(sequences(rows, indices), token_budget=100)
    assert sorted(i for chunk in chunks for item in chunk for i in item.rows) == indices
    for chunk in chunks:
        assert len(chunk) == 1 or size(chunk) <= 100
    alone = micro_batches(sequences(rows, indices), token_budget=9)  # a row larger than it goes alone
    assert len(alone) == 30


def test_micro_batches_keep_a_prompts_completions_together_where_that_saves_most() -> None:
    # Two prompts of 60 with four completions of 4 each: by prompts 60 + 4 * 4 = 76 positions a chunk. In the
    # order of completion lengths (4, 4, 3, 3, ...) every chunk would hold both prompts.
    rows = [make_row([p] * 60, [t] * n) for n in (4, 3, 2, 1) for p in (1, 2) for t in (7, 8, 9, 10)]
    chunks = micro_batches(sequences(rows, range(len(rows))), token_budget=130)
    assert [len({item.prompt_ids for item in chunk}) for chunk in chunks] == [1, 1]


def test_micro_batches_go_by_completions_where_those_are_what_costs() -> None:
    # 4 prompts of 2 tokens, each with a completion of 400 and one of 4. Together they would be padded to
    # 8 * 402; by length, 4 * 402 and then 4 * 6.
    rows = [make_row([p, p], [t] * n) for p in range(4) for t, n in ((7, 400), (8, 4))]
    chunks = micro_batches(sequences(rows, range(len(rows))), token_budget=10_000)
    assert [{len(item.completion_ids) for item in chunk} for chunk in chunks] == [{400}, {4}]


def test_micro_batches_are_cut_where_padding_costs_more_than_a_pass() -> None:
    # Completions of 90, 90 and 30 after prompts of 10: one chunk of 3 * 100 + p, or two of 2 * 100 + p and 40 + p.
    rows = [make_row([p] * 10, [7] * n) for p, n in ((1, 90), (2, 90), (3, 30))]
    for passing, expected in ((61, [3]), (59, [2, 1])):
        chunks = micro_batches(sequences(rows, range(3)), 10_000, passing)
        assert [len(chunk) for chunk in chunks] == expected


def test_rows_over_one_completion_are_one_sequence_up_to_its_last_gated_token() -> None:
    early, late = (
        make_row([5], [1, 2, 3, 4], 1.0, [1, 0, 0, 0]),
        make_row([5], [1, 2, 3, 4], -1.0, [0, 0, 1, 0]),
    )
    other = make_row([6], [1, 2, 3, 4], 1.0, [0, 1, 0, 0])
    assert sequences([early, other, late, make_row([7], [1], 1.0, [0])], range(4)) == [
        Target((5,), (1, 2, 3), (True, False, True), (0, 2)),
        Target((6,), (1, 2), (False, True), (1,)),
    ]


# ---- empty gates


def test_an_empty_gate_warns_and_trains_nothing(base: Any) -> None:
    learned = learner(base)
    before = weights(learned)
    with pytest.warns(UserWarning, match="1 of 1 rows have an empty gate"):
        stats = learned.step([make_row([5], [11, 12], -1.0, [0, 0], "failed")])
    assert furthest(weights(learned), before) == 0.0
    assert (stats.updates, stats.lr, stats.loss, stats.tokens, learned.version) == (0, 0.0, 0.0, 0, 0)
    assert stats.rows == (None,)


def test_a_step_without_rows_does_nothing(base: Any) -> None:
    learned = learner(base)
    before = weights(learned)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stats = learned.step([])
    assert furthest(weights(learned), before) == 0.0
    assert (stats.updates, stats.lr, stats.loss, learned.version, stats.rows) == (0, 0.0, 0.0, 0, ())


# ---- several updates per step


def test_the_second_minibatch_has_ratios_off_one(base: Any) -> None:
    """pi_old is the policy before the step; the second update's ratio is against it."""
    first = make_row([5, 6, 7], [11, 12, 0], -1.0, [0, 1, 1])
    second = make_row([5, 6, 7], [11, 22, 0], 2.0, [1, 1, 0])
    learned = learner(base, lr=1e-3, minibatches=2)
    old = learned.logprobs(scores([first, second]))
    # A learner that sees the first row alone is, after one update, where the second update starts. (The
    # first update weighs its one row by 1 / (2 * 1/2): as if it were alone.)
    shadow = learner(base, lr=1e-3)
    shadow.step([first])
    (now,) = shadow.logprobs(scores([second]))
    w = math.exp(gated_mean([b - a for a, b in zip(old[1], now, strict=True)], second.mask))
    assert abs(w - 1) > 1e-3

    stats = learned.step([first, second])
    assert (stats.updates, learned.version) == (2, 2)
    one, two = stats.rows
    assert one.ratio == pytest.approx(1.0, abs=1e-6)
    assert two.old_logprobs == pytest.approx(on_gate(old[1], second), abs=1e-5, nan_ok=True)
    assert two.logprobs == pytest.approx(on_gate(now, second), abs=1e-5, nan_ok=True)
    assert two.ratio == pytest.approx(w, abs=1e-5)
    assert two.loss == pytest.approx(-2 * w, abs=1e-4)
    # The step's loss is the mean of its two updates': -(-1) and -2 w.
    assert stats.loss == pytest.approx((1 - 2 * w) / 2, abs=1e-4)
    assert stats.ratio == pytest.approx((1 + w) / 2, abs=1e-5)


def test_an_exact_samplers_log_probabilities_are_the_old_policys(base: Any) -> None:
    """Of four rows in two updates the second of either kind comes last: one has the sampler's figures, the other, a
    repair given the problem alone, has none, and only it is computed before the first update."""
    sampled = [replace(row, sampling_logprobs=(-1.5,) * len(row.mask)) for row in (FAILED, FAILED)]
    rows = [*sampled, make_row([5, 6, 7], [11, 22, 14, 0], 1.0), make_row([5, 6, 7], [11, 23, 14, 0], 1.0)]
    rows[2:] = [replace(row, sampling_logprobs=None) for row in rows[2:]]
    learned = learner(base, minibatches=2)
    learned.sampler_exact = True
    old, scored = learned.logprobs(scores(rows)), []
    learned.scorer.model.register_forward_hook(lambda *_: scored.append(torch.is_inference_mode_enabled()))
    learned.scorer.body.register_forward_hook(lambda *_: scored.append(torch.is_inference_mode_enabled()))
    stats = learned.step(rows)
    first, second = (
        [i for i in pair if stats.rows[i] and off_one(stats.rows[i]) < 1e-5] for pair in ((0, 1), (2, 3))
    )
    (one,), (two,) = first, second
    assert stats.rows[one].old_logprobs == pytest.approx(on_gate(old[one], rows[one]), abs=1e-5, nan_ok=True)
    assert stats.rows[1 - one].old_logprobs == pytest.approx(on_gate((-1.5,) * 5, FAILED), nan_ok=True)
    assert stats.rows[5 - two].old_logprobs == pytest.approx(on_gate(old[5 - two], rows[5 - two]), abs=1e-5)
    assert scored.count(True) == 1


def test_a_ratio_beyond_the_clip_stops_training(base: Any) -> None:
    """The same row twice: the first update takes its ratio beyond 1 + 1e-6, so the second has no gradient."""
    same = make_row([5, 6, 7], [11, 22, 0], 1.0)
    learned = learner(base, Objective("sequence", 1e-6, 1e-6), lr=1e-3, minibatches=2)
    stats = learned.step([same, same])
    assert [r.clipped for r in stats.rows if r] == [0.0, 1.0]
    assert stats.clip_fraction == 0.5
    assert stats.rows[1].loss == pytest.approx(-1 - 1e-6, abs=1e-7)
    assert max(float(g.abs().max()) for g in gradients(learned).values()) == 0.0


def test_every_minibatch_holds_failures_and_repairs(base: Any) -> None:
    """iop's rows come as failure, repair, failure, repair: neither update may get one kind alone.

    Rows of the first update have a ratio of 1 (it changed nothing yet), those of the second do not.
    """
    other = [make_row([8], [43], -1.0, None, "failed"), make_row([8], [41, 42, 0], 1.0, None, "repaired")]
    seams = [*other, FAILED, REPAIRED]
    learned = learner(base, lr=1e-2, minibatches=2)
    old = learned.logprobs(scores(seams))
    stats = learned.step(seams)
    first = [
        part_of(this)
        for this, found in zip(seams, stats.rows, strict=True)
        if found and off_one(found) < 1e-5
    ]
    assert sorted(first) == ["failed", "repaired"]
    assert sum(off_one(found) > 1e-3 for found in stats.rows if found) == 2
    for this, found, logprobs in zip(seams, stats.rows, old, strict=True):
        assert found is not None
        assert found.old_logprobs == pytest.approx(on_gate(logprobs, this), abs=1e-5, nan_ok=True)


def off_one(found: RowStats) -> float:
    return abs(found.ratio - 1)


def test_minibatches_share_a_steps_weight(base: Any) -> None:
    # Four on-policy rows of A = 1, at a learning rate that moves nothing to speak of: each update is a mean
    # over its own rows, so its loss is -1 and so is the step's.
    rows = [make_row([5, 6, t], [11, 12], 1.0) for t in (1, 2, 3, 4)]
    for minibatches, updates in ((2, 2), (8, 4)):  # never more updates than rows
        stats = learner(base, lr=1e-9, minibatches=minibatches).step(rows)
        assert stats.updates == updates
        assert stats.loss == pytest.approx(-1.0, abs=1e-5)


# ---- the learning rate


@pytest.mark.parametrize(
    ("warmup", "schedule", "update", "expected"),
    [
        # (update + 1) / (warmup + 1) of the peak, then the peak
        (3, "constant", 0, 0.25),
        (3, "constant", 1, 0.50),
        (3, "constant", 2, 0.75),
        (3, "constant", 3, 1.0),
        (3, "constant", 99, 1.0),
        (0, "constant", 0, 1.0),
        # 0.05 + 0.95 * (1 + cos(pi * done)) / 2 where `update` tenths of the run are over
        (0, "cosine", 0, 1.0),
        (0, "cosine", 5, 0.05 + 0.95 * 0.5),
        (0, "cosine", 10, 0.05),
        (0, "cosine", 15, 0.05),
        # both: half of the warm-up at update 4 of 9, where cos(0.4 pi) = 0.30902
        (9, "cosine", 4, 0.5 * (0.05 + 0.95 * 0.65451)),
    ],
)
def test_learning_rate(base: Any, warmup: int, schedule: str, update: int, expected: float) -> None:
    learned = LocalLearner(
        base, Optim(lr=1.0, warmup=warmup, schedule=schedule), GSPO, pad_id=0
    )  # fmt: skip
    assert learned.learning_rate(update, update / 10) == pytest.approx(expected, rel=1e-5)


def test_the_rate_is_the_one_that_is_used(base: Any) -> None:
    # Adam's first update moves a weight by lr * g / (|g| + 1e-8), so the furthest by lr itself: 4e-3 / 2.
    learned = learner(base, lr=4e-3, warmup=1)
    before = weights(learned)
    stats = learned.step([REPAIRED])
    assert stats.lr == pytest.approx(2e-3)
    assert furthest(weights(learned), before) == pytest.approx(2e-3, rel=1e-3)
    assert learned.step([REPAIRED]).lr == pytest.approx(4e-3)


def test_gradients_are_clipped_at_their_norm(base: Any) -> None:
    free, bound = learner(base), learner(base, grad_clip=0.01)
    norm = free.step([REPAIRED]).grad_norm
    assert norm > 0.01
    assert bound.step([REPAIRED]).grad_norm == pytest.approx(norm, rel=1e-5)  # reported as it was
    scaled = {name: g * 0.01 / norm for name, g in gradients(free).items()}
    assert furthest(gradients(bound), scaled) < 1e-6


# ---- what samplers and accidents do


def test_sampler_gap(base: Any) -> None:
    learned = learner(base)
    first, second = learned.logprobs(scores([FAILED, REPAIRED]))
    off = (first[0], first[1] - 0.25, *first[2:])
    sampled = make_row([5, 6, 7], FAILED.completion_ids, -1.0, FAILED.mask, "failed", sampling_logprobs=off)
    exact = make_row(
        [5, 6, 7], REPAIRED.completion_ids, 1.0, REPAIRED.mask, "repaired", sampling_logprobs=second
    )
    stats = learner(base).step([sampled, exact])
    assert stats.sampler_gap == pytest.approx(0.25, abs=1e-5)
    assert stats.rows[0].ratio == pytest.approx(1.0)  # pi_old is the learner's own
    assert learner(base).step([exact]).sampler_gap == pytest.approx(0.0, abs=1e-5)
    # Against the policy that was sampled from, not the one that the first of two updates has made of it.
    assert learner(base, lr=1e-2, minibatches=2).step([exact, exact]).sampler_gap < 1e-5
    assert learner(base).step([REPAIRED]).sampler_gap == 0.0  # nobody sampled it from x


def test_a_gradient_that_is_not_finite_is_skipped(base: Any) -> None:
    learned = learner(base, lr=1e-3)
    scale = learned.model.model.norm.weight
    with torch.no_grad():
        good = float(scale[0])
        scale[0] = math.inf
    before = weights(learned)
    with pytest.warns(UserWarning, match="the update is skipped"):
        stats = learned.step([REPAIRED])
    assert not math.isfinite(stats.grad_norm)
    assert (stats.updates, stats.lr, learned.version) == (0, 0.0, 0)
    assert all(torch.equal(p, before[name]) for name, p in weights(learned).items())
    # Nothing of it is left behind: mended, the model makes the update it would have made.
    with torch.no_grad():
        scale[0] = good
    assert learned.step([REPAIRED]).updates == 1
    fresh = learner(base, lr=1e-3)
    fresh.step([REPAIRED])
    assert furthest(weights(learned), weights(fresh)) == 0.0


def test_a_learner_goes_on_where_its_state_was_saved(base: Any) -> None:
    straight, saved = learner(base, warmup=4), learner(base, warmup=4)
    for _ in range(2):
        straight.step(MIXED)
    saved.step(MIXED)
    resumed = learner(saved.model, warmup=4)
    resumed.restore(copy.deepcopy(saved.moments()), saved.version)
    assert resumed.step(MIXED).lr == pytest.approx(1e-5 * 2 / 5)
    assert resumed.version == straight.version == 2
    assert furthest(weights(resumed), weights(straight)) == 0.0


# ---- memory


def test_gradient_checkpointing_changes_memory_alone(base: Any) -> None:
    plain, lean = learner(base), learner(base, gradient_checkpointing=True)
    held, held_lean = saved_bytes(plain), saved_bytes(lean)
    assert held_lean < held / 2  # a layer's activations, but for its input, are computed again
    one, other = plain.step(MIXED), lean.step(MIXED)
    assert one.loss == pytest.approx(other.loss, abs=1e-6)
    assert furthest(gradients(plain), gradients(lean)) < 1e-6 * one.grad_norm


def saved_bytes(learned: LocalLearner) -> int:
    """Bytes that autograd holds on to between the forward and the backward pass of MIXED, weights left out."""
    own = {p.data_ptr() for p in learned.model.parameters()}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        held = learned.scorer(sequences(MIXED, range(len(MIXED))))
    assert held.requires_grad
    return sum(sizes.values())


def test_lora_trains_the_adapters_alone(base: Any) -> None:
    from kintsugi.models.lora import adapted

    model = adapted(copy.deepcopy(base), "tiny", rank=2, seed=0)
    learned = LocalLearner(model, Optim(lr=1e-2, warmup=0), GSPO, pad_id=0)
    start = learned.logprobs(scores(MIXED))
    for found, logprobs in zip(start, learner(base).logprobs(scores(MIXED)), strict=True):
        assert found == pytest.approx(logprobs, abs=1e-5)  # B starts at zero: nothing is changed yet
    before = weights(learned)
    learned.step(MIXED)
    moved = {name for name, p in weights(learned).items() if not torch.equal(p, before[name])}
    assert moved and all("lora_" in name for name in moved)
    # 7 linear layers in each of 2 blocks, A and B each: q, k, v, o, gate, up and down.
    assert sum("lora_" in name for name in before) == 2 * 7 * 2
