"""The report's data and its guards; tests/flow/test_report_page.py opens it in a browser."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import make_recipe
from runs import make_episode, save_tokenizer, with_question, write_run

from kintsugi.algorithms import load_algorithm
from kintsugi.look.report import write_report
from kintsugi.look.report.blocks import block, index_lines, packed
from kintsugi.look.report.figures import figures
from kintsugi.look.report.page import evenly, first_error, spec_words
from kintsugi.look.report.reasons import explained
from kintsugi.look.report.watch import LivePage
from kintsugi.records import KintsugiError, Reach
from kintsugi.run.directory import RunLog
from kintsugi.run.reading import Run


def unpacked(text: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(text)))


def test_a_step_holds_what_was_credited_where(tmp_path: Path) -> None:
    run = Run.open(write_run(tmp_path / "run", make_episode()))
    problems = block(run.problems(1), run.pieces)
    (found,) = unpacked(packed(problems))
    # Token 7 of the failure is the seam: -10; the int(0.7 * 7) = 4 tokens before it are praised.
    assert found["rollouts"][0]["credit"] == {
        "seam": [0, 0, 0, 0, 0, 0, 0, -10, 0], "prefix": [1, 1, 1, 1, 0, 0, 0, 0, 0],
    }  # fmt: skip
    assert found["mends"][0]["seam"]["credit"] == {"seam": [0, 0, 0, 0, 0, 0, 0, 10, 0]}
    assert found["mends"][0]["seam"]["edits"] == [["replace", 7, 7]]
    assert found["mends"][1]["seam"] is None and "answer_only" in found["mends"][1]["why"]
    assert list(index_lines(1, problems)) == [
        # The seam is in the second of two lines, and one rollout of three passes; one edit, at distance 0.125.
        [1, 0, 0, "p/1", "fail", "mended", [], ["first edit in the last line", "a lone pass"], 0.125, 1],
        [1, 0, 1, "p/1", "pass", "", [], [], 0, 0],
        [1, 0, 2, "p/1", "fail", "rejected", ["answer_only"], [], 0, 0],
    ]
    assert found["mends"][0]["laid"] is None and found["mends"][0]["seam"]["reach"].startswith("open: failed")
    # "#### 9" against "#### 5": token 5 of seven.
    assert found["mends"][1]["laid"]["edits"] == [["replace", 5, 5]]


def test_true_first_errors_are_told_where_the_task_knows_them(tmp_path: Path) -> None:
    """`dag` says that the second line is wrong: 2 + 3 is 5, so its character 5, "6", is."""
    run = Run.open(
        write_run(tmp_path / "run", make_episode("a=2+3=6\n#### 6", "a=2+3=5\n#### 5"), task="dag")
    )
    known = block(run.problems(1), run.pieces, lambda problem, text: text.find("6") if "6" in text else None)
    assert [r["wrong"] for r in known[0]["rollouts"]] == [6, None, None]
    assert (
        first_error({"task": "my_task.py:MyTask"})("Q", "text") is None
    )  # a file of the user's own is not run


def test_a_seam_that_may_lie_elsewhere_is_suspicious(tmp_path: Path) -> None:
    episode = make_episode("2\n3\n#### 4", "5\n3\n#### 4")
    (seam,) = episode.seams
    closed = replace(seam, reach=Reach(-0.01, 1, -9.0, 7, 0.05))
    far = replace(episode.repairs[0], distance=0.31)
    run = Run.open(
        write_run(tmp_path / "run", replace(episode, seams=(closed,), repairs=(far, *episode.repairs[1:])))
    )
    (entry, *_) = index_lines(1, block(run.problems(1), run.pieces))
    assert entry[7] == ["large distance", "a lone pass"]


def test_charts_that_say_nothing_are_words(tmp_path: Path) -> None:
    place = write_run(tmp_path / "run", make_episode())
    log = RunLog.open(make_recipe(output_dir=str(place)), resume=True)
    log.metrics({"step": 2, "loss": 0.0, "clip_fraction": 0.0, "kstar/K": 3, "kstar/2K": 0, "kstar/all": 0})
    quiet = {f.title: f.about for f in figures(Run.open(place)) if not f.svg}
    assert quiet == {"Clip fraction": "0 in every step", "Edits trained on (K*)": "those of all 3 seams by K"}


def test_charts_of_one_step_name_its_place_and_nothing_around_it(tmp_path: Path) -> None:
    place = write_run(tmp_path / "run", tokenizer=False)
    line = {
        "step": 1,
        "loss": 0.0,
        "tokens/total": 5508,
        "entropy": 0.07,
        "tokens/rollout": 4900,
        "tokens/repair": 608,
    }
    (place / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    drawn = {f.title: f for f in figures(Run.open(place))}
    # 5508 tokens stand at 5.508 thousand; the entropy's own ticks are 0.00, 0.02, ... 0.06.
    ticks = re.findall(r">([\d.]+)</text>", drawn["Entropy"].svg)
    assert [tick for tick in ticks if float(tick) > 0.1] == ["5.508"]
    bars = drawn["Generated tokens by phase"]
    assert bars.about == "generated tokens of step 1 by phase"
    assert ">rollout<" in bars.svg and "thousand" not in bars.svg


def test_reasons_are_explained_with_the_numbers_of_the_recipe(tmp_path: Path) -> None:
    algorithm = {"name": "kintsugi", "seam": 4, "lambda_rep": 0.3}
    log = RunLog.open(make_recipe(output_dir=str(tmp_path / "run"), algorithm=algorithm))
    episode, shipped = make_episode(), load_algorithm(algorithm)
    rows = shipped.rows(episode)
    log.write(1, [episode], rows, [None] * len(rows))
    page = write_report(tmp_path / "run").read_text("utf-8")
    assert (
        "<dt>credit: seam</dt><dd>−4 on the tokens of a mended failure that were changed, +4 on those" in page
    )
    assert "<dt>credit: prefix</dt><dd>+1 on the first 70%" in page
    assert "the score is reward − 0.2 × distance, 0 where the audit rejects it; weight 0.3</dd>" in page
    assert (
        "Algorithm</dt><dd>kintsugi<small>source: either</small><small>failures: 3</small>" in page
    )  # by default
    assert "credit: teacher" not in page  # nothing got credit for it
    # A seam's token weighs 1 in the paper (arXiv:2605.05226).
    assert explained({"algorithm": "iop"}, ["seam"])["seam"].startswith("−1 on the tokens")


def test_a_report_runs_no_file_that_a_recipe_names(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text("raise SystemExit('run')")
    assert explained({"algorithm": f"{path}:MINE"}, ["luck"]) == {"luck": "as the algorithm says"}


def test_the_page_allows_its_own_script_and_nothing_else(tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script>"
    page = write_report(write_run(tmp_path / "run", with_question(make_episode(), hostile))).read_text(
        "utf-8"
    )
    assert "alert(1)" not in page  # it travels packed
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{digest}'" in page
    assert "unsafe-eval" not in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)


def test_hostile_recipes_and_names_are_escaped(tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(2)>"
    place = write_run(tmp_path / "run", make_episode(), task={"name": name})
    page = write_report(place).read_text("utf-8")
    assert "<img" not in page and "&lt;img src=x" in page


def test_points_lead_to_their_steps(tmp_path: Path) -> None:
    page = write_report(write_run(tmp_path / "run", make_episode(), make_episode())).read_text("utf-8")
    assert '<a href="#step=1" aria-label="step 1"' in page and '<a href="#step=2"' in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_a_run_that_has_only_begun_has_a_report(tmp_path: Path) -> None:
    place = write_run(tmp_path / "run", tokenizer=False)
    (place / "metrics.jsonl").write_text('{"step": 0, "tok')
    assert "Seams" in write_report(place, tmp_path / "other.html").read_text("utf-8")
    assert not (place / "report.html").exists()


def test_long_runs_are_shown_at_even_distances() -> None:
    # 11 steps, at most 3: places 0, 5 and 10.
    assert evenly(tuple(range(1, 12)), 3) == [1, 6, 11]
    assert evenly((1, 2), 3) == [1, 2]


def test_a_long_name_and_what_a_spec_says_beside_it_are_small() -> None:
    assert spec_words("dag") == "dag"
    assert (
        spec_words("runs/mine/checkpoints/step-000040") == "<small>runs/mine/checkpoints/step-000040</small>"
    )
    assert spec_words({"name": "dag", "steps": "<7"}) == "dag<small>steps: &lt;7</small>"


def test_trl_completions_are_read(tmp_path: Path) -> None:
    table = {
        "step": [1, 1, 2],
        "prompt": ["2+3?", "2+3?", "1+1?"],
        "completion": ["5", "6", "2"],
        "correct": [1.0, 0.0, 1.0],
        "short": [0.5, 0.0, 0.0],
        "advantage": [0.7, -0.7, 0.0],
    }
    (tmp_path / "completions").mkdir()
    pq.write_table(pa.table(table), tmp_path / "completions" / "completions_00001.parquet")
    page = write_report(tmp_path).read_text("utf-8")
    data = unpacked(re.search(r'id="data">([^<]+)<', page)[1])  # type: ignore[index]
    assert data["own"] is False and data["steps"] == [1, 2]
    assert [e[2:6] for e in data["index"]] == [
        [0, "prompt 1", "rewarded", ""],
        [1, "prompt 1", "no reward", ""],
        [0, "prompt 1", "rewarded", ""],
    ]
    first = unpacked(re.search(r'data-step="1">([^<]+)<', page)[1])  # type: ignore[index]
    assert first[0]["question"] == "2+3?" and first[0]["rollouts"][0]["reward"] == 1.5  # 1.0 + 0.5
    assert first[0]["rollouts"][1]["credit"] == {"advantage": [-0.7]}


def trace(text: str, score: float, advantages: list[float] | None) -> dict[str, Any]:
    """A trace as verifiers 0.4 writes it: a system and a user message, and an answer of a scaffold and two tokens."""
    ids = [ord(c) for c in text]
    answer: dict[str, Any] = {
        "parent": 1, "sampled": True, "message": {"role": "assistant", "content": text},
        "token_ids": [7, *ids], "mask": [False, *(True for _ in ids)], "logprobs": [-0.5] * len(ids),
    }  # fmt: skip
    if advantages is not None:
        answer["advantages"] = advantages
    said = [("system", "Add."), ("user", [{"type": "text", "text": "2+3?"}])]
    told = [
        {"parent": i - 1 if i else None, "message": {"role": r, "content": c}}
        for i, (r, c) in enumerate(said)
    ]
    if not told[0]["parent"]:
        del told[0]["parent"]  # None is left out of what is written
    return {
        "task": {"type": "Sum", "data": {"prompt": "2+3?", "answer": "5"}}, "nodes": [*told, answer],
        "rewards": {"right": {"score": score, "weight": 1.0}, "short": {"score": 0.5, "weight": 0.2}},
    }  # fmt: skip


@pytest.mark.parametrize("tokenizer", [True, False])
def test_traces_of_verifiers_are_read(tmp_path: Path, tokenizer: bool) -> None:
    if tokenizer:
        save_tokenizer(tmp_path)
    work = {"type": "train", "id": "r", "work": {"type": "train", "step": 3}}
    traces = [trace("=5", 1.0, [0.25, 0.75]), trace("=6", -1.0, None)]
    lines = [json.dumps({"run": work, "task": t["task"], "traces": [t]}) for t in traces]
    (tmp_path / "traces.jsonl").write_text("\n".join(lines) + '\n{"unfinished')
    page = write_report(tmp_path).read_text("utf-8")
    (problem,) = unpacked(re.search(r'data-step="3">([^<]+)<', page)[1])  # type: ignore[index]
    assert (problem["question"], problem["gold"]) == ("system: Add.\nuser: 2+3?", "5")
    right, wrong = problem["rollouts"]
    # 1.0 + 0.5 x 0.2, and -1.0 + 0.1.
    assert [(r["text"], r["reward"], r["verdict"]) for r in (right, wrong)] == [
        ("=5", 1.1, "rewarded"), ("=6", -0.9, "no reward"),
    ]  # fmt: skip
    assert right["credit"] == {"advantage": [0.25, 0.75] if tokenizer else [0.5]}
    assert right.get("pieces") == (["=", "5"] if tokenizer else None)
    assert wrong["credit"] is None and "token advantages from +0.250 to +0.750" in right["message"]


def test_traces_of_another_kind_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "traces.jsonl").write_text('{"spans": []}\n')
    with pytest.raises(KintsugiError, match=r"traces.jsonl: expected episodes of verifiers 0.4 \(KeyError"):
        write_report(tmp_path)


def test_a_watched_page_is_made_again_when_the_run_has_written(tmp_path: Path) -> None:
    place = write_run(tmp_path / "run", make_episode())
    with LivePage(place) as server:
        Thread(target=server.serve_forever, daemon=True).start()

        def get(path: str, **headers: str) -> str:
            with urlopen(Request(server.address + path, headers=headers)) as answer:
                return answer.read().decode()

        before = get("version")
        assert server.server_address[0] == "127.0.0.1"
        assert f'data-watch="{before}"' in get("") and "connect-src 'self'" in get("")
        RunLog.open(make_recipe(output_dir=str(place)), resume=True).metrics({"step": 2, "loss": 0.0})
        assert get("version") != before and f'data-watch="{get("version")}"' in get("")
        for path, host in (("recipe.yaml", {}), ("", {"Host": "evil.example"})):
            with pytest.raises(HTTPError, match="404"):
                get(path, **host)
        server.shutdown()
    assert "data-watch" not in write_report(place).read_text("utf-8").split("<script>")[0]


def test_verl_dumps_are_read(tmp_path: Path) -> None:
    lines = [
        {"input": "user\n2+3?", "output": "5", "gts": "5", "score": 1.0, "step": 10, "acc": True},
        {"input": "user\n2+3?", "output": "4", "gts": "5", "score": 0.0, "step": 10, "acc": False},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "10.jsonl").write_text(text + '{"input": "unfin')
    page = write_report(tmp_path).read_text("utf-8")
    (problem,) = unpacked(re.search(r'data-step="10">([^<]+)<', page)[1])  # type: ignore[index]
    assert problem["gold"] == "5"
    assert [(r["text"], r["verdict"]) for r in problem["rollouts"]] == [("5", "rewarded"), ("4", "no reward")]
    assert problem["rollouts"][0]["message"] == "acc: True"


def test_nothing_to_report_on_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(KintsugiError, match="nothing to report on; expected a run directory"):
        write_report(tmp_path)
    (tmp_path / "1.jsonl").write_text('{"output": "x"}\n')
    with pytest.raises(
        KintsugiError, match="expected the columns step, input and output; 'input' is missing"
    ):
        write_report(tmp_path)
