"""The recipe: one model of everything a run can be told. YAML plus dotted overrides; no torch here.

recipe = Recipe.load("recipes/quickstart.yaml", ["optim.lr=3e-5", "task.steps=8"])
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from kintsugi.names import translated
from kintsugi.plugins import Spec, did_you_mean, first_fault, has_bool, spelled, takes
from kintsugi.records import KintsugiError
from kintsugi.yamls import parse_value, read_yaml

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
"""A scheme of an address; a single letter is a drive of Windows."""


EVALUATED, FEW, LARGE = 200, 32, 50_000_000
"""Held-out problems of an evaluation; of one whose model has more than LARGE parameters and computes on a CPU."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def no_number(cls, value: object, info: ValidationInfo) -> object:
        """pydantic takes true for 1; here it is a mistake wherever a number is expected."""
        field = cls.model_fields[str(info.field_name)]
        if has_bool(value) and not takes(field.annotation, bool):
            raise PydanticCustomError("no_number", "Input should not be true or false")
        return value


AnySection = TypeVar("AnySection", bound=Section)


class Sampling(Section):
    problems: int = Field(
        8, ge=1, description="problems per step; sampled by a cold start: these, and at least 64"
    )
    group_size: int = Field(8, ge=1, description="rollouts per problem (G)")
    scouts: int = Field(
        0, ge=0, description="rollouts of a problem drawn first; the rest only if one passes; 0: all at once"
    )
    witnesses: int = Field(
        1, ge=1, description="passes a group needs before it is credited: a lone pass may be luck"
    )
    max_new_tokens: int = Field(512, ge=1, description="longest completion, in tokens")
    temperature: float = Field(1.0, gt=0, description="softmax temperature of training samples")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus mass; 1 samples from the whole vocabulary")


class Optim(Section):
    lr: float = Field(1e-6, gt=0, description="peak learning rate (AdamW)")
    warmup: int = Field(10, ge=0, description="optimizer steps of linear warm-up")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="after warm-up; cosine ends at 5%, by steps or by the budget of tokens"
    )
    grad_clip: float = Field(1.0, gt=0, description="largest gradient norm")
    clip_low: float | None = Field(None, gt=0, description="ratio clip below 1; null: the algorithm's own")
    clip_high: float | None = Field(None, gt=0, description="ratio clip above 1; null: the algorithm's own")
    minibatches: int = Field(
        1, ge=1, description="optimizer steps per batch of rows; with 1 no ratio leaves 1"
    )
    token_budget: int = Field(16384, ge=16, description="padded tokens in one forward pass")
    lora: int = Field(
        0,
        ge=0,
        description="rank of LoRA adapters on every linear layer (extra `lora`); 0 trains all weights",
    )
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass: less memory, more time"
    )


class Evaluation(Section):
    every: int = Field(0, ge=0, description="steps between evaluations; 0: before and after only")
    every_tokens: int = Field(0, ge=0, description="generated tokens between evaluations; 0: none by tokens")
    problems: int | None = Field(
        None,
        ge=1,
        description=f"held-out problems; null: {EVALUATED}, but {FEW} where a model of over "
        f"{LARGE // 10**6}M parameters computes on a CPU",
    )
    skip: int = Field(0, ge=0, description="held-out problems left out before them: kept for another purpose")
    samples: int = Field(4, ge=1, description="samples per problem (k of pass@k)")
    patience: int = Field(
        0,
        ge=0,
        description="evaluations in a row without a better pass@1 that end training (each best one is saved); 0: none",
    )

    @model_validator(mode="after")
    def _evaluates(self) -> Evaluation:
        if self.patience and not (self.every or self.every_tokens):
            raise ValueError(
                "eval.patience: expected evaluations on the way; set eval.every or eval.every_tokens"
            )
        return self


class Sft(Section):
    data: str | None = Field(
        None, description="JSON Lines of prompt/completion or repair pairs; null: generated"
    )
    batch: int = Field(128, ge=1, description="examples per step")
    repair_share: float = Field(0.25, ge=0, le=1, description="share of examples that are repair pairs")


def as_list(value: object) -> object:
    """One spec as a list of one: `trackers: wandb` says what `trackers: [wandb]` does."""
    return [value] if isinstance(value, str | dict) else value


def as_place(text: str) -> str:
    """A path with `~` expanded; ValueError for an address such as `s3://bucket/run`, where no run can be written."""
    if ADDRESS.match(text):
        raise ValueError(
            f"output_dir: expected a path on this machine, got {text!r}; mount it, or copy the run there"
        )
    place = os.path.expanduser(text)  # noqa: PTH111 - Path would raise where there is no such user
    if place.startswith("~"):
        raise ValueError(
            f"output_dir: expected a path, got {text!r}: there is no such user; write ./{text} if it is a name"
        )
    return place


