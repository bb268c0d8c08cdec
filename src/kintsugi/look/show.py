"""The seams of a run in the terminal: `kintsugi show RUN`, for a machine without a browser. Reads, never writes.

Every text here was written by a model or a data set: it is shown as text, never as markup or control codes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text as Line

from kintsugi.records import KintsugiError, Verdict
from kintsugi.run.reading import Run, reach_words, why
from kintsugi.run.tables import ProblemStep

Credit = Mapping[str, Sequence[float]]
"""The credit of a text's tokens by reason."""

GOLD, FAILED, MENDED, QUIET = "bold #d4a017", "#d55e00", "#0072b2", "dim"
"""Gold for what is trained on; orange and blue, which colour-blind people tell apart, for the two sides."""
SIDE_BY_SIDE = 72
"""Columns from which failure and repair fit beside each other."""
LEGEND = "[-2-] and {+3+} are trained on (the seam); ~5~ differs too, but is left alone"


@dataclass(frozen=True, slots=True)
class Selection:
    """The choice of what to show: `step` (None: the last written), `problem` and `verdict` where given, at most `limit`
    failures (0: all), those without an accepted repair too where `every`, anchors too where `anchor`."""

    step: int | None = None
    problem: str | None = None
    every: bool = False
    limit: int = 5
    anchor: bool = False


def show(run: Run, choice: Selection, console: Console) -> None:
    """Prints the chosen failures of a step beside their repairs. KintsugiError where there is nothing to show."""
    step, problems = chosen_step(run, choice, console)
    found = list(failures(problems, choice))
    console.print(Line(f"step {step} of {run.directory}: {LEGEND}{share_open(problems)}", style=QUIET))
    shown = found[: choice.limit or None]
    for problem, index in shown:
        console.print(failure_block(run, problem, index, choice.anchor, console.width))
    if len(shown) < len(found):
        more = (
            f"{len(found) - len(shown)} more in this step: --limit 0 shows all; --step 1..{run.written[-1]}"
        )
        console.print(Line(more, style=QUIET))


def chosen_step(run: Run, choice: Selection, console: Console) -> tuple[int, list[ProblemStep]]:
    """The step asked for, or the last that has what is asked for, with its problems; what is passed over is said."""
    if not run.written:
        raise KintsugiError(f"{run.directory}: no step has been written yet")
    if choice.step is not None and choice.step not in run.written:
        first, last = run.written[0], run.written[-1]
        raise KintsugiError(f"{run.directory}: no step {choice.step}; steps {first} to {last} are there")
    if choice.step is not None:
        problems = run.problems(choice.step)
        if not any(failures(problems, choice)):
            hint = "" if choice.every else ", or give --all"
            raise KintsugiError(
                f"{run.directory}: step {choice.step} has {nothing(choice)}; "
                f"leave --step out for the last that has one{hint}"
            )
        return choice.step, problems
    passed: list[int] = []
    for step in reversed(run.written):
        try:
            problems = run.problems(step)
        except KintsugiError as error:
            console.print(Line(f"step {step} is left out: {visible(str(error))}", style=QUIET))
            continue
        if any(failures(problems, choice)):
            if passed:
                console.print(Line(f"{nothing(choice)} in steps {passed[-1]} to {passed[0]}", style=QUIET))
            return step, problems
        passed.append(step)
    if not passed:
        raise KintsugiError(f"{run.directory}: no step can be read")
    hint = "" if choice.every else "; --all shows failures without an accepted repair, too"
    raise KintsugiError(f"{run.directory}: {nothing(choice)} in steps {passed[-1]} to {passed[0]}{hint}")


def share_open(problems: Iterable[ProblemStep]) -> str:
    """The share of a step's seams that are open, in words; "" where no reach is known."""
    known = [s.reach.open for p in problems for s in p.episode.seams if s.reach]
    return f"; {sum(known)} of its {len(known)} seams are open" if known else ""


def nothing(choice: Selection) -> str:
    where = f" of a problem {visible(choice.problem)!r}" if choice.problem else ""
    return f"no failed rollout{where}" if choice.every else f"no mended failure{where}"


Failure = tuple[ProblemStep, int]
"""A problem, and the number of one of its failed rollouts."""


def failures(problems: Iterable[ProblemStep], choice: Selection) -> Iterator[Failure]:
    """The mended failures, or every one."""
    for problem in problems:
        if choice.problem is not None and choice.problem not in problem.episode.problem.id:
            continue
        mended = {seam.failed for seam in problem.episode.seams}
        for i, rollout in enumerate(problem.episode.rollouts):
            if i in mended or (choice.every and rollout.verdict.state != "pass"):
                yield problem, i


