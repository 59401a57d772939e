"""A Hugging Face audio data set: parquet files with the audio inside.

Get one: `huggingface-cli download --repo-type dataset NAME`. Layout: `*.parquet` in the folder or
below, a column `audio` of struct {bytes, path}, captions and labels as `texts_of` of common.py
reads them (`caption`, `text`, `labels`; class indices are turned into names by the data set's own
list). The split is what the file's name begins with (`data/train-00000-of-00004.parquet`), or its
folder's. Needs pyarrow.
"""

import functools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from clapjax.audio.files import AudioError, read_audio
from clapjax.data.paths import as_path, is_local, walk
from clapjax.data.sources.clip import Clip, Rejected
from clapjax.data.sources.common import SourceError, make_clip, split_name, texts_of


def clips(root: Path) -> Iterator[Clip | Rejected]:
    """Clips in the order of the files, which are sorted by path."""
    files = sorted(
        folder / name
        for folder, _, names in walk(root)
        for name in names
        if name.endswith(".parquet")
    )
    if not files:
        raise SourceError(f"{root}: no .parquet files in it or below")
    for file in files:
        yield from _clips_of(root, file)


def _clips_of(root: Path, file: Path) -> Iterator[Clip | Rejected]:
    table = _open(file)
    schema = table.schema_arrow
    if "audio" not in schema.names or not _is_audio(schema.field("audio").type):
        there = ", ".join(schema.names)
        raise SourceError(f"{file}: no column audio of struct {{bytes, path}}; there are {there}")
    class_names = _class_names(schema.metadata or {})
    split = _split_of(root, file)
    for group in range(table.num_row_groups):
        for row, values in enumerate(_texts(file, table, group)):
            path = (values.pop("audio") or {}).get("path")
            for name, names in class_names.items():
                values[name] = _named(values.get(name), names)
            yield make_clip(
                root.name,
                Path(path).with_suffix("").name if path else f"{file.stem}-{group}-{row}",
                functools.partial(read_cell, os.fspath(file), group, row),
                split=split,
                **texts_of(values),
            )


def _open(file: str | os.PathLike):
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise SourceError("parquet sources need pyarrow: pip install pyarrow") from error
    try:
        path = as_path(file)
        return pyarrow.parquet.ParquetFile(path if is_local(path) else path.open("rb"))
    except (pyarrow.ArrowException, OSError) as error:
        raise SourceError(f"{file}: is not a parquet file ({error})") from error


def _texts(file: Path, table, group: int) -> list[dict]:
    """The rows of a group without their audio bytes."""
    import pyarrow

    columns = [*(name for name in table.schema_arrow.names if name != "audio"), "audio.path"]
    try:
        return table.read_row_group(group, columns=columns).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise SourceError(f"{file}: row group {group} is damaged ({error})") from error


def _is_audio(kind) -> bool:
    import pyarrow.types

    return pyarrow.types.is_struct(kind) and {"bytes", "path"} <= {field.name for field in kind}


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """Column to class names, for the columns that the `datasets` library calls ClassLabel."""
    info = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {})
    found = {}
    for name, feature in info.get("features", {}).items():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel":
            found[name] = inner["names"]
    return found


def _named(value, names: list[str]):
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None


def _split_of(root: Path, file: Path) -> str:
    for name in (re.split(r"[-_.]", file.stem)[0], *reversed(file.relative_to(root).parts[:-1])):
        if split_name(name) in ("train", "validation", "test"):
            return split_name(name)
    return ""


def read_cell(file: str, group: int, row: int, sample_rate: int) -> np.ndarray:
    """Decodes the audio of a row; raises as `read_audio` does."""
    import pyarrow

    try:
        data = _audio_column(file, group)[row]["bytes"].as_py()
    except (SourceError, pyarrow.ArrowException, OSError) as error:
        raise AudioError(f"{file}: row group {group} cannot be read ({error})") from error
    if not data:
        raise AudioError(f"{file}: row {row} of group {group} has no audio bytes")
    return read_audio(data, sample_rate)


@functools.lru_cache(maxsize=4)  # rows are read in order, by a few workers
def _audio_column(file: str, group: int):
    return _open(file).read_row_group(group, columns=["audio.bytes"]).column("audio")
