"""`kintsugi show`: the seam can be read without colour, and what a model wrote cannot touch the terminal."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import make_rollout
from rich.console import Console
from runs import make_episode, with_question, write_run

from kintsugi.look.show import Selection, quoted, show, visible
from kintsugi.records import KintsugiError, Part, Verdict
from kintsugi.run.reading import Run


def said(place: Path, choice: Selection, width: int = 100) -> str:
    out = io.StringIO()
    show(Run.open(place), choice, Console(file=out, width=width, highlight=False))
    return out.getvalue()


def test_the_token_and_the_reason_are_there(tmp_path: Path) -> None:
    text = said(write_run(tmp_path / "run", make_episode()), Selection())
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "#### [-4-]<stop> #### {+5+}<stop>" in lines  # side by side
    assert 'failed token 7 "4": seam -10.00' in lines and 'mended token 7 "5": seam +10.00' in lines
    assert "failed tokens 0 to 3: prefix +1.00" in lines  # int(0.7 * 7) = 4 tokens before the seam
    assert "seam 1 of 1 edits kept (K)" in lines
    assert "repair 0 accepted: it passes the verifier and every audit rule, distance 0.12" in lines
    assert "#### 9" not in text  # rollout 2 was not mended


def test_a_narrow_terminal_gets_one_under_the_other(tmp_path: Path) -> None:
    text = said(write_run(tmp_path / "run", make_episode()), Selection(), width=40)
    assert text.index("[-4-]") < text.index("mended (pass)") < text.index("{+5+}")
    assert max(map(len, text.splitlines())) <= 40


def test_failures_without_a_repair_are_shown_on_demand(tmp_path: Path) -> None:
    text = said(write_run(tmp_path / "run", make_episode()), Selection(every=True, anchor=True))
    assert "#### 9" in text and "rejected by the audit (answer_only)" in text
    assert "anchor" in text


def test_the_verdict_its_message_and_what_a_function_paid_and_logged_are_there(tmp_path: Path) -> None:
    broken = Verdict("error", message="KeyError in line 2 of own.py: 'level'")
    parts = (Part("right", 0.0), Part("short", -2.0, 0.5))
    weighed = Verdict("fail", 0.0, "no number", parts, {"read": "4\x1b[2J"})
    episode = make_episode()
    rollouts = (
        replace(episode.rollouts[0], verdict=weighed),
        *episode.rollouts[1:],
        make_rollout("?", broken),
    )
    text = said(write_run(tmp_path / "run", replace(episode, rollouts=rollouts)), Selection(every=True))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "verdict error: KeyError in line 2 of own.py: 'level'" in lines
    assert "verdict fail: no number" in lines
    assert "rewards right 0 + short -2 x 0.5 = -1" in lines  # 0 * 1 - 2 * 0.5
    assert r"logged read: 4\x1b[2J" in lines


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    text = said(write_run(tmp_path / "run", make_episode()), Selection(every=True, limit=1))
    assert "1 more in this step" in text and "#### 9" not in text


def test_without_a_tokenizer_the_texts_are_still_there(tmp_path: Path) -> None:
    text = said(write_run(tmp_path / "run", make_episode(), tokenizer=False), Selection())
    assert "#### 4" in text and "token 7: seam -10.00" in text


def test_model_output_is_text(tmp_path: Path) -> None:
    hostile = "\x1b[2J[bold]\u202e"
    episode = with_question(make_episode(f"{hostile}4", f"{hostile}5"), "[red]\x07")
    text = said(write_run(tmp_path / "run", episode), Selection())
    assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text
    assert r"\x1b[2J[bold]\u202e[-4-]" in text and r"[red]\x07" in text


def test_lone_surrogates_are_written_out() -> None:
    assert visible("a\ud800\n\u200b") == "a\\ud800\n\\u200b"
    assert quoted(["1", " 2\n"], 1) == ' " 2\\n"'


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Selection(step=7), "no step 7; steps 1 to 1 are there"),
        (Selection(problem="zz"), "no mended failure of a problem 'zz' in steps 1 to 1; --all"),
    ],
)
def test_nothing_to_show_is_one_line(tmp_path: Path, choice: Selection, message: str) -> None:
    with pytest.raises(KintsugiError, match=message):
        said(write_run(tmp_path / "run", make_episode()), choice)


def test_the_last_step_that_has_a_mended_failure_is_shown(tmp_path: Path) -> None:
    # A run that learns ends without failures: of two steps the second has no seam, the first has one.
    episode = make_episode()
    run = write_run(tmp_path / "run", episode, replace(episode, seams=()))
    text = said(run, Selection(), width=400)
    assert "no mended failure in steps 2 to 2" in text
    assert "step 1 of " in text
    with pytest.raises(KintsugiError, match="step 2 has no mended failure; leave --step out"):
        said(run, Selection(step=2))


def test_a_run_without_a_step_says_so(tmp_path: Path) -> None:
    with pytest.raises(KintsugiError, match="no step has been written yet"):
        said(write_run(tmp_path / "run"), Selection())
