"""Verifiers: what they pass, and that whatever goes wrong costs one `error` verdict and nothing more."""

from __future__ import annotations

import importlib.util
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kintsugi.models.codec import HFCodec
from kintsugi.records import KintsugiError, Part, Problem, Turn, Verdict
from kintsugi.verifiers import Verifier, begun_in_thoughts, load_verifier
from kintsugi.verifiers import gym as gym_module
from kintsugi.verifiers.base import UNKNOWN, Sampled
from kintsugi.verifiers.extract import final_answer, spoken, vote
from kintsugi.verifiers.guard import Guarded, Worker
from kintsugi.verifiers.math import MathVerifier

# 9^(9^(9^9)): the exponent alone has 369,693,100 digits, so no time limit is generous enough for sympy's sum.
TOWER = r"#### \sum_{k=1}^{2} 9^{9^{9^9}}"


def problem(answer: str, **columns: Any) -> Problem:
    return Problem("p/1", "What is it?", answer, columns)


def states(verdicts: Sequence[Verdict]) -> list[str]:
    assert all(verdict.reward == 0.0 for verdict in verdicts if not verdict.passed)
    return [verdict.state for verdict in verdicts]


def state(verifier: Verifier, answer: str, text: str) -> str:
    return states(verifier(problem(answer), [text]))[0]


@pytest.fixture(scope="module")
def math_verifier() -> Iterator[MathVerifier]:
    verifier = MathVerifier(timeout=2)
    yield verifier
    verifier.worker.close()


# Final answers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3+4=7\n#### 7\nDone.", "7"),  # the rest of that line, not of the text
        ("#### 7\nNo, wait.\n#### 8", "8"),  # the last one
        ("#### 7 #### 8", "8"),
        (r"#### 7 and \boxed{8}", "8"),  # the line after ####, whose box holds the answer
        (r"\boxed{7}, no: \boxed{8}", "8"),
        (r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),  # nested braces
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),  # escaped braces do not count for balance
        (r"\boxed{7} then \boxed{8", "7"),  # the last *balanced* box
        (r"####" + "\n" + r"\boxed{5}", "5"),  # nothing after ####
        ("the answer is 7", None),
        (r"\boxed{}", None),
        ("", None),
    ],
)
def test_final_answer(text: str, expected: str | None) -> None:
    assert final_answer(text) == expected


def test_final_answer_is_linear_in_hostile_text() -> None:
    # 200,000 unclosed boxes: a scan from each one to the end would read 10^11 characters.
    start = time.perf_counter()
    assert final_answer(r"\boxed{" * 200_000) is None
    assert final_answer(r"\boxed{" * 200_000 + "7" + "}" * 200_000) == "7"
    assert time.perf_counter() - start < 5


THOUGHTS = [
    ("<think>first guess \\boxed{41}</think> Final answer: \\boxed{42}", "42"),
    ("#### 41</think>\n#### 42", "42"),  # the opening mark stands in the prompt
    ("<think>#### 41</think><think>again</think>#### 42", "42"),
    ("<thinking>#### 41</thinking>#### 42", "42"),
    ("<THOUGHT>#### 41</THOUGHT>#### 42", "42"),
    ("<|begin_of_thought|>#### 41<|end_of_thought|>#### 42", "42"),
    ("<seed:think>#### 41</seed:think>#### 42", "42"),
    (
        "<|channel|>analysis<|message|>#### 41<|end|><|start|>assistant<|channel|>final<|message|>#### 42",
        "42",
    ),
    ("#### 42", "42"),
    ("<think>#### 42", None),  # never ends
    ("<think>a</think>#### 41<think>#### 42", None),  # begins again
]


@pytest.mark.parametrize(("text", "answer"), THOUGHTS)
def test_thoughts_are_not_answers(math_verifier: MathVerifier, text: str, answer: str | None) -> None:
    exact = load_verifier("exact")
    for gold in ("41", "42"):
        expected = "unscorable" if answer is None else "pass" if answer == gold else "fail"
        assert state(exact, gold, text) == state(math_verifier, gold, text) == expected
    assert vote(text) == answer
    said = spoken(text)
    assert said is None if answer is None else "41" not in str(said)


