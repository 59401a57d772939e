"""The one table of text about clips: what names a clip, its captions, their negatives, whose words.

As JSON lines, one row for a clip or for a caption of it: {"id", "file", "captions",
"negative_captions", "provenance"}. `clapjax captions` reads and writes it, `clapjax records
annotate` joins it to records.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from clapjax.data.paths import as_path
from clapjax.data.schema import PROVENANCES, SEPARATOR
from clapjax.data.selection import join_provenance
from clapjax.data.tables import ABSENT, TableError, caption_items, cell_items, read_table

FILE_COLUMNS = ("file", "file_name", "filename", "path", "filepath")
NEGATIVES = "negative_captions"
_CAPTIONS = re.compile(r"captions?|caption_\d+|text")


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
        row[NEGATIVES] = list(self.negatives)
        if self.kinds:
            row["provenance"] = join_provenance(self.kinds)
        return row if reason is None else row | {"reason": reason}


def read_texts(file: str | os.PathLike, column: str = "") -> Iterator[Texts]:
    """Yields the rows of a table, CSV or JSON lines (see `read_table`).

    Captions are in the columns caption, captions, caption_1, ..., text, unless one is named;
    negatives in negative_captions. A cell is a text or a list. The clip is in the column id, in
    file (or file_name, filename, path, filepath), or in both. The column provenance has a word for
    all texts of its row, or one for each, with ";" between them or as a list; without it, texts
    are "human".

    Raises:
      TableError: no such table or column, or a row that cannot be understood.
    """
    for line, row in read_table(file):
        place = f"{file}:{line}"
        names = [column.lower()] if column else [n for n in row if _CAPTIONS.fullmatch(n)]
        if column and names[0] not in row:
            raise TableError(f"{place}: no column {column!r}; there are {', '.join(row)}")
        if not names and NEGATIVES not in row:
            raise TableError(
                f"{place}: no column caption, captions, caption_1, text or {NEGATIVES}; there are "
                f"{', '.join(row)}"
            )
        try:
            captions = _distinct(text for name in names for text in caption_items(row[name]))
            negatives = _distinct(caption_items(row.get(NEGATIVES)))
            kinds = _kinds(row.get("provenance"), len(captions), len(negatives))
        except ValueError as error:
            raise TableError(f"{place}: {error}") from error
        found = next((row[name] for name in FILE_COLUMNS if _name(row.get(name))), None)
        yield Texts(place, captions, negatives, kinds, _name(row.get("id")), _name(found))


def read_captions(source: str | os.PathLike, column: str = "") -> list[Texts]:
    """The captions of a table, or those of a data set of records (DIR or DIR:SPLIT) with their ids.

    Raises:
      ValueError: see `read_texts`; a row without a caption; or no such records.
    """
    rows = _read_records(source)
    if rows is None:
        rows = list(read_texts(source, column))
        for row in rows:
            if not row.captions:
                raise TableError(f"{row.place}: no caption in {column or 'it'}; remove the row")
    return [replace(row, negatives=(), kinds=row.kinds[: len(row.captions)]) for row in rows]


def read_labels(source: str | os.PathLike, column: str, separator: str) -> list[Texts]:
    """Labels or tags of every row of a table, or of the records (DIR or DIR:SPLIT) that have any.

    A list of texts, or a text with separators between; or a .json file with class names, as a list
    or as the keys of an object, of which each makes a row.

    Raises:
      ValueError: see `read_table`; no such column; a row without labels; or no such records.
    """
    path = Path(source)
    if (rows := _read_records(source)) is not None:
        labelled = [replace(row, captions=(), kinds=()) for row in rows if row.labels]
        if not labelled:
            raise TableError(f"{source}: no record has labels")
        return labelled
    if path.suffix == ".json":
        try:
            names = list(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise TableError(f"{path}: no list or object of class names: {error}") from error
        return [_labelled(f"{path}: row {i}", {"": n}, "", "\0") for i, n in enumerate(names, 1)]
    found = []
    for line, row in read_table(path):
        if column.lower() not in row:
            known = ", ".join(row)
            raise TableError(f"{path}:{line}: no column {column!r}; there are {known}")
        found.append(_labelled(f"{path}:{line}", row, column.lower(), separator))
    return found


def _labelled(place: str, row: dict, column: str, separator: str) -> Texts:
    try:
        parts = (part for text in cell_items(row[column]) for part in text.split(separator))
        labels = tuple(part.strip() for part in parts if part.strip())
    except ValueError as error:
        raise TableError(f"{place}: {error}") from error
    if not labels:
        raise TableError(f"{place}: {column!r} holds {row[column]!r}, no labels")
    file = next((row[name] for name in FILE_COLUMNS if _name(row.get(name))), None)
    return Texts(place, id=_name(row.get("id")), file=_name(file), labels=labels)


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


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _name(value) -> str:
    """An id or the name of a file as it stands; "" where there is none."""
    text = "" if value is None else str(value).strip()
    return "" if text.lower() in ABSENT else text


def _kinds(value, captions: int, negatives: int) -> tuple[str, ...]:
    """A provenance for each text.

    Raises:
      ValueError: a word that is none, or too few or too many of them.
    """
    words = [part for text in cell_items(value) for part in text.split(SEPARATOR)] or ["human"]
    if unknown := [word for word in words if not word.startswith(PROVENANCES)]:
        known = ", ".join(f"{p}..." if p.endswith(":") else p for p in PROVENANCES)
        raise ValueError(f"provenance {unknown[0]!r} is none of {known}")
    if len(words) == 1:
        return tuple(words * (captions + negatives))
    if len(words) != captions + negatives:
        raise ValueError(
            f"provenance has {len(words)} words for {captions} captions and {negatives} negatives; "
            "give one for all, or one for each"
        )
    return tuple(words)
