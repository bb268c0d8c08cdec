"""What a run leaves to be seen: real runs with a fault of their own, and the commands around them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
STATE = {"trainer.json", "optimizer.safetensors", "checksums.json"}
"""What only a resumed run needs of a checkpoint."""


def command(*words: str) -> subprocess.CompletedProcess[str]:
    done = [sys.executable, "-m", "kintsugi.cli", *words]
    return subprocess.run(done, capture_output=True, text=True, timeout=400, cwd=ROOT)


def trained(directory: Path, *overrides: str, steps: int = 6) -> Path:
    small = [
        "sampling.problems=4",
        "eval.problems=4",
        "eval.samples=1",
        f"steps={steps}",
        f"output_dir={directory}",
    ]
    done = command("train", "recipes/quickstart.yaml", *small, *overrides)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {directory}/report.html"
    return directory


@pytest.mark.parametrize(
    ("cause", "overrides"),
    [
        ("the verifier breaks down", ["verifier={{name: {broken}, on_error: continue}}"]),
        ("rollouts are cut off", ["sampling.max_new_tokens=30"]),
        ("every group fails", ["verifier={never}"]),
    ],
)
def test_a_real_run_with_a_fault_is_diagnosed(cause: str, overrides: list[str], tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "def broken(prompts, completions, **columns):\n    raise OSError('no network')\n"
        "def never(prompts, completions, **columns):\n    return [0.0 for _ in completions]\n"
    )
    run = trained(
        tmp_path / "run", *(o.format(broken=f"{own}:broken", never=f"{own}:never") for o in overrides)
    )
    done = command("diagnose", str(run), "--json")
    assert done.returncode == 1
    causes = [f["cause"] for f in json.loads(done.stdout)["findings"]]
    assert causes and causes[0].startswith(cause), causes


def test_a_real_run_is_shown_and_reported_on(tmp_path: Path) -> None:
    run = trained(tmp_path / "run")
    done = command("show", str(run), "--step", "1", "--limit", "1")
    assert done.returncode == 0 and "[-" in done.stdout and "{+" in done.stdout and "-10.00" in done.stdout
    assert (run / "report.html").stat().st_size > 50_000
    done = command("diagnose", str(run))
    assert done.returncode == 0 and done.stdout.startswith("healthy"), done.stdout


def test_a_folder_that_holds_nothing_is_one_line(tmp_path: Path) -> None:
    for name in ("report", "diagnose", "show"):
        done = command(name, str(tmp_path))
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


def test_the_doctor_finds_the_quickstart_well_and_leaves_nothing_behind(tmp_path: Path) -> None:
    small = ["sampling.problems=4", f"output_dir={tmp_path / 'run'}", "threads=1"]
    done = command("doctor", "recipes/quickstart.yaml", *small, "--json")
    checks = {c["name"]: c for c in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, done.stdout
    assert {"gold answers", "prompt", "groups at the start", "sampler and learner", "disk"} <= set(checks)
    assert "mended" in checks["repairs at the start"]["seen"]
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_fails_a_recipe_that_cannot_learn(tmp_path: Path) -> None:
    small = ["sampling.problems=4", "threads=1", "model=nano-random", f"output_dir={tmp_path / 'run'}"]
    done = command("doctor", "recipes/quickstart.yaml", *small)
    assert done.returncode == 1
    assert "fail  groups at the start  0 mixed, 0 all pass, 4 all fail" in done.stdout


def test_an_exported_checkpoint_loads_and_its_card_tells_the_truth(tmp_path: Path) -> None:
    import torch
    from huggingface_hub import ModelCard
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run, place = trained(tmp_path / "run", steps=2), tmp_path / "model"
    assert command("export", str(run), "--output", str(place)).returncode == 0
    saved = run / "checkpoints" / "step-000002"
    assert {f.name for f in place.iterdir()} == {f.name for f in saved.iterdir()} - STATE | {".kintsugi"}
    ids = AutoTokenizer.from_pretrained(place)("a=8+2", return_tensors="pt").input_ids
    with torch.no_grad():
        one, other = (AutoModelForCausalLM.from_pretrained(p)(ids).logits for p in (place, saved))
    assert torch.equal(one, other)
    card = ModelCard.load(place / "README.md")
    assert card.data.library_name == "transformers" and "kintsugi" in card.data.tags
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rollout_tokens = sum(m.get("tokens/rollout", 0) for m in lines)
    assert f"| generated tokens, rollout | {rollout_tokens:,} |" in card.text
    assert f"| held-out pass@1 after (step 2) | {lines[-1]['eval/pass@1']:.3f} [" in card.text
    assert "4,000 problems, sha256 " in card.text
    again = command("export", str(run), "--output", str(place))
    assert again.returncode == 2 and "pass --overwrite" in again.stderr
    assert command("export", str(run), "--output", str(place), "--overwrite").returncode == 0
    none = command("export", str(run), "--output", str(tmp_path / "x"), "--step", "7")
    assert none.returncode == 2 and "no checkpoint of step 7; there are 2" in none.stderr
