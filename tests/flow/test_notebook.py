"""examples/notebook.ipynb in a real kernel: an event loop runs there, and what is made shows itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long
EXAMPLE = Path(__file__).parents[2] / "examples" / "notebook.ipynb"
LOOP = "import asyncio\nasyncio.get_running_loop().is_running()"
AGAIN = "train(recipe, task=Sums(), verifier=right)"
SFT = """from kintsugi import sft
cold = recipe | {"output_dir": "runs/cold", "steps": 1, "sft": {"batch": 4, "repair_share": 0}}
sft(cold, task=Sums(), verifier=right).steps"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """The outputs of each cell by its source, with two training steps; then of three cells that are no part of it."""
    pytest.importorskip("ipykernel")
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    book = nbformat.read(EXAMPLE, as_version=4)
    for cell in book.cells:
        cell.source = cell.source.replace('"steps": 20', '"steps": 2').replace("64", "8")
    last = nbformat.v4.new_code_cell(AGAIN)
    last.metadata["tags"] = ["raises-exception"]
    book.cells += [nbformat.v4.new_code_cell(LOOP), nbformat.v4.new_code_cell(SFT), last]
    place = {"metadata": {"path": str(tmp_path_factory.mktemp("notebook"))}}
    nbclient.NotebookClient(book, timeout=300, kernel_name="python3", resources=place).execute()
    return {cell.source: cell.outputs for cell in book.cells if cell.cell_type == "code"}


def of(outputs: dict[str, list[Any]], words: str) -> list[Any]:
    """The outputs of the cell that has these words."""
    (found,) = [made for source, made in outputs.items() if words in source]
    return found


def html(made: list[Any]) -> str:
    return "".join(o.data.get("text/html", "") for o in made if "data" in o)


def said(made: list[Any]) -> str:
    return "".join(o.text for o in made if o.output_type == "stream" and o.name == "stdout")


def test_an_event_loop_runs_in_the_kernel(outputs: dict[str, list[Any]]) -> None:
    assert of(outputs, LOOP)[0].data["text/plain"] == "True"


def test_training_says_its_steps_as_text_and_takes_its_bar_away(outputs: dict[str, list[Any]]) -> None:
    made = of(outputs, "on_step=on_step")
    assert "step    1  accuracy" in said(made) and "step    2  held-out pass@1" in said(made)
    (bar,) = [o for o in made if o.output_type == "display_data"]
    assert bar.data == {"text/plain": ""}  # what is left of the one display that was renewed
    assert "TrainResult(before=" in made[-1].data["text/plain"]


def test_the_other_commands_work_there_too(outputs: dict[str, list[Any]]) -> None:
    assert of(outputs, SFT)[-1].data["text/plain"] == "1"
    assert said(of(outputs, "before = evaluate")).splitlines()[-1].startswith("pass@1 ")


def test_report_and_seams_are_shown_in_the_notebook(outputs: dict[str, list[Any]]) -> None:
    assert "data:text/html;charset=utf-8;base64," in html(of(outputs, "report(result)"))
    seams = html(of(outputs, "show(result, step=1"))
    assert "failed (fail)" in seams and "mended (pass)" in seams and "color: #d4a017" in seams  # gold


def test_an_error_is_one_line(outputs: dict[str, list[Any]]) -> None:
    (error,) = of(outputs, AGAIN)
    assert error.traceback == [
        "kintsugi: runs/notebook: a run is there already; pass --resume, --overwrite or output_dir=..."
    ]


def test_the_example_is_committed_without_outputs() -> None:
    nbformat = pytest.importorskip("nbformat")
    cells = [c for c in nbformat.read(EXAMPLE, as_version=4).cells if c.cell_type == "code"]
    assert len(cells) == 6 and all(not c.outputs and c.execution_count is None for c in cells)
