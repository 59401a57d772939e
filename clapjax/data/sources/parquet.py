"""A Hugging Face audio data set: parquet files with the audio inside or beside them.

Get one: `huggingface-cli download --repo-type dataset NAME`. Layout: `*.parquet` in the folder or
below, a column `audio` of struct {bytes, path}, or of texts (or another column of
folder.FILE_COLUMNS): paths relative to the parquet file or to the folder, which also serve where
there are no bytes. Captions and labels as `texts_of` of common.py reads them (`caption`, `text`,
`labels`; class indices are turned into names by the data set's own list). The split is what the
file's name begins with (`data/train-00000-of-00004.parquet`), or its folder's. Needs pyarrow.
"""

import functools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from clapjax.audio.files import AudioError, audio_seconds, read_audio
from clapjax.data.paths import as_path, is_file, is_local, walk
from clapjax.data.recordings import named_errors
from clapjax.data.sources.clip import Clip, Notice, Rejected, SourceError
from clapjax.data.sources.common import (
    count_files,
    free_name,
    is_text_column,
    make_clip,
    split_in,
    texts_of,
    unread_columns,
)
from clapjax.data.sources.finding import is_audio, is_data, stem_of
from clapjax.data.sources.folder import FILE_COLUMNS
from clapjax.data.sources.readers import FileReader
from clapjax.data.tables import listed, unique_names

SMALL = 2**20  # bytes of a column that are read at once


def clips(root: Path) -> Iterator[Clip | Rejected | Notice]:
    """Clips in the order of the files, which are sorted by path."""
    every = [folder / name for folder, _, names in walk(root) for name in names]
    files = sorted(file for file in every if is_data(file, ".parquet"))
    if not files:
        raise SourceError(f"{root}: no .parquet files in it or below")
    taken: dict[str, set[str]] = {}
    for file in files:
        yield from _clips_of(root, file, taken)
    others = (file.name for file in every if file not in files and not is_audio(file.name))
    yield from count_files(root, others, "not read")


def _clips_of(
    root: Path, file: Path, taken: dict[str, set[str]]
) -> Iterator[Clip | Rejected | Notice]:
    table = _open(file)
    _check_names(file, table.schema_arrow.names)
    column, fields = _audio_column(file, table.schema_arrow)
    class_names = _class_names(table.schema_arrow.metadata or {})
    split = _split_of(root, file)
    names = taken.setdefault(split, set())
    yield from unread_columns(
        file, [{name.lower(): None for name in table.schema_arrow.names}], FILE_COLUMNS
    )
    for group in range(table.num_row_groups):
        for row, values in enumerate(_texts(file, table, group, column, fields)):
            path = values.pop(column)
            path = path.get("path") if isinstance(path, dict) else path
            reader = CellReader(file, root, column, path or "", "bytes" in fields, group, row)
            place = PurePosixPath(path or f"{file.stem}-{group}-{row}").name
            name = free_name(names, stem_of(place), place, f"{file.stem}-{group}-{row}")
            for key, classes in class_names.items():
                values[key] = _named(values.get(key), classes)
            values = {key.strip().lower(): value for key, value in values.items()}
            yield make_clip(root.name, name, reader, split=split, **texts_of(values))


def _open(file: str | os.PathLike):
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise SourceError("parquet sources need pyarrow: pip install pyarrow") from error
    try:
        path = as_path(file)
        return pyarrow.parquet.ParquetFile(
            path if is_local(path) else path.open("rb"), buffer_size=SMALL
        )
    except OSError as error:
        raise SourceError(f"{file}: cannot be read ({error})") from error
    except pyarrow.ArrowException as error:
        raise SourceError(f"{file}: is not a parquet file ({error})") from error


def _check_names(file: Path, names: list[str]) -> None:
    try:
        unique_names(names)
    except ValueError as error:
        raise SourceError(f"{file}: {error}") from error


