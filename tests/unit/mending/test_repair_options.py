"""IOP's options: anchors of groups without a pass, the audit, the gates, the checks."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import make_context, run
from test_repair import MENDED, PROBLEM, RIGHT, WRONG, mend, run_iop, settings

from kintsugi.algorithms import load_algorithm
from kintsugi.algorithms.iop import iop
from kintsugi.plugins import arguments_of
from kintsugi.prompts import TERSE
from kintsugi.records import KintsugiError, Problem, Turn
from kintsugi.sampling.play import Meter


def test_the_shipped_defaults() -> None:
    """The paper's own where it says them: G_rep = 2, K = 8, both lambdas 0.2."""
    assert {name: a.default for name, a in arguments_of(iop)[0].items()} == {
        "candidates": 2, "k": 8, "check": "continue", "lambda_rep": 0.2, "closed": "keep",
    }  # fmt: skip


@pytest.mark.parametrize(("memory", "shown"), [({"p1": RIGHT}, RIGHT), ({}, "skipped")])
def test_groups_without_a_pass(memory: dict[str, str], shown: str) -> None:
    ctx, sampler = make_context(
        lambda prompt, n: [WRONG] * n if prompt == "[Q]" else [MENDED] * n,
        memory=memory,
        **settings(2, check="none"),
    )
    episode = run_iop(PROBLEM, ctx)
    if shown == "skipped":
        assert (episode.skipped, episode.repairs, len(sampler.calls)) == ("all failed", (), 1)
    else:
        assert (episode.skipped, {r.anchor_text for r in episode.repairs}) == ("", {shown})
        assert set(sampler.prompts()[1:]) == {f"[{TERSE.repair('Q', WRONG, shown)}]"}


@pytest.mark.parametrize(("question", "verdict"), [("Q", "prompt_leak"), ("mend: Q", "")])
def test_the_audit_knows_the_question(question: str, verdict: str) -> None:
    leaking = f"mend: {MENDED}"
    ctx, _ = make_context(
        lambda prompt, n: [WRONG, RIGHT] if prompt == f"[{question}]" else [leaking] * n,
        **settings(2, check="none"),
    )
    assert [r.audit for r in run_iop(Problem("p1", question, "4"), ctx).repairs] == [verdict] * 2


def test_an_insertion_gates_the_failures_token_at_that_place_too() -> None:
    inserted = "1+1=2 2+2=4 #### 4"
    script = {"[Q]": ["1+1=2+2=4 #### 5", RIGHT], mend("1+1=2+2=4 #### 5", RIGHT): [inserted] * 2}
    ctx, _ = make_context(script, **settings(2, check="none", k=1))
    (seam,) = run_iop(PROBLEM, ctx).seams
    # "1+1=2" | " 2" | "+2=4": the first edit inserts " " at 5, before the failure's "+".
    assert (seam.edits[0].kind, seam.edits[0].failed_at, seam.edits[0].repaired_at) == ("insert", 5, 5)
    assert [i for i, g in enumerate(seam.failed_mask) if g] == [5]
    assert [i for i, g in enumerate(seam.repaired_mask) if g] == [5]


def test_a_graft_check_judges_the_edited_failure_as_it_stands() -> None:
    script = {"[Q]": [WRONG, RIGHT], mend(WRONG, RIGHT): [MENDED, MENDED]}
    ctx, sampler = make_context(script, **settings(2, check="graft", k=2))
    (seam,) = run_iop(PROBLEM, ctx).seams
    # Two edits of four: "1+1=2 2+2=5 #### 5" fails; 2K = 4 is all, and needs no check.
    assert [c.rollout.text for c in seam.checks] == ["1+1=2 2+2=5 #### 5"]
    assert (seam.kept, seam.kept_by, len(sampler.calls)) == (4, "all", 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"check": "always"}, "check: .*'continue', 'graft' or 'none'"),
        ({"k": 0}, "k: .*greater than or equal to 1"),
        ({"seam": 10}, "seam"),  # kintsugi's
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(KintsugiError, match=said):
        load_algorithm({"name": "iop", **options})


def test_the_turns_before_a_question_are_before_its_repair_too() -> None:
    talk = Problem("p", "Q", "4", before=(Turn("system", "Be brief."),))
    ctx, sampler = make_context(lambda prompt, n: [WRONG, RIGHT, RIGHT][:n] if n == 3 else [RIGHT] * n,
                                algorithm="iop", sampling={"group_size": 3, "max_new_tokens": 40})  # fmt: skip
    run(load_algorithm("iop").run(talk, ctx), ctx)
    assert len(sampler.prompts()) > 1
    assert all(prompt.startswith("system: Be brief.\n[Q") for prompt in sampler.prompts())


def test_seconds_are_shared_by_what_waits_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr("kintsugi.sampling.play.time.perf_counter", lambda: now[0])
    meter = Meter()
    with meter.phase("rollout"):
        now[0] = 12.0  # two seconds of rollout alone
        with meter.phase("repair"), meter.phase("repair"):
            now[0] = 15.0  # three seconds of one rollout and two repairs: one and two
    assert meter.seconds == pytest.approx({"rollout": 3.0, "repair": 2.0})
