"""A plain folder with tables: CSV or JSON lines beside audio files.

Layout: `*.csv`, `*.tsv` or `*.jsonl` in the folder or one folder below, and audio anywhere.
Columns: `file` (or another of `FILE_COLUMNS`), relative to the table, or to the folder, or a bare
name, with suffix or without, that one file has; texts and labels as `texts_of` of common.py reads
them; `split` where neither the table nor its folder is named by one (train.csv,
valid/metadata.csv); `group` where recordings share an original. All rows of all tables about a
file make one clip, in the split that any of them tells; a file that several splits name is a clip
in each. Audio that no table names is listed as left out.
"""

import functools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from clapjax.data import paths
from clapjax.data.sources.clip import Clip, Notice, Problem, Rejected, SourceError
from clapjax.data.sources.common import (
    count_files,
    free_name,
    join_texts,
    make_clip,
    split_in,
    split_name,
    texts_of,
    unread_columns,
)
from clapjax.data.sources.finding import find_audio, is_audio, is_data, same_name, stem_of
from clapjax.data.tables import SUFFIXES, cell_name, listed, read_table, table_columns

FILE_COLUMNS = (
    *("file", "file_name", "filename", "filepath", "file_path", "path"),
    *("audio", "audio_path", "audio_file", "audio_filepath"),
)


@dataclass(frozen=True)
class Named:
    """What the tables say of one file, or of one name that no file has."""

    name: str  # as the table gives it
    audio: Path | Problem | None
    rows: list[tuple[str, dict]] = field(default_factory=list)  # (split, row)


def clips(root: Path) -> Iterator[Clip | Rejected | Notice]:
    """Clips in the order of the tables, which are sorted by name; then the audio without a row."""
    files = dict(paths.walk_files(root))
    tables = sorted(file for place, file in files.items() if _is_table(place, file))
    if not tables:
        raise SourceError(
            f"{root}: no .csv, .tsv or .jsonl table in it or one folder below; a table has a "
            f"column {FILE_COLUMNS[0]} and, for instance, a column caption"
        )
    columns = {table: table_columns(table) for table in tables}
    foreign = [table for table in tables if _is_foreign(table, columns[table])]
    if len(foreign) == len(tables):
        raise SourceError(
            f"{foreign[0]}: no column names the audio files ({', '.join(FILE_COLUMNS[:-1])} or "
            f"{FILE_COLUMNS[-1]}); there are {listed(columns[foreign[0]])}"
        )
    for table in foreign:
        there = listed(columns[table])
        yield Notice(str(table), f"not read: no column names audio files; there are {there}")
    named: dict[Path | tuple, Named] = {}
    for table in tables:
        if table not in foreign:
            yield from _read(root, table, files, named)
    yield from _make(root, named.values(), {file: place for place, file in files.items()})
    rest = [place for place, file in files.items() if file not in named and file not in tables]
    for place in filter(is_audio, rest):
        yield Rejected(f"{root.name}:{place}", "no table names it")
    yield from count_files(root, (place for place in rest if not is_audio(place)), "not read")


def _is_table(place: str, file: Path) -> bool:
    return place.count("/") <= 1 and is_data(file, *SUFFIXES)


def _is_foreign(table: Path, columns: list[str]) -> bool:
    """Whether no row of a table names a file; rows of JSON lines need not have the same columns."""
    if not set(FILE_COLUMNS).isdisjoint(columns):
        return False
    lines = read_table(table) if table.suffix.lower() == ".jsonl" else ()
    return all(set(FILE_COLUMNS).isdisjoint(row) for _, row in lines)


def _read(
    root: Path, table: Path, files: dict[str, Path], named: dict[Path | tuple, Named]
) -> Iterator[Rejected | Notice]:
    """Adds the rows of a table to `named`, by the file that they name."""
    rows = list(read_table(table))
    yield from unread_columns(table, (row for _, row in rows), (*FILE_COLUMNS, "split", "group"))
    of_table = _split_of(root, table)
    given = [_file_of(row) for _, row in rows]
    find = _finder(root, table, files, given)
    for name, (line, row) in zip(given, rows, strict=True):
        if not name:
            yield Rejected(f"{root.name}:{table.name}:{line}", "the row names no file")
            continue
        audio = find(name)
        key = audio if isinstance(audio, PurePath) else (table, name)
        split = split_name(cell_name(row.get("split"))) or of_table
        named.setdefault(key, Named(name, audio)).rows.append((split, row))


def _file_of(row: dict) -> str:
    return next((name for one in FILE_COLUMNS if (name := cell_name(row.get(one)))), "")


def _finder(root: Path, table: Path, files: dict[str, Path], given: list[str]):
    """The function from a name in a table to its file, a problem, or None.

    A table names all its files in one way, so that a file that is missing is not taken for another
    one: relative to the table, else relative to the folder, else by bare names.
    """
    real_names = functools.cache(lambda: {os.path.realpath(file): file for file in files.values()})

    alike = functools.cache(lambda: {same_name(place): file for place, file in files.items()})

    def find_at(base: str, name: str) -> Path | None:
        place = os.path.normpath(os.path.join(base, name))
        if found := files.get(place) or alike().get(same_name(place)):
            return found
        file = root / place  # outside, or by a link to what has another name here
        if not paths.is_local(root) or not paths.is_file(file):
            return None
        return real_names().get(os.path.realpath(file), file)

    for base in (table.parent.relative_to(root).as_posix(), ""):
        if any(find_at(base, name) for name in given if name):
            return functools.partial(find_at, base)
    index: dict[str, list[Path]] = {}
    for file in files.values():
        index.setdefault(stem_of(same_name(file.name)), []).append(file)
    return functools.partial(find_audio, index, any_suffix=False)


def _split_of(root: Path, table: Path) -> str:
    """The split that a table's name or folder tells; "" where neither does."""
    for name in (table.stem, table.parent.name if table.parent != root else ""):
        if split := split_in(name):
            return split
    return ""


def _make(root: Path, named: Iterable[Named], places: dict[Path, str]) -> Iterator[Clip | Rejected]:
    taken: dict[str, set[str]] = {}
    groups: set[str] = set()
    for one in named:
        place = places.get(one.audio) or one.name.lstrip("./")
        group = next((name for _, row in one.rows if (name := cell_name(row.get("group")))), "")
        group = group or f"{root.name}:{free_name(groups, stem_of(place), place)}"
        splits = list(dict.fromkeys(split for split, _ in one.rows if split)) or [""]
        for split in splits:
            first, _, rest = place.partition("/")
            short = rest if rest and split and split_name(first) == split else place
            name = free_name(taken.setdefault(split, set()), stem_of(short), short, place)
            texts = join_texts(texts_of(row) for where, row in one.rows if where in ("", split))
            yield make_clip(root.name, name, one.audio, split=split, group=group, **texts)