def _audio_column(file: Path, schema) -> tuple[str, set[str]]:
    """(Its name, the fields of its struct; none where it is a column of paths)."""
    import pyarrow.types as types

    paths = ""
    for one in schema:
        if one.name.strip().lower() not in FILE_COLUMNS:
            continue
        kind = one.type.value_type if types.is_dictionary(one.type) else one.type
        if types.is_struct(kind) and (fields := {"bytes", "path"} & {part.name for part in kind}):
            return one.name, fields  # many have a column of paths besides, of another machine
        if types.is_string(kind) or types.is_large_string(kind):
            paths = paths or one.name
    if paths:
        return paths, set()
    raise SourceError(
        f"{file}: no column audio of struct {{bytes, path}} or of paths; there are "
        f"{listed(schema.names)}"
    )


def _texts(file: Path, table, group: int, column: str, fields: set[str]) -> list[dict]:
    """The rows of a group, as far as they are read, without their audio bytes."""
    import pyarrow

    columns = [n for n in table.schema_arrow.names if is_text_column(n.strip().lower())]
    columns += [f"{column}.path"] if "path" in fields else [] if fields else [column]
    try:
        rows = table.read_row_group(group, columns=columns).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{file}: row group {group} is damaged ({error})") from error
    return [{column: None} | row for row in rows]


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """Column to class names, for the columns that the `datasets` library calls ClassLabel."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        described = list(features.items())
    except (ValueError, TypeError, LookupError, AttributeError):  # written by something else
        return {}
    found = {}
    for name, feature in described:
        inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel":
            found[name] = list(inner.get("names") or ())
    return found


def _named(value, names: list[str]):
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None


def _split_of(root: Path, file: Path) -> str:
    folders = reversed(file.relative_to(root).parts[:-1])
    for name in (re.split(r"[-_.]", file.stem)[0], file.stem, *folders):
        if split := split_in(name):
            return split
    return ""


@dataclass(frozen=True)
class CellReader:
    """Audio of a row: its bytes, or the file that its path names (see readers.py)."""

    file: Path
    root: Path
    column: str
    path: str
    has_bytes: bool  # whether the column can hold bytes
    group: int
    row: int  # within the group

    def __call__(
        self, sample_rate: int, start: float = 0.0, seconds: float | None = None
    ) -> np.ndarray:
        """See readers.py."""
        data = self._data()
        if data is None:
            return self._beside()(sample_rate, start, seconds)
        return read_audio(data, sample_rate, start=start, seconds=seconds, name=self._name())

    def seconds(self) -> float | None:
        """See readers.py."""
        data = self._data()
        return self._beside().seconds() if data is None else audio_seconds(data, self._name())

    def _name(self) -> str:
        return f"{self.file}:{self.group}:{self.row}:{self.path}"

    def _beside(self) -> FileReader:
        if not self.path:
            raise AudioError(f"{self._name()} has neither audio bytes nor a path")
        for base in (self.file.parent, self.root):
            if is_file(base / self.path):
                return FileReader(base / self.path)
        raise AudioError(f"{self._name()} has no audio bytes, and there is no such file")

    def _data(self) -> bytes | None:
        import pyarrow

        if not self.has_bytes:
            return None
        with named_errors(self.file, self._name(), ValueError, pyarrow.ArrowException):
            return _rows(os.fspath(self.file), self.column, self.group).cell(self.row) or None


class _Rows:
    """The cells of a row group, read one after the other, of which one is held."""

    def __init__(self, file: str, column: str, group: int):
        self._table = _open(file)
        self._asked = {"batch_size": 1, "row_groups": [group], "columns": [f"{column}.bytes"]}
        self._column = column
        self._row, self._cell = -1, None
        self._batches: Iterator | None = None  # nothing is read while another one is held

    def cell(self, row: int) -> bytes | None:
        """The bytes in a row; those before it are read anew when they were passed."""
        if row < self._row or self._batches is None:
            self._batches = self._table.iter_batches(**self._asked)
            self._row, self._cell = -1, None
        while self._row < row:
            if (batch := next(self._batches, None)) is None:
                raise SourceError(f"the row group ends before row {row}")
            cells = batch.column(self._column)
            self._row += 1
            self._cell = cells[0]["bytes"].as_py() if self._row == row else None
        return self._cell


@functools.lru_cache(maxsize=1)  # rows are read in order
def _rows(file: str, column: str, group: int) -> _Rows:
    return _Rows(file, column, group)
