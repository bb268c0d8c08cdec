"""Tables as people have them: a file by its ending, a folder of files, a data set of the Hub.

place = find("train.csv", None, "task table: path", text={"answer"})
place.names(), place.read("train")
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kintsugi.files import sought_in
from kintsugi.records import KintsugiError

Numbered = Iterator[tuple[int, str, Any]]
"""(number from 1, its kind: `line` or `row`, row)."""
SPLITS = {
    "train": {"train", "training"},
    "test": {"test", "testing", "eval", "evaluation"},
    "validation": {"validation", "valid", "val", "dev"},
}
"""The words in a file's path that say its split, as data sets of the Hub name their files."""
PACKED = {".gz", ".bz2", ".lz4", ".zst"}
NO_TABLE = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
"""Files that `datasets` puts beside its tables."""
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a table. `id` names the problem if no column does; `where` is for error messages."""

    id: str
    where: str
    row: Any


def find(path: object, subset: str | None, what: str, text: Collection[str]) -> Files | HubSet:
    """The place of a path: a file or folder of this machine, else a data set of the Hub. `subset` is a folder within a
    folder, or the Hub's. Columns named in `text` are read as they are written where a format has no types.

    KintsugiError where it can be none of them.
    """
    if not isinstance(path, str | Path):
        raise KintsugiError(f"{what}: expected a file, a folder or a Hub id, got {path!r}")
    place = Path(path).expanduser()
    if place.is_dir():
        return Files(folder_files(place / (subset or ""), what), place, place.resolve().name, text)
    if place.is_file():
        if ending(place) not in READERS:
            raise KintsugiError(f"{what}: {path}: expected a file that ends in {', '.join(READERS)}")
        return Files({"train": [place]}, place.parent, place.resolve().parent.name, text)
    if ending(place) in READERS or not HUB_ID.fullmatch(str(path)):
        raise KintsugiError(f"{what}: no such file {str(path)!r}{sought_in(place)}")
    return HubSet(str(path), subset, dataset_loaders(str(path)))


# ---- files


@dataclass(frozen=True, slots=True)
class Files:
    """Tables of this machine, by split. `root`: the folder that their paths are relative to, by which ids name them
    after `prefix`."""

    splits: Mapping[str, Sequence[Path]]
    root: Path
    prefix: str
    text: Collection[str]

    def names(self) -> list[str]:
        """The splits."""
        return list(self.splits)

    def read(self, split: str) -> Iterator[Line]:
        """The rows of a split from its start; KintsugiError where there is no such split or no row in a file."""
        if split not in self.splits:
            raise KintsugiError(
                f"{self.root}: no file is named as of split {split!r}; there are {', '.join(self.splits)}"
            )
        for file in self.splits[split]:
            yield from self.rows(file)

    def rows(self, file: Path) -> Iterator[Line]:
        """The rows of a file; KintsugiError names file and line of what is malformed, and a file without rows."""
        folders = file.parent.relative_to(self.root).parts
        id = "/".join([self.prefix, *folders, bare(file).stem])
        number = 0
        try:
            for number, kind, row in READERS[ending(file)](file, self.text):
                yield Line(f"{id}/{number}", f"{file}, {kind} {number}", row)
        except (OSError, ValueError) as error:  # Arrow's errors are ValueErrors
            raise KintsugiError(f"{file}: cannot be read ({' '.join(str(error).split())})") from None
        if not number:
            raise KintsugiError(f"{file}: expected at least one row, found none")


def folder_files(folder: Path, what: str) -> dict[str, list[Path]]:
    """The tables in a folder and its folders, by the split that their paths name: `train` where they name none."""
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*")):
        inner = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in inner.parts)
        if file.is_file() and ending(file) in READERS and file.name not in NO_TABLE and not hidden:
            found.setdefault(split_of(inner), []).append(file)
    if not found:
        raise KintsugiError(f"{what}: {folder}: expected files that end in {', '.join(READERS)}, found none")
    return found


def split_of(path: Path) -> str:
    """The split that a path names: the file's name first, then its folders from the innermost."""
    for part in reversed(path.parts):
        for word in re.split(r"[^a-z]+", part.lower()):
            if named := next((split for split, words in SPLITS.items() if word in words), None):
                return named
    return "train"


def ending(path: Path) -> str:
    """The ending that says what a file is; `train.csv.gz` is a `.csv`."""
    return bare(path).suffix.lower()


def bare(path: Path) -> Path:
    """The path without the ending of what packed it."""
    return path.with_suffix("") if path.suffix.lower() in PACKED else path


def unpacked(path: Path) -> IO[bytes]:
    """The file's bytes; what is compressed is unpacked by its ending."""
    import pyarrow

    stream: IO[bytes] = pyarrow.input_stream(str(path))
    return stream


