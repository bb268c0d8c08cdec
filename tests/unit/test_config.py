"""The recipe: overrides, one-line errors, at most 40 fields, and its page in the docs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kintsugi.config import Recipe, apply_overrides, derived, fields_table, known_keys
from kintsugi.loop import same_run
from kintsugi.plugins import split_spec
from kintsugi.records import KintsugiError
from kintsugi.run.checkpoint import Progress
from kintsugi.run.session import share_done

MINIMAL = {"model": "nano", "task": "dag"}
DOCS = Path(__file__).parents[2] / "docs"


def test_overrides_set_nested_keys_and_read_values_as_yaml() -> None:
    # 3e-5 is a string to YAML 1.1 (no dot); an override means the number.
    data = apply_overrides(MINIMAL, ["optim.lr=3e-5", "steps=7", "verifier=null", "sft.data=x.jsonl"])
    assert data["optim"] == {"lr": 3e-5}
    assert (data["steps"], data["verifier"], data["sft"]["data"]) == (7, None, "x.jsonl")


def test_an_argument_of_a_spec_given_by_name_makes_it_a_mapping() -> None:
    data = apply_overrides(MINIMAL, ["task.steps=[3, 5]", "task.config.deep=1"])
    assert data["task"] == {"name": "dag", "steps": [3, 5], "config": {"deep": 1}}
    assert MINIMAL["task"] == "dag"  # what was given is left alone
    assert split_spec(data["task"], "task") == ("dag", {"steps": [3, 5], "config": {"deep": 1}})


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("modle", "model"),
        ("optim.lrr", "optim.lr"),
        ("sampling.group", "sampling.group_size"),
        ("evals", "eval"),
    ],
)
def test_an_unknown_key_names_its_nearest_neighbour(wrong: str, nearest: str) -> None:
    with pytest.raises(KintsugiError, match=f"unknown key '{wrong}'; did you mean '{nearest}") as error:
        Recipe.parse(apply_overrides(MINIMAL, [f"{wrong}=1"]))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("steps=-1", "steps: .*greater than or equal to 0, got -1"),
        ("sampling.temperature=hot", "sampling.temperature: .*got 'hot'"),
        ("optim.schedule=linear", "optim.schedule: .*'constant' or 'cosine'"),
        ("steps", "expected key=value"),
    ],
)
def test_a_bad_value_is_named_with_what_was_expected(override: str, said: str) -> None:
    with pytest.raises(KintsugiError, match=said):
        Recipe.parse(apply_overrides(MINIMAL, [override]))


def test_missing_keys_and_files_that_are_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(KintsugiError, match="missing key 'model'"):
        Recipe.parse({"task": "dag"})
    path = tmp_path / "r.yaml"
    for text, said in (("- 1", "expected a mapping"), ("a: [", "not valid YAML")):
        path.write_text(text)
        with pytest.raises(KintsugiError, match=said):
            Recipe.load(path)


@pytest.mark.parametrize(
    ("budget", "expected"),
    [(None, 0.25), (1000, 0.6), (10_000, 0.25)],  # 5 of 20 steps; 600 tokens of the budget
)
def test_a_run_is_over_by_steps_or_by_tokens(budget: int | None, expected: float) -> None:
    recipe = Recipe.parse({**MINIMAL, "steps": 20, "budget": budget})
    assert share_done(recipe, Progress(step=5, tokens=600)) == pytest.approx(expected)


def test_a_budget_is_told() -> None:
    assert "ends after 1,000 generated tokens, all phases" in derived(
        Recipe.parse({**MINIMAL, "budget": 1000})
    )


def test_an_option_of_the_default_needs_no_name() -> None:
    made = Recipe.parse(apply_overrides(MINIMAL, ["algorithm.seam=3", "prompts.thinking=true"]))
    assert made.algorithm == {"name": "kintsugi", "seam": 3}
    assert made.prompts == {"name": "chat-v2", "thinking": True}


def test_a_resumed_run_names_every_single_key_that_differs() -> None:
    before = Recipe.parse({**MINIMAL, "optim": {"lr": 1e-5, "lora": 4}, "eval": {"every": 5}})
    now = Recipe.parse(
        apply_overrides(MINIMAL, ["optim.lr=2e-5", "optim.lora=4", "algorithm.seam=3", "task.steps=4"])
    )
    with pytest.raises(KintsugiError) as error:
        same_run(before, now)  # evaluations may change
    assert "changed: task.steps (None -> 4), algorithm.seam (None -> 3), optim.lr (1e-05 -> 2e-05);" in str(
        error.value
    )
    same_run(before, before.model_copy(update={"steps": 7}))


def test_a_recipe_survives_its_own_yaml(tmp_path: Path) -> None:
    recipe = Recipe.parse({**MINIMAL, "optim": {"lr": 1e-5}, "task": {"name": "dag", "steps": 5}})
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    assert Recipe.load(path) == recipe


def test_the_recipe_has_at_most_42_fields() -> None:
    lines = list(fields_table())
    assert len(lines) <= 42
    sections = len(list(known_keys())) - len(lines)
    assert sections == 4  # sampling, optim, eval, sft


def test_derived_counts_by_hand() -> None:
    # 3 problems x 4 rollouts = 12 completions; 10 steps = 120 rollouts of 50 tokens at most = 6,000 tokens.
    recipe = Recipe.parse(
        {**MINIMAL, "steps": 10, "sampling": {"problems": 3, "group_size": 4, "max_new_tokens": 50}}
    )
    said = "\n".join(derived(recipe))
    assert "3 problems x 4 rollouts = 12 completions a step" in said
    assert "120 rollouts, at most 6,000 rollout tokens" in said


def test_no_system_prompt_of_a_recipe_ends_in_a_yaml_comment() -> None:
    # Unquoted, what follows ` #` is a comment: `after ####.` came to the model as `after`.
    prompts = {path: Recipe.load(path).prompts for path in (DOCS.parent / "recipes").rglob("*.yaml")}
    told = {path.name: p["system"] for path, p in prompts.items() if isinstance(p, dict) and p.get("system")}
    assert len(told) >= 7
    assert [name for name, text in told.items() if not text.endswith(".")] == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("steps=true", "steps: input should not be true or false, got True"),
        ("optim.lr=yes", "optim.lr: input should not be true or false"),
        ("budget=false", "budget: input should not be true or false"),
        ("model=true", "model: input should not be true or false"),
        ("optim.lr=.inf", "optim.lr: expected a finite number, got inf"),
        ("optim.lr=inf", r"optim.lr: .*finite number"),
        ("sampling.temperature=nan", r"sampling.temperature: .*finite number"),
        ("verifier={name: math, timeout: .inf}", "verifier.timeout: expected a finite number, got inf"),
        ("task={name: dag, steps: [3, -.inf]}", r"task.steps.1: expected a finite number, got -inf"),
        ("task={name: dag, steps: 3, steps: 4}", "the key 'steps' stands twice"),
        (
            "eval.patience=2",
            "eval.patience: expected evaluations on the way; set eval.every or eval.every_tokens",
        ),
        ("output_dir=s3://bucket/run", "expected a path on this machine, got 's3://bucket/run'"),
        ("output_dir=file:run", "expected a path on this machine"),
        ("output_dir=~nobody-of-this-name/run", "there is no such user"),
    ],
)
def test_what_yaml_would_let_pass_is_refused(override: str, said: str) -> None:
    with pytest.raises(KintsugiError, match=said) as error:
        Recipe.parse(apply_overrides(MINIMAL, [override]))
    assert "\n" not in str(error.value)


def test_truth_values_stand_where_they_belong_and_names_may_be_nan() -> None:
    recipe = Recipe.parse(
        apply_overrides(MINIMAL, ["optim.gradient_checkpointing=true", "model={name: nan, x: true}"])
    )
    assert recipe.optim.gradient_checkpointing is True
    assert recipe.model == {"name": "nan", "x": True}
    assert apply_overrides(MINIMAL, ["model=inf"])["model"] == "inf"


def test_an_output_dir_is_a_path_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for given, meant in (("~/runs/a", "/home/me/runs/a"), ("runs/a:b", "runs/a:b"), ("C:/runs", "C:/runs")):
        assert Recipe.parse({**MINIMAL, "output_dir": given}).output_dir == meant


@pytest.mark.parametrize(
    "text",
    [
        "model: nano\ntask: dag\nsteps: 1\nsteps: 2\n",
        "model: nano\ntask: dag\noptim:\n  lr: 1.0\n  lr: 2.0\n",
        "model: nano\ntask: dag\ntrackers:\n- {name: wandb, mode: a, mode: b}\n",
    ],
)
def test_a_key_that_stands_twice_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(KintsugiError, match=r"not valid YAML .*stands twice"):
        Recipe.load(tmp_path / "r.yaml")


def test_a_merged_mapping_may_say_a_key_anew(tmp_path: Path) -> None:
    # YAML's own way of inheritance: not the same key twice.
    text = "model: nano\ntask: &t {name: dag, steps: 3}\nverifier: {<<: *t, name: exact}\n"
    (tmp_path / "r.yaml").write_text(text)
    assert Recipe.load(tmp_path / "r.yaml").verifier == {"name": "exact", "steps": 3}
