"""The protocols that an engine offers; everything else in the house is written against them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

from kintsugi.records import Completion


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """The parameters of sampling. Sample i of a call draws from `seed` and i alone, whatever it is batched with.

    temperature 0 is greedy (log-probabilities are then those of the unscaled distribution).
    Sampling ends at any of `stop_ids` (kept in the completion) or after `max_new_tokens`.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stop_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RowStats:
    """The learner's figures of one row. Log-probabilities are natural, one per completion token,
    NaN where the row's mask is 0 (none was computed).

    `old_logprobs` and `logprobs` are pi_old and pi_theta of the update that used the row; `ratio` is the
    sequence's w_z (its token mean under a token-level objective); `loss` is the row's own term, before
    its weight and the mean over rows.
    """

    old_logprobs: tuple[float, ...]
    logprobs: tuple[float, ...]
    ratio: float
    clipped: float
    loss: float


@dataclass(frozen=True, slots=True)
class StepStats:
    """One learner step. `rows` is parallel to the rows given; None for rows without an active token."""

    loss: float
    grad_norm: float
    lr: float
    updates: int
    clip_fraction: float
    ratio: float
    sampler_gap: float
    """Largest |log-prob of the sampler - log-prob of the learner| over tokens this policy sampled."""
    tokens: int
    seconds: float
    rows: tuple[RowStats | None, ...] = field(default=(), repr=False)
    skipped: int = 0
    """Updates that were not made because the gradient was not finite."""


@dataclass(frozen=True, slots=True)
class Request:
    """n completions of one prompt. A continuation of a prefix is just a longer prompt.

    draft  Token ids that the completions are thought to copy for the most part. An engine may use them to be faster;
           it draws the same completions without.
    """

    prompt_ids: tuple[int, ...]
    params: SamplingParams
    n: int = 1
    draft: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """A completion whose natural log-probabilities are wanted, one per token, given this prompt: those of the policy
    that is trained, at the sampler's temperature."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fork:
    """Two tokens that may come after a prompt and a prefix: that of a failure, and the fix. Their Reach is wanted."""

    prompt_ids: tuple[int, ...]
    prefix: tuple[int, ...]
    failed: int
    fix: int


class Session(Protocol):
    """Requests on their way through an engine. An engine may answer each as it ends, or all that wait at once."""

    def put(self, ticket: int, request: Request) -> None:
        """Hands a request in, under a number of the caller's.

        ValueError on arguments that make no sense, KintsugiError when the prompt leaves no position free.
        """
        ...

    def take(self) -> list[tuple[int, list[Completion]]]:
        """Waits until something has ended: tickets with their completions. Whatever goes wrong is raised here."""
        ...

    def close(self) -> None:
        """Ends the session: whatever is still on its way is dropped. The engine may give up memory until the next."""
        ...


Pulse = Callable[[Callable[[], float]], None]
"""Called while sampling goes on, with what tells which share of it is done: asking costs more than calling."""


class Sampler(Protocol):
    def session(self) -> Session:
        """A fresh session; one at a time. It samples from the policy that the model is at that moment."""
        ...


def generate(sampler: Sampler, requests: Sequence[Request]) -> list[list[Completion]]:
    """The completions of each request."""
    found: dict[int, list[Completion]] = {}
    with closing(sampler.session()) as session:
        for ticket, request in enumerate(requests):
            session.put(ticket, request)
        while len(found) < len(requests):
            found |= dict(session.take())
    return [found[ticket] for ticket in range(len(requests))]


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from the parts that name a call: run seed, step, problem, phase, index."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
