"""A plain folder with tables: CSV or JSON lines beside audio files.

Layout: `*.csv` or `*.jsonl` in the folder or one folder below. Columns: `file` (or `file_name`, as
in Hugging Face's audiofolder, or `path`), relative to the table; captions and labels as `texts_of`
of common.py reads them (`caption`, `caption_1`, ..., `labels`); `split` where neither the table nor
its folder is named by one (train.csv, valid/metadata.csv); `group` where recordings share an
original. A file may have several rows, with a caption each.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from clapjax.data.paths import read_text
from clapjax.data.sources.clip import Clip, Rejected
from clapjax.data.sources.common import (
    SourceError,
    make_clip,
    read_rows,
    split_name,
    texts_of,
)

FILE_COLUMNS = ("file", "file_name", "path")


def clips(root: Path) -> Iterator[Clip | Rejected]:
    """Clips in the order of the tables, which are sorted by name."""
    patterns = ("*.csv", "*.jsonl", "*/*.csv", "*/*.jsonl")
    tables = sorted(table for pattern in patterns for table in root.glob(pattern))
    if not tables:
        raise SourceError(f"{root}: no .csv or .jsonl table in it or one folder below")
    for table in tables:
        yield from _clips_of(root, table)


def _clips_of(root: Path, table: Path) -> Iterator[Clip | Rejected]:
    rows = list(read_rows(table, ()) if table.suffix == ".csv" else _read_lines(table))
    column = next((name for name in FILE_COLUMNS if name in rows[0]), None)
    if column is None:
        raise SourceError(
            f"{table}: no column {' or '.join(FILE_COLUMNS)}; there are {', '.join(rows[0])}"
        )
    of_table = _split_of(root, table)
    merged: dict[tuple[str, str], dict] = {}
    for row in rows:
        key = (split_name(str(row.get("split") or of_table)), str(row.get(column) or ""))
        texts = texts_of(row)
        known = merged.setdefault(key, {name: () for name in texts} | {"group": row.get("group")})
        known.update({name: (*known[name], *texts[name]) for name in texts})
    for (split, name), found in merged.items():
        file = table.parent / name
        relative = Path(name).with_suffix("") if name else Path()
        if relative.parts and split_name(relative.parts[0]) == split and len(relative.parts) > 1:
            relative = relative.relative_to(relative.parts[0])
        found["group"] = str(found["group"] or "")
        audio = file if name and file.is_file() else None
        yield make_clip(root.name, relative.as_posix(), audio, split=split, **found)


def _split_of(root: Path, table: Path) -> str:
    """The split that a table's name or folder tells; "" where neither does."""
    for name in (table.stem, table.parent.name if table.parent != root else ""):
        if split_name(name) in ("train", "validation", "test"):
            return split_name(name)
    return ""


def _read_lines(table: Path) -> list[dict]:
    rows = []
    try:
        for number, line in enumerate(read_text(table, "utf-8-sig").splitlines(), start=1):
            if line.strip():
                rows.append(json.loads(line))
                if not isinstance(rows[-1], dict):
                    raise SourceError(f"{table}: line {number} is not an object")
    except OSError as error:
        raise SourceError(f"{table}: cannot be read ({error.strerror})") from error
    except SourceError:
        raise
    except ValueError as error:
        raise SourceError(f"{table}: line {len(rows) + 1} is not JSON ({error})") from error
    if not rows:
        raise SourceError(f"{table}: the table has no rows")
    return rows
