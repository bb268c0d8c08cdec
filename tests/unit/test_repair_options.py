"""What IOP's options change: the anchor, the audit, the masks, and the form of a repair."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import encode, make_context, run
from test_repair import MENDED, OTHER_RIGHT, PASTED, PROBLEM, RIGHT, WRONG, mend, run_iop, settings

from kintsugi.algorithms import load_algorithm
from kintsugi.internalize.context import Meter
from kintsugi.metrics import repair_metrics
from kintsugi.prompts import TERSE
from kintsugi.records import KintsugiError, Problem, Turn

# ---- which anchor

NEAR, SHORT, LONG = "1+1=2 2+2=4 yes #### 4", "#### 4", "so it must be, as we all know, #### 4"


@pytest.mark.parametrize(("anchor", "shown"), [("nearest", NEAR), ("shortest", SHORT)])
def test_the_anchor_is_the_one_asked_for(anchor: str, shown: str) -> None:
    script = {"[Q]": [LONG, WRONG, NEAR, SHORT], mend(WRONG, shown): [MENDED, MENDED]}
    ctx, _ = make_context(script, **settings(4, anchor=anchor, check="none"))
    assert [r.anchor_text for r in run_iop(PROBLEM, ctx).repairs] == [shown, shown]


def test_a_random_anchor_depends_on_the_seed_alone() -> None:
    def shown(seed: int, step: int) -> str | None:
        ctx, _ = make_context(
            lambda prompt, n: [LONG, WRONG, NEAR, SHORT] if prompt == "[Q]" else [MENDED] * n,
            step=step,
            seed=seed,
            **settings(4, anchor="random", check="none"),
        )
        return run_iop(PROBLEM, ctx).repairs[0].anchor_text

    drawn = [shown(0, step) for step in range(20)]
    assert drawn == [shown(0, step) for step in range(20)]
    assert drawn != [shown(1, step) for step in range(20)]
    assert set(drawn) == {LONG, NEAR, SHORT}  # the chance that one of three is missing in 20: below 0.1%


def test_without_an_anchor_the_failure_stands_alone() -> None:
    alone = f"[{TERSE.repair('Q', WRONG, None)}]"
    script = {"[Q]": [WRONG, RIGHT], alone: [RIGHT, MENDED]}
    ctx, _ = make_context(script, memory={"p1": OTHER_RIGHT}, **settings(2, anchor="none", check="none"))
    episode = run_iop(PROBLEM, ctx)
    assert [(r.anchor_text, r.audit, r.mends) for r in episode.repairs] == [(None, "", True)] * 2


@pytest.mark.parametrize(
    ("without_pass", "anchor", "memory", "shown"),
    [
        ("memory", "nearest", {"p1": RIGHT}, RIGHT),
        ("memory", "nearest", {}, "skipped"),
        ("alone", "nearest", {"p1": RIGHT}, RIGHT),
        ("alone", "nearest", {}, None),
        ("skip", "nearest", {"p1": RIGHT}, "skipped"),
        ("skip", "none", {}, "skipped"),
        ("memory", "none", {}, None),  # nothing is shown in any group, so no group has to wait for a pass
        ("memory", "none", {"p1": RIGHT}, None),
    ],
)
def test_groups_without_a_pass(
    without_pass: str, anchor: str, memory: dict[str, str], shown: str | None
) -> None:
    ctx, sampler = make_context(
        lambda prompt, n: [WRONG] * n if prompt == "[Q]" else [MENDED] * n,
        memory=memory,
        **settings(2, without_pass=without_pass, anchor=anchor, check="none"),
    )
    episode = run_iop(PROBLEM, ctx)
    if shown == "skipped":
        assert (episode.skipped, episode.repairs, len(sampler.calls)) == ("all failed", (), 1)
    else:
        assert (episode.skipped, {r.anchor_text for r in episode.repairs}) == ("", {shown})
        assert set(sampler.prompts()[1:]) == {f"[{TERSE.repair('Q', WRONG, shown)}]"}


# ---- audit, masks, checks


def test_without_the_audit_a_pasted_answer_is_a_repair() -> None:
    script = {"[Q]": [WRONG, RIGHT], mend(WRONG, RIGHT): [PASTED, MENDED]}
    ctx, _ = make_context(script, **settings(2, audit=False, check="none"))
    episode = run_iop(PROBLEM, ctx)
    assert [r.audit for r in episode.repairs] == ["", ""]
    # PASTED edits 1 of 19 tokens and MENDED 4, so the pasted one scores higher: 1 - 0.2 / 19.
    assert [s.repair for s in episode.seams] == [0]
    assert episode.repairs[0].score == pytest.approx(1 - 0.2 / 19)


@pytest.mark.parametrize(("question", "verdict"), [("Q", "prompt_leak"), ("mend: Q", "")])
def test_the_audit_knows_the_question(question: str, verdict: str) -> None:
    leaking = f"mend: {MENDED}"
    ctx, _ = make_context(
        lambda prompt, n: [WRONG, RIGHT] if prompt == f"[{question}]" else [leaking] * n,
        **settings(2, check="none"),
    )
    assert [r.audit for r in run_iop(Problem("p1", question, "4"), ctx).repairs] == [verdict] * 2


@pytest.mark.parametrize(("masks", "gated"), [("extended", [5]), ("strict", [])])
def test_an_insertion_gates_the_failure_only_with_extended_masks(masks: str, gated: list[int]) -> None:
    inserted = "1+1=2 2+2=4 #### 4"
    script = {"[Q]": ["1+1=2+2=4 #### 5", RIGHT], mend("1+1=2+2=4 #### 5", RIGHT): [inserted] * 2}
    ctx, _ = make_context(script, **settings(2, masks=masks, check="none", k=1))
    (seam,) = run_iop(PROBLEM, ctx).seams
    # "1+1=2" | " 2" | "+2=4": the first edit inserts " " at 5, before the failure's "+".
    assert (seam.edits[0].kind, seam.edits[0].failed_at, seam.edits[0].repaired_at) == ("insert", 5, 5)
    assert [i for i, g in enumerate(seam.failed_mask) if g] == gated
    assert [i for i, g in enumerate(seam.repaired_mask) if g] == [5]


def test_a_graft_check_judges_the_edited_failure_as_it_stands() -> None:
    script = {"[Q]": [WRONG, RIGHT], mend(WRONG, RIGHT): [MENDED, MENDED]}
    ctx, sampler = make_context(script, **settings(2, check="graft", k=2))
    (seam,) = run_iop(PROBLEM, ctx).seams
    # Two edits of four: "1+1=2 2+2=5 #### 5" fails; 2K = 4 is all, and needs no check.
    assert [c.rollout.text for c in seam.checks] == ["1+1=2 2+2=5 #### 5"]
    assert (seam.kept, seam.kept_by, len(sampler.calls)) == (4, "all", 2)


# ---- patches

STEPS, STEPS_RIGHT = "a=1+1=3\nb=3+2=5\n#### 5", "b=2+0=2\n#### 4"
PATCH = "a=1+1=3\n=>\na=1+1=2"


def patch(failed: str, anchor: str | None) -> str:
    return f"[{TERSE.patch('Q', failed, anchor)}]"


def test_a_patch_is_continued_by_the_policy_without_the_anchor() -> None:
    script = {
        "[Q]": [STEPS, STEPS_RIGHT],
        patch(STEPS, STEPS_RIGHT): ["the answer is 4", PATCH],
        "[Q]a=1+1=2\n": ["b=2+2=4\n#### 4"],
    }
    ctx, sampler = make_context(script, **settings(2, form="patch"))
    episode = run_iop(PROBLEM, ctx)
    nothing, mended = episode.repairs
    assert (nothing.audit, nothing.score, nothing.mends) == ("no_patch", 0.0, False)
    assert (mended.audit, mended.solution.text) == ("", "a=1+1=2\nb=2+2=4\n#### 4")
    assert mended.ids == (*encode("a=1+1=2\nb=2+2=4\n#### 4"), 0)
    # 4 of 23 tokens differ, at 6, 10, 14 and 21: s_rep = 1 - 0.2 * 4 / 23.
    assert (mended.distance, mended.score) == pytest.approx((4 / 23, 1 - 0.8 / 23))
    # What was tried is the patch: the edits in its 8 tokens are kept, and nothing else is checked.
    (seam,) = episode.seams
    assert (seam.failed, seam.repair, seam.kept, seam.kept_by, seam.checks) == (0, 1, 1, "patch", ())
    assert [i for i, g in enumerate(seam.failed_mask) if g] == [6]
    assert [i for i, g in enumerate(seam.repaired_mask) if g] == [6]
    # Tokens: rollouts 23 + 15; patches 16 + 19; the continuation 14 + 1.
    assert episode.tokens == {"rollout": 38, "repair": 35, "check": 15}
    assert ctx.meter.seconds.keys() == {"rollout", "repair", "audit", "check"}
    assert len(sampler.calls) == 3
    found = repair_metrics([episode])
    assert (found["audit/no_patch"], found["kstar/patch"], found["length/check"]) == (1, 1, 15)
    # Repair mode learns from the patches (0 against s_rep), the policy from the seam.
    rows = load_algorithm(ctx.recipe.algorithm).rows(episode)
    assert [(r.role, r.completion_ids, set(r.advantages)) for r in rows if r.role == "repair"] == [
        ("repair", (*encode("the answer is 4"), 0), {-1.0}),
        ("repair", (*encode(PATCH), 0), {1.0}),
    ]
    repaired = next(r for r in rows if r.role == "repaired")
    assert (repaired.completion_ids, repaired.sampling_logprobs) == (mended.ids, None)


def test_one_of_several_continuations_suffices() -> None:
    script = {
        "[Q]": [STEPS, STEPS_RIGHT],
        patch(STEPS, None): [PATCH],
        "[Q]a=1+1=2\n": ["b=2+2=5\n#### 5", "b=2+2=4\n#### 4", "#### 4"],
    }
    changes = {"form": "patch", "anchor": "none", "continuations": 3, "candidates": 1, "lambda_rep": 0}
    ctx, _ = make_context(script, **settings(2, **changes))
    episode = run_iop(PROBLEM, ctx)
    assert [r.verdict.state for r in episode.repairs[0].continued] == ["fail", "pass", "pass"]
    assert episode.repairs[0].solution.text == "a=1+1=2\nb=2+2=4\n#### 4"
    assert len(episode.seams) == 1


def test_a_patch_that_does_not_help_or_was_cut_off_mends_nothing() -> None:
    script = {
        "[Q]": [STEPS, STEPS_RIGHT],
        patch(STEPS, STEPS_RIGHT): [PATCH, f"{STEPS}\n=>\n{STEPS_RIGHT}"],  # the second is cut at 40 tokens
        "[Q]a=1+1=2\n": ["b=2+2=5\n#### 5"],
    }
    ctx, _ = make_context(script, **settings(2, form="patch"))
    episode = run_iop(PROBLEM, ctx)
    assert [(r.audit, r.rollout.verdict.state) for r in episode.repairs] == [
        ("", "fail"),
        ("no_patch", "unscorable"),
    ]
    assert episode.seams == ()


def test_a_patched_answer_line_is_still_a_pasted_answer() -> None:
    script = {
        "[Q]": [STEPS, STEPS_RIGHT],
        patch(STEPS, STEPS_RIGHT): ["#### 5\n=>\n#### 4"] * 2,
        "[Q]a=1+1=3\nb=3+2=5\n#### 4": ["", ""],
    }
    ctx, _ = make_context(script, **settings(2, form="patch"))
    assert [r.audit for r in run_iop(PROBLEM, ctx).repairs] == ["answer_only"] * 2


# ---- siblings


def test_the_nearest_sibling_is_a_repair_that_costs_nothing() -> None:
    script = {"[Q]": [WRONG, OTHER_RIGHT, RIGHT], "[Q]1+1=2": [", 2+2=4 #### 4"]}
    ctx, sampler = make_context(script, **settings(3, form="sibling"))
    episode = run_iop(PROBLEM, ctx)
    (repair,) = episode.repairs
    assert (repair.rollout, repair.written, repair.anchor_text) == (episode.rollouts[2], False, None)
    # 5 edits of 20 tokens: 3 -> 2, the comma comes in, 3 -> 2, 5 -> 4, 5 -> 4.
    assert (repair.distance, repair.score) == pytest.approx((5 / 20, 1 - 0.2 * 5 / 20))
    assert [(s.failed, s.repair, s.kept, s.kept_by) for s in episode.seams] == [(0, 0, 1, "K")]
    assert episode.tokens == {"rollout": 19 + 25 + 20, "repair": 0, "check": 15}
    assert len(sampler.calls) == 2  # the check is asked for by `check`, whatever the form
    # Nothing was written, so repair mode has nothing to learn from; the sibling was sampled from x itself.
    rows = load_algorithm(ctx.recipe.algorithm).rows(episode)
    assert "repair" not in {row.role for row in rows}
    repaired = next(row for row in rows if row.role == "repaired")
    assert repaired.sampling_logprobs == episode.rollouts[2].completion.logprobs


def test_either_writes_nothing_where_a_sibling_takes_the_failures_own_steps() -> None:
    # Steps are lines and sentences, numbers apart: RIGHT has a comma that WRONG has not, so it takes others.
    same = WRONG.replace("3", "2").replace("5", "4")
    ctx, sampler = make_context({"[Q]": [WRONG, RIGHT, same]}, **settings(3, form="either", check="none"))
    (repair,) = run_iop(PROBLEM, ctx).repairs
    assert (repair.solution.text, repair.written, len(sampler.calls)) == (same, False, 1)
    script = {"[Q]": [WRONG, LONG, LONG], mend(WRONG, LONG): [MENDED, MENDED]}
    ctx, _ = make_context(script, **settings(3, form="either", check="none"))
    assert [r.written for r in run_iop(PROBLEM, ctx).repairs] == [True, True]


def test_without_a_passing_sibling_there_is_none_to_take() -> None:
    ctx, _ = make_context({"[Q]": [WRONG, WRONG]}, memory={"p1": RIGHT}, **settings(2, form="sibling"))
    assert run_iop(PROBLEM, ctx).skipped == "all failed"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"form": "sibling", "anchor": "none"}, "anchor: form=sibling takes a passing sibling"),
        ({"form": "either", "anchor": "none"}, "anchor: form=either takes a passing sibling"),
        ({"form": "splice"}, "form: .*'rewrite', 'patch', 'sibling' or 'either'"),
        ({"soft": 2}, "soft: .*less than or equal to 1"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(KintsugiError, match=said):
        load_algorithm({"name": "iop", **options})


def test_the_turns_before_a_question_are_before_its_repair_too() -> None:
    talk = Problem("p", "Q", "4", before=(Turn("system", "Be brief."),))
    ctx, sampler = make_context(lambda prompt, n: [WRONG, RIGHT, RIGHT][:n] if n == 3 else [RIGHT] * n,
                                algorithm="iop", sampling={"group_size": 3, "max_new_tokens": 40})  # fmt: skip
    run(load_algorithm("iop").run(talk, ctx))
    assert len(sampler.prompts()) > 1
    assert all(prompt.startswith("system: Be brief.\n[Q") for prompt in sampler.prompts())


def test_seconds_are_shared_by_what_waits_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr("kintsugi.internalize.context.time.perf_counter", lambda: now[0])
    meter = Meter()
    with meter.phase("rollout"):
        now[0] = 12.0  # two seconds of rollout alone
        with meter.phase("repair"), meter.phase("repair"):
            now[0] = 15.0  # three seconds of one rollout and two repairs: one and two
    assert meter.seconds == pytest.approx({"rollout": 3.0, "repair": 2.0})
