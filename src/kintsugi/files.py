"""Files that are whole or absent: written beside, flushed to the disk, then renamed. Loads no torch.

Here is the door to the disk: `clean` makes any text one that a file can hold.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from kintsugi.records import KintsugiError

SUMS = "checksums.json"
"""The file that `seal` leaves in a folder: the SHA-256 of each file in it."""
LOCK = ".lock"
STEP = re.compile(r"step-(\d+)")


class Locked(KintsugiError):
    """Another process is writing in the folder."""


def clean(text: str) -> str:
    """The text with U+FFFD for each lone half of a surrogate pair: Python can hold one, no file can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def cleaned(value: Any) -> Any:
    """The value with every text in it clean, as keys and in lists and mappings too."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {cleaned(key): cleaned(item) for key, item in value.items()}
    return [cleaned(item) for item in value] if isinstance(value, list | tuple) else value


def numbered(folder: Path, suffix: str = "") -> dict[int, Path]:
    """The entries named step-NUMBER in a folder, by number, in order. Whatever else lies there is left out."""
    names = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    found = {
        int(match[1]): path
        for name, path in names.items()
        if name.endswith(suffix) and (match := STEP.fullmatch(name.removesuffix(suffix)))
    }
    return dict(sorted(found.items()))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; ValueError where it holds something else, OSError where it cannot be read."""
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{path.name}: expected an object, found {type(found).__name__}")
    return found


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


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a small file so that a reader, or a crash, never meets a part of it."""
    partial = partial_of(path)
    with partial.open("wb") as file:
        file.write(content if isinstance(content, bytes) else clean(content).encode())
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def partial_of(path: Path) -> Path:
    """The path of a file or folder that has not got its name yet. Readers of tables pass over names with a dot."""
    return path.with_name(f".{path.name}.partial")


def sought_in(path: str | Path) -> str:
    """` in FOLDER`, the folder in which a relative path was looked for; "" of an absolute path."""
    absolute = Path(path).is_absolute() or str(path).startswith("~")
    return "" if absolute else f" in {Path.cwd()}"


def seal(folder: Path, leave_out: frozenset[str]) -> None:
    """Writes the folder's checksums, and waits until all of it is on the disk. Its readers may read them."""
    share_files(folder)
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.name not in leave_out)
    sums = {str(f.relative_to(folder)): digest(f) for f in files}
    write_whole(folder / SUMS, json.dumps(sums, indent=1) + "\n")
    for file in files:
        sync(file)
    sync(folder)


def share_files(folder: Path) -> None:
    """Lets whoever may read a folder read its files: safetensors writes them for their owner alone."""
    readers = folder.stat().st_mode & 0o444
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(file.stat().st_mode | readers)


def damage(folder: Path) -> str:
    """The damage of a sealed folder, in a few words; "" if there is none."""
    try:
        sums = read_json(folder / SUMS)
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
    file = (folder / LOCK).open("a+", encoding="utf-8", errors="replace")
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows: two runs in one directory are not told apart there
        return file
    except OSError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise Locked(
            f"{folder}: another run is writing there (process {owner}); wait for it, or choose another output_dir"
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def locked(folder: Path) -> bool:
    """True if a process is writing in a folder, be it a run directory or not."""
    if not (folder / LOCK).is_file():
        return False
    try:
        lock(folder).close()
    except (Locked, OSError) as error:
        return isinstance(error, Locked)
    return False
