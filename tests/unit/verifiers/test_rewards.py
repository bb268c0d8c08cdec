"""Reward functions of the user's own: TRL's and verl's arguments, several with weights, and faults that are heard."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import make_rollout

from kintsugi.algorithms import load_algorithm
from kintsugi.records import Episode, KintsugiError, Part, Problem, Verdict
from kintsugi.run.evaluation import EvalResult, counted
from kintsugi.run.measuring import gain
from kintsugi.run.metrics import episode_metrics, reward_metrics
from kintsugi.run.tables import problem_steps, rollout_lines
from kintsugi.tasks import load_task
from kintsugi.verifiers import Verifier, begun_in_thoughts, check_columns, goes_on, load_verifier
from kintsugi.verifiers.base import UNKNOWN, Sampled, TrainerState
from kintsugi.verifiers.heard import Heard

REWARDS = """
import asyncio

LOOPS = set()

async def later(completions, solution, completion_ids, trainer_state, log_extra, log_metric, answer):
    LOOPS.add(id(asyncio.get_running_loop()))
    await asyncio.sleep(0)
    assert len(LOOPS) == 1  # what a function keeps open stays usable
    assert solution == ["so 4"] * 2 and answer == ["4"] * 2
    log_extra("read", completions)
    log_extra("length", list(map(len, completion_ids)))
    log_metric("step", trainer_state.global_step / trainer_state.max_steps)
    return [float(c == a) for c, a in zip(completions, answer)]

async def each(data_source, solution_str, ground_truth, extra_info):
    await asyncio.sleep(0)
    if solution_str == "?":
        raise ValueError("no number")
    return {"score": float(solution_str == ground_truth), "acc": 0.25, "read": solution_str}

def brevity(completions, **kwargs):
    return [None if c == "?" else -len(c) for c in completions]

def accuracy(**kwargs):
    return [float(c == a) for c, a in zip(kwargs["completions"], kwargs["answer"])]

def talks(completions, **kwargs):
    return [float(c[0]["content"] == "4") for c in completions]

def raises(completions, **kwargs):
    raise RuntimeError("no such table")

def reads(completions, answer, log_extra, completion_ids, **kwargs):
    log_extra("length", list(map(len, completion_ids)))
    return [float(int(c) == int(a)) for c, a in zip(completions, answer)]

async def reads_later(completions, answer, log_extra, completion_ids):
    await asyncio.sleep(0)
    return reads(completions, answer, log_extra, completion_ids)

