"""The whole of iop.run on scripted groups: who is repaired, beside which anchor, and what comes of it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from string import Formatter
from typing import Any

import pytest
from fakes import FakeVerifier, encode, make_context, run

from kintsugi.algorithms import load_algorithm
from kintsugi.prompts import CHAT, PROMPTS, TERSE, Prompts, load_prompts
from kintsugi.records import Episode, Problem, Reach
from kintsugi.run.metrics import repair_metrics
from kintsugi.sampling.base import Fork
from kintsugi.sampling.context import Context
from kintsugi.sampling.play import play

PROBLEM = Problem("p1", "Q", "4")
WRONG, RIGHT = "1+1=3 3+2=5 #### 5", "1+1=2, 2+2=4 #### 4"
# WRONG with four substitutions, at 4, 6, 10 and 17; 19 tokens with the stop token.
MENDED = "1+1=2 2+2=4 #### 4"
PASTED = "1+1=3 3+2=5 #### 4"
OTHER_WRONG, OTHER_RIGHT = "two, then five #### 5", "so two, then four #### 4"


def mend(failed: str, anchor: str) -> str:
    """The prompt that the sampler sees when `failed` is repaired beside `anchor`."""
    return f"[Q\nwrong:\n{failed}\nright:\n{anchor}\nmend:\n]"


def settings(group: int, **more: Any) -> dict[str, Any]:
    return {
        "sampling": {"group_size": group, "max_new_tokens": 40},
        "algorithm": {"name": "iop", "candidates": 2, "k": 1, **more},
    }


def run_iop(problem: Problem, ctx: Context) -> Episode:
    return run(load_algorithm(ctx.recipe.algorithm).run(problem, ctx), ctx)


def test_a_mixed_group() -> None:
    script = {
        "[Q]": [WRONG, OTHER_RIGHT, RIGHT, OTHER_WRONG],
        mend(WRONG, RIGHT): [PASTED, MENDED],
        mend(OTHER_WRONG, OTHER_RIGHT): ["two, then six #### 6", "two, then nine #### 9"],
        "[Q]1+1=2": [" 2+2=4 #### 4"],
    }
    ctx, sampler = make_context(script, **settings(4))
    episode = run_iop(PROBLEM, ctx)

    assert [r.verdict.state for r in episode.rollouts] == ["fail", "pass", "pass", "fail"]
    assert {r.prompt_ids for r in episode.rollouts} == {encode("[Q]")}
    # Each failure is repaired beside the passing sibling nearest to it.
    assert [(r.failed, r.anchor_text) for r in episode.repairs] == [
        (0, RIGHT),
        (0, RIGHT),
        (3, OTHER_RIGHT),
        (3, OTHER_RIGHT),
    ]
    # PASTED: 1 edit of 19 tokens, and h = 0. MENDED: 4 edits of 19, so s_rep = 1 - 0.2 * 4/19.
    # "two, then five #### 5." has 22 tokens. To "six": f -> s, v -> x, e gone, 5 -> 6: 4 edits of 22, and
    # s_rep = max(0 - 0.2 * 4/22, 0) = 0. To "nine": f -> n, v -> n, 5 -> 9: 3 of 22.
    assert [r.audit for r in episode.repairs] == ["answer_only", "", "", ""]
    assert [r.distance for r in episode.repairs] == pytest.approx([1 / 19, 4 / 19, 4 / 22, 3 / 22])
    assert [r.score for r in episode.repairs] == pytest.approx([0, 1 - 0.8 / 19, 0, 0])
    # Only the first failure was mended, by its second candidate. Its first edit, 3 -> 2 at 4, suffices.
    (seam,) = episode.seams
    assert (seam.failed, seam.repair, seam.kept, seam.kept_by) == (0, 1, 1, "K")
    assert [(e.kind, e.failed_at) for e in seam.edits] == [("replace", place) for place in (4, 6, 10, 17)]
    assert [i for i, gate in enumerate(seam.failed_mask) if gate] == [4]
    assert [i for i, gate in enumerate(seam.repaired_mask) if gate] == [4]
    assert episode.skipped == ""
    # Tokens with stop tokens: rollouts 19 + 25 + 20 + 22; repairs 19 + 19 + 21 + 22; the check 13 + 1.
    assert episode.tokens == {"rollout": 86, "repair": 81, "check": 14}
    assert ctx.meter.seconds.keys() == {"rollout", "repair", "audit", "check"}
    assert len(sampler.calls) == 4


def test_every_seam_has_its_reach_at_the_first_edit() -> None:
    """WRONG and MENDED differ first in token 4: 3 and 2 after "1+1="."""
    script = {"[Q]": [WRONG, RIGHT], mend(WRONG, RIGHT): [MENDED, MENDED]}
    ctx, _ = make_context(script, **settings(2, check="none"))
    reach = Reach(failed=-0.5, failed_rank=1, fix=-1.5, fix_rank=2, entropy=0.7)
    asked: list[Fork] = []

    def reacher(forks: Sequence[Fork]) -> list[Reach]:
        asked.extend(forks)
        return [reach] * len(forks)

    algorithm = load_algorithm(ctx.recipe.algorithm)
    (episode,) = play([algorithm.run(PROBLEM, ctx)], ctx.sampler, reacher=reacher)  # type: ignore[attr-defined]
    assert [seam.reach for seam in episode.seams] == [reach]
    assert asked == [Fork(encode("[Q]"), encode("1+1="), ord("3"), ord("2"))]


def test_without_anyone_to_ask_a_seam_has_no_reach_and_counts_as_open() -> None:
    script = {"[Q]": [WRONG, RIGHT], mend(WRONG, RIGHT): [MENDED, MENDED]}
    ctx, _ = make_context(script, **settings(2, check="none", closed="drop"))
    episode = run_iop(PROBLEM, ctx)
    assert [(seam.reach, seam.closed) for seam in episode.seams] == [(None, False)]
    assert sum("seam" in row.credit for row in load_algorithm(ctx.recipe.algorithm).rows(episode)) == 2


def test_the_check_sees_no_anchor() -> None:
    script = {
        "[Q]": [WRONG, RIGHT],
        mend(WRONG, RIGHT): [MENDED, PASTED],
        "[Q]1+1=2": ["#### 9"],
        "[Q]1+1=2 2": ["#### 9"],
    }
    ctx, sampler = make_context(script, **settings(2))
    run_iop(PROBLEM, ctx)
    # Exactly these four: the checks are x and the edited head, nothing else.
    assert sampler.prompts() == ["[Q]", mend(WRONG, RIGHT), "[Q]1+1=2", "[Q]1+1=2 2"]


def test_truncated_and_broken_rollouts_are_not_repaired() -> None:
    truncated = "and so on " * 5  # 50 characters, cut at 40
    script = {"[Q]": [truncated, "CRASH #### 5", WRONG, RIGHT], mend(WRONG, RIGHT): [MENDED, MENDED]}
    ctx, _ = make_context(script, **settings(4, k=8))
    episode = run_iop(PROBLEM, ctx)
    assert [r.verdict.state for r in episode.rollouts] == ["unscorable", "error", "fail", "pass"]
    assert [r.truncated for r in episode.rollouts] == [True, False, False, False]
    assert [r.failed for r in episode.repairs] == [2, 2]
    assert [(s.failed, s.repair) for s in episode.seams] == [(2, 0)]


def test_a_pass_that_was_cut_off_is_no_anchor() -> None:
    long = "1+1=2 2+2=4, which is the answer #### 4" + " " * 9  # passes the verifier, cut at 40 tokens
    ctx, sampler = make_context({"[Q]": [long, WRONG]}, **settings(2))
    episode = run_iop(PROBLEM, ctx)
    assert [(r.verdict.state, r.truncated) for r in episode.rollouts] == [("pass", True), ("fail", False)]
    assert (episode.skipped, episode.repairs, len(sampler.calls)) == ("all failed", (), 1)


def test_an_unscorable_rollout_that_ended_is_repaired() -> None:
    cut_short = "1+1=3 3+2=5"
    script = {"[Q]": [cut_short, OTHER_RIGHT], mend(cut_short, OTHER_RIGHT): [MENDED, cut_short]}
    ctx, _ = make_context(script, **settings(2, k=99))
    episode = run_iop(PROBLEM, ctx)
    assert [(s.failed, s.repair, s.kept_by) for s in episode.seams] == [(0, 0, "all")]


def test_a_truncated_repair_is_not_selected() -> None:
    long = "1+1=2 2+2=4, which is the answer #### 4" + " " * 9  # passes the verifier, cut at 40 tokens
    script = {"[Q]": [WRONG, RIGHT], mend(WRONG, RIGHT): [long, long]}
    ctx, _ = make_context(script, **settings(2))
    episode = run_iop(PROBLEM, ctx)
    assert [(r.rollout.verdict.state, r.audit) for r in episode.repairs] == [("pass", "format_break")] * 2
    assert episode.seams == ()


# ---- anchors from memory


def test_a_group_without_a_pass_takes_its_anchor_from_memory() -> None:
    script = {"[Q]": [WRONG, OTHER_WRONG], mend(WRONG, RIGHT): [MENDED, PASTED]}
    script[mend(OTHER_WRONG, RIGHT)] = ["two #### 9", "two #### 9"]
    ctx, _ = make_context(script, memory={"p1": RIGHT, "p2": "of another problem"}, **settings(2, k=8))
    episode = run_iop(PROBLEM, ctx)
    assert [r.anchor_text for r in episode.repairs] == [RIGHT] * 4
    assert [(s.failed, s.repair) for s in episode.seams] == [(0, 0)]
    assert episode.skipped == ""


def test_a_pass_in_the_group_goes_before_memory() -> None:
    script = {"[Q]": [WRONG, RIGHT], mend(WRONG, RIGHT): [PASTED, PASTED]}
    ctx, _ = make_context(script, memory={"p1": OTHER_RIGHT}, **settings(2))
    assert [r.anchor_text for r in run_iop(PROBLEM, ctx).repairs] == [RIGHT, RIGHT]


# ---- nothing to repair


@pytest.mark.parametrize(
    ("texts", "memory", "skipped"),
    [
        ([WRONG, OTHER_WRONG], {}, "all failed"),
        ([WRONG, OTHER_WRONG], {"p2": RIGHT}, "all failed"),  # remembered for another problem
        ([RIGHT, OTHER_RIGHT], {}, "all passed"),
        (["CRASH", "and so on " * 5], {"p1": RIGHT}, "nothing mendable"),
        ([RIGHT, "CRASH"], {}, "nothing mendable"),
    ],
)
def test_groups_without_repairs(texts: Sequence[str], memory: dict[str, str], skipped: str) -> None:
    ctx, sampler = make_context({"[Q]": texts}, memory=memory, **settings(2))
    episode = run_iop(PROBLEM, ctx)
    assert (episode.repairs, episode.seams, episode.skipped) == ((), (), skipped)
    assert len(sampler.calls) == 1
    assert not any(a for row in load_algorithm("iop").rows(episode) for a in row.advantages)
    assert repair_metrics([episode])["repair/skipped_all_failed"] == (skipped == "all failed")


# ---- seeds


def seeds(step: int = 1, seed: int = 0, problem: Problem = PROBLEM) -> list[int]:
    """The seeds of one run's five calls: rollouts, two repairs, two checks."""
    script = {
        "[Q]": [WRONG, RIGHT, WRONG],
        mend(WRONG, RIGHT): [MENDED, MENDED, MENDED, MENDED],
        "[Q]1+1=2": ["#### 4", "#### 4"],
    }
    ctx, sampler = make_context(script, step=step, seed=seed, **settings(3))
    run_iop(problem, ctx)
    return [call.params.seed for call in sampler.calls]