def test_what_is_only_thought_is_no_answer_to_the_last_resorts_either(math_verifier: MathVerifier) -> None:
    assert state(math_verifier, "41", "<think>The answer is 41</think> I give up.") == "unscorable"
    assert state(math_verifier, "42", "<think>The answer is 41</think> So it is 42.") == "pass"
    assert vote("<think>41</think>") is None


def test_where_the_prompt_opens_the_thoughts_a_text_that_never_ends_them_has_no_answer(
    math_verifier: MathVerifier, user: Callable[..., Verifier]
) -> None:
    texts = ["#### 42", "#### 41</think>#### 42", "42"]
    for verifier in (math_verifier, load_verifier("exact")):
        assert states(begun_in_thoughts(verifier)(problem("42"), texts))[:2] == ["unscorable", "pass"]
    asked = problem("42", level=3)
    assert states(begun_in_thoughts(user("trl"))(asked, texts)) == ["fail", "fail", "pass"]  # as it is


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [
        ("<user>?<assistant><think>\n", True),
        ("<user>?<assistant><think>\n\n</think>\n", False),
        ("?\n", False),
    ],
)
def test_the_template_says_if_completions_begin_in_thoughts(prompt: str, opened: bool) -> None:
    tokenizer = SimpleNamespace(decode=lambda ids: "".join(map(chr, ids)))
    codec: Any = SimpleNamespace(tokenizer=tokenizer, chat=lambda message: tuple(map(ord, prompt)))
    assert HFCodec.opens_thoughts(codec) is opened


# exact


@pytest.mark.parametrize(
    ("answer", "text", "expected"),
    [
        ("42", "#### 42", "pass"),
        ("42", "####   $42$. ", "pass"),
        ("1234", "#### 1,234", "pass"),
        ("1,234,567.5", "#### $1234567.5", "pass"),
        ("42", r"\boxed{42}", "pass"),
        (r"\boxed{42}", "#### 42", "pass"),
        ("Paris", "#### **Paris**", "pass"),
        ("1,2", "#### 12", "fail"),  # 1,2 is no number with thousands commas
        ("42", "#### 42.0", "fail"),  # letter for letter
        ("42", "#### 41", "fail"),
        ("42", "It is 42", "unscorable"),
        ("", "#### .", "error"),  # a blank gold answer would match a blank answer
    ],
)
def test_exact(answer: str, text: str, expected: str) -> None:
    assert state(load_verifier("exact"), answer, text) == expected


def test_exact_says_what_is_missing() -> None:
    assert "no final answer" in load_verifier("exact")(problem("42"), ["It is 42"])[0].message


# math


@pytest.mark.parametrize(
    ("answer", "text", "expected"),
    [
        ("42", "#### 42", "pass"),
        ("42", "#### 41", "fail"),
        ("1/2", r"#### \frac{1}{2}", "pass"),
        (r"\frac{1}{2}", "#### 0.5", "pass"),
        ("1/3", "#### 0.333", "fail"),  # a rounded number needs six decimals
        ("x+1", r"\boxed{1 + x}", "pass"),
        (r"\{1,2\}", "#### 2, 1", "pass"),  # sets have no order
        ("(1,2)", "#### (2,1)", "fail"),  # tuples have
        ("12", r"#### 9^{9^{9^9}}", "unscorable"),  # too large to compare
        ("5", "#### 3\nbut the answer was $5$", "fail"),  # #### comes first
        ("5", "so the answer is $5$", "pass"),  # no #### and no box: the whole text is read
        ("$1,000", "#### 1000", "pass"),
        ("42", "#### 42 dollars", "pass"),
        ("3", "#### 3 million", "fail"),
        ("1e5", "#### 100000", "pass"),
        ("yes", "#### Yes", "pass"),
        ("yes", "#### eys", "fail"),  # math-verify alone passes it: e*s*y = e*y*s
        ("42", "I do not know", "unscorable"),
        ("42", "####", "unscorable"),
        ("42", "#### }{", "unscorable"),
        ("}{", "#### 42", "error"),  # the gold answer cannot be read: not the model's fault
    ],
)
def test_math(math_verifier: MathVerifier, answer: str, text: str, expected: str) -> None:
    assert state(Guarded(math_verifier), answer, text) == expected


