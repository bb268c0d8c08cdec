"""The command line: one function per command. Loads torch only to work."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from kintsugi.cli_errors import REFUSED, OneLine
from kintsugi.cli_solutions import COMMANDS, RunPath
from kintsugi.records import KintsugiError
from kintsugi.run.console import silence

if TYPE_CHECKING:
    from kintsugi.config import Recipe
    from kintsugi.run.session import TrainResult

app = typer.Typer(
    name="kintsugi",
    cls=OneLine,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
RecipePath = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A YAML recipe, such as recipes/quickstart.yaml.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Changes to its keys, such as optim.lr=3e-5."),
]
Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Changes to its keys, such as budget=100000."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print the whole recipe and the sizes that follow from it, then stop."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Delete the run that is in output_dir first.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in output_dir.")]


def say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"kintsugi {version('kintsugi-rl')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=say_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Reinforcement learning that mends failed solutions and learns from the seams (IOP, arXiv:2605.05226)."""


@app.command("init")
def init_command(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The file to write, such as my.yaml.")],
    data: Annotated[str, typer.Option(help="A file, a folder or a Hub id (docs/data.md).")],
    model: Annotated[str, typer.Option(help="The model, as a recipe names it.")],
    eval_data: Annotated[str | None, typer.Option(help="Other data, for the held-out problems.")] = None,
    subset: Annotated[str | None, typer.Option(help="The subset of the data, as the Hub calls it.")] = None,
    prompt: Annotated[str | None, typer.Option(help="The column of the questions.")] = None,
    answer: Annotated[str | None, typer.Option(help="The column of the gold answers.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a recipe for your data, with the columns, the verifier and the lengths that suit them."""
    from kintsugi.look.start import init

    named = {"eval_path": eval_data, "subset": subset, "prompt": prompt, "answer": answer}
    typer.echo(init(recipe, data, model, overwrite, **named).rstrip())
    typer.echo(f"written: {recipe}; next: kintsugi doctor {recipe}")


@app.command("train")
def train_command(
    recipe: RecipePath,
    overrides: Overrides = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Train a model with reinforcement learning from a verifier."""
    from kintsugi.config import Recipe

    resolved = Recipe.load(recipe, overrides or ())
    from kintsugi.notebook import reported_at
    from kintsugi.trainer import outline, train

    if dry_run:
        print_recipe(resolved, outline(resolved))
        return
    exclusive(resume, overwrite)

    result = train(resolved, resume=resume, overwrite=overwrite)
    stopped(recipe, result)
    reported = reported_at(result.directory)  # before anything is said: nobody may be listening any more
    typer.echo(result.summary(recipe.stem))
    typer.echo(reported)


def exclusive(resume: bool, overwrite: bool) -> None:
    if resume and overwrite:
        raise KintsugiError("--resume and --overwrite exclude each other")


def stopped(recipe: Path, result: TrainResult) -> None:
    """Ends as a signal asked, where one did."""
    if result.interrupted:
        typer.echo(f"{recipe.stem}: stopped after step {result.steps}; go on with --resume")
        raise typer.Exit(128 + result.interrupted)


@app.command("sft")
def sft_command(
    recipe: RecipePath,
    overrides: Overrides = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Fine-tune on solutions and repairs, so that reinforcement has something to start from (cold start)."""
    from kintsugi.config import Recipe

    resolved = Recipe.load(recipe, overrides or ())
    from kintsugi.coldstart import outline, sft

    if dry_run:
        print_recipe(resolved, outline(resolved))
        return
    exclusive(resume, overwrite)

    result = sft(resolved, resume=resume, overwrite=overwrite)
    stopped(recipe, result)
    typer.echo(result.summary(recipe.stem))
    last = result.directory / "checkpoints" / f"step-{result.steps:06d}"
    typer.echo(f"next: kintsugi train {recipe} model={last}")


@app.command("eval")
def eval_command(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE... [KEY=VALUE]...", help="Recipes, and changes to the keys of all of them."
        ),
    ],
    before: Annotated[
        str | None, typer.Option(help="Another model to compare with, evaluated on the same problems.")
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="A text file; the perplexity on it shows what the model forgot.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The JSON file to write, with every figure and every answer.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Evaluate a model on held-out problems: pass@1, pass@k, maj@k and greedy, with 95% intervals."""
    from kintsugi.config import Recipe

    overrides = [word for word in words if "=" in word]
    recipes = {word: Recipe.load(word, overrides) for word in words if "=" not in word}
    if not recipes:
        raise KintsugiError(
            f"eval: expected a recipe, such as recipes/quickstart.yaml, got {' '.join(words)}"
        )
    if dry_run:
        from kintsugi.assembly import Ground

        for resolved in recipes.values():
            print_recipe(resolved, Ground.of(resolved).told(resolved))
        return
    from kintsugi.run.console import Reporter
    from kintsugi.run.measuring import measure, read_sample, record, save_records, summary

    sample = read_sample(text) if text else None
    records: list[dict[str, object]] = []
    if output:
        save_records(None, output)
    for name, resolved in recipes.items():
        if len(recipes) > 1:
            typer.echo(f"recipe   {name}")
        measured = measure(resolved, name, before, sample, Reporter())
        sample = None  # once: the model is the same
        typer.echo(summary(measured))
        if output:
            records.append(record(measured))
            save_records(records, output)


@app.command("compare")
def compare_command(
    comparison: Annotated[
        Path, typer.Argument(metavar="COMPARISON", help="A YAML file, as docs/report.md describes it.")
    ],
    overrides: Changes = None,
    dry_run: DryRun = False,
) -> None:
    """Compare algorithms on one task at an equal budget of generated tokens; ends with a table and a plot."""
    from kintsugi.compare.plan import load_plan, outline
    from kintsugi.compare.report import write_summary
    from kintsugi.compare.run import compare

    plan = load_plan(comparison, overrides or ())
    for line in outline(plan):
        typer.echo(line)
    if dry_run:
        return
    rows = compare(plan, typer.echo)
    c = plan.comparison
    table, picture = write_summary(rows, Path(c.output_dir), f"{plan.task}-{c.name}")
    typer.echo(f"\n{table}\n\nplot: {picture}")


@app.command("doctor")
def doctor_command(
    recipe: RecipePath,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a check.")] = False,
) -> None:
    """Examine a recipe before a run: ask its verifier, make one step, and throw the step away."""
    import json
    from dataclasses import asdict

    from rich.console import Console

    from kintsugi.config import Recipe
    from kintsugi.look.doctor import examine
    from kintsugi.run.console import Reporter

    states = set()
    out = Reporter(
        console=Console(stderr=True, soft_wrap=True, highlight=False)
    )  # the checks may be read by machines
    for check in examine(Recipe.load(recipe, overrides or ()), out):
        states.add(check.state)
        if as_json:
            typer.echo(json.dumps(asdict(check)))
            continue
        typer.echo(f"{check.state:<5} {check.name:<20} {check.seen}")
        if check.state != "ok" and check.fix:
            typer.echo(f"{'':<5} {'':<20} -> {check.fix}")
        for line in check.detail.splitlines():
            typer.echo(f"{'':<26} {line}")
    raise typer.Exit(1 if "fail" in states else 0)


@app.command("report")
def report_command(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run directory, or TRL's or verl's folder of rollouts.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="The file to write; by default RUN/report.html.")
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Serve a page, to this machine alone, that renews itself while the run goes on."
        ),
    ] = False,
    port: Annotated[int, typer.Option(help="The port of --watch; 0 takes a free one.")] = 0,
) -> None:
    """Write one HTML file that shows what a run learned and every failure that it repaired. It needs no network."""
    if watch:
        from kintsugi.look.report.watch import LivePage

        with LivePage(run, port) as server:
            server.page()  # no run: said before anyone waits for it
            typer.echo(f"report: {server.address} (Ctrl-C ends it)")
            server.serve_forever()
    from kintsugi.look.report import write_report

    typer.echo(f"report: {write_report(run, output, typer.echo)}")


@app.command("repeat")
def repeat_command(
    run: RunPath,
    output: Annotated[Path | None, typer.Option(help="The new run directory; by default RUN-again.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a run again and compare the bytes. The exit code is 1 if they differ."""
    from kintsugi.look.repeat import repeat
    from kintsugi.run.reading import Run

    place = output or run.with_name(f"{run.name}-again")
    found = repeat(Run.open(run), place, overwrite=overwrite)
    for line in found.versions:
        typer.echo(f"changed   {line}")
    if found.difference:
        typer.echo(f"differs   {found.difference}")
        raise typer.Exit(1)
    typer.echo(
        f"identical {found.lines} lines of metrics, weights of {found.checkpoint or 'no checkpoint'} ({place})"
    )


@app.command("diagnose")
def diagnose_command(
    run: RunPath, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False
) -> None:
    """Explain why a run does not learn: one cause, its evidence, one fix. The exit code is 1 if there is a cause."""
    import json
    from dataclasses import asdict

    from kintsugi.look.diagnose import diagnose
    from kintsugi.run.reading import Run

    found = diagnose(Run.open(run))
    if as_json:
        typer.echo(json.dumps(asdict(found) | {"healthy": found.healthy}))
    elif found.early:
        typer.echo(f"too early to say: {found.steps} steps")
    elif found.healthy:
        typer.echo(f"healthy   {found.note}")
    else:
        first, *others = found.findings
        typer.echo(f"cause     {first.cause}\nevidence  {first.evidence}\nfix       {first.fix}")
        if first.command:
            typer.echo(f"          {first.command}")
        for other in others:
            typer.echo(f"also      {other.cause} ({other.evidence})")
    raise typer.Exit(1 if found.findings else 0)


@app.command("show")
def show_command(
    run: RunPath,
    step: Annotated[int | None, typer.Option(help="The step to show; by default the last.")] = None,
    problem: Annotated[str | None, typer.Option(help="Show problems whose id holds this text.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Show failures without an accepted repair, too.")
    ] = False,
    limit: Annotated[int, typer.Option(min=0, help="Show so many failures at most; 0 shows all.")] = 5,
    anchor: Annotated[
        bool,
        typer.Option(
            "--anchor", help="Show the passing solution that each repair was given (its anchor), too."
        ),
    ] = False,
) -> None:
    """Print failures beside their repairs: which tokens were trained on, and why."""
    from rich.console import Console

    from kintsugi.look.show import Selection, show
    from kintsugi.run.reading import Run

    show(Run.open(run), Selection(step, problem, every, limit, anchor), Console(highlight=False))


for name, command in COMMANDS.items():
    app.command(name)(command)


def print_recipe(recipe: Recipe, lines: list[str]) -> None:
    """Prints the resolved recipe and what it comes to."""
    typer.echo(recipe.to_yaml().rstrip())
    for line in lines:
        typer.echo(f"# {line}")


def main() -> NoReturn:
    """Entry point: a KintsugiError, or a disk that refuses, is one line on standard error and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no text may end a command that only says it
    try:
        app(standalone_mode=True)
    except KintsugiError as error:
        print(f"kintsugi: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        silence(sys.stdout)  # if it is standard output, its end must not fail once more
        place = error.filename or "standard output"
        print(f"kintsugi: {place}: cannot be written ({error.strerror})", file=sys.stderr)
        sys.exit(2)
    except SystemExit as end:  # typer's own, which it makes of Ctrl-C, too
        if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):
            print("kintsugi: interrupted", file=sys.stderr)
        raise
    sys.exit(0)


if __name__ == "__main__":
    main()
