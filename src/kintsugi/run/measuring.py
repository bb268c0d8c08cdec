"""The result of `kintsugi eval` on one recipe: the model's figures, their change since another, its fit to a text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kintsugi.assembly import Parts, assemble
from kintsugi.config import Recipe
from kintsugi.files import write_whole
from kintsugi.models.loading import quiet
from kintsugi.plugins import spec_name
from kintsugi.records import KintsugiError, Problem
from kintsugi.run.console import Reporter
from kintsugi.run.evaluation import (
    Estimate,
    EvalResult,
    bootstrap,
    evaluate,
    samples_each,
    scores,
    table,
    wilson,
)
from kintsugi.run.owned import may_replace_file
from kintsugi.run.perplexity import Fit, fit

FIGURES = {"pass_at_1": "pass@1", "pass_at_k": "pass@{k}", "maj_at_k": "maj@{k}", "greedy": "greedy"}


@dataclass(frozen=True, slots=True)
class Seen:
    """The measurements of one model: its evaluation, and its fit to the text where there was one."""

    model: str
    result: EvalResult
    fit: Fit | None


@dataclass(frozen=True, slots=True)
class Measured:
    """One recipe measured; `before` is another model on the same problems with the same random numbers."""

    recipe: str
    problems: tuple[Problem, ...]
    after: Seen
    before: Seen | None


def measure(
    recipe: Recipe,
    name: str,
    before: str | None = None,
    text: str | None = None,
    out: Reporter | None = None,
) -> Measured:
    """The recipe's model on its held-out problems and on `text`, and so the model `before`; `out` says notes and how
    far it is."""
    out = out or Reporter()
    found: list[tuple[Seen, Sequence[Problem]]] = []
    for model in [*([before] if before else []), recipe.model]:
        parts, result = evaluated(recipe.model_copy(update={"model": model}), out)
        seen = Seen(spec_name(model), result, fit(parts, text, out) if text is not None else None)
        found.append((seen, parts.eval_problems))
    # What is too long for one of the two models is left out for it alone: they are compared on what both were asked.
    common = set.intersection(*({p.id for p in asked} for _, asked in found))
    if not common:
        raise KintsugiError("--before: no held-out problem fits both models; compare models of like contexts")
    problems = tuple(p for p in found[-1][1] if p.id in common)
    on_both = [
        replace(seen, result=seen.result.only([i for i, p in enumerate(asked) if p.id in common]))
        for seen, asked in found
    ]
    return Measured(name, problems, on_both[-1], on_both[0] if before else None)


@quiet()
def evaluated(recipe: Recipe, out: Reporter) -> tuple[Parts, EvalResult]:
    """The parts of the recipe, and its evaluation; `out` says notes and how far it is."""
    parts = assemble(recipe, say=out.say, pulse=out.pulse)
    for note in parts.notes:
        out.say(f"note: {note}")
    with out:
        result = evaluate(parts, out=out)
    parts.verifier.require((v for row in result.verdicts for v in row), spec_name(recipe.model))
    return parts, result


def change(before: EvalResult, after: EvalResult) -> dict[str, Estimate]:
    """The gain of each figure: the mean difference with its 95% interval over resampled problems (paired bootstrap).

    Where every problem changed alike, resampling says nothing: the interval is then as wide as that of
    a share of which no problem was an instance (Wilson).
    """
    earlier = scores(before.verdicts, before.texts, before.k)
    later = scores(after.verdicts, after.texts, after.k)
    return {name: gain(np.subtract(later[name], earlier[name]).tolist()) for name in FIGURES}


def gain(differences: Sequence[float]) -> Estimate:
    known = [value for value in differences if not math.isnan(value)]
    first = known[0] if known else math.nan
    if any(value != first for value in known) or not known:
        return bootstrap(known)
    slack = wilson(0.0, len(known)).high
    return Estimate(first, max(-1.0, first - slack), min(1.0, first + slack))


def flips(before: EvalResult, after: EvalResult) -> tuple[list[int], list[int]]:
    """The problems whose greedy answer became right, and those where it became wrong."""
    pairs = [
        (b[before.k].passed, a[after.k].passed) for b, a in zip(before.verdicts, after.verdicts, strict=True)
    ]
    return (
        [i for i, pair in enumerate(pairs) if pair == (False, True)],
        [i for i, pair in enumerate(pairs) if pair == (True, False)],
    )


def summary(measured: Measured) -> str:
    """The measurements, as lines for a person."""
    before, after = measured.before, measured.after
    if before is None:
        lines = [table(after.model, after.result)]
        return "\n".join(
            [*lines, f"text     {after.fit}, {after.fit.tokens:,} tokens"] if after.fit else lines
        )
    k, changes = after.result.k, change(before.result, after.result)
    right, wrong = flips(before.result, after.result)
    lines = [
        f"before   {before.model}",
        f"after    {after.model}",
        f"problems {after.result.problems}, {samples_each(k)}",
        f"{'':<8} {'before':<22} {'after':<22} change",
    ]
    shown = {name: label for name, label in FIGURES.items() if k > 1 or "{k}" not in label}
    for name, label in shown.items():
        was, now = getattr(before.result, name), getattr(after.result, name)
        d = changes[name]
        lines.append(
            f"{label.format(k=k):<8} {was!s:<22} {now!s:<22} {d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"
        )
    lines.append(f"flips    greedy answers: {len(right)} newly right, {len(wrong)} newly wrong")
    for when, seen in (("before", before), ("after", after)):
        counts = ", ".join(f"{state} {count}" for state, count in sorted(seen.result.states.items()))
        lines.append(f"verdicts {when}: {counts}")
    for when, seen in (("before", before), ("after", after)):
        if seen.fit:
            lines.append(f"text     {when}: {seen.fit}, {seen.fit.tokens:,} tokens")
    return "\n".join(lines)


def record(measured: Measured) -> dict[str, Any]:
    """The measurements, text by text, for machines."""
    before, after = measured.before, measured.after
    seen = {"before": before, "after": after} if before else {"after": after}
    found: dict[str, Any] = {"recipe": measured.recipe, "k": after.result.k}
    found |= {when: numbers_of(one) for when, one in seen.items() if one}
    if before:
        right, wrong = flips(before.result, after.result)
        found["change"] = {name: asdict(value) for name, value in change(before.result, after.result).items()}
        found["newly_right"] = [measured.problems[i].id for i in right]
        found["newly_wrong"] = [measured.problems[i].id for i in wrong]
    found["problems"] = [
        {"id": problem.id, "question": problem.prompt, "answer": problem.answer}
        | {when: texts_to(one.result, i) for when, one in seen.items() if one}
        for i, problem in enumerate(measured.problems)
    ]
    return found


def numbers_of(seen: Seen) -> dict[str, Any]:
    """One model's numbers."""
    result = seen.result
    found: dict[str, Any] = {"model": seen.model, "verdicts": result.states, "tokens": result.tokens}
    found |= {name: asdict(getattr(result, name)) for name in FIGURES}
    if seen.fit:
        found["text"] = asdict(seen.fit) | {"perplexity": seen.fit.perplexity}
    return found


def texts_to(result: EvalResult, i: int) -> Mapping[str, Any]:
    """The texts that one model wrote to one problem, with their verdicts."""
    texts = [
        {"text": text, "verdict": verdict.state}
        for text, verdict in zip(result.texts[i], result.verdicts[i], strict=True)
    ]
    return {"samples": texts[:-1], "greedy": texts[-1]}


def read_sample(path: Path) -> str:
    """The text that a model's perplexity is measured on."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KintsugiError(f"--text {path}: cannot be read ({error})") from None


def save_records(records: Sequence[Mapping[str, Any]] | None, path: Path) -> None:
    """Writes the records as a JSON list; None only tries whether that will be possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
        may_replace_file(path, b'"recipe"', "record of kintsugi eval")
        if records is not None:
            write_whole(path, json.dumps(records, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise KintsugiError(
            f"--output {path}: cannot be written ({error.strerror}); name another file"
        ) from None