def test_the_quick_path_for_numbers_agrees_with_the_worker(math_verifier: MathVerifier) -> None:
    numbers = ["0", "1", "-1", "10", "100", "1000", "-1000", "99999999999999", "0.5", "-0.05"]
    for gold in numbers:
        slow = math_verifier.worker.judge(gold, numbers)
        quick = math_verifier(problem(gold), [f"#### {number}" for number in numbers])
        assert states(quick) == states(slow) == ["pass" if n == gold else "fail" for n in numbers]


def test_a_hanging_check_is_killed_and_costs_the_other_texts_nothing(math_verifier: MathVerifier) -> None:
    texts = ["#### 0.5", TOWER, r"#### \frac{2}{4}", "#### 3", "#### 0.25"]
    verdicts = math_verifier(problem("1/2"), texts)
    assert states(verdicts) == ["pass", "unscorable", "pass", "fail", "fail"]
    assert verdicts[1].message == "math-verify took longer than 2 s"


def test_a_gold_answer_that_hangs_is_an_error_and_no_text_is_blamed() -> None:
    # "builtins:eval" makes the payload itself the judge: here one that is never ready.
    verdicts = Worker("builtins:eval", "json", 0.5).judge("9**9**9**9", ["a", "b"])
    assert states(verdicts) == ["error", "error"]
    assert verdicts[0].message == "json took longer than 0.5 s"


def test_a_killed_worker_is_replaced(math_verifier: MathVerifier) -> None:
    math_verifier(problem("1/2"), ["#### 0.5"])
    child = math_verifier.worker.child
    assert child is not None
    child.process.send_signal(signal.SIGKILL)
    child.process.wait()
    assert states(math_verifier(problem("1/2"), ["#### 0.5"])) == ["pass"]


def test_a_text_that_kills_its_worker_is_unscorable_and_the_worker_has_no_torch() -> None:
    # "builtins:eval" makes the payload itself the judge.
    judge = (
        "lambda text: __import__('os')._exit(3) if text == 'die' else "
        "__import__('kintsugi.records').records.Verdict("
        "'fail', 0.0, str('torch' in __import__('sys').modules))"
    )
    worker = Worker("builtins:eval", "math_verify", 10)
    verdicts = worker.judge(judge, ["a", "die"])
    worker.close()
    assert states(verdicts) == ["fail", "unscorable"]
    assert verdicts[0].message == "False"
    assert "process died (exit code 3" in verdicts[1].message


def test_a_worker_that_cannot_start_says_why() -> None:
    verdicts = Worker("builtins:eval", "no_such_package", 10).judge("len", ["a", "b"])
    assert states(verdicts) == ["error", "error"]
    assert "No module named 'no_such_package'" in verdicts[1].message


def test_a_program_that_leaves_its_worker_running_ends_at_once_without_a_stdin() -> None:
    program = (
        "from kintsugi.verifiers.guard import Worker\n"
        "worker = Worker('builtins:eval', 'json', 5)\n"
        "verdict = worker.judge('lambda text: 1 / 0', ['a'])[0]\n"
        "print(verdict.message, worker.child.process.pid)"
    )
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": path},
    )
    message, _, pid = done.stdout.strip().rpartition(" ")
    assert (message, done.stderr) == ("ZeroDivisionError: division by zero", "")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


# gym


needs_gym = pytest.mark.skipif(not importlib.util.find_spec("reasoning_gym"), reason="needs reasoning-gym")


@needs_gym
def test_gym(tmp_path: Path) -> None:
    right = "94*4 - 61 - 6"  # 376 - 67 = 309
    entry = {"answer": right, "metadata": {"numbers": [6, 61, 94, 4], "target": 309}}
    columns = {"entry": entry, "dataset": "countdown", "config": {"min_numbers": 4}}
    trap = tmp_path / "touched"
    texts = [
        f"Let me see.\n#### {right}",
        f"Let me see.\n{right}\n\n",  # no final answer: the last non-empty line
        f"#### {right}+0",  # right value, but 0 is not among the numbers: a partial score of 0.05
        "  \n",
        f"#### __import__('pathlib').Path({str(trap)!r}).touch()",  # countdown evaluates what it scores
        "#### 9**9**9**9",
    ]
    verdicts = load_verifier({"name": "gym", "timeout": 2})(problem(right, **columns), texts)
    assert states(verdicts) == ["pass", "pass", "fail", "unscorable", "fail", "unscorable"]
    assert (verdicts[0].reward, verdicts[2].message) == (1.0, "score 0.05")
    assert verdicts[5].message == "reasoning-gym took longer than 2 s"
    assert not trap.exists()


