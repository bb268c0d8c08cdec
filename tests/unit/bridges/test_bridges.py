"""The parts of TRL's bridge that need no TRL: processes in lockstep, groups replayed, settings, rewards."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import CharCodec, FakeVerifier, complete, encode, make_recipe, make_rollout

from kintsugi.algorithms import load_algorithm
from kintsugi.bridges.common import logged_numbers
from kintsugi.bridges.replay import Lockstep, grouped
from kintsugi.bridges.trl_settings import deciding, on_policy, settle
from kintsugi.bridges.trl_words import TextCodec, check_rewards, verdict_of, wording
from kintsugi.models.loading import HFCodec, load_model
from kintsugi.prompts import TERSE
from kintsugi.records import Episode, Extra, KintsugiError, Part, Problem, Verdict
from kintsugi.sampling.given import Group, GroupContext
from kintsugi.sampling.play import play
from kintsugi.sampling.rounds import Rounds
from kintsugi.sampling.sample import Limits
from kintsugi.verifiers.base import Sampled
from kintsugi.verifiers.user import UserVerifier

# ---- several processes


@dataclass
class Meeting:
    """`gather` for threads that play processes: each gets the lists of all, joined in their order."""

    world: int
    lists: dict[int, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.barrier = threading.Barrier(self.world, timeout=20)

    def gather(self, rank: int) -> Callable[[list[Any]], list[Any]]:
        def together(own: list[Any]) -> list[Any]:
            self.lists[rank] = own
            self.barrier.wait()
            found = [item for r in range(self.world) for item in self.lists[r]]
            self.barrier.wait()  # nobody puts down its next list before all have read these
            return found

        return together


def in_processes(world: int, work: Callable[[Lockstep], Any]) -> list[Any]:
    """What `work` returns in each of the processes."""
    meeting, results = Meeting(world), {}

    def play(rank: int) -> None:
        results[rank] = work(Lockstep(meeting.gather(rank), rank, world))

    threads = [threading.Thread(target=play, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[rank] for rank in range(world)]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_shares_come_together_in_the_order_of_the_whole(world: int) -> None:
    items = list("abcdefg")
    assert in_processes(world, lambda p: p.together(p.share(items))) == [items] * world


def test_work_is_spread_in_equal_parts() -> None:
    # 5 items in 3 processes: each works on 2, so one item is done twice; everybody holds all 5 results.
    sizes: list[int] = []

    def upper(mine: list[str]) -> list[str]:
        sizes.append(len(mine))
        return [item.upper() for item in mine]

    assert in_processes(3, lambda p: p.spread(list("abcde"), upper)) == [list("ABCDE")] * 3
    assert sizes == [2, 2, 2]


def test_nothing_to_spread_is_no_work() -> None:
    def never(mine: list[str]) -> list[str]:
        raise AssertionError(mine)

    assert in_processes(2, lambda p: p.spread([], never)) == [[], []]


def test_a_process_that_asks_nothing_takes_part_until_nobody_asks() -> None:
    # The first process asks twice (3 and 1), the second never. Both work on 2 of the 3, then on the 1.
    worked: dict[int, list[int]] = {0: [], 1: []}

    def run(p: Lockstep) -> list[Any]:
        def double(mine: list[int]) -> list[int]:
            worked[p.rank].append(len(mine))
            return [2 * item for item in mine]

        asked = [[1, 2, 3], [4]] if p.rank == 0 else []
        answers = [p.answer(items, {int: double}) for items in asked]
        while p.answer([], {int: double}) is not None:
            pass
        return answers

    assert in_processes(2, run) == [[[2, 4, 6], [8]], []]
    assert worked == {0: [2, 1], 1: [2, 1]}


# ---- a group replayed


@dataclass(frozen=True)
class Beside:
    """What samples beside the group."""

    answer: Callable[[list[Any]], list[Any]]
    limits: Limits

    def session(self) -> Rounds:
        return Rounds(self.limits.samples, self.answer)


def replayed(
    texts: list[str], rewards: list[float], **more: Any
) -> tuple[GroupContext, Beside, list[str], FakeVerifier]:
    """(the context of a group that others sampled, what samples beside it, the prompts of that, what judges those)."""
    asked: list[str] = []
    codec = CharCodec()

    def answer(batch: list[Any]) -> list[Any]:
        asked.extend(codec.decode(sample.prompt_ids) for sample in batch)
        return [complete("1+1=2#### 2") for _ in batch]

    judge = FakeVerifier()
    group = Group(
        Problem("p", "1+1", "2"),
        encode("<1+1>"),
        tuple(complete(text) for text in texts),
        tuple(map(Verdict.scored, rewards)),
    )
    settings = {"sampling": {"group_size": len(texts)}} | more
    ctx = GroupContext(
        codec=codec,
        verifier=judge,
        prompts=TERSE,
        recipe=make_recipe(**settings),
        given=group,
    )
    return ctx, Beside(answer, Limits(10_000, None)), asked, judge


def test_rollouts_are_the_others_and_repairs_are_sampled() -> None:
    ctx, beside, asked, judge = replayed(["1+1=3#### 3", "2#### 2"], [0.0, 1.0])
    algorithm = load_algorithm({"name": "iop", "check": "none"})
    (episode,) = play([algorithm.run(Problem("p", "1+1", "2"), ctx)], beside)
    assert [r.text for r in episode.rollouts] == ["1+1=3#### 3", "2#### 2"]
    assert [r.verdict.reward for r in episode.rollouts] == [0.0, 1.0]
    assert {r.prompt_ids for r in episode.rollouts} == {encode("<1+1>")}  # as it was asked, to the token
    assert asked == ["[1+1\nwrong:\n1+1=3#### 3\nright:\n2#### 2\nmend:\n]"] * 2
    assert judge.judged == ["1+1=2#### 2"] * 2  # the rollouts were judged before
    assert len(episode.seams) == 1


@pytest.mark.parametrize("rewards", [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
def test_scouts_change_nothing_where_the_group_is_drawn_already(rewards: list[float]) -> None:
    texts = ["1+1=3#### 3", "2#### 2", "4#### 4"]
    ctx, beside, asked, _ = replayed(texts, rewards, sampling={"group_size": 3, "scouts": 1})
    algorithm = load_algorithm({"name": "kintsugi", "source": "sibling"})
    (episode,) = play([algorithm.run(Problem("p", "1+1", "2"), ctx)], beside)
    assert [r.verdict.reward for r in episode.rollouts] == rewards
    assert asked == []


def test_a_group_is_named_by_its_prompt() -> None:
    row = {"prompt": "1+1", "answer": 2}
    other = {"prompt": [{"role": "user", "content": "2+2"}], "answer": 4}
    members = [(row, encode("1+1"), complete("2"))] * 2 + [(other, encode("2+2"), complete("5"))] * 2
    verdicts = [Verdict.scored(reward) for reward in (1.0, 0.0, 0.25, 1.0, 0.5, 0.25)]
    groups = grouped([*members, *members[:2]], verdicts, 2)
    first, second, again = groups
    assert first.problem.id != second.problem.id
    assert again.problem.id == f"{first.problem.id}/2"  # the same question twice in a batch: two groups
    assert (
        grouped(members[:2], verdicts[:2], 2)[0].problem.id == first.problem.id
    )  # and in a later batch its own
    assert (first.problem.before, second.problem.before) == (None, ())
    assert first.problem.columns == row
    assert [list(g.verdicts) for g in groups] == [verdicts[:2], verdicts[2:4], verdicts[4:]]


# ---- TRL's settings


def trl(**settings: Any) -> Any:
    usual = {
        "loss_type": "dapo",
        "scale_rewards": "group",
        "multi_objective_aggregation": "sum_then_normalize",
        "mask_truncated_completions": False,
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "importance_sampling_level": "token",
        "epsilon": 0.2,
        "epsilon_high": None,
        "num_iterations": 1,
        "steps_per_generation": 4,
        "gradient_accumulation_steps": 4,
    }
    return SimpleNamespace(**(usual | settings))


def decided(algorithm: str, **settings: Any) -> tuple[str, float, float]:
    """Level of ratios and clip range."""
    found = settle(trl(**settings), load_algorithm(algorithm))
    return found.level, found.clip_low, found.clip_high


def test_level_and_clip_range_are_the_algorithms() -> None:
    assert decided("kintsugi") == ("token", 0.2, 0.2)
    assert decided("iop") == ("sequence", 3e-4, 4e-4)
    assert decided("dapo") == ("token", 0.2, 0.28)
    assert decided("rloo")[0] == "token"
    assert decided("iop", epsilon=0.1) == ("sequence", 0.1, 0.1)
    assert decided("iop", epsilon_high=0.3) == ("sequence", 0.2, 0.3)
    assert decided("gspo", importance_sampling_level="sequence")[0] == "sequence"


@pytest.mark.parametrize(
    ("loss_type", "reduction"),
    [("dapo", "row"), ("grpo", "row"), ("bnpo", "token"), ("dr_grpo", "constant")],
)
def test_the_loss_that_a_script_names_is_the_mean_that_is_taken(loss_type: str, reduction: str) -> None:
    # dapo is TRL's default and says nothing: the mean is the algorithm's own, for grpo that over rows.
    assert settle(trl(loss_type=loss_type), load_algorithm("grpo")).algorithm.reduction == reduction


def rows_of(algorithm: str, episode: Episode, **settings: Any) -> list[Any]:
    rows = settle(trl(**settings), load_algorithm(algorithm)).algorithm.rows(episode)
    return [(row.active, {reason: values[0] for reason, values in row.credit.items()}) for row in rows]


def test_advantages_are_not_scaled_where_a_script_says_so() -> None:
    # One of four passes: mean 1/4, standard deviation sqrt(3)/4. Of extra rollouts, which join the group, three of
    # eight pass in all: mean 3/8.
    group = tuple(make_rollout("no", r) for r in (1.0, 0.0, 0.0, 0.0))
    episode = Episode(Problem("p", "q", "a"), group)
    scaled = rows_of("grpo", episode)
    assert [credit["group"] for _, credit in scaled] == pytest.approx([3**0.5, *[-(3**-0.5)] * 3])
    plain = [credit["group, unscaled"] for _, credit in rows_of("grpo", episode, scale_rewards="none")]
    assert plain == pytest.approx([0.75, -0.25, -0.25, -0.25])
    more = tuple(Extra("rollout", 2, 0, make_rollout("no", r)) for r in (1.0, 1.0, 0.0, 0.0))
    joined = rows_of("extra_rollouts", replace(episode, extras=more), scale_rewards="none")
    assert [credit["group, unscaled"] for _, credit in joined] == pytest.approx(
        [0.625, -0.375, -0.375, -0.375, 0.625, 0.625, -0.375, -0.375]
    )
    # Credit that is not divided by a deviation is what it was.
    for name in ("dr_grpo", "rloo", "raft"):
        assert rows_of(name, episode, scale_rewards="none") == rows_of(name, episode)


def test_truncated_completions_are_masked_where_a_script_says_so() -> None:
    whole, cut = make_rollout("yes", 1.0), make_rollout("no", 0.0)
    cut = replace(cut, completion=replace(cut.completion, finish="length"))
    episode = Episode(Problem("p", "q", "a"), (whole, cut))
    assert rows_of("grpo", episode, mask_truncated_completions=True) == [(4, {"group": 1.0}), (0, {})]
    assert rows_of("grpo", episode) == [(4, {"group": 1.0}), (3, {"group": -1.0})]


@pytest.mark.parametrize(
    "setting",
    [
        {"loss_type": "sapo"},
        {"loss_type": "cispo"},
        {"scale_rewards": "batch"},
        {"multi_objective_aggregation": "normalize_then_sum"},
        {"top_entropy_quantile": 0.2},
        {"off_policy_mask_threshold": 0.5},
    ],
    ids=str,
)
def test_a_setting_that_spoils_credit_is_refused(setting: dict[str, Any]) -> None:
    ((name, value),) = setting.items()
    with pytest.raises(KintsugiError) as caught:
        settle(trl(**setting), load_algorithm("kintsugi"))
    assert str(caught.value).startswith(f"{name}={value!r}: expected ")


def test_all_that_is_refused_is_told_at_once() -> None:
    args = trl(loss_type="vespo", top_entropy_quantile=0.2, importance_sampling_level="sequence")
    with pytest.raises(KintsugiError) as caught:
        settle(args, load_algorithm("kintsugi"), [KintsugiError("no images")])
    told = str(caught.value)
    places = [
        told.find(name) for name in ("loss_type=", "top_entropy_quantile=", "importance_sampling_level=")
    ]
    assert -1 not in places and places == sorted(places)
    assert told.endswith("; no images") and "\n" not in told


@pytest.mark.parametrize(
    ("settings", "fits"),
    [
        ({}, True),
        ({"gradient_accumulation_steps": 8}, True),  # two batches an update
        ({"num_iterations": 2}, False),
        ({"gradient_accumulation_steps": 2}, False),  # two updates a batch
        ({"num_iterations": 2, "gradient_accumulation_steps": 8}, True),  # a batch twice in one update
    ],
    ids=str,
)
def test_ratios_are_1_where_a_batch_is_used_up_by_one_update(settings: dict[str, int], fits: bool) -> None:
    assert on_policy(trl(**settings)) is fits
    for name in ("iop", "rloo"):
        if fits:
            settle(trl(**settings), load_algorithm(name))
        else:
            with pytest.raises(
                KintsugiError, match=f"algorithm {name} .*, which TRL cannot: expected one update"
            ):
                settle(trl(**settings), load_algorithm(name))
    settle(trl(**settings), load_algorithm("kintsugi"))


def test_ratios_of_sequences_do_not_suit_credit_of_tokens() -> None:
    with pytest.raises(KintsugiError, match="algorithm kintsugi takes ratios of tokens"):
        settle(trl(importance_sampling_level="sequence"), load_algorithm("kintsugi"))


@pytest.mark.parametrize(
    ("names", "outcome", "name"),
    [
        (["format", "right"], "right", "right"),
        (["format", "right"], 1, "right"),
        (["format", "right"], None, "format"),  # the first
        (["format", "outcome"], None, "outcome"),  # unless one is called so
        (["right"], None, "right"),
    ],
    ids=str,
)
def test_one_reward_function_decides(names: list[str], outcome: Any, name: str) -> None:
    assert deciding(names, outcome) == name


@pytest.mark.parametrize("outcome", ["c", 2, True], ids=str)
def test_a_reward_function_that_is_not_there_cannot_decide(outcome: Any) -> None:
    with pytest.raises(KintsugiError, match="outcome: expected the name or number"):
        deciding(["a", "b"], outcome)


def test_prompts_are_a_name() -> None:
    assert wording("terse-v1") == TERSE
    with pytest.raises(KintsugiError, match="prompts: expected a name here, got"):
        wording({"name": "terse-v1"})


# ---- rewards


def test_a_reward_function_gets_what_trl_would_hand_it() -> None:
    calls: list[dict[str, Any]] = []

    def score(completions: list[Any], **columns: Any) -> list[float | None]:
        calls.append({"completions": completions, **columns})
        columns["log_metric"]("asked", 2)
        columns["log_extra"]("read", ["two", None])
        return [1.0, None]

    turn = [{"role": "user", "content": "1+1"}]
    row = {"prompt": turn, "answer": 2, "completion": "not handed on", "source": {"name": "dag"}}
    sampled = Sampled([encode("2"), encode("3")], "state")
    verdicts = UserVerifier(score, "score")(Problem("p", "1+1", "", row, ()), ["2", "3"], sampled)
    assert [v.state for v in verdicts] == ["pass", "unscorable"]
    assert [v.logged for v in verdicts] == [{"read": "two", "asked": 2.0}, {"read": None, "asked": 2.0}]
    (call,) = calls
    assert {k: v for k, v in call.items() if not k.startswith("log_")} == {
        "prompts": [turn, turn],
        "completions": [[{"role": "assistant", "content": "2"}], [{"role": "assistant", "content": "3"}]],
        "completion_ids": [list(encode("2")), list(encode("3"))],
        "answer": [2, 2],  # as the data set has it
        "source": [{"name": "dag"}] * 2,
        "trainer_state": "state",
    }


def test_a_rollouts_rewards_are_one_verdict() -> None:
    # 1 * right + 0.5 * short: 1 + 0.25, 0 - 1; NaN stands for a function that gave no reward.
    weights = {"right": 1.0, "short": 0.5}
    verdicts = [
        verdict_of(row, weights, "right")
        for row in ([1.0, 0.5], [0.0, -2.0], [math.nan, 0.5], [math.nan] * 2)
    ]
    assert [v.state for v in verdicts] == ["pass", "fail", "unscorable", "unscorable"]
    assert [v.total for v in verdicts] == [1.25, -1.0, 0.25, 0.0]
    assert verdict_of([1.0, 0.5], weights, "short").state == "pass"  # 0.5 is the threshold
    assert verdicts[1].parts == (Part("right", 0.0, 1.0), Part("short", -2.0, 0.5))


def test_a_column_that_a_reward_function_needs_is_missed_before_a_model_is_loaded() -> None:
    def right(completions: list[Any], solution: list[str], **columns: Any) -> list[float]:
        raise AssertionError

    check_rewards([right, Model()], SimpleNamespace(column_names=["prompt", "solution"]))
    check_rewards(right, None)  # a stream may not know its columns
    with pytest.raises(KintsugiError, match="nothing fills its parameter 'answer'"):  # in TRL it is a column
        check_rewards(lambda completions, answer: [], SimpleNamespace(column_names=["prompt", "solution"]))
    with pytest.raises(
        KintsugiError, match="verifier 'right': nothing fills its parameter 'solution'; did you mean"
    ):
        check_rewards(right, SimpleNamespace(column_names=["prompt", "solutions"]))


class Model:
    def forward(self) -> None: ...

    def __call__(self, logits: Any) -> None: ...


def test_the_numbers_of_a_step() -> None:
    # "no" and its stop token are 3 tokens, "yes" and its stop token 4; one of the two passes.
    episode = Episode(Problem("p", "q", "a"), (make_rollout("no", 0.0), make_rollout("yes", 1.0)))
    rows = load_algorithm("grpo").rows(episode)
    found = logged_numbers([episode], rows)
    assert (found["accuracy"], found["tokens/rollout"], found["tokens/repair"]) == (0.5, 7, 0)
    assert (found["rows/policy"], found["active_ratio"], found["repair/failures"]) == (2, 1, 1)
    # Nothing was tried, and a sampler that tells no log-probabilities has no entropy: neither is logged as 0.
    assert "repair/success_per_failure" not in found
    unknown = replace(episode.rollouts[0].completion, logprobs=(math.nan,) * 3)
    silent = replace(
        episode, rollouts=(replace(episode.rollouts[0], completion=unknown), episode.rollouts[1])
    )
    assert "entropy" in found and "entropy" not in logged_numbers([silent], rows)


def test_sampling_beside_a_group_is_bounded_by_the_models_positions() -> None:
    ctx, beside, _, _ = replayed(["1+1=3#### 3", "2#### 2"], [0.0, 1.0])
    small = replace(beside, limits=Limits(10_000, 4))
    with pytest.raises(KintsugiError, match="leaves no room to answer"):
        play([load_algorithm("iop").run(Problem("p", "1+1", "2"), ctx)], small)


def test_repair_prompts_are_made_as_trl_makes_prompts() -> None:
    tokenizer = load_model("nano-random", device="cpu").tokenizer
    assert TextCodec(tokenizer, ()).chat("1+1") == tuple(tokenizer("1+1")["input_ids"])  # no chat template
    tokenizer.chat_template = "{{ mark }}{{ messages[0]['content'] }}"
    codec = HFCodec(tokenizer, (), extra={"mark": "7"})  # chat_template_kwargs
    assert codec.decode(codec.chat("1+1")) == "71+1"
