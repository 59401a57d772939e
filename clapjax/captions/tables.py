"""The one table of text about clips: what names a clip, its captions, their negatives, whose words.

As JSON lines, one row for a clip or for a caption of it: {"id", "file", "captions",
"negative_captions", "provenance"}. `clapjax captions` reads and writes it, `clapjax records
annotate` joins it to records.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clapjax.data.paths import as_path
from clapjax.data.schema import PROVENANCES
from clapjax.data.selection import join_provenance
from clapjax.data.sources.common import (
    AUGMENTED,
    CAPTIONS,
    LABELS,
    NEGATIVES,
    is_text_column,
    texts_of,
)
from clapjax.data.sources.folder import FILE_COLUMNS
from clapjax.data.tables import (
    TableError,
    cell_items,
    cell_name,
    listed,
    read_table,
    table_columns,
)

# What a captioner's table says of each caption besides, in lists: `clapjax.captions.choosing`.
SCORES = ("log_probability", "similarity", "agreement")
NOT_CAPTIONS = (*LABELS, *AUGMENTED, "provenance")


@dataclass(frozen=True)
class Texts:
    """The texts of a row, and what they belong to."""

    place: str  # of the row, "FILE:LINE"
    captions: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()  # how each came to be, captions first, then negatives
    id: str = ""
    file: str = ""
    labels: tuple[str, ...] = ()

    def to_row(self, reason: str | None = None) -> dict:
        """The JSON object of a table; `reason` says why a text that was wanted is not there."""
        row = {"id": self.id, "file": self.file, "labels": list(self.labels)}
        row = {name: value for name, value in row.items() if value}
        row["captions"] = list(self.captions)
        row["negative_captions"] = list(self.negatives)
        if self.kinds:
            row["provenance"] = join_provenance(self.kinds)
        return row if reason is None else row | {"reason": reason}


def tables_of(name: str | os.PathLike) -> list[Path]:
    """A table, or those of a folder that `clapjax captions generate` made, in their order.

    Raises:
      ValueError: a folder without any.
    """
    path = as_path(name)
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("captions-*.jsonl"))
    if not found:
        raise ValueError(
            f"{name}: no tables in this folder; `clapjax captions generate` makes them"
        )
    return found


def read_texts(file: str | os.PathLike, column: str = "") -> Iterator[Texts]:
    """Yields the rows of a table, CSV or JSON lines (see `read_table`).

    Texts and their provenance are in the columns that `texts_of` reads, captions in `column` if one
    is named; texts without a provenance are "human". The clip is in the column id, in one of
    `FILE_COLUMNS`, or in both.

    Raises:
      TableError: no such table or column, or a row that cannot be understood.
    """
    for line, row in read_table(file):
        place = f"{file}:{line}"
        if column:
            if column.lower() not in row:
                raise TableError(f"{place}: no column {column!r}; there are {listed(row)}")
            others = (*NEGATIVES, "provenance")
            texts = {name: row.get(name) for name in others} | {"captions": row[column.lower()]}
        else:
            texts = row
            if not any(is_text_column(name) and name not in NOT_CAPTIONS for name in row):
                raise TableError(
                    f"{place}: no column {', '.join(CAPTIONS)} or {NEGATIVES[-1]}; there are "
                    f"{listed(row)}"
                )
        found = texts_of(texts)
        if problem := found.get("problem") or _unknown(found["provenance"]):
            raise TableError(f"{place}: {problem}")
        count = len(found["captions"])
        captions = _kinds(found["captions"], found["provenance"])
        negatives = _kinds(found["negative_captions"], found["provenance"][count:])
        yield Texts(
            place,
            tuple(captions),
            tuple(negatives),
            (*captions.values(), *negatives.values()),
            cell_name(row.get("id")),
            _file(row),
        )


def unread_columns(file: str | os.PathLike) -> list[str]:
    """The columns of a table (of JSON lines, those of the first row) that `read_texts` ignores.

    Raises:
      TableError: as for `read_table`.
    """
    known = ("id", *FILE_COLUMNS, "reason", "split", "group", "guidance", *LABELS, *SCORES)
    there = [name for name in table_columns(file) if name not in known]
    return [name for name in there if name in AUGMENTED or not is_text_column(name)]


def read_captions(source: str | os.PathLike, column: str = "") -> list[Texts]:
    """The captions of a table, or those of a data set of records (DIR or DIR:SPLIT) with their ids.

    Also the rows that have none.

    Raises:
      ValueError: see `read_texts`; no row has a caption; or no such records.
    """
    rows = _read_records(source)
    if rows is None:
        rows = list(read_texts(source, column))
    if not any(row.captions for row in rows):
        raise TableError(f"{source}: no row has a caption{f' in {column!r}' if column else ''}")
    return [replace(row, negatives=(), kinds=row.kinds[: len(row.captions)]) for row in rows]


def read_labels(source: str | os.PathLike, column: str, separator: str) -> list[Texts]:
    """Labels or tags of the rows of a table, or of the records DIR or DIR:SPLIT.

    A list of texts, or a text with separators between; or a .json file with class names, as a list
    or as the keys of an object, of which each makes a row. Also the rows that have none.

    Raises:
      ValueError: see `read_table`; no such column; no row has labels; or no such records.
    """
    rows = _read_records(source)
    if rows is None:
        rows = _labels_of_table(as_path(source), column, separator)
    if not any(row.labels for row in rows):
        raise TableError(f"{source}: no row has labels")
    return [replace(row, captions=(), kinds=()) for row in rows]


def _labels_of_table(path: Path, column: str, separator: str) -> list[Texts]:
    if path.suffix == ".json":
        try:
            names = list(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise TableError(f"{path}: no list or object of class names: {error}") from error
        return [_labelled(f"{path}: row {i}", {"": n}, "", "\0") for i, n in enumerate(names, 1)]
    found = []
    for line, row in read_table(path):
        if column.lower() not in row:
            known = listed(row)
            raise TableError(f"{path}:{line}: no column {column!r}; there are {known}")
        found.append(_labelled(f"{path}:{line}", row, column.lower(), separator))
    return found


def _labelled(place: str, row: dict, column: str, separator: str) -> Texts:
    try:
        parts = (part for text in cell_items(row[column]) for part in text.split(separator))
        labels = tuple(part.strip() for part in parts if part.strip())
    except ValueError as error:
        raise TableError(f"{place}: {error}") from error
    return Texts(place, id=cell_name(row.get("id")), file=_file(row), labels=labels)


def _read_records(source: str | os.PathLike) -> list[Texts] | None:
    """The texts of each record; None where it is no folder."""
    from clapjax.data import records

    folder, split = os.fspath(source), ""
    if not as_path(folder).is_dir():
        folder, _, split = folder.rpartition(":")
        if "/" in split or not folder or not as_path(folder).is_dir():
            return None
    splits = [split] if split else list(records.open_builder(folder).info.splits)
    return [
        Texts(
            f"{source}: {example.id}",
            captions=example.captions,
            kinds=example.kinds()[0],
            id=example.id,
            labels=example.labels,
        )
        for split in splits
        for example in records.read_examples(folder, split)
    ]


def _file(row: dict) -> str:
    return next((name for one in FILE_COLUMNS if (name := cell_name(row.get(one)))), "")


def _kinds(texts: Sequence[str], words: Sequence[str]) -> dict[str, str]:
    """Each text, once, to how it came to be."""
    found: dict[str, str] = {}
    for text, word in zip(texts, words, strict=False):
        found.setdefault(text, word)
    return found


def _unknown(words: Sequence[str]) -> str | None:
    """What is wrong with words that are no provenance."""
    known = ", ".join(f"{word}..." if word.endswith(":") else word for word in PROVENANCES)
    wrong = (word for word in words if not word.startswith(PROVENANCES))
    return next((f"provenance {word!r} is none of {known}" for word in wrong), None)
