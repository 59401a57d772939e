"""Tables of text about clips: the one reader of CSV and JSON lines, and the writer of JSON lines.

Strict, since a table that is read loosely gives wrong captions in silence: a comma in a caption
that is not quoted makes a row longer than its header, and that is an error.
"""

import ast
import contextlib
import csv
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from clapjax.data import paths

SUFFIXES = (".csv", ".tsv", ".jsonl")  # of tables
SEPARATORS = ",;\t"  # of CSV; the header tells which
ABSENT = ("", "nan", "none", "null", "n/a", "na", "<na>", "#n/a")  # cells without a value
NAMED = 20  # columns in a message

_ITEM = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|None|nan"""
_SURROGATE = re.compile("[\ud800-\udfff]")  # half of a character, which UTF-8 cannot hold
_NO_CAPTION = re.compile(r"[-+]?\d[\d.,]*(?:e[-+]?\d+)?|[\s!-/:-@\[-`{-~…–—]+", re.IGNORECASE)
_LIST = re.compile(rf"\[\s*(?:(?:{_ITEM})(?:\s*,\s*|\s+|(?=\])))*\]", re.DOTALL)


class TableError(ValueError):
    """A table that cannot be read; the message names file and line and says what to do."""


def read_table(
    file: str | os.PathLike,
    *,
    columns: Sequence[str] = (),
    comment: str = "",
    encoding: str = "utf-8-sig",
) -> Iterator[tuple[int, dict]]:
    """Yields the rows of a table, here or in a bucket.

    A file named .jsonl holds a JSON object a line; any other one is CSV, with what its header has
    most of between the cells: commas, semicolons or tabs (tabs in a .tsv). Names of columns lose
    the blanks around them and become lower case.

    Args:
      file: the table.
      columns: their names where there is no header; cells are then separated by commas, or by
        tabs in a .tsv.
      comment: lines of CSV that begin with this are no rows; "" where all are.
      encoding: of the text; a byte order mark is skipped.

    Yields:
      (number of the line that the row begins on, column name to value): the texts of a CSV file,
      any JSON value of JSON lines.

    Raises:
      TableError: it is missing, is not text of this encoding, has no rows, names a column twice,
        or a row is not JSON, is badly quoted, or has not one cell for each column.
    """
    file = paths.as_path(file)
    empty = True
    with _opened(file, encoding) as stream:
        if file.suffix.lower() == ".jsonl":
            rows = _json_rows(file, stream)
        else:
            rows = _csv_rows(file, stream, list(columns), comment)
        for row in rows:
            empty = False
            yield row
    if empty:
        raise TableError(f"{file}: the table has no rows")


def table_columns(file: str | os.PathLike, encoding: str = "utf-8-sig") -> list[str]:
    """The names of a table's columns, as `read_table` gives them; of JSON lines, the first row's.

    Raises:
      TableError: as for `read_table`.
    """
    file = paths.as_path(file)
    if file.suffix.lower() == ".jsonl":
        return list(next(read_table(file, encoding=encoding))[1])
    with _opened(file, encoding) as stream:
        return [name for name in _header(file, iter(stream))[2] if name]


@contextlib.contextmanager
def _opened(file: Path, encoding: str) -> Iterator[Iterable[str]]:
    try:
        with paths.open_text(file, encoding) as stream:
            yield stream
    except OSError as error:
        raise TableError(f"{file}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise TableError(f"{file}: is not {name} text ({error}); save it as {name}") from error


def _json_rows(file: Path, stream: Iterable[str]) -> Iterator[tuple[int, dict]]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            row = json_row(line)
        except ValueError as error:
            raise TableError(f"{file}:{number}: {error}") from error
        yield number, row


def json_row(text: str | bytes) -> dict:
    """A JSON object as a row, its names as `read_table` gives them.

    Raises:
      ValueError: it is none, or names something twice, of which one would be lost.
    """
    try:
        row = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error.msg} at column {error.colno})") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, a number of 5,000 digits, nested
        raise ValueError(f"is not JSON that can be read ({error})") from error
    if not isinstance(row, dict):
        raise ValueError("is not a JSON object")
    return dict(zip(unique_names(row), row.values(), strict=True))


def _object(pairs: list[tuple[str, object]]) -> dict:
    if len(found := dict(pairs)) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"two things in it are named {twice!r}")
    return found


def _csv_rows(
    file: Path, stream: Iterable[str], names: list[str], comment: str
) -> Iterator[tuple[int, dict]]:
    # A comment stays as an empty line, so that the reader's line numbers are the file's.
    lines = ("\n" if comment and line.startswith(comment) else line for line in stream)
    separator, before = ",", 0
    if not names:
        before, separator, names = _header(file, lines)
    if file.suffix.lower() == ".tsv":
        separator = "\t"
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    number = before + 1
    try:
        for cells in reader:
            if cells:
                yield number, _row(f"{file}:{number}", names, cells)
            number = before + reader.line_num + 1
    except csv.Error as error:
        raise TableError(
            f"{file}:{number}: {error}; a cell with quotes in it is quoted, its quotes doubled"
        ) from error


def _header(file: Path, lines: Iterator[str]) -> tuple[int, str, list[str]]:
    """(Number of its line, what separates cells, the names of the columns)."""
    number, line = next(((n, line) for n, line in enumerate(lines, 1) if line.strip()), (0, ""))
    if not line:
        raise TableError(f"{file}: the table is empty")
    plain = re.sub(r'"[^"]*"', "", line)
    separator = "\t" if file.suffix.lower() == ".tsv" else max(SEPARATORS, key=plain.count)
    try:
        (names,) = csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True)
    except csv.Error as error:
        raise TableError(f"{file}:{number}: {error} in the names of the columns") from error
    try:
        return number, separator, unique_names(names)
    except ValueError as error:
        raise TableError(f"{file}:{number}: {error}") from error


def _row(place: str, names: list[str], cells: list[str]) -> dict[str, str]:
    while len(cells) > len(names) and not cells[-1].strip():  # a spreadsheet's empty columns
        cells.pop()
    # pandas writes the number of the row in front, without a name.
    nameless = [cell for name, cell in zip(names[1:], cells[1:], strict=False) if not name]
    if len(cells) > len(names) or any(cell.strip() for cell in nameless):
        raise TableError(
            f"{place}: {len(cells)} cells for the columns {listed(filter(None, names))}; "
            "quote the text that has a comma in it"
        )
    if len(cells) < len(names):
        raise TableError(
            f"{place}: {len(cells)} cells, not {len(names)} ({listed(names)}); a cell that is "
            "empty needs its separator too"
        )
    return {name: cell for name, cell in zip(names, cells, strict=True) if name}


def unique_names(given: Iterable[str]) -> list[str]:
    """Names of columns without the blanks around them, in lower case.

    Raises:
      ValueError: two are the same.
    """
    names = [name.strip().lower() for name in given]
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise ValueError(f"two columns are named {twice[0]!r}")
    return names


def listed(names: Iterable[str]) -> str:
    """Names for a message of one line: a table may have thousands."""
    names = [name if len(name) <= 60 else f"{name[:60]}..." for name in names]
    more = [f"and {len(names) - NAMED} more"] if len(names) > NAMED else []
    return ", ".join(names[:NAMED] + more)


def cell_name(value) -> str:
    """The name of a file, split, group or the like as it stands; "" where a cell holds none."""
    text = str(value).strip() if isinstance(value, str | int | float) else ""
    return "" if text.lower() in ABSENT else text


def cell_items(value) -> list[str]:
    """The texts in a cell: none where it says that there is no value, several where it is a list.

    Args:
      value: a text, a number, None, or a list of them. A text that is a list as JSON, Python or
        numpy write one ("['a', 'b']") is taken as that list.

    Raises:
      ValueError: it holds an object, or a text that begins as a list of texts and is none.
    """
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [text for item in value if item is not None for text in _plain(item)]
    if isinstance(value, str) and (text := value.strip()).startswith("["):
        with contextlib.suppress(ValueError, RecursionError):
            return cell_items(json.loads(text))
        if _LIST.fullmatch(text):
            parts = (part for part in re.findall(_ITEM, text) if part not in ("None", "nan"))
            return [item for part in parts for item in _plain(ast.literal_eval(part))]
        if re.match(r"""\[\s*['"]""", text):
            raise ValueError(f"{text[:60]!r} is neither a list of texts nor a text")
    return _plain(value)


def _plain(value) -> list[str]:
    """A single value as a text of single blanks, or nothing."""
    if isinstance(value, float) and not math.isfinite(value):
        return []
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{str(value)[:60]!r} is neither a text nor a list of texts")
    text = " ".join(str(value).split())
    if _SURROGATE.search(text):
        raise ValueError(f"{ascii(text[:60])} is not text in Unicode")
    return [] if text.lower() in ABSENT else [text]


def caption_items(value) -> list[str]:
    """`cell_items` without what is no caption: a number, or nothing but punctuation."""
    return [text for text in cell_items(value) if not _NO_CAPTION.fullmatch(text)]


def text_key(text: str) -> str:
    """The same of texts that say the same: letters of any case, between any blanks."""
    return " ".join(text.casefold().split())


def write_rows(path: str | os.PathLike, rows: Iterable[dict]) -> None:
    """Writes JSON lines; the file appears when the last line is written, or not at all."""
    with paths.new_file(paths.as_path(path)) as file:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False)
            if _SURROGATE.search(line):  # the name of a file on the disk
                line = json.dumps(row)
            file.write(line + "\n")