def csv_rows(path: Path, text: Collection[str]) -> Numbered:
    """Comma, semicolon or tab between the cells: `.tsv` has tabs, else the first line decides."""
    from pyarrow import csv

    with unpacked(path) as file:
        first = file.read(1 << 16).partition(b"\n")[0]
    separator = "\t" if ending(path) == ".tsv" else ";" if first.count(b";") > first.count(b",") else ","
    table = csv.read_csv(
        path,
        read_options=csv.ReadOptions(use_threads=False),  # with threads errors do not know their row
        parse_options=csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=csv.ConvertOptions(column_types=dict.fromkeys(text, "string")),
    )
    return arrow_rows(table.to_batches())


def parquet_rows(path: Path, text: Collection[str]) -> Numbered:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        yield from arrow_rows(file.iter_batches())


def ipc_rows(path: Path, text: Collection[str]) -> Numbered:
    """Arrow's file format (Feather), or its stream, which `datasets` writes."""
    from pyarrow import ArrowInvalid, ipc, memory_map

    with memory_map(str(path)) as file:
        try:
            reader = ipc.open_file(file)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        except ArrowInvalid:
            file.seek(0)
            batches = iter(ipc.open_stream(file))
        yield from arrow_rows(batches)


def line_rows(path: Path, text: Collection[str]) -> Numbered:
    """JSON Lines: a row for each line that is not blank."""
    # utf-8-sig: Windows editors put a byte order mark first, which JSON does not allow.
    with io.TextIOWrapper(unpacked(path), encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, "line", parsed_json(line.rstrip("\r\n"), path, number)


def json_rows(path: Path, text: Collection[str]) -> Numbered:
    """A list of rows, or JSON Lines: they may end in `.json` too."""
    with unpacked(path) as file:
        whole = file.read().decode("utf-8-sig")
    if not whole.lstrip().startswith("["):
        yield from line_rows(path, text)
        return
    for number, row in enumerate(parsed_json(whole, path), 1):
        yield number, "row", row


def parsed_json(text: str, path: Path, line: int = 1) -> Any:
    """The value of a JSON text that begins in this line of a file."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise KintsugiError(f"{path}, line {line + error.lineno - 1}: not valid JSON ({error.msg})") from None


READERS: dict[str, Callable[[Path, Collection[str]], Numbered]] = {
    ".csv": csv_rows,
    ".tsv": csv_rows,
    ".parquet": parquet_rows,
    ".arrow": ipc_rows,
    ".feather": ipc_rows,
    ".json": json_rows,
    ".jsonl": line_rows,
    ".ndjson": line_rows,
}


def arrow_rows(batches: Iterable[Any]) -> Numbered:
    """The rows of Arrow's batches as plain data, floats below double precision without what widening adds: 0.1 would
    come as 0.10000000149011612."""
    import numpy
    import pyarrow

    narrow = {pyarrow.float16(): numpy.float16, pyarrow.float32(): numpy.float32}
    number = 0
    for batch in batches:
        kinds = {field.name: narrow[field.type] for field in batch.schema if field.type in narrow}
        for row in batch.to_pylist():
            number += 1
            short = {k: float(str(kind(row[k]))) for k, kind in kinds.items() if row[k] is not None}
            yield number, "row", row | short


# ---- the Hub


@dataclass(frozen=True, slots=True)
class HubSet:
    """A data set of the Hub. `loaders`: the two functions of `datasets` that are asked."""

    path: str
    subset: str | None
    loaders: tuple[Callable[..., Any], Callable[..., Any]]

    @property
    def where(self) -> str:
        return self.path if self.subset is None else f"{self.path}, subset {self.subset}"

    def names(self) -> list[str]:
        """The splits."""
        return list(self.asked(self.loaders[0], "its splits"))

    def read(self, split: str) -> Iterator[Line]:
        """The rows of a split; KintsugiError where the Hub has none."""
        rows = self.asked(self.loaders[1], f"split {split}", split=split)
        number = 0
        for number, kind, row in arrow_rows(rows.with_format("arrow").iter(1000)):
            yield Line(f"{self.path}/{split}/{number}", f"{self.where}, split {split}, {kind} {number}", row)
        if not number:
            raise KintsugiError(
                f"task table: {self.where}, split {split}: expected at least one row, found none"
            )

    def asked(self, function: Callable[..., Any], what: str, **arguments: Any) -> Any:
        """The answer of `datasets`; KintsugiError carries whatever the Hub said, on one line."""
        try:
            return function(self.path, self.subset, **arguments)
        except Exception as error:
            # `datasets` raises a dozen unrelated types here: network, permissions, unknown names, broken files.
            reason = " ".join(str(error).split())
            raise KintsugiError(
                f"task table: {self.where}, {what}: {type(error).__name__}: {reason} "
                f"(no file or folder has that name{sought_in(self.path)})"
            ) from error


def dataset_loaders(path: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(`get_dataset_split_names`, `load_dataset`); KintsugiError when the package is missing."""
    try:
        from datasets import get_dataset_split_names, load_dataset
    except ImportError as error:
        raise KintsugiError(
            f"task table: no file or folder {path!r}{sought_in(path)}, and a data set of the Hub needs the datasets "
            f"package: pip install -e '.[hub]' ({error})"
        ) from None
    return get_dataset_split_names, load_dataset
