"""Which rows of tables belong to which records: by id, else by file, else by caption.

Wrong pairs are worse than none: what could be two things is ambiguous, and belongs to neither.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from clapjax.captions.tables import Texts
from clapjax.data.sources.common import split_name
from clapjax.data.sources.finding import same_name

_SUFFIX = re.compile(r"(.+)\.[A-Za-z][A-Za-z0-9]{1,4}")  # a.wav, a.mp3; not v1.0
_WINDOW = re.compile(r"@\d+\.\d+$")  # of a record that is a window of a file


@dataclass(frozen=True)
class Named:
    """A record, as far as a table can name it."""

    split: str
    id: str
    source: str
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Matches:
    """What belongs to what, by number."""

    rows: list[list[int]]  # of each record, in the order of the tables
    unmatched: list[int]  # rows that belong to no record
    ambiguous: list[int]  # rows whose file could be several


@dataclass(frozen=True)
class _File:
    split: str
    folders: tuple[str, ...]
    name: str


def match(rows: Sequence[Texts], records: Sequence[Named]) -> Matches:
    """Finds the records of each row.

    A row with an id that a record has belongs to that record; else one with a file to the records
    made from it; one with neither to every record that has one of its captions. A record's file is
    what its source says, without the data set, the folder of its split and the offset of a window.
    Files are the same where one's folders end in the other's and the names are equal, the suffix
    aside where only one has it; an equal path goes before a longer or shorter one, if the table has
    paths at all.
    """
    ids = {record.id: [i] for i, record in enumerate(records)}
    by_caption: dict[str, list[int]] = defaultdict(list)
    for i, record in enumerate(records):
        for caption in dict.fromkeys(record.captions):
            by_caption[" ".join(caption.split())].append(i)
    by_file = [i for i, row in enumerate(rows) if row.file and row.id not in ids]
    files, ambiguous = _match_files({i: rows[i] for i in by_file}, records) if by_file else ({}, [])
    of_record: list[list[int]] = [[] for _ in records]
    unmatched = []
    for i, row in enumerate(rows):
        if row.id in ids:
            found = ids[row.id]
        elif row.id or row.file:
            found = files.get(i, [])
        else:
            found = {j: None for caption in row.captions for j in by_caption.get(caption, ())}
        for j in found:
            of_record[j].append(i)
        if not found and i not in ambiguous:
            unmatched.append(i)
    return Matches(of_record, unmatched, sorted(ambiguous))


def _match_files(
    rows: dict[int, Texts], records: Sequence[Named]
) -> tuple[dict[int, list[int]], set[int]]:
    """(Row to its records, rows that are ambiguous)."""
    splits = {record.split for record in records} | {"train", "validation", "test"}
    known: dict[_File, list[int]] = defaultdict(list)
    named: dict[str, set[_File]] = defaultdict(set)
    for i, record in enumerate(records):
        name = _WINDOW.sub("", record.source.partition(":")[2] or record.source)
        file = _file(name, {record.split}, record.split)
        known[file].append(i)
        for name in (file.name, _stem(file.name)):
            named[name].add(file)
    wanted = {i: _file(row.file, splits) for i, row in rows.items()}
    table = {i: row.place.rpartition(":")[0] for i, row in rows.items()}
    with_paths = {table[i] for i, file in wanted.items() if file.folders}
    found: dict[int, _File] = {}
    exact, ambiguous = set(), set()
    for i, file in wanted.items():
        alike = named[file.name] | named[_stem(file.name)]
        fit = _fitting(file, alike)
        if file.split and not fit:  # a folder that is called so, and no split
            plain = _file(rows[i].file, set())
            fit = [one for one in _fitting(plain, alike) if one.folders == plain.folders]
        equal = [one for one in fit if one.folders == file.folders]
        if equal and table[i] in with_paths:  # else the table has bare names, of any folder
            fit = equal
            exact.add(i)
        if len(fit) == 1:
            found[i] = fit[0]
        elif fit:
            ambiguous.add(i)
    names: dict[tuple[str, _File], dict[_File, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, file in found.items():
        names[table[i], file][wanted[i]].append(i)
    for rivals in names.values():
        if len(rivals) > 1:  # files of one table that all end like this one
            ambiguous |= {i for same in rivals.values() for i in same if i not in exact}
    return {i: known[file] for i, file in found.items() if i not in ambiguous}, ambiguous


def _fitting(wanted: _File, files: Iterable[_File]) -> list[_File]:
    return [
        file
        for file in files
        if _same_name(file.name, wanted.name)
        and _ends_alike(file.folders, wanted.folders)
        and wanted.split in ("", file.split)
    ]


def _file(path: str, splits: set[str], split: str = "") -> _File:
    """A path without the folder of its split, which may be any of `splits`."""
    *folders, name = PurePosixPath(same_name(path).replace("\\", "/")).parts or ("",)
    folders = [folder for folder in folders if folder != "/"]
    if folders and split_name(folders[0]) in splits:
        split = split_name(folders.pop(0))
    return _File(split, tuple(folders), name)


def _stem(name: str) -> str:
    found = _SUFFIX.fullmatch(name)
    return found[1] if found else name


def _same_name(one: str, other: str) -> bool:
    """Whether two names of files are equal, the suffix aside where only one has it."""
    return one == other or _stem(one) == other or one == _stem(other)


def _ends_alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether the shorter path is the end of the longer."""
    shorter, longer = sorted((one, other), key=len)
    return longer[len(longer) - len(shorter) :] == shorter
