"""Caption files: CSV or JSON lines in, JSON lines out."""

import csv
import json
import os
from pathlib import Path


def read_column(path: str | os.PathLike, column: str) -> list:
    """One column of a CSV (with a header line) or JSON-lines file, by the file's ending.

    Raises:
      ValueError: another ending, no such column, or a line that cannot be read; with its number.
    """
    path = Path(path)
    if path.suffix == ".csv":
        rows = _csv_rows(path)
    elif path.suffix == ".jsonl":
        rows = _json_rows(path)
    else:
        raise ValueError(f"{path}: neither .csv nor .jsonl")
    values = []
    for line, row in rows:
        if column not in row or row[column] is None:
            known = ", ".join(str(name) for name in row)
            raise ValueError(f"{path}:{line}: no column {column!r}; there are {known}")
        values.append(row[column])
    if not values:
        raise ValueError(f"{path}: there are no rows")
    return values


def read_captions(path: str | os.PathLike, column: str) -> list[str]:
    """A column of texts.

    Raises:
      ValueError: see `read_column`; or a value that is no text, or an empty one.
    """
    captions = read_column(path, column)
    for row, caption in enumerate(captions, 1):
        if not isinstance(caption, str) or not caption.strip():
            raise ValueError(f"{path}: row {row}: {column!r} holds {caption!r}, not a caption")
    return [caption.strip() for caption in captions]


def read_labels(path: str | os.PathLike, column: str, separator: str) -> list[tuple[str, ...]]:
    """Labels or tags of every row.

    A list of texts in JSON lines, or a text with separators between; or a .json file with class
    names, as a list or as the keys of an object, of which each makes a row.

    Raises:
      ValueError: see `read_column`; or a row without labels.
    """
    path = Path(path)
    if path.suffix == ".json":
        try:
            rows = list(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: no list or object of class names: {error}") from error
        values: list = [[row] for row in rows]
    else:
        values = read_column(path, column)
    labels = []
    for row, value in enumerate(values, 1):
        names = value.split(separator) if isinstance(value, str) else value
        good = isinstance(names, list) and all(isinstance(name, str) for name in names)
        cleaned = tuple(name.strip() for name in names if name.strip()) if good else ()
        if not cleaned:
            raise ValueError(f"{path}: row {row}: {column!r} holds {value!r}, no labels")
        labels.append(cleaned)
    return labels


def _csv_rows(path: Path):
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for row in reader:
                yield reader.line_num, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}:{reader.line_num}: {error}") from error


def _json_rows(path: Path):
    with path.open("rb") as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except ValueError as error:
                raise ValueError(f"{path}:{line}: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}:{line}: no JSON object")
            yield line, row
