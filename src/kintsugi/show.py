"""The seams of a run in the terminal: `kintsugi show RUN`, for a machine without a browser. Reads, never writes.

Every text here was written by a model or a data set: it is shown as text, never as markup or control codes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text as Line

from kintsugi.reading import Credit, Mend, ProblemStep, Run, SeamView, Text
from kintsugi.records import KintsugiError

GOLD, FAILED, MENDED, QUIET = "bold #d4a017", "#d55e00", "#0072b2", "dim"
"""Gold for what is trained on; orange and blue, which colour-blind people tell apart, for the two sides."""
SIDE_BY_SIDE = 72
"""Columns from which failure and repair fit beside each other."""
LEGEND = "[-2-] and {+3+} are trained on (the seam); ~5~ differs too, but is left alone"


@dataclass(frozen=True, slots=True)
class Choice:
    """What to show: `step` (None: the last that was written), `problem` and `verdict` where given, at most `limit`
    failures (0: all), those without an accepted repair too where `every`, anchors too where `anchor`."""

    step: int | None = None
    problem: str | None = None
    every: bool = False
    limit: int = 5
    anchor: bool = False


def show(run: Run, choice: Choice, console: Console) -> None:
    """Prints the chosen failures of a step beside their repairs. KintsugiError where there is nothing to show."""
    step, problems = chosen_step(run, choice.step, console)
    found = list(failures(problems, choice))
    if not found:
        raise KintsugiError(
            f"{run.directory}: step {step} has {nothing(choice)}; try another --step, or --all"
        )
    console.print(Line(f"step {step} of {run.directory}: {LEGEND}", style=QUIET))
    shown = found[: choice.limit or None]
    for problem, rollout, mends in shown:
        console.print(failure(problem, rollout, mends, choice.anchor, console.width))
    if len(shown) < len(found):
        more = (
            f"{len(found) - len(shown)} more in this step: --limit 0 shows all; --step 1..{run.written[-1]}"
        )
        console.print(Line(more, style=QUIET))


def chosen_step(run: Run, step: int | None, console: Console) -> tuple[int, list[ProblemStep]]:
    """The step asked for, or the last that can be read, with its problems; what is passed over is said."""
    if not run.written:
        raise KintsugiError(f"{run.directory}: no step has been written yet")
    if step is not None and step not in run.written:
        first, last = run.written[0], run.written[-1]
        raise KintsugiError(f"{run.directory}: no step {step}; steps {first} to {last} are there")
    if step is not None:
        return step, run.problems(step)
    for last in reversed(run.written):
        try:
            return last, run.problems(last)
        except KintsugiError as error:
            console.print(Line(f"step {last} is left out: {visible(str(error))}", style=QUIET))
    raise KintsugiError(f"{run.directory}: no step can be read")


def nothing(choice: Choice) -> str:
    where = f" of a problem {visible(choice.problem)!r}" if choice.problem else ""
    return f"no failed rollout{where}" if choice.every else f"no mended failure{where}"


Failure = tuple[ProblemStep, Text, Sequence[Mend]]


def failures(problems: Iterable[ProblemStep], choice: Choice) -> Iterator[Failure]:
    """(problem, failed rollout, its repairs): mended ones, or every one."""
    for problem in problems:
        if choice.problem is not None and choice.problem not in problem.problem_id:
            continue
        for rollout in problem.rollouts:
            mends = [m for m in problem.mends if m.failed == rollout.line["index"]]
            mended = any(m.seam for m in mends)
            if mended or (choice.every and rollout.verdict != "pass"):
                yield problem, rollout, mends


def failure(
    problem: ProblemStep, rollout: Text, mends: Sequence[Mend], anchor: bool, width: int
) -> RenderableType:
    """One failed rollout with what became of it."""
    name = Line(visible(f"{problem.problem_id}, rollout {rollout.line['index']}"))
    parts: list[RenderableType] = [Rule(name, style=GOLD, align="left"), Line(visible(problem.question))]
    parts.append(Line(f"gold answer {visible(problem.gold)}", style=QUIET))
    chosen = next((m for m in mends if m.seam), None)
    if chosen is None or chosen.seam is None:
        parts.append(Padding(Line(visible(rollout.text)), (1, 0, 0, 2)))
        parts += [Line(why(m)) for m in mends] or [Line("no repair was tried")]
        return Padding(Group(*parts), (1, 0, 0, 0))
    left, right = sides(rollout, chosen, chosen.seam)
    titles = Line(f"failed ({rollout.verdict})", style=FAILED), Line("mended (pass)", style=MENDED)
    pairs = [(titles[0], left), (titles[1], right)]
    if anchor and chosen.repair.line["anchor"] is not None:
        pairs.append((Line("anchor", style=QUIET), Line(visible(chosen.repair.line["anchor"]))))
    parts.append(Padding(columns(pairs, width), (1, 0, 1, 2)))
    parts += [Line(line) for line in seam_lines(rollout, chosen.seam)]
    parts += [Line(why(m)) for m in mends]
    return Padding(Group(*parts), (1, 0, 0, 0))


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


def sides(rollout: Text, mend: Mend, seam: SeamView) -> tuple[Line, Line]:
    """Both texts with their differing tokens marked; unmarked where the run has no tokenizer."""
    if not rollout.pieces:
        return Line(visible(rollout.text)), Line(visible(mend.repair.text))
    failed_at = {at for kind, at, _ in seam.edits if kind != "insert"}
    repaired_at = {at for kind, _, at in seam.edits if kind != "delete"}
    left = marked(rollout.pieces, failed_at, seam.failed_mask, ("[-", "-]"))
    return left, marked(seam.pieces, repaired_at, seam.repaired_mask, ("{+", "+}"))


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


def seam_lines(rollout: Text, seam: SeamView) -> Iterator[str]:
    """Which tokens are trained on and with what credit, a line per side."""
    yield f"seam      {seam.kept} of {len(seam.edits)} edits kept ({seam.kept_by})"
    for name, gates, pieces, credits in (
        ("failed", seam.failed_mask, rollout.pieces, seam.failed_credit),
        ("mended", seam.repaired_mask, seam.pieces, seam.repaired_credit),
    ):
        tokens = [
            f"token {i}{quoted(pieces, i)}: {advantage(credits, i)}" for i, gate in enumerate(gates) if gate
        ]
        if tokens:
            yield f"  {name}  {', '.join(tokens)}"


def quoted(pieces: Sequence[str], at: int) -> str:
    """The token in quotes, on one line: a line break in it is an escape."""
    if at >= len(pieces):
        return ""
    text = visible(pieces[at]).replace("\n", escape("\n"))
    return f' "{text}"'


def advantage(credits: Sequence[Credit], at: int) -> str:
    """The sum of what the rows say of one token (rows of one text open different tokens)."""
    return f"{sum(c.advantages[at] * c.gates[at] for c in credits):+.2f}" if credits else "no row"


def why(mend: Mend) -> str:
    return f"repair {mend.repair.line['index']}  {visible(mend.why)}"


def visible(text: str) -> str:
    """The text with everything a terminal would act on, and what cannot be seen, written as an escape."""
    return "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else escape(c) for c in text)


def escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
