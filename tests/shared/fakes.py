"""Stand-ins for a model and what surrounds it: one token per character, answers by script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kintsugi.config import Recipe
from kintsugi.prompts import TERSE, Prompts
from kintsugi.records import Completion, Finish, Problem, Repair, Rollout, Row, Turn, Verdict
from kintsugi.sampling.base import Request, SamplingParams, Session
from kintsugi.sampling.context import Context
from kintsugi.sampling.play import Asking, Scoring, play
from kintsugi.verifiers.base import UNKNOWN, Sampled

STOP = 0
LOGPROB = -0.5
"""What the fake sampler reports for every token it returns."""

Result = TypeVar("Result")
Script = Callable[[str, int], Sequence[str]] | Mapping[str, Sequence[str]]


class CharCodec:
    """One id per character, the stop token is 0; a user message is wrapped in square brackets."""

    stop_ids: tuple[int, ...] = (STOP,)

    def chat(self, message: str, before: Sequence[Turn] = ()) -> tuple[int, ...]:
        return encode("".join(f"{turn.role}: {turn.content}\n" for turn in before) + f"[{message}]")

    def encode(self, text: str) -> tuple[int, ...]:
        return encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(i) for i in ids if i != STOP)


def encode(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


def complete(text: str, *, finish: Finish = "stop", version: int = 0) -> Completion:
    """The text as a completion: with its stop token, unless it was cut off."""
    ids = encode(text) + ((STOP,) if finish == "stop" else ())
    return Completion(ids, (LOGPROB,) * len(ids), finish, version)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the sampler; `prompt` is the decoded prompt, prefix included."""

    prompt: str
    params: SamplingParams
    n: int


@dataclass(slots=True)
class FakeSampler:
    """Answers from a script and records every call.

    The script is a function (prompt text, n) -> n texts, or a mapping from prompt text to texts that are
    handed out in order. A text longer than max_new_tokens (its stop token counts) is cut, as a model's is.
    """

    script: Script
    calls: list[Call] = field(default_factory=list)
    _given: dict[str, int] = field(default_factory=dict)

    def session(self) -> Session:
        return ScriptSession(self)

    def answer(self, request: Request) -> list[Completion]:
        prompt = CharCodec().decode(request.prompt_ids)
        self.calls.append(Call(prompt, request.params, request.n))
        texts = self._texts(prompt, request.n)
        assert len(texts) == request.n, f"the script has {len(texts)} of {request.n} texts for {prompt!r}"
        return [cut(complete(text), request.params.max_new_tokens) for text in texts]

    def prompts(self) -> list[str]:
        return [call.prompt for call in self.calls]

    def _texts(self, prompt: str, n: int) -> Sequence[str]:
        if not isinstance(self.script, Mapping):
            return self.script(prompt, n)
        assert prompt in self.script, f"the script has nothing for {prompt!r}"
        start = self._given.get(prompt, 0)
        self._given[prompt] = start + n
        return self.script[prompt][start : start + n]


@dataclass(slots=True)
class ScriptSession:
    """Answers what has waited longest, one request at a time: the most that an engine may differ from rounds."""

    sampler: FakeSampler
    waiting: list[tuple[int, Request]] = field(default_factory=list)

    def put(self, ticket: int, request: Request) -> None:
        self.waiting.append((ticket, request))

    def take(self) -> list[tuple[int, list[Completion]]]:
        ticket, request = self.waiting.pop(0)
        return [(ticket, self.sampler.answer(request))]

    def close(self) -> None:
        self.waiting.clear()


def cut(completion: Completion, longest: int) -> Completion:
    if len(completion.token_ids) <= longest:
        return completion
    return Completion(
        completion.token_ids[:longest], completion.logprobs[:longest], "length", completion.version
    )


