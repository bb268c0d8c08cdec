"""Puts a report together. Everything a model or a data set wrote travels as packed data and becomes text nodes only."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml

from kintsugi.files import clean, partial_of
from kintsugi.look.report.blocks import Data, FirstError, Shown, block, index_lines, packed, reasons_in
from kintsugi.look.report.figures import figures
from kintsugi.look.report.foreign import Foreign, open_foreign
from kintsugi.look.report.reasons import explained, with_defaults
from kintsugi.plugins import spec_name
from kintsugi.records import KintsugiError
from kintsugi.run.directory import MARKS, RunLog
from kintsugi.run.owned import may_replace_file
from kintsugi.run.reading import Run
from kintsugi.tasks import TASKS, load_task
from kintsugi.tasks.labels import Labelled

MOST_ROLLOUTS = 20_000
"""A report holds about this many rollouts; of longer runs it shows steps at even distances, and says so."""


def write_report(
    directory: str | Path, output: str | Path | None = None, say: Callable[[str], object] = lambda _: None
) -> Path:
    """Writes the report of a run directory (or of TRL's or verl's rollouts) and returns its path.

    `output` is report.html in the directory if not given. A run that goes on is shown up to its last whole step; a
    damaged step is left out, which the page and `say` tell.
    KintsugiError where there is nothing to read, or the file cannot be written.
    """
    place = Path(directory)
    path = Path(output) if output else place / "report.html"
    text = page_of(place, say, path)
    partial = partial_of(path)
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise KintsugiError(f"{path}: the report cannot be written ({error.strerror or error})") from None
    return path


def page_of(
    place: Path, say: Callable[[str], object] = lambda _: None, path: Path | None = None, version: str = ""
) -> str:
    """The report as a text, for the file at `path`; with a `version` the page asks who serves it for a newer one."""
    run = RunLog.found(place)
    source = Run.open(run) if any((run / mark).is_file() for mark in MARKS) else open_foreign(place)
    if path:
        may_replace_file(path, b"Kintsugi report</title>", "report of Kintsugi")
    shown = contents(source)
    if shown.lost:
        say(f"note: {lost_steps(shown.lost)}")
    return clean(render(source, place.resolve().name, shown, version))


def render(source: Run | Foreign, name: str, shown: Contents, version: str) -> str:
    """The page. Its script is allowed by its hash, and nothing else may run, load or be sent."""
    files = resources.files("kintsugi.look.report")
    style, script, page = ((files / f"page.{kind}").read_text("utf-8") for kind in ("css", "js", "html"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    drawings = figures(source)
    data = {"steps": shown.steps, "index": shown.entries, "own": isinstance(source, Run)}
    parts = {
        "CSP": f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        + ("connect-src 'self'; " if version else "")
        + "base-uri 'none'; form-action 'none'",
        "WATCH": f' data-watch="{version}"' if version else "",
        "NAME": html.escape(name),
        "STYLE": style,
        "SUMMARY": summary_list(source, shown),
        "REASONS": "".join(
            f"<dt>credit: {html.escape(reason)}</dt><dd>{html.escape(words)}</dd>"
            for reason, words in explained(source.recipe, shown.reasons).items()
        ),
        "FIGURES": "".join(
            f"<figure><figcaption><h3>{f.title}</h3><p>{f.about}</p></figcaption>{f.svg}</figure>"
            for f in drawings
            if f.svg
        ),
        "QUIET": "".join(f" {f.title}: {f.about}." for f in drawings if not f.svg),
        "RECIPE": html.escape(yaml.safe_dump(dict(source.recipe), sort_keys=False, allow_unicode=True)),
        "VERSIONS": "".join(
            f"<tr><th scope=row>{html.escape(str(k))}</th><td>{html.escape(str(v))}</td></tr>"
            for k, v in source.versions.items()
        ),
        "DATA": packed(data),
        "BLOCKS": "".join(
            f'<script type="text/plain" class="block" data-step="{s}">{b}</script>'
            for s, b in shown.blocks.items()
        ),
        "SCRIPT": script,
    }
    # In one pass, so that nothing that is put in is looked at again.
    pieces = page.split("%%")
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


@dataclass(frozen=True, slots=True)
class Contents:
    """The steps shown, an index of their rollouts, the packed block of each, the steps that cannot be read, and the
    reasons for which anything got credit."""

    steps: Sequence[int]
    entries: Sequence[list[Any]]
    blocks: Mapping[int, str]
    lost: Sequence[int]
    reasons: set[str]


def contents(source: Run | Foreign) -> Contents:
    """The page's contents for a source; of a long run, steps at even distances."""
    lost = list(source.incomplete)
    steps: Sequence[int] = source.written
    entries: list[list[Any]] = []
    blocks: dict[int, str] = {}
    reasons: set[str] = set()
    for step in steps:  # how many of them fit is judged by the first that can be read
        problems = step_data(source, step)
        if problems:
            steps = evenly(
                source.written, max(2, MOST_ROLLOUTS // max(1, sum(len(p["rollouts"]) for p in problems)))
            )
            break
    for step in steps:
        problems = step_data(source, step)
        if problems is None:
            lost.append(step)
            continue
        entries += index_lines(step, problems)
        blocks[step] = packed(problems)
        reasons |= reasons_in(problems)
    return Contents(list(blocks), entries, blocks, sorted(lost), reasons)


def step_data(source: Run | Foreign, step: int) -> list[Data] | None:
    """A step as data; None where it is damaged."""
    try:
        if isinstance(source, Run):
            return block(source.problems(step), source.pieces, first_error(source.recipe))
        return source.block(step)
    except KintsugiError:
        return None


def first_error(recipe: Mapping[str, Any]) -> FirstError:
    """The exact labels of a built-in task that has them. A file of the user's own is not run for them."""
    task: object = None
    with suppress(Exception):  # a recipe of another version may say what no longer is
        if spec_name(recipe["task"]) in TASKS.built_in:
            task = load_task(recipe["task"])
    if not isinstance(task, Labelled):
        return lambda *_: None
    known = task
    return lambda problem, solution: next(iter(known.wrong_characters(problem, solution)), None)


def lost_steps(lost: Sequence[int]) -> str:
    """The words for steps that cannot be shown."""
    named = ", ".join(map(str, lost[:10])) + ", ..." * (len(lost) > 10)
    return f"step {named} is damaged: left out" if len(lost) == 1 else f"steps {named} are damaged: left out"


LONG_NAME = 12
"""Characters of a name that fit a card in large letters."""


def evenly(steps: tuple[int, ...], most: int) -> list[int]:
    """At most so many of the steps, at even distances, the first and the last among them."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (most - 1))] for i in range(most)]


def summary_list(source: Shown, shown: Contents) -> str:
    """The numbers at the top, as a description list."""
    found: dict[str, str] = {}
    recipe, steps, evals = source.recipe, source.steps, source.evals
    if evals:
        before, after = evals[0], evals[-1]
        found["Held-out accuracy"] = accuracy_words(before) + (
            f" → {accuracy_words(after)}" if after is not before else ""
        )
        if "eval/pass@1_ci" in after:
            low, high = after["eval/pass@1_ci"]
            found["Held-out accuracy"] += f" <small>95% interval {low:.1%} to {high:.1%}</small>"
    budget = recipe.get("budget")
    of_all = (
        f" of {recipe['steps']}" if "steps" in recipe and not budget else ""
    )  # a budget ends a run before its steps
    found["Steps"] = f"{len(steps)}{of_all}"
    if len(shown.steps) + len(shown.lost) < len(source.written):
        found["Steps"] += f" <small>rollouts of {len(shown.steps)} shown, at even distances</small>"
    if shown.lost:
        found["Steps"] += f" <small>{lost_steps(shown.lost)}</small>"
    if steps and steps[-1].get("tokens/total") is not None:
        ends = f" <small>budget {budget:,}</small>" if budget else ""
        found["Generated tokens"] = f"{steps[-1]['tokens/total']:,}{ends}"
        took = list(accumulate(sum(v for k, v in s.items() if k.startswith("seconds/")) for s in steps))[-1]
        found["Time"] = f"{took / 60:.1f} min"
    tried = sum(line.get("repair/tried") or 0 for line in steps)
    if tried:
        mended = sum(
            (line.get("repair/success_per_failure") or 0) * (line.get("repair/tried") or 0) for line in steps
        )
        failed = sum(line.get("repair/failures") or 0 for line in steps)
        known = sum(line.get("reach/known") or 0 for line in steps)
        opened = sum((line.get("reach/open") or 0) * (line.get("reach/known") or 0) for line in steps)
        if known:
            found["Open seams"] = f"{opened / known:.0%} <small>of {known:,}; see How to read this</small>"
        found["Failures mended"] = f"{mended:,.0f} of {tried:,} tried <small>of {failed:,} in all</small>"
    for key in ("algorithm", "model", "task"):
        if key in recipe:
            found[key.capitalize()] = spec_words(
                with_defaults(recipe[key]) if key == "algorithm" else recipe[key]
            )
    return "".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in found.items())


def accuracy_words(line: Mapping[str, Any]) -> str:
    return f"{line['eval/pass@1']:.1%}"


def spec_words(spec: Any) -> str:
    """A recipe's spec: its name (small, if it is a path), and below it what else it says."""
    name = html.escape(str(spec.get("name") if isinstance(spec, Mapping) else spec))
    rest = [f"{k}: {v}" for k, v in spec.items() if k != "name"] if isinstance(spec, Mapping) else []
    said = "".join(f"<small>{html.escape(line)}</small>" for line in rest)
    return (name if len(name) <= LONG_NAME else f"<small>{name}</small>") + said
