"""Puts a report together. Everything a model or a data set wrote travels as packed data and becomes text nodes only."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping
from importlib import resources
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml

from kintsugi.reading import Run
from kintsugi.records import KintsugiError
from kintsugi.report.blocks import Source, block, index_lines, packed
from kintsugi.report.figures import figures
from kintsugi.report.foreign import open_foreign
from kintsugi.runlog import MARKS

MOST_ROLLOUTS = 20_000
"""A report holds about this many rollouts; of longer runs it shows steps at even distances, and says so."""


def write_report(directory: str | Path, output: str | Path | None = None) -> Path:
    """Writes the report of a run directory (or of TRL's or verl's rollouts) and returns its path.

    `output` is report.html in the directory if not given. A run that goes on is shown up to its last whole step.
    KintsugiError where there is nothing to read, or the file cannot be written.
    """
    place = Path(directory)
    source: Source = (
        Run.open(place) if any((place / mark).is_file() for mark in MARKS) else open_foreign(place)
    )
    path = Path(output) if output else place / "report.html"
    text = render(source, place.resolve().name)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise KintsugiError(f"{path}: the report cannot be written ({error.strerror or error})") from None
    return path


def render(source: Source, name: str) -> str:
    """The page. Its script is allowed by its hash, and nothing else may run, load or be sent."""
    files = resources.files("kintsugi.report")
    style, script, page = ((files / f"page.{kind}").read_text("utf-8") for kind in ("css", "js", "html"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    steps, entries, blocks = contents(source)
    data = {"steps": steps, "index": entries, "own": isinstance(source, Run)}
    parts = {
        "CSP": f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'",
        "NAME": html.escape(name),
        "STYLE": style,
        "SUMMARY": summary(source, len(steps)),
        "FIGURES": "".join(
            f"<figure><figcaption><h3>{f.title}</h3><p>{f.about}</p></figcaption>{f.svg}</figure>"
            for f in figures(source)
        ),
        "RECIPE": html.escape(yaml.safe_dump(dict(source.recipe), sort_keys=False, allow_unicode=True)),
        "VERSIONS": "".join(
            f"<tr><th scope=row>{html.escape(str(k))}</th><td>{html.escape(str(v))}</td></tr>"
            for k, v in source.versions.items()
        ),
        "DATA": packed(data),
        "BLOCKS": "".join(
            f'<script type="text/plain" class="block" data-step="{s}">{b}</script>' for s, b in blocks.items()
        ),
        "SCRIPT": script,
    }
    # In one pass, so that nothing that is put in is looked at again.
    pieces = page.split("%%")
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def contents(source: Source) -> tuple[list[int], list[list[Any]], dict[int, str]]:
    """(steps shown, index of their rollouts, packed block of each)."""
    if not source.written:
        return [], [], {}
    first = source.problems(source.written[0])
    each = max(1, sum(len(p.rollouts) for p in first))
    steps = evenly(source.written, max(2, MOST_ROLLOUTS // each))
    entries: list[list[Any]] = []
    blocks = {}
    for step in steps:
        problems = source.problems(step)
        entries += index_lines(step, problems)
        blocks[step] = packed(block(problems))
    return steps, entries, blocks


LONG_NAME = 12
"""Characters of a name that fit a card in large letters."""


def evenly(steps: tuple[int, ...], most: int) -> list[int]:
    """At most so many of the steps, at even distances, the first and the last among them."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (most - 1))] for i in range(most)]


def summary(source: Source, shown: int) -> str:
    """The numbers at the top, as a description list."""
    found: dict[str, str] = {}
    recipe, steps, evals = source.recipe, source.steps, source.evals
    if evals:
        before, after = evals[0], evals[-1]
        found["Held-out accuracy"] = percent(before) + (f" → {percent(after)}" if after is not before else "")
        if "eval/pass@1_ci" in after:
            low, high = after["eval/pass@1_ci"]
            found["Held-out accuracy"] += f" <small>95% interval {low:.1%} to {high:.1%}</small>"
    budget = recipe.get("budget")
    of_all = (
        f" of {recipe['steps']}" if "steps" in recipe and not budget else ""
    )  # a budget ends a run before its steps
    found["Steps"] = f"{len(steps)}{of_all}"
    if shown < len(source.written):
        found["Steps"] += f" <small>rollouts of {shown} shown, at even distances</small>"
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
        found["Failures mended"] = f"{mended:,.0f} of {tried:,} tried <small>of {failed:,} in all</small>"
    for key in ("algorithm", "model", "task"):
        if key in recipe:
            found[key.capitalize()] = named(recipe[key])
    return "".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in found.items())


def percent(line: Mapping[str, Any]) -> str:
    return f"{line['eval/pass@1']:.1%}"


def named(spec: Any) -> str:
    """A recipe's spec: its name (small, if it is a path), and below it what else it says."""
    name = html.escape(str(spec.get("name") if isinstance(spec, Mapping) else spec))
    rest = [f"{k}: {v}" for k, v in spec.items() if k != "name"] if isinstance(spec, Mapping) else []
    said = "".join(f"<small>{html.escape(line)}</small>" for line in rest)
    return (name if len(name) <= LONG_NAME else f"<small>{name}</small>") + said
