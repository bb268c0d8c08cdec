"""The one rule of everything that overwrites: only what this tool made is removed.

A folder that it makes carries MARK, a small file that says of which kind the folder is. A folder without that file,
the working directory, a folder that holds what is being read, and a symbolic link's target are left alone.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from kintsugi.files import write_whole
from kintsugi.records import KintsugiError

MARK = ".kintsugi"
KINDS = {"run": "a run directory", "export": "an exported model"}


def mark(folder: Path, kind: str) -> None:
    """Says in a folder that this tool made it, and as which of KINDS."""
    write_whole(folder / MARK, f"{kind}\n")


def kind_of(folder: Path) -> str:
    """The kind of a folder that this tool made; "" for any other folder.

    Runs from before there was MARK are known by their versions.json, which names this package.
    """
    try:
        return (folder / MARK).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        pass
    try:
        versions = json.loads((folder / "versions.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return "run" if isinstance(versions, dict) and "kintsugi-rl" in versions else ""


def may_replace(folder: Path, kind: str, *sources: Path) -> None:
    """KintsugiError where a folder must not be replaced by a new one of `kind`, made from `sources`."""
    if folder.is_symlink():
        raise KintsugiError(
            f"{folder}: is a symbolic link, so nothing is removed; name {folder.resolve()} itself to replace it"
        )
    if holds(folder, Path.cwd()):
        raise KintsugiError(
            f"{folder}: holds the working directory, so nothing is removed; choose another place"
        )
    apart(folder, *sources)
    if not folder.is_dir() or (kind_of(folder) != kind and any(folder.iterdir())):
        raise KintsugiError(
            f"{folder}: expected {KINDS[kind]} that this tool made ({MARK} says so), found something else; nothing is "
            "removed: choose another place, or remove it yourself"
        )


def apart(folder: Path, *sources: Path) -> None:
    """KintsugiError where writing to a folder would destroy one of the `sources`, which are being read."""
    for source in sources:
        if holds(folder, source):
            raise KintsugiError(f"{folder}: holds {source}, which is being read; choose another place")


def may_replace_file(path: Path, sign: bytes, what: str) -> None:
    """KintsugiError where there is something else than a file of ours, which has `sign` near its beginning."""
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(4096)
        if not head.strip() or sign in head:
            return
    if path.exists():
        raise KintsugiError(
            f"{path}: exists and is no {what}; nothing is overwritten, choose another --output"
        )


def holds(folder: Path, place: Path) -> bool:
    """True if `place` is the folder or lies in it, whatever links lead there."""
    return place.resolve().is_relative_to(folder.resolve())


def remove(path: Path) -> None:
    """Removes a folder or a file that this tool made; of a symbolic link the link alone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