class Recipe(Section):
    """Everything a run is told. `kintsugi train RECIPE --dry-run` prints it resolved."""

    model: Spec = Field(
        description="nano, nano-random, smollm2-135m-instruct, a local path or a Hub id; with "
        "`trust_remote_code: true` beside `name` the code that comes with it is run"
    )
    task: Spec = Field(
        description="dag, table, reasoning_gym, verifiers or my_file.py:MyTask; arguments with `name`"
    )
    verifier: Spec | Annotated[list[Spec], Field(min_length=1)] | None = Field(
        None,
        description="exact, math, gym, code or my_file.py:function; a list of them, each with a `weight`; null: the "
        "task's",
    )
    prompts: Spec = Field(
        "chat-v2",
        description="prompts: chat-v2, plain-v2 or terse-v1; system, solve, thinking, examples beside `name`",
    )
    algorithm: Spec = Field(
        "kintsugi",
        description="kintsugi, iop, grpo, gspo, dr_grpo, dapo, rloo, raft, extra_rollouts, vineppo, resets, mgrpo, "
        "sdpo or my_file.py:MINE; its options beside `name`",
    )
    engine: Spec = Field("local", description="who samples: local or vllm; arguments beside `name`")
    steps: int = Field(100, ge=0, description="training steps")
    budget: int | None = Field(
        None,
        ge=1,
        description="generated tokens, all phases, after which training ends (of a cold start: tokens trained on); "
        "null: steps decide",
    )
    seed: int = Field(0, ge=0, le=2**63 - 1, description="of everything that is drawn")
    output_dir: Annotated[str, AfterValidator(as_place)] = Field("runs/run", description="the run directory")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto, cpu or cuda")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="compute type; auto: bfloat16 on a GPU or CPU with instructions for it, else float32",
    )
    threads: int | None = Field(
        None, ge=1, le=256, description="CPU threads; null: OMP_NUM_THREADS or all cores"
    )
    save_every: int = Field(50, ge=0, description="steps between checkpoints; 0: the last only")
    keep_last: int = Field(
        0, ge=0, description="checkpoints kept: the newest so many, and the best by held-out pass@1; 0: all"
    )
    trackers: Annotated[list[Spec], BeforeValidator(as_list)] = Field(
        default_factory=list,
        description="where numbers go too: tensorboard, wandb, mlflow, trackio or my_file.py:MyTracker",
    )
    sampling: Sampling = Field(default_factory=lambda: Sampling())
    optim: Optim = Field(default_factory=lambda: Optim())
    eval: Evaluation = Field(default_factory=lambda: Evaluation())
    sft: Sft = Field(default_factory=lambda: Sft())

    @field_serializer("task", "verifier", "algorithm")
    def spell(self, spec: Any) -> Any:
        return spelled(spec)

    @classmethod
    def of(cls, told: Recipe | Mapping[str, Any] | str | Path, **objects: Any) -> Recipe:
        """The recipe itself, or that of a mapping or a YAML file, with plain objects (task, verifier, algorithm) in
        place of what it names; those that are None leave it as it is. KintsugiError as in `load`."""
        given = {key: value for key, value in objects.items() if value is not None}
        if isinstance(told, Mapping):
            told = cls.parse({**dict.fromkeys(given, "given"), **told})
        elif not isinstance(told, Recipe):
            told = cls.load(told)
        return told.model_copy(update=given)

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """The recipe in a YAML file with `key=value` overrides applied.

        Raises KintsugiError (one line) for a missing or malformed file, an unknown key or a bad value.
        """
        return cls.parse(apply_overrides(read_yaml(Path(path)), overrides), str(path))

    @classmethod
    def parse(cls, data: Mapping[str, Any], where: str = "recipe") -> Recipe:
        """The recipe in a mapping; KintsugiError names the first problem."""
        if found := next(infinite_numbers(data), None):
            raise KintsugiError(f"{where}: {found[0]}: expected a finite number, got {found[1]}")
        return parse_section(cls, data, where)

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True)


def parse_section(model: type[AnySection], data: Mapping[str, Any], where: str) -> AnySection:
    """`data` as a `model`; KintsugiError names the first problem, and the nearest key to an unknown one."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise KintsugiError(f"{where}: {explain(error, list(known_keys(model)))}") from None


def infinite_numbers(data: object, key: str = "", depth: int = 20) -> Iterator[tuple[str, float]]:
    """(dotted key, value) of every number in nested mappings and lists that is infinite or none."""
    if isinstance(data, float) and not math.isfinite(data):
        yield key, data
    elif isinstance(data, Mapping | list | tuple) and depth:  # a YAML anchor may hold itself
        for name, value in data.items() if isinstance(data, Mapping) else enumerate(data):
            yield from infinite_numbers(value, f"{key}.{name}" if key else str(name), depth - 1)


def apply_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`data` with each `a.b=value` set; the value is read as YAML, a spec string becomes a mapping."""
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in data.items()}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise KintsugiError(f"override {override!r}: expected key=value, such as optim.lr=3e-5")
        head, _, rest = key.partition(".")
        parsed = parse_value(value)
        if not rest:
            result[head] = parsed
            continue
        section = result.get(head, default_name(head))
        if not isinstance(section, str | dict | None):
            raise KintsugiError(f"override {override!r}: {head!r} is a value ({section!r}), it holds no keys")
        section = {"name": section} if isinstance(section, str) else dict(section or {})
        node = section
        *inner, last = rest.split(".")
        for part in inner:
            if not isinstance(node.get(part), dict | None):
                raise KintsugiError(f"override {override!r}: {part!r} is a value, it holds no keys")
            node[part] = dict(node.get(part) or {})
            node = node[part]
        node[last] = parsed
        result[head] = section
    return result


