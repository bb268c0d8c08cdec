"""Every rule names its fault on a run that has exactly that fault; a healthy run has none."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from fakes import make_recipe, make_rollout
from runs import write_run

from kintsugi.algorithms import load_algorithm
from kintsugi.config import Recipe
from kintsugi.look.diagnose import RULES, Diagnosis, diagnose
from kintsugi.records import Episode, Problem, Verdict
from kintsugi.run.directory import RunLog
from kintsugi.run.reading import Run

ROOT = Path(__file__).parents[3]
LAST = 30


def healthy(step: int) -> dict[str, Any]:
    """A step as the quickstart logs them: 12 groups of 8, 51 tokens each; from 30% to 88% within 30 steps."""
    done = step / LAST
    return {
        "step": step, "loss": -0.1, "grad_norm": 0.6, "updates": 1, "accuracy": 0.3 + 0.58 * done,
        "groups/mixed": 7, "groups/all_passed": 4, "groups/all_failed": 1, "entropy": 0.06 * (1 - 0.4 * done),
        "verdict/error": 0, "verdict/unscorable": 0, "truncated": 0, "length/rollout": 51.0, "tokens/rollout": 4896,
        "reach/known": 18, "reach/open": 0.9, "repair/tried": 20, "repair/samples": 20,
        "repair/success_per_failure": 0.9, "audit/prompt_leak": 0, "audit/anchor_copy": 0, "kstar/K": 18,
        "kstar/kept": 1.0, "rows/policy": 110, "rows/repair": 12,
        "active_ratio": 0.6, "clip_fraction": 0.01, "sampler_gap": 1e-5,
    }  # fmt: skip


def judged(
    directory: Path,
    steps: int = LAST,
    dtype: str = "torch.float32",
    algorithm: Any = "kintsugi",
    made_by: str = "train",
    **changes: Any,
) -> Diagnosis:
    """The diagnosis of a healthy run with `changes` in every step: values, or functions of the step."""
    recipe = make_recipe(
        output_dir=str(directory), algorithm=algorithm, sampling={"max_new_tokens": 80}, optim={"lr": 2e-4}
    )
    log = RunLog.open(recipe, machine={"dtype": dtype, "made by": made_by})
    for step in range(1, steps + 1):
        log.metrics(healthy(step) | {k: v(step) if callable(v) else v for k, v in changes.items()})
    return diagnose(Run.open(directory))


FLAT = {"accuracy": 0.3, "entropy": 0.05}
"""No progress, as far as that is not the fault itself."""
FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    # 96 rollouts a step: 10 errors are 10%, 30 unscorable or cut ones 31%.
    "the verifier breaks down": ({"verdict/error": 10}, "10% of the rollouts", "kintsugi show"),
    "answers cannot be found": ({"verdict/unscorable": 30}, "31% of the rollouts", "kintsugi sft"),
    "rollouts are cut off": ({"truncated": 30}, "31%", "sampling.max_new_tokens=160"),  # twice 80
    "the loss is not a number": ({"loss": None}, "20 of 20 steps", "optim.lr=5e-05"),  # 2e-4 / 4
    "sampler and learner disagree": ({"sampler_gap": 0.3}, "0.3 nats", "dtype=float32"),
    # From 51 tokens in steps 1 to 7 (a quarter of 30) to more than twice as many.
    "rollouts get longer and no better": (
        {"length/rollout": lambda s: 51.0 if s <= 7 else 200.0, "accuracy": 0.3}, "51 tokens at the start",
        "optim.lr=0.0001",  # 2e-4 / 2
    ),
    # 60% over the best five steps, then nothing.
    "updates are too large": (
        {"accuracy": lambda s: 0.6 if s < 15 else 0.02}, "60% over its best five", "optim.lr=5e-05",
    ),
    # 11 of 12 groups are 92%.
    "every group fails": (
        {"groups/mixed": 1, "groups/all_passed": 0, "groups/all_failed": 11, "accuracy": 0.02}, "92%", "group_size=16",
    ),
    "every group passes": (
        {"groups/mixed": 1, "groups/all_passed": 11, "groups/all_failed": 0, "accuracy": 0.99},
        "92%", "harder problems",
    ),
    "entropy collapsed": (
        {"groups/mixed": 2, "groups/all_passed": 4, "groups/all_failed": 6, "accuracy": 0.4,
         "entropy": lambda s: 0.06 if s <= 7 else 0.004}, "0.060 nats a token at the start, 0.004", "optim.lr=0.0001",
    ),
    "groups do not vary": (
        {"groups/mixed": 1, "groups/all_passed": 5, "groups/all_failed": 6, **FLAT},
        "8% of the groups", "group_size=16",
    ),
    # 15 of 20 repairs broke the rule: 75%.
    "repairs are found but rejected by the audit rule anchor_copy": (
        {"audit/anchor_copy": 15, "repair/success_per_failure": 0.05, "kstar/K": 1}, "75% of the 400 repairs",
        "source=sibling",
    ),
    # One of 20 tried, over 20 steps: 20 of 400.
    "failures are not mended": ({"repair/success_per_failure": 0.05, "kstar/K": 1}, "20 of the 400", "source=sibling"),
    # A tenth of 18 seams in 20 steps: 36 of 360.
    "seams stay closed": (
        {"reach/known": 18, "reach/open": 0.1, "reach/fix": 0.001, "reach/entropy": 0.01, **FLAT},
        "36 of the 360 seams", "optim.minibatches=4",
    ),
    "gates are empty": ({"active_ratio": 0.0}, "360 seams", "kintsugi show"),
    "gates are everywhere": ({"kstar/kept": 40.0}, "40 of 51 tokens", "kintsugi sft"),
    "the clip is out of range": ({"clip_fraction": 0.5}, "50% of the ratios", "optim.lr=0.0001"),
    "updates are too small": (FLAT, "accuracy +0% and entropy +0%", "optim.lr=0.002"),  # ten times 2e-4
}  # fmt: skip


@pytest.mark.parametrize("cause", FAULTS)
def test_a_fault_is_named_first_with_its_numbers_and_a_fix(cause: str, tmp_path: Path) -> None:
    changes, evidence, fix = FAULTS[cause]
    first = judged(tmp_path / "run", **changes).findings[0]
    assert first.cause.startswith(cause)
    assert evidence in first.evidence and (fix in first.command or fix in first.fix)


@pytest.mark.parametrize(
    "algorithm", ["kintsugi", "iop", "grpo", "dapo", {"name": "kintsugi", "source": "sibling"}]
)
@pytest.mark.parametrize("cause", FAULTS)
def test_a_fix_is_a_command_that_the_run_can_take(cause: str, algorithm: Any, tmp_path: Path) -> None:
    place = tmp_path / "a run"
    found = judged(place, algorithm=algorithm, **FAULTS[cause][0])
    commands = [f.command for f in found.findings if f.command]
    assert commands or cause == "every group passes"  # which no option of every task mends
    for command in commands:
        for part in command.split(" && "):
            program, name, where, *rest = shlex.split(part)
            assert program == "kintsugi" and name in ("train", "sft", "show")
            if name == "show":
                assert where == str(place)
                continue
            recipe = Recipe.load(where, rest)
            load_algorithm(recipe.algorithm)  # it has every option that is named
            assert not Path(recipe.output_dir).exists()
            before = Recipe.load(place / "recipe.yaml")
            assert recipe != before.model_copy(
                update={"output_dir": recipe.output_dir}
            )  # something is changed


def test_a_fall_is_gone_back_from_to_a_checkpoint_before_it(tmp_path: Path) -> None:
    place = tmp_path / "run"
    first = judged(place, accuracy=lambda s: 0.6 if s < 15 else 0.02).findings[0]
    assert "model=" not in first.command  # nothing is saved: from the recipe's own model
    for step in (10, 14, 20, 30):
        (place / "checkpoints" / f"step-{step:06d}").mkdir(parents=True)
    # The best five steps end with step 14.
    assert f"model={place}/checkpoints/step-000014 " in diagnose(Run.open(place)).findings[0].command


def test_another_trainers_run_is_told_its_own_names(tmp_path: Path) -> None:
    found = judged(tmp_path / "run", made_by="TRL 1.16.0", **FAULTS["updates are too large"][0])
    assert found.findings[0].command == "learning_rate=5e-05"
    cut = judged(tmp_path / "verl", made_by="verl 0.9.1", truncated=30)
    assert cut.findings[0].command == "data.max_response_length=160"


def test_every_rule_has_its_fault() -> None:
    assert len(RULES) == len(FAULTS)


def test_a_healthy_run_is_healthy(tmp_path: Path) -> None:
    found = judged(tmp_path / "run")
    assert found.healthy and found.findings == ()
    assert "near zero is normal here" in found.note


def test_a_run_that_solved_its_problems_is_healthy(tmp_path: Path) -> None:
    solved = {
        "groups/mixed": 0,
        "groups/all_passed": 12,
        "groups/all_failed": 0,
        "repair/tried": 0,
        "entropy": 0.001,
    }
    assert judged(tmp_path / "run", accuracy=lambda s: min(1.0, 0.3 + s / 20), **solved).healthy


def test_an_algorithm_without_repairs_is_not_blamed_for_them(tmp_path: Path) -> None:
    bare = {
        "repair/tried": 0,
        "repair/samples": 0,
        "repair/success_per_failure": None,
        "kstar/K": 0,
        "kstar/kept": None,
    }
    assert judged(tmp_path / "run", **bare, active_ratio=1.0).healthy


def test_bfloat16_engines_may_differ_more(tmp_path: Path) -> None:
    assert judged(tmp_path / "run", dtype="torch.bfloat16", sampler_gap=0.3).healthy


def test_what_a_run_got_over_is_not_its_fault(tmp_path: Path) -> None:
    assert judged(tmp_path / "run", **{"verdict/error": lambda s: 50 if s <= 10 else 0}).healthy


def test_other_findings_follow_the_first(tmp_path: Path) -> None:
    found = judged(tmp_path / "run", **{"truncated": 30, "verdict/error": 10})
    assert [f.cause for f in found.findings] == ["the verifier breaks down", "rollouts are cut off"]


def test_a_young_run_is_not_judged(tmp_path: Path) -> None:
    found = judged(tmp_path / "run", steps=4, **{"truncated": 90})
    assert found.early and not found.healthy and found.findings == ()
    assert diagnose(Run.open(write_run(tmp_path / "none"))).early


def test_errors_of_the_verifier_need_no_trend(tmp_path: Path) -> None:
    found = judged(tmp_path / "run", steps=1, **{"verdict/error": 90, "truncated": 90})
    assert [f.cause for f in found.findings] == ["the verifier breaks down"]
    assert not found.early and not found.healthy


def test_the_page_on_diagnosing_lists_every_cause() -> None:
    page = (ROOT / "docs" / "report.md").read_text("utf-8")
    assert [cause for cause in FAULTS if cause.replace("anchor_copy", "...") not in page] == []


def test_a_broken_verifier_is_quoted(tmp_path: Path) -> None:
    broken = make_rollout("?", Verdict("error", message="KeyError in line 2 of own.py: 'level'"))
    episode = Episode(Problem("p/7", "?", "5"), (broken, make_rollout("5", 1.0)))
    log = RunLog.open(make_recipe(output_dir=str(tmp_path)))
    for step in range(1, LAST + 1):
        log.metrics(healthy(step) | {"verdict/error": 40 if step < LAST else 0})
        if step in (20, 21):  # later steps have no table: the last that has one is quoted
            log.write(step, [episode], [], [])
    (finding, *_) = diagnose(Run.open(tmp_path)).findings
    assert finding.cause == "the verifier breaks down"
    assert finding.evidence.endswith("; step 21, problem p/7: KeyError in line 2 of own.py: 'level'")
