"""pass@1, pass@k and maj@k on held-out problems, with confidence intervals, fixed seeds, and greedy decoding."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kintsugi.assembly import Parts
from kintsugi.records import Completion, Problem, Verdict
from kintsugi.run.console import Reporter
from kintsugi.run.metrics import reward_metrics
from kintsugi.sampling.base import Request, SamplingParams, derive_seed, generate
from kintsugi.verifiers.base import UNTRAINED, Sampled, TrainerState
from kintsugi.verifiers.extract import UNENDED, vote

RESAMPLES = 2000
EVAL_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over problems with its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class EvalResult:
    """One evaluation: `verdicts[i]` and `texts[i]` are problem i's k samples, then the greedy one."""

    pass_at_1: Estimate
    pass_at_k: Estimate
    maj_at_k: Estimate
    k: int
    greedy: Estimate
    problems: int
    tokens: int
    seconds: float
    states: dict[str, int]
    verdicts: tuple[tuple[Verdict, ...], ...] = field(repr=False)
    texts: tuple[tuple[str, ...], ...] = field(repr=False)

    @property
    def left_out(self) -> str:
        """The number of samples whose verdict is an error (`eval/error`), in words; "" where there are none."""
        errors = self.states.get("error", 0)
        return f"; {errors} verifier errors left out" if errors else ""

    def only(self, places: Sequence[int]) -> EvalResult:
        """The result on some of its problems, by their places; tokens and seconds are still those of all."""
        if len(places) == self.problems:
            return self
        verdicts = tuple(self.verdicts[i] for i in places)
        texts = tuple(self.texts[i] for i in places)
        return replace(self, **counted(verdicts, texts, self.k), verdicts=verdicts, texts=texts)

    def summary(self) -> dict[str, Any]:
        """The numbers as a flat mapping, for metrics.jsonl."""
        return {
            "eval/pass@1": self.pass_at_1.value,
            "eval/pass@1_ci": [self.pass_at_1.low, self.pass_at_1.high],
            f"eval/pass@{self.k}": self.pass_at_k.value,
            f"eval/pass@{self.k}_ci": [self.pass_at_k.low, self.pass_at_k.high],
            f"eval/maj@{self.k}": self.maj_at_k.value,
            f"eval/maj@{self.k}_ci": [self.maj_at_k.low, self.maj_at_k.high],
            "eval/greedy": self.greedy.value,
            "eval/greedy_ci": [self.greedy.low, self.greedy.high],
            "eval/problems": self.problems,
            "eval/tokens": self.tokens,
            "eval/seconds": round(self.seconds, 3),
            **{f"eval/{state}": count for state, count in sorted(self.states.items())},
            **{f"eval/{n}": v for n, v in reward_metrics(v for row in self.verdicts for v in row).items()},
        }


def pass_at_k(n: int, passed: int, k: int) -> float:
    """Unbiased estimate of P(at least one of k samples passes) from `passed` of n (arXiv:2107.03374, eq. 1)."""
    if k > n:
        raise ValueError(f"pass@{k} needs at least {k} samples per problem, got {n}")
    return 1.0 - math.comb(n - passed, k) / math.comb(n, k)


def majority(votes: Sequence[str | None], passed: Sequence[bool]) -> float:
    """The pass rate of the answer that most samples gave (arXiv:2203.11171); 0 where none gave any.

    Of several answers with equally many votes each is as good as the other: the mean of their pass rates.
    """
    groups: dict[str, list[bool]] = {}
    for answer, right in zip(votes, passed, strict=True):
        if answer is not None:
            groups.setdefault(answer, []).append(right)
    most = max(map(len, groups.values()), default=0)
    rates = [sum(group) / most for group in groups.values() if len(group) == most]
    return sum(rates) / len(rates) if rates else 0.0


Scores = dict[str, list[float]]


def scores(verdicts: Sequence[Sequence[Verdict]], texts: Sequence[Sequence[str]], k: int) -> Scores:
    """Each problem's share of each figure, by the figure's name in EvalResult; NaN where all its verdicts are errors.

    Errors are left out: of n samples that were judged, pass@k is pass@n where n < k.
    """
    judged = [
        [(v, text) for v, text in zip(row[:k], said, strict=False) if not v.broken]
        for row, said in zip(verdicts, texts, strict=True)
    ]
    counts = [(len(row), sum(v.passed for v, _ in row)) for row in judged]
    votes = [[None if v == UNENDED else vote(text) for v, text in row] for row in judged]
    return {
        "pass_at_1": [pass_at_k(n, c, 1) if n else math.nan for n, c in counts],
        "pass_at_k": [pass_at_k(n, c, min(n, k)) if n else math.nan for n, c in counts],
        "maj_at_k": [
            majority(said, [v.passed for v, _ in row]) if row else math.nan
            for said, row in zip(votes, judged, strict=True)
        ],
        "greedy": [math.nan if row[k].broken else float(row[k].passed) for row in verdicts],
    }