def test_every_call_has_a_seed_of_its_own_that_can_be_repeated() -> None:
    first = seeds()
    assert seeds() == first
    others = [seeds(step=2), seeds(seed=1), seeds(problem=Problem("p2", "Q", "4"))]
    drawn = [seed for run_seeds in (first, *others) for seed in run_seeds]
    assert len(drawn) == 20
    assert len(set(drawn)) == 20


# ---- the gold answer


@pytest.mark.parametrize("prompts", [TERSE, CHAT], ids=lambda p: p.name)
def test_canary_the_gold_answer_never_reaches_a_prompt(prompts: Prompts) -> None:
    """The verifier passes 4, so a whole episode happens; the problem's own answer is the canary."""
    solve, repair = f"[{prompts.solve('Q')}]", f"[{prompts.repair('Q', WRONG, RIGHT)}]"
    script = {
        solve: [WRONG, RIGHT],
        repair: [MENDED, MENDED],
        f"{solve}1+1=2": ["#### 9"],
        f"{solve}1+1=2 2": ["#### CANARY-123"],
    }
    problem = Problem("p1", "Q", "CANARY-123", {"solution": "CANARY-123"})
    ctx, sampler = make_context(script, verifier=FakeVerifier(wanted="4"), prompts=prompts, **settings(2))
    episode = run_iop(problem, ctx)
    # Rollouts, repairs and both checks were sampled, and the canary is in no prompt of theirs. It does pass
    # through the fakes: a text that holds it fails, so the check above did not settle for 2K.
    assert sampler.prompts() == list(script)
    assert episode.seams[0].kept_by == "all"
    assert not any("CANARY" in prompt for prompt in sampler.prompts())


def test_no_prompt_builder_takes_a_problem_or_an_answer() -> None:
    builders = [f for name, f in inspect.getmembers(Prompts, inspect.isfunction) if not name.startswith("_")]
    assert {function.__name__ for function in builders} >= {"solve", "repair", "opening"}
    kinds = (inspect.Parameter.empty, "str", "str | None", "tuple[Turn, ...] | None")
    for function in builders:
        for parameter in inspect.signature(function).parameters.values():
            assert parameter.name in ("self", "question", "failed", "anchor", "before")
            assert parameter.annotation in kinds


def test_no_template_has_a_place_for_the_answer() -> None:
    for prompts in map(load_prompts, PROMPTS.built_in):
        alone = prompts.solve_form, prompts.repair_alone_form
        for form in (*alone, prompts.repair_form):
            fields = {name for _, name, _, _ in Formatter().parse(form) if name is not None}
            assert fields <= {"question", "failed", "anchor"}
            assert "anchor" not in fields or form not in alone