class Scorer:
    def __init__(self, score: Callable[[str], float]) -> None:
        self.score = score

    def score_answer(self, answer: str, entry: dict[str, Any]) -> float:
        return self.score(answer)


def test_gym_grids_are_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        gym_module, "generator", lambda *_: Scorer(lambda answer: float(answer == "1 2\n3 4"))
    )
    judge = gym_module.prepare(("grid", b"", {"answer": "1 2\n3 4"}))
    texts = ["So:\n#### 1 2\n3 4", "So:\n####\n1 2\n3 4\n", "So:\n1 2\n3 4", "#### 1 2"]
    assert states([judge(text) for text in texts]) == ["pass", "pass", "pass", "fail"]
    thoughts = ["<think>#### 0 0\n0 0</think>\n1 2\n3 4", "1 2\n3 4</think>", "<think>1 2\n3 4"]
    assert states([judge(text) for text in thoughts]) == ["pass", "unscorable", "unscorable"]


def test_gym_nan_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gym_module, "generator", lambda *_: Scorer(lambda _: math.nan))
    assert gym_module.prepare(("chain_sum", b"", {"answer": "1"}))("#### 1").state == "error"


@needs_gym
def test_gym_without_its_columns_or_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = load_verifier("gym")(problem("1"), ["#### 1"])[0]
    assert verdict.state == "error" and "no column 'dataset'" in verdict.message
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(KintsugiError, match=r"pip install -e '\.\[gym\]'"):
        load_verifier("gym")


# A user's function

REWARDS = """
import math
import numpy as np

def trl(prompts, completions, answer, level, **columns):
    assert prompts == ["What is it?"] * len(completions) and level == [3] * len(completions)
    return [1.0 if text == gold else 0.0 for text, gold in zip(completions, answer)]

def trl_chat(prompts, completions, answer, **columns):
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is it?"}]
    assert prompts == [talk] * len(completions)
    assert all(len(c) == 1 and c[0]["role"] == "assistant" for c in completions)
    return [1.0 if c[0]["content"] == gold else 0.0 for c, gold in zip(completions, answer)]

def trl_narrow(completions):
    return [len(text) / 10 for text in completions]

def odd(completions, **columns):
    return [None, math.nan, "1", -1, 7, True, np.float32(0.5), math.inf, [1.0]]

def short(completions, **columns):
    return [1.0]

def number(completions, **columns):
    return 1.0

def raises(completions, **columns):
    raise RuntimeError("no such table")

def leaves(completions, **columns):
    raise SystemExit(1)

def verl(data_source, solution_str, ground_truth, extra_info=None, scale=1.0):
    assert (data_source, extra_info) == ("gsm8k", {"level": 3, "data_source": "gsm8k"})
    if solution_str == "bad":
        raise ValueError("cannot read it")
    return {"score": scale * (solution_str == ground_truth), "extra": 1}

def neither(text):
    return 1.0
"""


@pytest.fixture
def user(tmp_path: Path) -> Callable[..., Verifier]:
    path = tmp_path / "rewards.py"
    path.write_text(REWARDS)
    return lambda name, **arguments: load_verifier({"name": f"{path}:{name}", **arguments})


def test_trl_signature(user: Callable[..., Verifier]) -> None:
    asked = problem("42", level=3)
    assert states(user("trl")(asked, ["42", "41"])) == ["pass", "fail"]
    # Without **columns a function gets what it names. 5 letters pay 0.5, which is the threshold.
    narrow = user("trl_narrow")(asked, ["12345", "1234"])
    assert [(v.state, v.reward) for v in narrow] == [("pass", 0.5), ("fail", 0.4)]


