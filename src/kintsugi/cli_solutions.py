"""The commands before and after training: `mend` solutions that exist already; `harvest`, `export` and `push` what a
run came to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from kintsugi.records import KintsugiError

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, such as runs/quickstart.")]
StepOption = Annotated[int | None, typer.Option(help="The checkpoint's step; by default the last.")]
Best = Annotated[bool, typer.Option("--best", help="Take the checkpoint with the best held-out pass@1.")]
Merge = Annotated[bool, typer.Option("--merge", help="Merge adapters (LoRA) into their base model.")]
NameArgument = Annotated[str | None, typer.Option(help="Its column; by default the usual names.")]


def mend_command(
    failures: Annotated[
        Path,
        typer.Argument(
            metavar="FAILURES",
            help="Solutions: a table of prompt, completion, answer; TRL's completions; verl's dumps; or a run.",
        ),
    ],
    model: Annotated[str, typer.Option(help="The model that repairs, as a recipe names it.")],
    verifier: Annotated[
        str, typer.Option(help="The verifier: exact, math, gym, code or my_file.py:function.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Keys of a recipe, such as sampling.max_new_tokens=1024."
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="The run directory to write.")] = Path("runs/mend"),
    data: Annotated[
        Path | None,
        typer.Option(help="The data set of the problems, where FAILURES has no answers or whole prompts."),
    ] = None,
    prompt: NameArgument = None,
    completion: NameArgument = None,
    answer: NameArgument = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run that is in --output first.")
    ] = False,
) -> None:
    """Repair failed solutions without training, and write tables and a report as a run does."""
    from kintsugi.config import apply_overrides
    from kintsugi.mender import USUAL, mend
    from kintsugi.notebook import reported_at
    from kintsugi.run.solutions import read_solutions

    solutions = read_solutions(failures, data, prompt=prompt, completion=completion, answer=answer)
    recipe = {**USUAL, "model": model, "verifier": verifier, "output_dir": str(output)}
    found = mend(solutions, apply_overrides(recipe, overrides or ()), overwrite=overwrite)
    typer.echo(found)
    typer.echo(reported_at(found.directory))


def harvest_command(
    run: RunPath,
    kind: Annotated[Literal["stepwise", "preference", "sft"], typer.Option("--as", help="The kind of data.")],
    output: Annotated[
        Path | None, typer.Option(help="The file to write; by default RUN/harvest-KIND.jsonl.")
    ] = None,
    cut: Annotated[
        bool,
        typer.Option("--cut", help="End both texts of a preference after the tokens in which they differ."),
    ] = False,
) -> None:
    """Write a run's labels and repairs as data for TRL's PRMTrainer, DPOTrainer or SFTTrainer."""
    from kintsugi.run.harvest import harvest

    found = harvest(run, kind, output, cut=cut)
    for note in found.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"harvested: {found.path} ({found.lines} lines)")


def export_command(
    run: RunPath,
    output: Annotated[Path, typer.Option(help="The folder to write.")],
    step: StepOption = None,
    best: Best = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it exists.")] = False,
    merge: Merge = False,
) -> None:
    """Write a checkpoint as a clean folder that transformers and vLLM load, with a model card."""
    from kintsugi.run.export import export
    from kintsugi.run.reading import Run

    typer.echo(
        f"exported: {export(Run.open(run), output, chosen(step, best), overwrite=overwrite, merge=merge)}"
    )


def chosen(step: int | None, best: bool) -> int | Literal["best"] | None:
    """The checkpoint that `export` and `push` are asked for."""
    if best and step is not None:
        raise KintsugiError("--step and --best exclude each other")
    return "best" if best else step


def push_command(
    run: RunPath,
    repo_id: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="A model repository on the Hub.")],
    step: StepOption = None,
    best: Best = False,
    public: Annotated[
        bool, typer.Option("--public", help="Make the repository public, if it is new.")
    ] = False,
    merge: Merge = False,
) -> None:
    """Upload what `export` writes to the Hugging Face Hub (needs a token; a new repository is private)."""
    from kintsugi.run.export import push
    from kintsugi.run.reading import Run

    typer.echo(f"pushed: {push(Run.open(run), repo_id, chosen(step, best), public=public, merge=merge)}")


COMMANDS: dict[str, Callable[..., None]] = {
    "mend": mend_command,
    "harvest": harvest_command,
    "export": export_command,
    "push": push_command,
}
