"""Files that are whole or not there: written beside, flushed to the disk, then renamed. No torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from kintsugi.records import KintsugiError

SUMS = "checksums.json"
"""What `seal` leaves in a folder: the SHA-256 of each file in it."""
LOCK = ".lock"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the disk refuses into one line: full, read-only, no permission."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise KintsugiError(
            f"{path}: cannot be written ({reason}); everything before is there: "
            "mend that, then go on with --resume"
        ) from None


def write_whole(path: Path, text: str) -> None:
    """Writes a small file so that a reader, or a crash, never meets a part of it."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def seal(folder: Path, leave_out: frozenset[str]) -> None:
    """Writes the folder's checksums, and waits until all of it is on the disk."""
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.name not in leave_out)
    sums = {str(f.relative_to(folder)): digest(f) for f in files}
    write_whole(folder / SUMS, json.dumps(sums, indent=1) + "\n")
    for file in files:
        sync(file)
    sync(folder)


def damage(folder: Path) -> str:
    """What is wrong with a sealed folder, in a few words; "" if nothing is."""
    try:
        sums: Mapping[str, str] = json.loads((folder / SUMS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"{SUMS} is missing or cannot be read"
    for name, expected in sums.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if digest(folder / name) != expected:
            return f"{name} is not what was written"
    return ""


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows does not open folders
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def lock(folder: Path) -> IO[str]:
    """The lock of a run directory: held until it is closed or the process ends, however that ends.

    KintsugiError when another process holds it.
    """
    file = (folder / LOCK).open("a+", encoding="utf-8")
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows: two runs in one directory are not told apart there
        return file
    except OSError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise KintsugiError(
            f"{folder}: another run is writing there (process {owner}); wait for it, or choose another output_dir"
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file
