"""Can this model be sampled and trained right? A few tokens, against plain forward passes, before a run begins.

Some models keep what they have read elsewhere than in the cache that they are given, ignore the mask of a padded
batch, count positions in a way of their own, or look ahead. Nothing fails then: they draw from other distributions
than their own, and learn from that. So two prompts of unequal length go through the sampler and the learner as they
would in a run, and every log-probability must be that of the bare sequence alone. All in float32, and no random
number is drawn from torch's generators.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from kintsugi.records import Completion, KintsugiError
from kintsugi.sampling.base import Request, SamplingParams
from kintsugi.sampling.forward import Forward
from kintsugi.sampling.sample import Limits
from kintsugi.sampling.slots import Slots

TOLERATED = 0.01
"""Nats that one log-probability may be off by: on 99 kinds of models rounding made at most 0.003, faults 0.05."""

LENGTHS = (3, 9)
"""Tokens of the two prompts: the shorter one needs padding, and is shorter than a convolution of four."""

NEW = 6
"""Tokens drawn after the longer prompt; half of them after the shorter, whose row then leaves the batch."""

TOKENS = 1000
"""A token budget that lets all be decoded together."""

EXPECTED = (
    "expected a causal language model that keeps to the cache, mask and positions given: name another model"
)

Scored = Sequence[tuple[tuple[int, ...], tuple[int, ...], Sequence[float]]]
"""(prompt, completion, log-probabilities of its tokens) of each sequence."""


def check_sampler(model: Any, pad_id: int) -> bool:
    """True if the local sampler may also copy drafts with this model.

    KintsugiError where it draws from another distribution than the model's even without.
    """
    short, long = prompts(model, pad_id)
    asked = [
        Request(short, SamplingParams(NEW // 2, seed=1)),
        Request(long, SamplingParams(NEW, seed=1), n=2),
    ]
    with trying(model, "sampler"):
        found = sampled_by(model, pad_id, asked, copies=False)
        check_logprobs(model, "sampler", found)
        try:
            # The second token of each draft is wrong: what was fed after it leaves a hole in one row, not in another.
            wrong = [
                replace(r, draft=(ids[0], pad_id, *ids[2:]))
                for r, (_, ids, _) in zip(asked, found, strict=False)
            ]
            check_logprobs(model, "sampler", sampled_by(model, pad_id, wrong, copies=True))
        except Exception:  # whatever a model raises: it does without drafts
            return False
    return True


def sampled_by(model: Any, pad_id: int, asked: Sequence[Request], copies: bool) -> Scored:
    """The sampler's answers to these requests."""
    session = Slots(Forward(model, None, copies), Limits.of(model).samples, pad_id, token_budget=TOKENS)
    for ticket, request in enumerate(asked):
        session.put(ticket, request)
    answers: dict[int, list[Completion]] = {}
    while len(answers) < len(asked):
        answers |= dict(session.take())
    return [(asked[t].prompt_ids, c.token_ids, c.logprobs) for t in range(len(asked)) for c in answers[t]]


def prompts(model: Any, pad_id: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two prompts of different token ids from all over the vocabulary, without the padding's."""
    limits = Limits.of(model)
    room = LENGTHS[1] if limits.positions is None else max(2, min(LENGTHS[1], limits.positions - NEW))
    golden = (5**0.5 - 1) / 2  # its multiples modulo 1 lie far apart
    spread = (int(limits.vocabulary * (golden * k % 1)) for k in range(1, room + LENGTHS[0] + 1))
    ids = tuple(i if i != pad_id else (i + 1) % limits.vocabulary for i in spread)
    return ids[: min(LENGTHS[0], room - 1)], ids[-room:]


def check_logprobs(model: Any, who: str, found: Scored) -> None:
    """KintsugiError where a log-probability is not that of one forward pass over the bare sequence."""
    gap = max(
        abs(a - b)
        for prompt, ids, told in found
        for a, b in zip(told, plain_logprobs(model, prompt, ids), strict=False)
    )
    if not gap <= TOLERATED:
        raise KintsugiError(
            f"model type {model_type(model)}: the {who}'s log-probabilities differ by {gap:.2g} nats from those of a "
            f"plain forward pass (tolerated: {TOLERATED:g}), so it would learn from wrong samples; {EXPECTED}"
        )


def plain_logprobs(model: Any, prompt: tuple[int, ...], ids: tuple[int, ...]) -> list[float]:
    """log pi of each of `ids` after the prompt, without padding or cache."""
    whole = torch.tensor([[*prompt, *ids]], device=model.device)
    logprobs = model(input_ids=whole, use_cache=False).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
    found: list[float] = logprobs.gather(1, whole[0, len(prompt) :, None])[:, 0].tolist()
    return found


@contextmanager
def trying(model: Any, who: str) -> Iterator[None]:
    """No gradients, no dropout, random states as before; whatever the model raises is one line that names its type."""
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        try:
            with Forward(model, None).sampling():
                yield
        except KintsugiError:
            raise
        except Exception as error:  # whatever a model of a kind that nobody here has seen raises
            reason = " ".join(str(error).split())[:200]
            raise KintsugiError(
                f"model type {model_type(model)}: the {who} cannot run it ({type(error).__name__}: {reason}); "
                f"{EXPECTED}"
            ) from error


def model_type(model: Any) -> str:
    return str(model.config.model_type)