def bootstrap(values: Sequence[float], seed: int = 0) -> Estimate:
    """The mean with its 95% percentile interval over resampled problems; of those that are no NaN.

    Resampling says nothing of equal values; the interval is then Wilson's, over problems.
    """
    data = np.asarray(values, dtype=float)
    data = data[~np.isnan(data)]
    if not len(data):
        return Estimate(math.nan, math.nan, math.nan)
    if np.ptp(data) == 0:
        return wilson(float(data[0]), len(data))
    rng = np.random.default_rng(seed)
    means = data[rng.integers(0, len(data), (RESAMPLES, len(data)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(float(data.mean()), float(low), float(high))


def wilson(share: float, n: int) -> Estimate:
    """A share of n trials with Wilson's 95% score interval (E. B. Wilson, 1927)."""
    z = 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half))


def evaluate(
    parts: Parts,
    problems: Sequence[Problem] | None = None,
    out: Reporter | None = None,
    state: TrainerState = UNTRAINED,
) -> EvalResult:
    """Samples every held-out problem `eval.samples` times (temperature and top-p of the recipe) and once greedily.

    Seeds depend on the recipe's seed and the problem alone, so evaluations before and after training
    draw the same random numbers. `out` shows how far it is.
    """
    chosen = parts.eval_problems if problems is None else problems
    k = parts.recipe.eval.samples
    start = time.perf_counter()
    with (out or Reporter()).working("evaluating", len(chosen), "problems") as reach:
        results = sample_and_judge(parts, chosen, k, reach, state)
    verdicts = tuple(tuple(verdicts) for verdicts, _, _ in results)
    texts = tuple(tuple(texts) for _, texts, _ in results)
    return EvalResult(
        **counted(verdicts, texts, k),
        k=k,
        tokens=sum(tokens for _, _, tokens in results),
        seconds=time.perf_counter() - start,
        verdicts=verdicts,
        texts=texts,
    )


def counted(verdicts: Sequence[Sequence[Verdict]], texts: Sequence[Sequence[str]], k: int) -> dict[str, Any]:
    """The part of an EvalResult that comes of these: its estimates, `problems` and `states`."""
    estimates = {name: bootstrap(values) for name, values in scores(verdicts, texts, k).items()}
    states = dict(Counter(v.state for row in verdicts for v in row[:k]))
    return {**estimates, "problems": len(verdicts), "states": states}


Judged = tuple[list[Verdict], list[str], int]


def sample_and_judge(
    parts: Parts, problems: Sequence[Problem], k: int, reach: Callable[[int, int], None], state: TrainerState
) -> list[Judged]:
    """(verdicts, texts, tokens) per problem: k samples, then the greedy one. In chunks, to bound memory."""
    found: list[Judged] = []
    for start in range(0, len(problems), EVAL_CHUNK):
        chunk = problems[start : start + EVAL_CHUNK]
        reach(start, start + len(chunk))
        requests = [request for problem in chunk for request in asked(parts, problem, k)]
        drawn = generate(parts.sampler, requests)
        found += [
            judge_one(parts, problem, [*sampled, *greedy], state)
            for problem, sampled, greedy in zip(chunk, drawn[::2], drawn[1::2], strict=True)
        ]
    return found


def asked(parts: Parts, problem: Problem, k: int) -> tuple[Request, Request]:
    """k samples of a problem, and one drawn greedily."""
    codec, sampling = parts.loaded.codec, parts.recipe.sampling
    prompt_ids = codec.chat(*parts.prompts.solving(problem.prompt, problem.before))

    def params(temperature: float) -> SamplingParams:
        seed = derive_seed(parts.recipe.seed, "eval", problem.id)
        top_p = sampling.top_p if temperature else 1.0
        return SamplingParams(sampling.max_new_tokens, temperature, top_p, seed, codec.stop_ids)

    return Request(prompt_ids, params(sampling.temperature), k), Request(prompt_ids, params(0.0), 1)


def judge_one(
    parts: Parts, problem: Problem, completions: Sequence[Completion], state: TrainerState
) -> Judged:
    ids = [c.token_ids for c in completions]
    texts = list(map(parts.loaded.codec.decode, ids))
    return parts.verifier(problem, texts, Sampled(ids, state)), texts, sum(map(len, ids))


def table(model: str, result: EvalResult) -> str:
    """The result as lines for a person; with one sample a problem, pass@k and maj@k are pass@1."""
    of_k = [f"pass@{result.k:<3} {result.pass_at_k}", f"maj@{result.k:<4} {result.maj_at_k}"]
    return "\n".join(
        [
            f"model    {model}",
            f"problems {result.problems}, {samples_each(result.k)}, {result.tokens:,} tokens in {result.seconds:.1f} s",
            f"pass@1   {result.pass_at_1}",
            *(of_k if result.k > 1 else []),
            f"greedy   {result.greedy}",
            "verdicts "
            + ", ".join(f"{state} {count}" for state, count in sorted(result.states.items()))
            + result.left_out,
        ]
    )


def samples_each(k: int) -> str:
    return f"{k} sample{'s' * (k > 1)} each"