def test_where_data_are_conversations_rewards_get_messages_as_in_trl(user: Callable[..., Verifier]) -> None:
    asked = replace(problem("42"), before=(Turn("system", "Be brief."),))
    assert states(user("trl_chat")(asked, ["42", "41"])) == ["pass", "fail"]


def test_verl_signature(user: Callable[..., Verifier]) -> None:
    asked = problem("42", level=3, data_source="gsm8k")
    verdicts = user("verl")(asked, ["42", "bad", "41"])
    assert states(verdicts) == ["pass", "error", "fail"]  # one call per text: one failure, one error
    line = 1 + REWARDS.split("\n").index('        raise ValueError("cannot read it")')
    assert verdicts[1].message == f"ValueError in line {line} of rewards.py: cannot read it"
    # scale * 1 = 0.25 < 0.5 fails, but keeps its reward; what else the dict holds is logged
    expected = Verdict("fail", 0.25, parts=(Part("verl", 0.25),), logged={"extra": 1})
    assert user("verl", scale=0.25)(asked, ["42"]) == [expected]


def test_odd_rewards(user: Callable[..., Verifier]) -> None:
    verdicts = user("odd")(problem("42"), ["text"] * 9)
    assert [(v.state, v.reward) for v in verdicts] == [
        ("unscorable", 0.0),  # None
        ("error", 0.0),  # NaN
        ("error", 0.0),  # "1"
        ("fail", 0.0),  # -1, clipped
        ("pass", 1.0),  # 7, clipped
        ("pass", 1.0),  # True
        ("pass", 0.5),  # a NumPy number
        ("error", 0.0),  # infinity
        ("error", 0.0),  # [1.0]
    ]
    assert verdicts[3].message == "reward -1, clipped to 0 to pass or fail"
    assert [v.total for v in verdicts[3:5]] == [-1.0, 7.0]  # the group compares what the function gave


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("short", "1 rewards for 3 completions"),
        ("number", "expected a list of 3 rewards, got float"),
        ("raises", "of rewards.py: no such table"),
        ("leaves", "of rewards.py: 1"),
    ],
)
def test_a_failing_function_is_an_error_for_every_text(
    user: Callable[..., Verifier], name: str, message: str
) -> None:
    verdicts = user(name)(problem("42"), ["a", "b", "c"])
    assert states(verdicts) == ["error"] * 3
    assert all(message in verdict.message for verdict in verdicts)


def test_functions_that_cannot_be_verifiers(user: Callable[..., Verifier]) -> None:
    with pytest.raises(KintsugiError, match=r"expected a parameter `completions`.*found \(text\)"):
        user("neither")
    with pytest.raises(KintsugiError, match="expected a function"):
        user("math")  # a module that the file imports
    with pytest.raises(KintsugiError, match="takes no argument 'power'"):
        user("trl_narrow", power=2)


# The registry and its guard


def test_unknown_names_and_arguments() -> None:
    with pytest.raises(
        KintsugiError,
        match=r"'maths'; did you mean 'math'\? There are exact, math, gym, code, verifiers, and my_file.py:function",
    ):
        load_verifier("maths")
    with pytest.raises(KintsugiError, match=r"unknown argument 'time'; .*It takes timeout"):
        load_verifier({"name": "math", "time": 5})
    with pytest.raises(KintsugiError, match="timeout in seconds above 0, got 0"):
        load_verifier({"name": "math", "timeout": 0})
    with pytest.raises(KintsugiError, match="no such file"):
        load_verifier("nowhere.py:score")


def test_a_verifier_that_raises_or_miscounts_never_pays() -> None:
    def raises(problem: Problem, texts: Sequence[str], sampled: Sampled = UNKNOWN) -> list[Verdict]:
        raise ZeroDivisionError("division by zero")

    def miscounts(problem: Problem, texts: Sequence[str], sampled: Sampled = UNKNOWN) -> list[Verdict]:
        return [Verdict("pass", 1.0)]

    for verifier, message in (
        (raises, "ZeroDivisionError: division by zero"),
        (miscounts, "expected 2 verdicts"),
    ):
        verdicts = Guarded(verifier)(problem("42"), ["a", "b"])
        assert states(verdicts) == ["error", "error"]
        assert message in verdicts[0].message
    assert load_verifier("exact")(problem("42"), []) == []
