"""Bad input gets one clear line on standard error and exit code 2; never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from conftest import TINY

from kintsugi.cli import main
from kintsugi.config import Recipe

RECIPES = Path(__file__).parents[2] / "recipes"


def kintsugi(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kintsugi.cli", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
    )


def write(tmp_path: Path, **changes: object) -> str:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**TINY, "output_dir": str(tmp_path / "run"), **changes}))
    return str(path)


def jsonl(tmp_path: Path, *lines: str) -> dict:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return {"name": "table", "path": str(path), "eval_share": 0.5}


def own_task(tmp_path: Path, train: str) -> str:
    path = tmp_path / "own.py"
    path.write_text(
        f"from kintsugi import Problem\nclass Own:\n    verifier = 'exact'\n    {train}\n    evaluation = train\n"
    )
    return f"{path}:Own"


GOOD_LINE = json.dumps({"prompt": "1+1", "answer": "2"})

# what is changed in the recipe -> what the one line must say
BAD = {
    "unknown key": (lambda t: {"optm": {}}, "did you mean 'optim'"),
    "unknown model": (lambda t: {"model": str(t / "nowhere")}, "no such directory"),
    "missing data": (lambda t: {"task": {"name": "table", "path": str(t / "no.jsonl")}}, "no.jsonl"),
    "bad line": (lambda t: {"task": jsonl(t, GOOD_LINE, "{oops")}, "line 2"),
    "no column": (
        lambda t: {"task": jsonl(t, '{"frage": "1+1", "answer": "2"}')},
        "line 1: which column is the prompt?",
    ),
    "empty task": (lambda t: {"task": jsonl(t, "")}, "data.jsonl"),
    "group of one": (lambda t: {"sampling": {**TINY["sampling"], "group_size": 1}}, "at least 2"),
    "unknown task": (lambda t: {"task": "dagg"}, "dag"),
    "unknown verifier": (lambda t: {"verifier": "exactt"}, "exact"),
    "unknown algorithm": (lambda t: {"algorithm": "iopp"}, "iop"),
    "unknown option": (lambda t: {"algorithm": {"name": "iop", "kk": 1}}, "did you mean 'k'"),
    "option of another": (
        lambda t: {"algorithm": {"name": "grpo", "k": 1}},
        "unknown argument 'k'; it takes none",
    ),
    "unknown prompts": (lambda t: {"prompts": "terse"}, "terse-v1"),
    "no model there": (lambda t: {"model": str(t)}, "no config.json there"),
    "task that raises": (
        lambda t: {"task": own_task(t, "def train(self): return 1 / 0")},
        "ZeroDivisionError",
    ),
    "ids that repeat": (
        lambda t: {"task": own_task(t, "def train(self): return [Problem('a', 'q', '1')] * 2")},
        "the id 'a' occurs twice",
    ),
    "bad device": (lambda t: {"device": "gpu"}, "'cuda'"),
    "bad value": (lambda t: {"steps": "many"}, "steps"),
    "unwritable": (lambda t: {"output_dir": "/proc/nowhere"}, "cannot be written"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_input_is_one_line_and_exit_code_2(case: str, tmp_path: Path) -> None:
    change, said = BAD[case]
    result = kintsugi("train", write(tmp_path, **change(tmp_path)))
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("kintsugi: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr


def test_a_missing_recipe_and_a_mistyped_override_are_one_line_each(tmp_path: Path) -> None:
    missing = kintsugi("train", str(tmp_path / "none.yaml"))
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    mistyped = kintsugi("train", write(tmp_path), "optim.lrr=1e-3")
    assert (mistyped.returncode, mistyped.stderr.count("\n")) == (2, 1)
    assert "'optim.lr'" in mistyped.stderr
    deep = kintsugi("train", write(tmp_path), "steps.x=3")
    assert (deep.returncode, deep.stderr.count("\n")) == (2, 1)
    assert "it holds no keys" in deep.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["harvest", "runs/any"],
            "harvest: Missing option '--as'. Choose from: stepwise, preference, sft (--help says more)",
        ),
        (["trian"], "No such command 'trian'. Did you mean 'train'? (--help says more)"),
        (["--nope"], "No such option: --nope (--help says more)"),
    ],
)
def test_a_command_that_is_called_wrongly_is_one_line_and_exit_code_2(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["kintsugi", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert (end.value.code, capsys.readouterr().err) == (2, f"kintsugi: {said}\n")


def test_the_version_is_told() -> None:
    told = kintsugi("--version")
    assert (told.returncode, told.stdout) == (0, f"kintsugi {version('kintsugi-rl')}\n")


def test_ctrl_c_is_one_line_and_exit_code_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kintsugi.run.reading.Run.open", interrupted)
    monkeypatch.setattr(sys, "argv", ["kintsugi", "diagnose", "runs/any"])
    with pytest.raises(SystemExit) as end:
        main()
    assert (end.value.code, capsys.readouterr().err) == (130, "kintsugi: interrupted\n")


def test_an_existing_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("recipe.yaml", "versions.json"):
        (tmp_path / "run" / name).write_text("{}")
    result = kintsugi("train", write(tmp_path))
    assert result.returncode == 2
    assert "--overwrite" in result.stderr


def test_a_recipe_that_cannot_run_costs_no_earlier_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("recipe.yaml", "versions.json"):
        (tmp_path / "run" / name).write_text("precious")
    for command, change in (
        ("train", {"model": str(tmp_path / "nowhere")}),
        ("sft", {"sft": {"data": "/nope"}}),
    ):
        result = kintsugi(command, write(tmp_path, **change), "--overwrite")
        assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert (tmp_path / "run" / "recipe.yaml").read_text() == "precious"


def test_overwrite_removes_a_run_and_nothing_else(tmp_path: Path) -> None:
    # A folder with a recipe of the user's own is no run directory; one that is keeps what no run wrote.
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("mine")
    refused = kintsugi("train", write(tmp_path, steps=0), "--overwrite")
    assert (refused.returncode, "not a run directory" in refused.stderr) == (2, True)
    for name in ("versions.json", "thesis.txt", "metrics.jsonl"):
        (tmp_path / "run" / name).write_text("old")
    refused = kintsugi("train", write(tmp_path, steps=0), "--overwrite")  # no mark says that a run made it
    assert (refused.returncode, ".kintsugi says so" in refused.stderr) == (2, True)
    (tmp_path / "run" / ".kintsugi").write_text("run\n")
    assert kintsugi("train", write(tmp_path, steps=0), "--overwrite").returncode == 0
    assert (tmp_path / "run" / "thesis.txt").read_text() == "old"
    assert "old" not in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_real_text_runs_through_and_groups_without_a_pass_are_counted(tmp_path: Path) -> None:
    question = "Tom has 3 boxes of 14 eggs and breaks 5. How many are whole?"
    lines = [
        json.dumps({"question": f"{question} ({i})", "answer": f"3*14=<<3*14=42>>42\n42-5=37\n#### {37 + i}"})
        for i in range(12)
    ]
    data = tmp_path / "gsm.jsonl"
    data.write_text("\n".join(lines) + "\n")
    smoke = [
        "sampling.max_new_tokens=16",
        f"task.path={data}",
        "task.eval_share=0.3",
        f"output_dir={tmp_path}/run",
    ]
    result = kintsugi("train", str(RECIPES / "gsm8k_smoke.yaml"), *smoke)
    assert result.returncode == 0, result.stderr
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [m for m in steps if "accuracy" in m]
    # Random weights answer nothing: both groups of both steps fail, none is repaired, nothing is trained on.
    assert [(m["groups/all_failed"], m["repair/tried"], m["updates"]) for m in steps] == [(2, 0, 0)] * 2


def test_dry_run_prints_the_resolved_recipe_and_what_it_comes_to(tmp_path: Path) -> None:
    result = kintsugi("train", write(tmp_path), "optim.lr=3e-5", "--dry-run")
    assert result.returncode == 0
    assert yaml.safe_load(result.stdout)["optim"]["lr"] == 3e-5
    assert "4 problems x 4 rollouts = 16 completions a step" in result.stdout
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("recipe", sorted(p.name for p in RECIPES.glob("*.yaml")))
def test_every_shipped_recipe_resolves(recipe: str) -> None:
    assert Recipe.load(RECIPES / recipe).model


def test_eval_prints_intervals_for_sampled_and_greedy(tmp_path: Path) -> None:
    result = kintsugi("eval", write(tmp_path))
    assert result.returncode == 0, result.stderr
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    low, high = (float(x) for x in lines["pass@1"].split("[")[1].rstrip("]").split(","))
    assert 0 <= low <= float(lines["pass@1"].split()[0]) <= high <= 1
    assert {"pass@2", "maj@2", "greedy", "verdicts"} <= set(lines)


def test_eval_of_several_recipes_before_and_after(tmp_path: Path) -> None:
    first = write(tmp_path)
    second = tmp_path / "longer.yaml"
    second.write_text(Path(first).read_text())
    (tmp_path / "text.txt").write_text("a=1+2,b=a+3")
    options = ["--before", "nano-random", "--text", "text.txt", "--output", "out/figures.json"]
    result = kintsugi("eval", first, str(second), "eval.problems=3", *options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert [entry["recipe"] for entry in found] == [first, str(second)]
    assert {entry["before"]["model"] for entry in found} == {"nano-random"}
    assert {len(entry["problems"]) for entry in found} == {3}  # the override is for both
    assert found[0]["problems"] == found[1]["problems"]  # the same seeds
    assert "text" in found[0]["after"] and "text" not in found[1]["after"]  # once is enough
    lines = result.stdout.splitlines()
    assert [line for line in lines if line.startswith("recipe")] == [
        f"recipe   {first}",
        f"recipe   {second}",
    ]
    assert sum(line.startswith("flips") for line in lines) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optim.lr=1"], "eval: expected a recipe"),
        (["RECIPE", "--text", "absent.txt"], "--text absent.txt: cannot be read"),
        (["RECIPE", "--output", "."], "--output .: cannot be written"),
        (["RECIPE", "--before", "nowhere"], "model 'nowhere': no such directory"),
    ],
)
def test_eval_refuses_what_it_cannot_do(arguments: list[str], message: str, tmp_path: Path) -> None:
    words = [write(tmp_path) if word == "RECIPE" else word for word in arguments]
    result = kintsugi("eval", *words, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "loading nowhere\n" if "nowhere" in arguments else "")
    assert result.stderr.startswith(f"kintsugi: {message}") and result.stderr.count("\n") == 1


def test_a_task_and_a_verifier_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from kintsugi import Problem\n"
        "class Words:\n"
        "    verifier = 'exact'\n"
        "    def train(self): return [Problem(f't{i}', f'say {i}', str(i)) for i in range(4)]\n"
        "    def evaluation(self): return [Problem('e', 'say 9', '9')]\n"
        "def score(prompts, completions, answer, **columns):\n"
        "    return [1.0 if i == 0 else 0.0 for i in range(len(completions))]\n"
    )
    recipe = write(
        tmp_path,
        model="nano-random",
        task=f"{tmp_path}/mine.py:Words",
        verifier=f"{tmp_path}/mine.py:score",
        steps=1,
    )
    result = kintsugi("train", recipe)
    assert result.returncode == 0, result.stderr
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    # The verifier passes the first of each group of four, whatever it says.
    assert [m["accuracy"] for m in metrics if "accuracy" in m] == [0.25]


def test_a_broken_verifier_is_counted_and_pays_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "def score(prompts, completions, **columns):\n    raise RuntimeError('boom')\n"
    )
    verifier = {"name": f"{tmp_path}/bad.py:score", "on_error": "continue"}
    result = kintsugi("train", write(tmp_path, verifier=verifier, steps=1))
    assert result.returncode == 0, result.stderr
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (step,) = [m for m in metrics if "accuracy" in m]
    assert (step["verdict/error"], step["accuracy"], step["updates"]) == (16, None, 0)  # nothing was judged
