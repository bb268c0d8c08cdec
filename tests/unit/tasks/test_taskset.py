"""Environments of the package `verifiers`, with tasksets of our own: problems, weighted rewards, what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from kintsugi.records import KintsugiError, Part, Problem, Verdict
from kintsugi.tasks import evaluation_problems, load_task, training_problems
from kintsugi.verifiers import load_verifier

OWN = """
import verifiers.v1 as vf


class Config(vf.TasksetConfig):
    first: int = 0
    count: int = 40


class Data(vf.TaskData):
    answer: int


class Sum(vf.Task[Data, vf.State, vf.TaskConfig]):
    async def setup(self, trace):
        trace.info["asked"] = self.data.answer

    @vf.reward(weight=1.0)
    async def correct(self, trace):
        if "boom" in trace.last_reply:
            raise ValueError("no such tool")
        return float(trace.last_reply.endswith(str(trace.info["asked"])))

    @vf.reward(weight=0.25)
    async def brief(self, task, trace):
        return 2.0 if len(trace.last_reply) < 10 else -1.0

    @vf.metric
    async def needs_no_pay(self, trace, runtime):
        return 1.0


class Sums(vf.Taskset[Sum, Config]):
    kind = Sum
    extra = {}

    def load(self):
        for i in range(self.config.first, self.config.first + self.config.count):
            yield self.kind(Data(prompt=f"What is {i} + 1?", answer=i + 1, **self.extra), self.config.task)


class Briefed(Sums):
    extra = {"system_prompt": "Be brief."}


class Endless(Sums):
    INFINITE = True

    def load(self):
        i = 0
        while True:
            yield self.kind(Data(prompt=f"What is {i} + 1?", answer=i + 1), self.config.task)
            i += 1


class Contained(Sums):
    extra = {"image": "python:3.12"}


class Silent(Sums):
    def load(self):
        yield Sum(Data(answer=1), self.config.task)


class Armed(Sums):
    @classmethod
    def toolsets(cls, config):
        return ["search"]


class RunsCode(Sum):
    @vf.reward
    async def tests_pass(self, trace, runtime):
        return 1.0


class Code(Sums):
    kind = RunsCode
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    pytest.importorskip("verifiers.v1")
    (tmp_path / "sums.py").write_text(OWN)
    return f"{tmp_path}/sums.py"


def spec(own: str, name: str = "Sums", **arguments: Any) -> dict[str, Any]:
    return {"name": "verifiers", "taskset": f"{own}:{name}", **arguments}


def test_tasks_are_problems_split_by_text(own: str) -> None:
    task = load_task(spec(own, eval_share=0.3))
    train, held_out = training_problems(task), evaluation_problems(task)
    assert len(train) + len(held_out) == 40 and len(held_out) > 2
    first = min([*train, *held_out], key=lambda p: int(p.answer))
    assert (first.id, first.prompt, first.answer, first.before) == (
        f"{own}:Sums/0",
        "What is 0 + 1?",
        "1",
        None,
    )
    assert first.columns["data"]["answer"] == 1
    assert task.verifier == "verifiers"
    few = load_task(spec(own, problems=5, evaluation_problems=2, eval_share=0.3))
    assert (list(few.train()), list(few.evaluation())) == (list(train[:5]), list(held_out[:2]))


def test_an_evaluation_has_a_config_of_its_own(own: str) -> None:
    task = load_task(spec(own, config={"count": 10}, eval_config={"first": 8, "count": 4}))
    # Sums 8 and 9 are asked in both: they are held out.
    assert [p.answer for p in task.train()] == [str(i) for i in range(1, 9)]
    assert [p.answer for p in task.evaluation()] == ["9", "10", "11", "12"]
    assert [p.id.rpartition(":")[2] for p in task.evaluation()][:2] == ["Sums/eval/0", "Sums/eval/1"]


def test_a_system_prompt_is_a_turn_and_an_endless_taskset_ends(own: str) -> None:
    problem = load_task(spec(own, "Briefed")).train()[0]
    assert problem.before == (("system", "Be brief."),)
    task = load_task(spec(own, "Endless", problems=30, evaluation_problems=4))
    assert (len(task.train()), len(task.evaluation())) == (30, 4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Contained", "it needs a container; only tasks of one question"),
        ("Silent", "its user begins the conversation"),
        ("Armed", "it needs tools"),
        ("Code", "its tests_pass needs the machine that an agent works on"),
    ],
)
def test_what_needs_more_than_an_answer_is_refused_in_one_line(own: str, name: str, message: str) -> None:
    with pytest.raises(KintsugiError, match=message) as caught:
        load_task(spec(own, name)).train()
    assert "\n" not in str(caught.value)


def test_unknown_tasksets_and_options_are_one_line(own: str) -> None:
    with pytest.raises(
        KintsugiError, match=r"no_such_taskset: ModuleNotFoundError: taskset 'no_such_taskset'"
    ):
        load_task({"name": "verifiers", "taskset": "no_such_taskset"})
    with pytest.raises(KintsugiError, match=r"Sums: ValidationError: .*counts") as caught:
        load_task(spec(own, config={"counts": 3}))
    assert "\n" not in str(caught.value)


def test_rewards_are_weighed_and_one_decides(own: str) -> None:
    problem = next(p for p in load_task(spec(own)).train() if p.answer == "5")
    texts = ["5", "I think that it is 5", "6", "<think>5", "<think>hm, 5</think> 6", "boom"]
    right, long, wrong, unended, thought, broken = load_verifier("verifiers")(problem, texts)
    # correct weighs 1, brief (2 or -1) a quarter: 1 + 0.5, 1 - 0.25, 0 + 0.5.
    assert [v.state for v in (right, long, wrong)] == ["pass", "pass", "fail"]
    assert [v.total for v in (right, long, wrong)] == [1.5, 0.75, 0.5]
    assert right.parts == (Part("brief", 2.0, 0.25), Part("correct", 1.0, 1.0))
    assert (unended.state, thought.state) == ("unscorable", "fail")
    assert broken.state == "error" and "no such tool" in broken.message
    # Another reward decides: brief is 2 for a short text.
    verdicts = load_verifier({"name": "verifiers", "outcome": "brief"})(
        problem, ["6", "I think that it is 5"]
    )
    assert [(v.state, v.reward) for v in verdicts] == [("pass", 1.0), ("fail", 0.0)]
    (unknown,) = load_verifier({"name": "verifiers", "outcome": "briefs"})(problem, ["6"])
    assert unknown == Verdict("error", message="no reward 'briefs'; there are brief, correct")
    (foreign,) = load_verifier("verifiers")(Problem("p", "?", "1"), ["1"])
    assert foreign.state == "error" and "verifier verifiers is for task verifiers" in foreign.message


def test_what_ships_with_the_package_and_has_an_environment_of_its_own_is_refused() -> None:
    pytest.importorskip("verifiers.v1")
    with pytest.raises(KintsugiError, match="its environment HarborEnv has turns or judges of its own"):
        load_task({"name": "verifiers", "taskset": "harbor"}).train()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "verifiers.v1", None)
    with pytest.raises(KintsugiError, match=r"pip install -e '\.\[verifiers\]'"):
        load_task({"name": "verifiers", "taskset": "any"})