def default_name(key: str) -> str | None:
    """The name that a recipe's key has where nothing is said: `algorithm.seam=3` is an option of it."""
    field = Recipe.model_fields.get(key)
    return field.default if field is not None and isinstance(field.default, str) else None


def known_keys(model: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[str]:
    """Every dotted key a recipe may hold, sections included."""
    for name, info in model.model_fields.items():
        yield prefix + name
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            yield from known_keys(info.annotation, f"{prefix}{name}.")


def explain(error: ValidationError, known: Sequence[str]) -> str:
    """The first validation problem as one line that names the key and, if unknown, the nearest known one; or all names
    of other trainers at once."""
    strange = {dotted(e): e["input"] for e in error.errors() if e["type"] == "extra_forbidden"}
    if lines := [line for key, value in strange.items() for line in translated(key, value)]:
        return f"unknown key{'s' * (len(lines) > 1)}: {'; '.join(lines)}"
    first = error.errors()[0]
    key = dotted(first)
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}{did_you_mean(key, known)}"
    if first["type"] == "missing":
        return f"missing key {key!r}"
    if first["type"] == "value_error":  # a validator of our own: its message says all
        return str(first["ctx"]["error"])
    return first_fault(error)


def evaluations_between(recipe: Recipe, first: int, last: int, tokens: float) -> int:
    """The number of evaluations after step `first` and before step `last`, where a step costs so many tokens."""
    found, every, spacing = 0, recipe.eval.every, recipe.eval.every_tokens
    if every:
        found = max(0, (last - 1) // every - first // every)
    if spacing and tokens:
        found = max(
            found, min(last - 1 - first, int(tokens * last - 1) // spacing - int(tokens * first) // spacing)
        )
    return found


def dotted(problem: Any) -> str:
    """The key of a problem that pydantic has found."""
    return ".".join(str(part) for part in problem["loc"] if part not in ("str", "dict[str,any]"))


def derived(recipe: Recipe, held_out: int | None = None, steps: Sequence[str] | None = None) -> list[str]:
    """The counts that follow from the recipe, in words and numbers; `held_out`: the problems evaluated, if known;
    `steps`: what the steps come to where they do not sample."""
    s, e = recipe.sampling, recipe.eval
    asked = held_out or e.problems or EVALUATED
    samples, times = asked * (e.samples + 1), 2 + evaluations_between(recipe, 0, recipe.steps, 0)
    spaced = f" and one every {e.every_tokens:,} tokens" if e.every_tokens else ""
    fewer = (
        ""
        if held_out or e.problems
        else f" ({FEW} problems if a model of over {LARGE // 10**6}M is on a CPU)"
    )
    completions = s.problems * s.group_size
    spent = "generated tokens, all phases" if steps is None else "tokens trained on"
    sampled = (
        f"{s.problems} problems x {s.group_size} rollouts = {completions} completions a step",
        f"{recipe.steps} steps = {recipe.steps * completions} rollouts, "
        f"at most {recipe.steps * completions * s.max_new_tokens:,} rollout tokens",
    )
    updates = recipe.optim.minibatches * recipe.steps
    return [
        *(sampled if steps is None else steps),
        f"{updates} optimizer steps at most, lr {recipe.optim.lr:g} after {recipe.optim.warmup} warm-up steps"
        + (", which it does not come to" if updates <= recipe.optim.warmup else ""),
        f"evaluation: {asked} problems x ({e.samples} samples + 1 greedy) = {samples:,} completions{fewer}; "
        f"{times} evaluations{spaced}: at most {times * samples * s.max_new_tokens:,} tokens",
        *([f"ends after {recipe.budget:,} {spent}"] if recipe.budget else []),
    ]


def fields_table(model: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[str]:
    """One Markdown table line per field: key, default, meaning. `docs/recipe.md` holds them."""
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            yield from fields_table(info.annotation, f"{prefix}{name}.")
        else:
            default = "required"
            if not info.is_required():
                value = info.get_default(call_default_factory=True)
                default = yaml.safe_dump(value, default_flow_style=True).split("\n")[0]
            yield f"| `{prefix}{name}` | {default} | {info.description} |"