outcome = accuracy
"""
ASKED = Problem("p/1", "2+2?", "4", {"solution": "so 4"})


@pytest.fixture
def named(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    path = tmp_path / "rewards.py"
    path.write_text(REWARDS)
    return lambda name, **arguments: {"name": f"{path}:{name}", **arguments}


def test_an_async_function_gets_all_that_trl_passes(named: Callable[..., dict[str, Any]]) -> None:
    verifier = load_verifier(named("later"))
    sampled = Sampled([(1, 2, 0), (1, 0)], TrainerState(3, 12))
    for _ in range(2):  # in one event loop
        verdicts = verifier(ASKED, ["4", "5"], sampled)
        assert [v.state for v in verdicts] == ["pass", "fail"]
        assert verdicts[0].logged == {"read": "4", "length": 3, "step": 0.25}  # 3 of 12 steps
        assert verdicts[1].logged == {"read": "5", "length": 2, "step": 0.25}


def test_an_async_function_of_verls_is_awaited_text_by_text(named: Callable[..., dict[str, Any]]) -> None:
    verdicts = load_verifier(named("each"))(ASKED, ["4", "?", "5"])
    assert [v.state for v in verdicts] == ["pass", "error", "fail"]
    assert verdicts[1].message.endswith("of rewards.py: no number")
    assert verdicts[2].logged == {"acc": 0.25, "read": "5"}


@pytest.mark.parametrize("name", ["reads", "reads_later"])
def test_a_text_that_raises_condemns_no_sibling(named: Callable[..., dict[str, Any]], name: str) -> None:
    sampled = Sampled([(1, 0), (1, 2, 0), (1, 2, 3, 0), (1, 0)])
    verdicts = load_verifier(named(name))(ASKED, ["4", "x", "yy", "5"], sampled)
    assert [v.state for v in verdicts] == ["pass", "error", "error", "fail"]
    assert [v.message.rpartition(": ")[2] for v in verdicts[1:3]] == ["'x'", "'yy'"]
    assert [v.logged for v in verdicts] == [{"length": 2}, {}, {}, {"length": 2}]  # of its own call alone
    # Nor does it where a verifier of Problem and texts is given in Python.
    verdicts = load_verifier(lambda problem, texts: [Verdict.scored(float(int(t) == 4)) for t in texts])(
        ASKED, ["4", "x", "5"]
    )
    assert [v.state for v in verdicts] == ["pass", "error", "fail"]


def test_of_several_functions_the_first_decides_and_all_are_weighed(
    named: Callable[..., dict[str, Any]],
) -> None:
    verifier = load_verifier([named("accuracy"), named("brevity", weight=0.5)])
    verdicts = verifier(ASKED, ["4", "15", "?"])
    assert [v.state for v in verdicts] == ["pass", "fail", "fail"]
    # 1 - 0.5 * 1; 0 - 0.5 * 2; the last has no second reward.
    assert [v.total for v in verdicts] == [0.5, -1.0, 0.0]
    assert verdicts[1].parts == (Part("accuracy", 0.0, 1.0), Part("brevity", -2.0, 0.5))
    assert verdicts[2].parts == (Part("accuracy", 0.0, 1.0),)
    # The function called `outcome` decides where it is not the first.
    verdicts = load_verifier([named("brevity"), named("outcome")])(ASKED, ["4", "15"])
    assert [(v.state, v.total) for v in verdicts] == [("pass", 0.0), ("fail", -2.0)]
    # A function that breaks down leaves no sum.
    assert [v.state for v in load_verifier([named("accuracy"), named("raises")])(ASKED, ["4"])] == ["error"]


def test_what_is_built_in_stands_among_functions(named: Callable[..., dict[str, Any]]) -> None:
    verifier = load_verifier(["exact", named("brevity", weight=0.01), named("brevity", weight=0)])
    (verdict,) = verifier(ASKED, ["#### 4"])
    assert verdict.passed and verdict.total == pytest.approx(1 - 0.01 * 6)  # "#### 4" has 6 letters
    assert [part.name for part in verdict.parts] == ["exact", "brevity", "brevity_3"]
    # Where the prompt opens the thoughts, `exact` reads nothing, and the function its text as it is.
    (verdict,) = begun_in_thoughts(verifier)(ASKED, ["#### 4"])
    assert verdict.state == "unscorable" and verdict.parts[0] == Part("brevity", -6.0, 0.01)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"weight": "much"}, "weight: expected a number, got 'much'"),
        ({"weight": True}, "weight: expected a number, got True"),
        ({"messages": 1}, "messages: expected true or false, got 1"),
    ],
)
def test_bad_arguments_are_one_line(
    named: Callable[..., dict[str, Any]], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(KintsugiError, match=message):
        load_verifier([named("brevity", **more)])


def test_a_function_and_its_weight_go_into_a_mapping() -> None:
    def fmt(completions: list[str], **columns: Any) -> list[float]:
        return [1.0 for _ in completions]

    for given in ([fmt, (fmt, 0.2)], (fmt, 0.2)):
        with pytest.raises(KintsugiError, match=r'say \{"name": fmt, "weight": 0\.2\}$'):
            load_verifier(given)
    (verdict,) = load_verifier([fmt, {"name": fmt, "weight": 0.2}])(ASKED, ["4"])
    assert verdict.total == 1.2


def test_a_file_without_a_function_says_which_it_defines(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        "LIMIT = 3\nclass Sums: ...\ndef _own(): ...\ndef accuracy(): ...\nasync def fmt(): ...\nMINE = 1\n"
    )
    for load, said in (
        (load_verifier, f"which function of own.py? it defines accuracy, fmt: {path}:accuracy"),
        (load_task, f"which class of own.py? it defines Sums: {path}:Sums"),
        (load_algorithm, f"which algorithm of own.py? it defines LIMIT, accuracy, fmt, MINE: {path}:LIMIT"),
    ):
        with pytest.raises(KintsugiError, match=re.escape(said)):
            load(str(path))
    with pytest.raises(KintsugiError, match=r"no such file 'nowhere\.py'"):
        load_verifier("nowhere.py")


def test_a_function_that_reads_messages_reads_texts_too(named: Callable[..., dict[str, Any]]) -> None:
    (verdict,) = load_verifier(named("talks"))(ASKED, ["4"])
    assert verdict.broken and "`messages: true` beside the function's name" in verdict.message
    (verdict,) = load_verifier(named("talks", messages=True))(ASKED, ["4"])
    assert verdict.passed


def test_a_parameter_that_nothing_fills_is_refused(named: Callable[..., dict[str, Any]]) -> None:
    verifier = load_verifier(["exact", named("later")])
    check_columns(verifier, [Problem("a", "?", "1"), ASKED])
    with pytest.raises(
        KintsugiError, match=r"nothing fills its parameter 'solution'; did you mean 'solutions'\? There are"
    ):
        check_columns(verifier, [Problem("a", "?", "1", {"solutions": "1"})])
    # Names that mean the gold answer are told where it stands; where nothing is near, nothing is suggested.
    for parameter, said in (
        ("ground_truth", r"'ground_truth'; did you mean 'answer'\? There are answer"),
        ("gold", r"'gold'; did you mean 'answer'\? There are answer"),
        ("level", r"'level'\. There are answer"),
    ):
        scope: dict[str, Any] = {}
        exec(f"def score(completions, {parameter}): ...", scope)
        with pytest.raises(KintsugiError, match=said):
            check_columns(load_verifier(scope["score"]), [ASKED])
    check_columns(load_verifier(named("later", solution="given")), [Problem("a", "?", "1")])
    check_columns(load_verifier(named("each")), [])


# What group advantages see


def judged(*totals: float) -> Episode:
    """Rollouts of which the first passes; each total is 1 or 0 for that, and a second reward."""
    verdicts = [
        Verdict.scored(float(i == 0), parts=(Part("right", float(i == 0)), Part("short", t - (i == 0))))
        for i, t in enumerate(totals)
    ]
    return Episode(ASKED, tuple(make_rollout(f"{i}", verdict) for i, verdict in enumerate(verdicts)))


def test_advantages_compare_the_weighted_sum() -> None:
    # dr_grpo: r - mean, with the mean of 1.5, 0.5 and -0.5 at 0.5.
    rows = load_algorithm("dr_grpo").rows(judged(1.5, 0.5, -0.5))
    assert [row.advantages[0] for row in rows] == pytest.approx([1.0, 0.0, -1.0])
    # rloo: 1.5 - (0.5 - 0.5) / 2, 0.5 - (1.5 - 0.5) / 2, -0.5 - (1.5 + 0.5) / 2.
    rows = load_algorithm("rloo").rows(judged(1.5, 0.5, -0.5))
    assert [row.advantages[0] for row in rows] == pytest.approx([1.5, 0.0, -1.5])


def test_each_reward_and_what_is_logged_stands_in_the_metrics() -> None:
    found = episode_metrics([judged(1.5, 0.5)], [])
    assert (found["reward"], found["reward/right"], found["reward/short"]) == (1.0, 0.5, 0.5)
    logged = [Verdict("fail", logged={"length": 3, "read": "x"}), Verdict("error", logged={"length": 4})]
    assert reward_metrics(logged) == {"logged/length": 3.5}
    assert reward_metrics([Verdict("pass", 1.0)]) == {}  # what is built in has no parts


def test_parts_and_logs_are_read_back_as_they_were_written() -> None:
    verdict = Verdict(
        "fail", 0.0, "no", (Part("right", 0.0), Part("short", -2.0, 0.5)), {"read": "x", "n": 1}
    )
    episode = Episode(ASKED, (make_rollout("5", verdict), make_rollout("4", 1.0)))
    lines = list(rollout_lines(1, episode))
    (step,) = problem_steps(1, lines, [], [])
    assert [r.verdict for r in step.episode.rollouts] == [r.verdict for r in episode.rollouts]


# Heard


class Broken:
    def __init__(self, *messages: str) -> None:
        self.messages = list(messages)

    def __call__(self, problem: Problem, texts: Sequence[str], sampled: Sampled = UNKNOWN) -> list[Verdict]:
        return [Verdict("error", message=self.messages.pop(0)) for _ in texts]


def test_the_first_of_each_new_error_is_said_with_its_problem() -> None:
    said: list[str] = []
    broken: Verifier = Broken(
        "ValueError in line 3 of r.py: 'a'", "ValueError in line 3 of r.py: 'b'", "KeyError: 'c'"
    )
    heard = Heard(broken, said.append)
    for _ in range(3):
        heard(ASKED, ["x"])
    assert said == [
        "warning: the verifier failed on problem p/1: ValueError in line 3 of r.py: 'a'",
        "warning: the verifier failed on problem p/1: KeyError: 'c'",
    ]


def test_rewards_outside_0_and_1_are_said_once(named: Callable[..., dict[str, Any]]) -> None:
    said: list[str] = []
    heard = Heard(load_verifier(named("brevity")), said.append)
    verdicts = [*heard(ASKED, ["abc"]), *heard(ASKED, ["ab"])]
    assert [(v.reward, v.total) for v in verdicts] == [(0.0, -3.0), (0.0, -2.0)]
    (line,) = said
    assert line.startswith("note: brevity paid -3 on problem p/1: ")


def test_nothing_but_errors_ends_a_run_unless_the_recipe_says_to_go_on() -> None:
    errors = [Verdict("error", message="KeyError: 'c'")] * 2
    with pytest.raises(
        KintsugiError, match=r"step 3: the verifier gave nothing but errors, such as KeyError: 'c'"
    ):
        Heard(Broken(), print).require(errors, "step 3")
    Heard(Broken(), print).require([*errors, Verdict("fail")], "step 3")
    Heard(Broken(), print).require([], "step 3")
    Heard(Broken(), print, go_on=True).require(errors, "step 3")
    assert goes_on([{"name": "math", "on_error": "continue"}, "exact"]) and not goes_on("math")
    with pytest.raises(KintsugiError, match="on_error: expected stop or continue, got 'never'"):
        goes_on({"name": "math", "on_error": "never"})
    assert load_verifier({"name": "exact", "on_error": "continue"})(ASKED, ["#### 4"])[0].passed


def test_errors_are_left_out_of_every_figure() -> None:
    ok, no, error = Verdict("pass", 1.0), Verdict("fail"), Verdict("error", message="x")
    # Two samples and a greedy one of each problem. pass@1: 1 of 1, 0 of 2; the last problem has no verdict.
    verdicts = [[ok, error, ok], [no, no, error], [error, error, error]]
    found = counted(verdicts, [["#### 4"] * 3] * 3, 2)
    assert (found["pass_at_1"].value, found["pass_at_k"].value, found["maj_at_k"].value) == (0.5, 0.5, 0.5)
    assert found["greedy"].value == 1.0  # one greedy answer was judged
    assert found["states"] == {"pass": 1, "fail": 2, "error": 3}
    assert gain([0.5, float("nan"), 0.5]).value == 0.5
    # Training: one of two judged rollouts passes, and the group of a pass and an error holds no failure.
    group = Episode(ASKED, tuple(make_rollout("x", v) for v in (ok, no, error)))
    alone = Episode(ASKED, tuple(make_rollout("x", v) for v in (ok, error, error)))
    assert episode_metrics([group], [])["accuracy"] == 0.5
    lost = Episode(ASKED, (make_rollout("x", error),) * 3)
    metrics = episode_metrics([alone, lost], [])
    assert [metrics[f"groups/{kind}"] for kind in ("mixed", "all_passed", "all_failed")] == [0, 1, 0]


def test_what_is_left_out_is_what_is_counted() -> None:
    no, error = Verdict("fail"), Verdict("error", message="x")
    # Two samples and a greedy one: two samples are errors, and the greedy answer's error is none of theirs.
    verdicts, texts = ((no, error, error), (error, no, no)), (("a",) * 3,) * 2
    result = EvalResult(
        **counted(verdicts, texts, 2), k=2, tokens=0, seconds=0.0, verdicts=verdicts, texts=texts
    )
    assert (result.summary()["eval/error"], result.left_out) == (2, "; 2 verifier errors left out")
