"""Puts together what a recipe names: task, verifier, prompts, model, sampler. Shared by train, eval and sft."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from kintsugi.config import EVALUATED, FEW, LARGE, Recipe, derived
from kintsugi.files import digest
from kintsugi.learning.selftest import check_learner
from kintsugi.models.loading import LoadedModel, hardware, load_model, pick_autocast, settle_machine
from kintsugi.models.nano import KNOWN, NANO, NOTE
from kintsugi.plugins import is_file_spec, spec_name, with_name
from kintsugi.prompts import Prompts, load_prompts
from kintsugi.records import Problem
from kintsugi.sampling.base import Pulse, Sampler
from kintsugi.sampling.registry import Engine, load_engine
from kintsugi.sampling.room import fitting, left_out
from kintsugi.sampling.sample import longrope_limit, positions_of
from kintsugi.tasks import evaluation_problems, load_task, training_problems
from kintsugi.tasks.base import Demonstrator, Task, fingerprint, require_problems
from kintsugi.verifiers import begun_in_thoughts, check_columns, goes_on, load_verifier
from kintsugi.verifiers.base import Verifier
from kintsugi.verifiers.heard import Heard


@dataclass(frozen=True, slots=True)
class Ground:
    """The parts of a recipe that need no model: checked, with the problems of both splits."""

    prompts: Prompts
    engine: Engine
    task: Task
    verifier: Verifier
    go_on: bool
    train_problems: Sequence[Problem]
    eval_problems: Sequence[Problem]
    notes: Sequence[str]
    """Assumptions that the task made, and that nano cannot read it."""

    @classmethod
    def of(cls, recipe: Recipe) -> Ground:
        """The ground of a recipe; KintsugiError for the first thing that is wrong with it."""
        prompts, engine = load_prompts(recipe.prompts), load_engine(recipe.engine)
        task = load_task(recipe.task, judged=recipe.verifier is not None)
        named = recipe.verifier or task.verifier
        verifier = load_verifier(named)
        train_problems, eval_problems = training_problems(task), evaluation_problems(task)
        for problems in (train_problems, eval_problems):
            check_columns(verifier, problems)
        require_problems(
            eval_problems[recipe.eval.skip :], f"held-out problems beyond eval.skip={recipe.eval.skip}"
        )
        own = isinstance(task, Demonstrator) or KNOWN.fullmatch(train_problems[0].prompt)
        foreign = spec_name(recipe.model) in NANO and not (own and prompts.name == "terse-v1")
        notes = [*([NOTE] if foreign else []), *getattr(task, "notes", ())]
        return cls(prompts, engine, task, verifier, goes_on(named), train_problems, eval_problems, notes)

    def told(self, recipe: Recipe, steps: Sequence[str] | None = None) -> list[str]:
        """The problems and the counts that follow from the recipe, in words, for who asks before a run; `steps` as in
        kintsugi.config.derived."""
        counts = f"{len(self.train_problems):,} training problems, {len(self.eval_problems):,} held out"
        asked = min(recipe.eval.problems or EVALUATED, len(self.eval_problems) - recipe.eval.skip)
        known = asked if recipe.eval.problems or asked <= FEW else None
        return [counts, *derived(recipe, known, steps), *(f"note: {note}" for note in self.notes)]


@dataclass(slots=True)
class Parts:
    """Everything a recipe names, ready to work.

    `max_prompt` is the longest prompt, in tokens, that leaves room for an answer (None: there is no limit).
    `notes` are assumptions to be said aloud.
    """

    recipe: Recipe
    task: Task
    train_problems: Sequence[Problem]
    eval_problems: Sequence[Problem]
    verifier: Heard
    prompts: Prompts
    loaded: LoadedModel
    sampler: Sampler
    max_prompt: int | None
    autocast: torch.dtype | None
    machine: dict[str, str]
    notes: list[str] = field(default_factory=list)


def assemble(
    recipe: Recipe,
    version: Callable[[], int] = lambda: 0,
    model: str | None = None,
    say: Callable[[str], None] = lambda _: None,
    pulse: Pulse = lambda _: None,
) -> Parts:
    """The recipe's parts. Cheap things come first, so that a mistake is told before a model is loaded.

    `version` tells the sampler which policy version it samples; `model` replaces the recipe's (resume). `say` hears
    what is loaded and what goes wrong in the verifier, `pulse` how far the sampler is.
    """
    ground = Ground.of(recipe)
    notes = [*ground.notes, *settle_machine(recipe.threads)]
    loaded = load_model(
        with_name(recipe.model, model) if model else recipe.model,
        device=recipe.device,
        seed=recipe.seed,
        lora=recipe.optim.lora,
        thinking=ground.prompts.thinking,
        say=say,
    )
    device = loaded.model.device.type
    autocast = pick_autocast(recipe.dtype, device)
    machine = machine_of(recipe, ground.train_problems, device, str(autocast or torch.float32))
    positions = ground.engine.positions(positions_of(loaded.model.config))
    room = None if positions is None else positions - 1
    notes += cut_short(loaded)
    fit, too_long = fitting(ground.train_problems, loaded.codec, ground.prompts, room)
    notes += left_out("training", too_long, room)
    require_problems(fit, f"training problems of at most {room} tokens")
    asked, few = held_out(recipe, ground.eval_problems, loaded)
    notes += few
    judged, too_long = fitting(asked, loaded.codec, ground.prompts, room)
    notes += left_out("held-out", too_long, room)
    require_problems(judged, f"held-out problems of at most {room} tokens")
    check_learner(loaded.model, loaded.tokenizer.pad_token_id)
    sampler = ground.engine.sampler(
        loaded.model,
        pad_id=loaded.tokenizer.pad_token_id,
        token_budget=8 * recipe.optim.token_budget,
        version=version,
        autocast=autocast,
        pulse=pulse,
    )
    verifier = begun_in_thoughts(ground.verifier) if loaded.codec.opens_thoughts() else ground.verifier
    return Parts(
        recipe=recipe,
        task=ground.task,
        train_problems=fit,
        eval_problems=judged,
        verifier=Heard(verifier, say, ground.go_on),
        prompts=ground.prompts,
        loaded=loaded,
        sampler=sampler,
        max_prompt=room,
        autocast=autocast,
        machine=machine,
        notes=[*notes, *loaded.notes, *getattr(sampler, "notes", ())],
    )


def default_problems(loaded: LoadedModel) -> int:
    """The held-out problems of an evaluation whose recipe does not say."""
    return FEW if loaded.model.device.type == "cpu" and loaded.model.num_parameters() > LARGE else EVALUATED


def cut_short(loaded: LoadedModel) -> list[str]:
    """A note where a model is not used up to its last position."""
    limit = longrope_limit(loaded.model.config)
    if not limit:
        return []
    why = (
        f"the model is used up to {limit:,} positions: beyond them its longrope embeddings would make a sample "
        "depend on the others of its batch"
    )
    return [why]


def held_out(
    recipe: Recipe, problems: Sequence[Problem], loaded: LoadedModel
) -> tuple[Sequence[Problem], list[str]]:
    """The problems that are evaluated, and a note where they are few because the recipe does not say."""
    asked = recipe.eval.problems or default_problems(loaded)
    found = problems[recipe.eval.skip :][:asked]
    if recipe.eval.problems or asked != FEW:
        return found, []
    few = (
        f"evaluating {len(found)} held-out problems and not {EVALUATED}: the model is large for a CPU "
        f"(eval.problems={EVALUATED} asks all of them)"
    )
    return found, [few]


def machine_of(recipe: Recipe, train_problems: Sequence[Problem], device: str, dtype: str) -> dict[str, str]:
    """All that decides a run beside its recipe, by name."""
    return {
        "device": device,
        "hardware": hardware(device),
        "dtype": dtype,
        "threads": str(torch.get_num_threads()),
        "data": fingerprint(train_problems),
        **own_code(recipe),
    }


def own_code(recipe: Recipe) -> dict[str, str]:
    """The fingerprints of a verifier's and an algorithm's own files; what is built in has none."""
    verifiers = recipe.verifier if isinstance(recipe.verifier, list) else [recipe.verifier]
    found: dict[str, str] = {}
    for what, specs in (("verifier", verifiers), ("algorithm", [recipe.algorithm])):
        names = [name for name in map(spec_name, specs) if is_file_spec(name)]
        files = [path for name in names if (path := Path(name.rpartition(":")[0])).is_file()]
        if files:
            found[what] = f"sha256 {' '.join(digest(path)[:16] for path in dict.fromkeys(files))}"
    return found
