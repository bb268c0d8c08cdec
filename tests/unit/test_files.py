"""The door to the disk, and the one rule of what may be removed."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from fakes import make_recipe
from runs import make_episode, with_question, write_run
from tokenizers import Tokenizer, models

from kintsugi.files import clean, cleaned, lock, locked, numbered, seal, sought_in, write_whole
from kintsugi.look.repeat import repeat
from kintsugi.look.report import write_report
from kintsugi.records import KintsugiError
from kintsugi.run.checkpoint import prune, saved
from kintsugi.run.directory import RunLog
from kintsugi.run.export import export
from kintsugi.run.owned import apart, kind_of, mark, may_replace
from kintsugi.run.reading import Run

HALF, WHOLE = "\ud83d", "\ud83d\ude00"


def test_a_relative_path_is_told_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sought_in("data/a.jsonl") == f" in {tmp_path}"
    assert sought_in(tmp_path / "a.jsonl") == sought_in("~/a.jsonl") == sought_in("~nobody/a.jsonl") == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain \0 text", "plain \0 text"),
        (f"a{HALF}b", "a\ufffdb"),
        (f"{HALF}{HALF}", "\ufffd\ufffd"),
        (WHOLE, "\U0001f600"),  # two halves that belong together are the character that they spell
        ("\udc80", "\ufffd"),  # what surrogateescape makes of a byte that is no UTF-8
    ],
)
def test_a_text_that_no_file_can_hold_is_made_one(text: str, expected: str) -> None:
    assert clean(text) == expected
    assert cleaned({text: [text, (text, 1)]}) == {expected: [expected, [expected, 1]]}


def test_what_goes_to_disk_is_clean_everywhere(tmp_path: Path) -> None:
    """Tables, metrics, recipe and report of a run whose question, gold answer and messages hold half a pair."""
    from dataclasses import replace

    episode = with_question(make_episode(), f"2+3? {HALF}")
    verdict = replace(episode.rollouts[0].verdict, message=f"ValueError: {HALF}")
    rollouts = (replace(episode.rollouts[0], verdict=verdict), *episode.rollouts[1:])
    episode = replace(episode, rollouts=rollouts, problem=replace(episode.problem, id=f"p/{HALF}"))
    place = write_run(tmp_path / "run", episode, prompts={"name": "terse-v1", "system": HALF})
    log = RunLog(place)
    log.metrics({"step": 2, "note": HALF})
    assert "\\ufffd" in (place / "metrics.jsonl").read_text()
    (problem,) = Run.open(place).problems(1)
    assert (problem.episode.problem.id, problem.episode.problem.prompt) == ("p/\ufffd", "2+3? \ufffd")
    assert problem.episode.rollouts[0].verdict.message == "ValueError: \ufffd"
    assert write_report(place).read_bytes().decode("utf-8")
    write_whole(tmp_path / "file", f"a{HALF}")
    assert (tmp_path / "file").read_text("utf-8") == "a\ufffd"


def test_only_what_has_a_steps_name_is_numbered(tmp_path: Path) -> None:
    for name in ("step-000010", "step-000002", "step-old", "step-", ".step-000003.partial", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-000004.parquet").touch()
    assert {number: path.name for number, path in numbered(tmp_path).items()} == {
        2: "step-000002",
        10: "step-000010",
    }
    assert list(numbered(tmp_path, ".parquet")) == [4]
    assert numbered(tmp_path / "nowhere") == {}


def test_a_directory_that_is_written_in_is_told(tmp_path: Path) -> None:
    assert not locked(tmp_path)
    with lock(tmp_path):
        assert locked(tmp_path)
    assert not locked(tmp_path)


def run_at(place: Path) -> Path:
    return write_run(place, make_episode())


def scene(tmp_path: Path) -> dict[str, Path]:
    """Folders by what they are."""
    found = {name: tmp_path / name for name in ("run", "export", "thesis", "empty", "link", "file", "around")}
    run_at(found["run"])
    for name in ("export", "thesis", "empty"):
        found[name].mkdir()
    mark(found["export"], "export")
    (found["thesis"] / "chapter").write_text("precious")
    found["link"].symlink_to(found["run"])
    found["file"].write_text("precious")
    run_at(found["around"])
    run_at(found["around"] / "inner")
    return found


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("run", "run", None),
        ("export", "export", None),
        ("empty", "export", None),
        ("run", "export", "expected an exported model"),
        ("export", "run", "expected a run directory"),
        ("thesis", "export", "expected an exported model"),
        ("thesis", "run", "expected a run directory"),
        ("file", "export", "expected an exported model"),
        ("link", "run", "is a symbolic link"),
        ("around", "run", "is being read"),
    ],
)
def test_only_what_this_tool_made_may_be_replaced(
    name: str, kind: str, said: str | None, tmp_path: Path
) -> None:
    place = scene(tmp_path)
    if said is None:
        may_replace(place[name], kind)
    else:
        with pytest.raises(KintsugiError, match=said):
            may_replace(place[name], kind, place["around"] / "inner")


@pytest.mark.parametrize("where", [".", "inner"])
def test_the_working_directory_and_what_holds_it_are_left(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_at(tmp_path / "run")
    (tmp_path / "run" / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "run" / where)
    with pytest.raises(KintsugiError, match="holds the working directory"):
        RunLog.check(make_recipe(output_dir=str(tmp_path / "run")), overwrite=True)


def test_a_run_whose_checkpoint_is_the_model_is_not_overwritten(tmp_path: Path) -> None:
    place = run_at(tmp_path / "run")
    recipe = make_recipe(output_dir=str(place), model=str(place / "checkpoints" / "step-000001"))
    with pytest.raises(KintsugiError, match="is being read"):
        RunLog.check(recipe, overwrite=True)


def test_runs_from_before_the_mark_are_known_by_their_versions(tmp_path: Path) -> None:
    place = run_at(tmp_path / "run")
    (place / ".kintsugi").unlink()
    assert kind_of(place) == "run"
    (place / "versions.json").write_text('{"npm": "1"}')
    assert kind_of(place) == ""


def checkpointed(place: Path, *steps: int) -> Path:
    """A run with something in its checkpoints, and a foreign folder and file beside them."""
    run_at(place)
    for name in [f"step-{step:06d}" for step in steps] + ["step-old", "mine"]:
        (place / "checkpoints" / name).mkdir(parents=True)
        (place / "checkpoints" / name / "config.json").write_text(name)
    return place


def test_foreign_folders_beside_checkpoints_are_neither_taken_for_one_nor_removed(tmp_path: Path) -> None:
    place = checkpointed(tmp_path / "run", 1, 2, 3)
    assert [path.name for path in saved(place)] == ["step-000001", "step-000002", "step-000003"]
    prune(place, 1)  # the newest, and that of the best evaluation (0.5 after step 1)
    assert [path.name for path in saved(place)] == ["step-000001", "step-000003"]
    with RunLog.open(make_recipe(output_dir=str(place)), overwrite=True):
        pass
    assert {path.name for path in (place / "checkpoints").iterdir()} == {"step-old", "mine"}
    assert not list((place / "rollouts").iterdir())


def test_a_linked_checkpoints_folder_stays_linked(tmp_path: Path) -> None:
    disk, place = tmp_path / "disk", tmp_path / "run"
    for folder in (disk, place):
        folder.mkdir()
    (place / "checkpoints").symlink_to(disk)
    recipe = make_recipe(output_dir=str(place))
    with RunLog.open(recipe):  # a link laid for a run is no other's folder
        pass
    for name in ("step-000001", "mine"):
        (disk / name).mkdir()
    with RunLog.open(recipe, overwrite=True):
        pass
    assert (place / "checkpoints").is_symlink() and [path.name for path in disk.iterdir()] == ["mine"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "checkpoints").symlink_to(disk)  # not empty: whose is it?
    with pytest.raises(KintsugiError, match="not a run directory"):
        RunLog.check(make_recipe(output_dir=str(other)))


def test_an_export_replaces_an_export_and_nothing_else(tmp_path: Path) -> None:
    run = Run.open(checkpointed(tmp_path / "run", 1, 2))
    there = export(run, tmp_path / "model")
    assert (there / "config.json").read_text() == "step-000002"
    export(run, tmp_path / "model", 1, overwrite=True)
    assert (there / "config.json").read_text() == "step-000001"
    before = {path: path.read_bytes() for path in run.directory.rglob("*") if path.is_file()}
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("precious")
    (tmp_path / "link").symlink_to(there)
    for place in ("thesis", "run", ".", "run/checkpoints/step-000001", "link"):
        with pytest.raises(KintsugiError):
            export(run, tmp_path / place, overwrite=True)
    assert {path: path.read_bytes() for path in run.directory.rglob("*") if path.is_file()} == before
    assert (tmp_path / "thesis" / "chapter").read_text() == "precious" and there.is_dir()


def test_the_best_checkpoint_is_exported(tmp_path: Path) -> None:
    place = checkpointed(tmp_path / "run", 0, 1, 2)  # evaluated after steps 0 (0.25) and 1 (0.5)
    export(Run.open(place), tmp_path / "model", "best")
    assert (tmp_path / "model" / "config.json").read_text() == "step-000001"
    assert Run.open(place).best([0, 2]) == 0  # of what is there
    assert Run.open(place).best([2]) is None
    log = RunLog(place)
    log.metrics({"step": 2, "eval/pass@1": 0.5})  # as good as the first of them, and later
    assert Run.open(place).best([0, 1, 2]) == 1
    with pytest.raises(KintsugiError, match="no checkpoint was evaluated"):
        export(Run.open(checkpointed(tmp_path / "other", 7)), tmp_path / "none", "best")


@pytest.mark.parametrize("pad", ["<pad>", {"content": "<pad>", "special": True}])
def test_an_exported_config_has_the_tokenizers_pad_id(pad: Any, tmp_path: Path) -> None:
    run = checkpointed(tmp_path / "run", 1)
    saved = run / "checkpoints" / "step-000001"
    Tokenizer(models.WordLevel({"a": 0, "<pad>": 7}, unk_token="a")).save(str(saved / "tokenizer.json"))
    (saved / "tokenizer_config.json").write_text(json.dumps({"pad_token": pad}))
    for name in ("config.json", "generation_config.json"):
        (saved / name).write_text('{"eos_token_id": 3, "pad_token_id": null}')
    there = export(Run.open(run), tmp_path / "model")
    for name in ("config.json", "generation_config.json"):
        assert json.loads((there / name).read_text()) == {"eos_token_id": 3, "pad_token_id": 7}
        assert (
            '"pad_token_id": null' in (saved / name).read_text()
        )  # a checkpoint stays what training goes on from


@pytest.mark.parametrize(("folder", "file"), [(0o755, 0o644), (0o750, 0o640), (0o700, 0o600)])
def test_who_reads_a_folder_reads_its_files(folder: int, file: int, tmp_path: Path) -> None:
    place = tmp_path / "step-000001"
    place.mkdir()
    (place / "model.safetensors").write_bytes(b"weights")
    (place / "model.safetensors").chmod(0o600)
    place.chmod(folder)
    seal(place, frozenset())
    assert stat.S_IMODE((place / "model.safetensors").stat().st_mode) == file


@pytest.mark.parametrize("output", ["run", "run/../run", "link", "."])
def test_a_run_is_not_repeated_onto_itself(output: str, tmp_path: Path) -> None:
    place = run_at(tmp_path / "run")
    (tmp_path / "link").symlink_to(place)
    with pytest.raises(KintsugiError, match="is being read"):
        repeat(Run.open(place), tmp_path / output, overwrite=True)


def test_what_lies_beside_a_run_is_apart_from_it(tmp_path: Path) -> None:
    apart(tmp_path / "run-again", tmp_path / "run")
    apart(tmp_path / "run" / "again", tmp_path / "run")


def test_a_report_replaces_a_report_and_nothing_else(tmp_path: Path) -> None:
    place = run_at(tmp_path / "run")
    for _ in range(2):
        assert write_report(place, tmp_path / "page.html").is_file()
    for name in (place / "recipe.yaml", place):
        with pytest.raises(KintsugiError, match="is no report of Kintsugi"):
            write_report(place, name)
    assert Run.open(place).recipe["model"] == "fake"


DAMAGE: dict[str, bytes] = {
    "empty": b"", "bytes": b"\xff\xfe\x00PAR1", "list": b"[]\n", "number": b"7\n", "null": b"null\n",
    "other": b'{"a": {"b": [1]}}\n', "cut": b'{"step": 1, "lo',
}  # fmt: skip
FILES = (
    "recipe.yaml", "versions.json", "metrics.jsonl", "seconds.jsonl", "tokenizer/tokenizer.json",
    "rollouts/step-000001.parquet", "seams/step-000001.parquet", "rows/step-000001.parquet", ".kintsugi",
)  # fmt: skip


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("how", DAMAGE)
def test_no_damaged_file_of_a_run_is_a_traceback(file: str, how: str, tmp_path: Path) -> None:
    from rich.console import Console

    from kintsugi.look.diagnose import diagnose
    from kintsugi.look.repeat import beside
    from kintsugi.look.show import Selection, show
    from kintsugi.loop import same_data

    place = checkpointed(tmp_path / "run", 1)
    run_at(tmp_path / "whole")
    (place / file).write_bytes(DAMAGE[how])
    console = Console(file=(tmp_path / "said").open("w"), width=80)
    acts: list[Any] = [
        lambda: write_report(place),
        lambda: show(Run.open(place), Selection(), console),
        lambda: diagnose(Run.open(place)),
        lambda: beside(Run.open(place), Run.open(tmp_path / "whole")),
        lambda: export(Run.open(place), tmp_path / "model"),
        lambda: same_data(place, {"data": "1"}),
        lambda: repeat(Run.open(place), tmp_path / "again"),
        lambda: RunLog(place).rewind(0, 1),
    ]
    for act in acts:
        try:
            act()
        except KintsugiError as error:
            assert "\n" not in str(error)


def test_report_and_show_leave_a_damaged_step_out_and_say_so(tmp_path: Path) -> None:
    from io import StringIO

    from rich.console import Console

    from kintsugi.look.show import Selection, show

    place = write_run(tmp_path / "run", *(make_episode() for _ in range(4)))
    (place / "rows" / "step-000004.parquet").write_bytes(b"PAR1")
    (place / "seams" / "step-000002.parquet").unlink()
    said: list[str] = []
    page = write_report(place, say=said.append).read_text()
    assert said == ["note: steps 2, 4 are damaged: left out"] and "steps 2, 4 are damaged: left out" in page
    assert 'data-step="1"' in page and 'data-step="3"' in page and 'data-step="4"' not in page
    out = StringIO()
    show(Run.open(place), Selection(), Console(file=out, width=200))
    assert "step 4 is left out" in out.getvalue() and f"step 3 of {place}" in out.getvalue().replace("\n", "")
    with pytest.raises(KintsugiError, match=r"step-000004\.parquet: cannot be read"):
        show(Run.open(place), Selection(step=4), Console(file=out))


def test_a_table_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    place = run_at(tmp_path / "run")
    before = (place / "rows" / "step-000001.parquet").read_bytes()

    def cut(table: object, path: Path, **more: object) -> None:
        path.write_bytes(b"PAR1")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(pq, "write_table", cut)
    with pytest.raises(KintsugiError, match="No space left"):
        RunLog(place).write(1, [make_episode()], [], [])
    assert (place / "rows" / "step-000001.parquet").read_bytes() == before
    assert len(pq.read_table(place / "rollouts").to_pylist()) > 0  # the part is passed over


def test_rewinding_says_what_it_drops(tmp_path: Path) -> None:
    place = write_run(tmp_path / "run", *(make_episode() for _ in range(3)))
    (place / "rows" / "step-old.parquet").touch()
    assert RunLog(place).rewind(1, 2) == 3
    assert Run.open(place).written == (1,) and len((place / "metrics.jsonl").read_text().splitlines()) == 2
    assert RunLog(place).rewind(1, 2) == 1