def failure_block(run: Run, problem: ProblemStep, index: int, anchor: bool, width: int) -> RenderableType:
    """One failed rollout with what became of it."""
    episode = problem.episode
    rollout = episode.rollouts[index]
    name = Line(visible(f"{episode.problem.id}, rollout {index}"))
    parts: list[RenderableType] = [
        Rule(name, style=GOLD, align="left"),
        Line(visible(episode.problem.prompt)),
    ]
    parts.append(Line(f"gold answer {visible(episode.problem.answer)}", style=QUIET))
    parts += [Line(visible(line)) for line in verdict_lines(rollout.verdict)]
    seam = next((s for s in episode.seams if s.failed == index), None)
    tried = [(j, r) for j, r in enumerate(episode.repairs) if r.failed == index]
    reasons = [
        Line(visible(f"repair {j}  {why(r, seam is not None and seam.repair == j)}")) for j, r in tried
    ]
    if seam is None:
        parts.append(Padding(Line(visible(rollout.text)), (1, 0, 0, 2)))
        parts += reasons or [Line("no repair was tried")]
        parts += [Line(line) for line in credit_lines("rollout", problem.credit("rollout", index), None, ())]
        return Padding(Group(*parts), (1, 0, 0, 0))
    repair = episode.repairs[seam.repair]
    failed, mended = run.pieces(rollout.completion.token_ids), run.pieces(repair.ids)
    left, right = Line(visible(rollout.text)), Line(visible(repair.rollout.text))
    if failed:  # the run has a tokenizer
        left = marked(
            failed, {e.failed_at for e in seam.edits if e.kind != "insert"}, seam.failed_mask, ("[-", "-]")
        )
        edited = {e.repaired_at for e in seam.edits if e.kind != "delete"}
        right = marked(mended, edited, seam.repaired_mask, ("{+", "+}"))
    titles = Line(f"failed ({rollout.verdict.state})", style=FAILED), Line("mended (pass)", style=MENDED)
    pairs = [(titles[0], left), (titles[1], right)]
    if anchor and repair.anchor_text is not None:
        pairs.append((Line("anchor", style=QUIET), Line(visible(repair.anchor_text))))
    parts.append(Padding(columns(pairs, width), (1, 0, 1, 2)))
    parts.append(Line(f"seam      {seam.kept} of {len(seam.edits)} edits kept ({seam.kept_by})"))
    if seam.reach:
        parts.append(Line(f"reach     {reach_words(seam.reach)}"))
    for title, credit, gates, pieces in (
        ("failed", problem.credit("rollout", index), seam.failed_mask, failed),
        ("mended", problem.credit("repair", seam.repair), seam.repaired_mask, mended),
    ):
        parts += [Line(line) for line in credit_lines(title, credit, gates, pieces)]
    modes = [r for r in problem.rows_of("repair", seam.repair) if r.term == "repair"]
    parts += [
        Line(f"  repair mode  {reasons_of(r.credit, 0)} on every token, weight {r.weight:g}") for r in modes
    ]
    parts += reasons
    return Padding(Group(*parts), (1, 0, 0, 0))


def verdict_lines(verdict: Verdict) -> Iterator[str]:
    """The verifier's verdict, what each function paid, and what it logged."""
    yield f"verdict     {verdict.said}"
    if verdict.parts:
        paid = " + ".join(
            f"{p.name} {p.reward:g}" + f" x {p.weight:g}" * (p.weight != 1) for p in verdict.parts
        )
        yield f"rewards     {paid}" + (f" = {verdict.total:g}" if len(verdict.parts) > 1 else "")
    for name, value in verdict.logged.items():
        yield f"logged      {name}: {value}"


def columns(pairs: Sequence[tuple[Line, Line]], width: int) -> RenderableType:
    """The texts beside each other under their titles, or one under the other on a narrow terminal."""
    if width < SIDE_BY_SIDE:
        return Group(*(Group(title, Padding(text, (0, 0, 1, 2))) for title, text in pairs))
    grid = Table.grid(padding=(0, 4), expand=False)
    for _ in pairs:
        grid.add_column(overflow="fold")
    grid.add_row(*(title for title, _ in pairs))
    grid.add_row(*(text for _, text in pairs))
    return grid


def marked(pieces: Sequence[str], edited: set[int], gates: Sequence[int], signs: tuple[str, str]) -> Line:
    """The tokens as one text: gated ones within `signs`, other edits within tildes. Signs, for colour may be off."""
    line = Line()
    for i, piece in enumerate(pieces):
        if gates[i]:
            line.append(f"{signs[0]}{visible(piece)}{signs[1]}", style=GOLD)
        elif i in edited:
            line.append(f"~{visible(piece)}~", style=QUIET)
        else:
            line.append(visible(piece))
    return line


def credit_lines(
    title: str, credit: Credit, gates: Sequence[int] | None, pieces: Sequence[str]
) -> Iterator[str]:
    """Each token of the seam with its credit by reason; other tokens in runs of equal credit."""
    if not credit:
        yield f"  {title}  no credit: nothing is trained on it"
        return
    seam = [t for t, gate in enumerate(gates or ()) if gate]
    said = [f"token {t}{quoted(pieces, t)}: {reasons_of(credit, t)}" for t in seam]
    if said:
        yield f"  {title}  {', '.join(said)}"
    others = [t for t in range(len(next(iter(credit.values())))) if t not in seam]
    for (words, _), alike in groupby(
        enumerate(others), key=lambda it: (reasons_of(credit, it[1]), it[1] - it[0])
    ):
        places = [t for _, t in alike]
        if words != NOTHING:
            yield f"  {title}  {spanned(places)}: {words}"


NOTHING = "0.00"


def reasons_of(credit: Credit, at: int) -> str:
    """A token's credit by reason, and the sum where there are several: "seam -10.00, group +0.71 = -9.29"."""
    given = [(reason, values[at]) for reason, values in credit.items() if values[at]]
    if not given:
        return NOTHING
    total = f" = {sum(value for _, value in given):+.2f}" if len(given) > 1 else ""
    return ", ".join(f"{reason} {value:+.2f}" for reason, value in given) + total


def spanned(places: Sequence[int]) -> str:
    return f"token {places[0]}" if len(places) == 1 else f"tokens {places[0]} to {places[-1]}"


def quoted(pieces: Sequence[str], at: int) -> str:
    """The token in quotes, on one line: a line break in it is an escape."""
    if at >= len(pieces):
        return ""
    text = visible(pieces[at]).replace("\n", escape("\n"))
    return f' "{text}"'


def visible(text: str) -> str:
    """The text with everything a terminal would act on, and what cannot be seen, written as an escape."""
    return "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else escape(c) for c in text)


def escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