@dataclass(slots=True)
class FakeVerifier:
    """Passes texts whose part after the last `####` is `wanted` (None: the problem's answer).

    `unscorable` without a `####`, `error` for a text that holds CRASH. Records what it judged.
    """

    wanted: str | None = None
    judged: list[str] = field(default_factory=list)

    def __call__(self, problem: Problem, texts: Sequence[str], sampled: Sampled = UNKNOWN) -> list[Verdict]:
        self.judged += texts
        return [self._judge(problem, text) for text in texts]

    def _judge(self, problem: Problem, text: str) -> Verdict:
        if "CRASH" in text:
            return Verdict("error", message="the verifier broke down")
        _, mark, answer = text.rpartition("####")
        if not mark:
            return Verdict("unscorable", message="no answer mark")
        wanted = problem.answer if self.wanted is None else self.wanted
        return Verdict.scored(float(answer.strip() == wanted))


def make_recipe(**settings: Any) -> Recipe:
    """A recipe with `settings` as sections or top-level keys: make_recipe(optim={"lr": 1e-3})."""
    return Recipe.parse({"model": "fake", "task": "fake", "prompts": "terse-v1", **settings})


@dataclass(frozen=True, slots=True)
class Scripted(Context):
    """A context with the sampler that `run` answers from."""

    sampler: FakeSampler = field(default_factory=lambda: FakeSampler({}))


def make_context(
    script: Script,
    *,
    verifier: FakeVerifier | None = None,
    memory: Mapping[str, str] | None = None,
    prompts: Prompts = TERSE,
    step: int = 1,
    **settings: Any,
) -> tuple[Context, FakeSampler]:
    """(context, its sampler): the scripted sampler, CharCodec, FakeVerifier and make_recipe(**settings)."""
    sampler = FakeSampler(script)
    ctx = Scripted(
        sampler=sampler,
        codec=CharCodec(),
        verifier=verifier or FakeVerifier(),
        prompts=prompts,
        recipe=make_recipe(**settings),
        step=step,
        memory=memory or {},
    )
    return ctx, sampler


def run(asking: Asking[Result], ctx: Context, scorer: Scoring | None = None) -> Result:
    """What the run returns, its asks answered by the script of its context."""
    assert isinstance(ctx, Scripted)
    return play([asking], ctx.sampler, ctx.meter, scorer)[0]


def make_rollout(
    text: str, reward: float | Verdict = 0.0, *, prompt: str = "Q", finish: Finish = "stop"
) -> Rollout:
    """A judged rollout of the text on a prompt."""
    verdict = reward if isinstance(reward, Verdict) else Verdict.scored(reward)
    return Rollout(CharCodec().chat(prompt), complete(text, finish=finish), text, verdict)


def make_row(
    prompt: Sequence[int],
    completion: Sequence[int],
    credit: float | Sequence[float] = 1.0,
    mask: Sequence[int] | None = None,
    part: str = "policy",
    **more: Any,
) -> Row:
    """A row of this part (see `part_of`) with this credit where its mask is 1."""
    gate = tuple(mask) if mask is not None else (1,) * len(completion)
    values = credit if isinstance(credit, Sequence) else [credit] * len(gate)
    row = Row(
        prompt_ids=tuple(prompt),
        completion_ids=tuple(completion),
        sampling_logprobs=more.pop("sampling_logprobs", None),
        problem_id="p",
        kind="repair" if part in ("repair", "repaired") else "rollout",
        index=0,
        mask=gate,
        term="repair" if part == "repair" else "policy",
        **more,
    )
    reason = "seam" if part in ("failed", "repaired") else "group"
    return row.add(reason, tuple(a * g for a, g in zip(values, gate, strict=True)))


def part_of(row: Row) -> str:
    """The part a row plays: "failed" or "repaired", the sides of a seam; "repair", in repair mode; else "policy"."""
    if row.term == "repair":
        return "repair"
    if row.kind == "repair":
        return "repaired"
    return "failed" if "seam" in row.credit else "policy"


def make_repair(
    failed: int,
    text: str,
    reward: float | Verdict = 1.0,
    *,
    audit: str = "",
    distance: float = 0.0,
    score: float = 0.0,
    prompt: str = "mend",
) -> Repair:
    return Repair(failed, "anchor", make_rollout(text, reward, prompt=prompt), audit, distance, score)
