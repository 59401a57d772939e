"""Records with the texts of tables: captions and negatives join the audio that they tell of."""

import dataclasses
import hashlib
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from clapjax.captions.tables import Texts, read_texts, unread_columns
from clapjax.data import paths, records
from clapjax.data.build.units import Unit, Work
from clapjax.data.edits.common import (
    Edit,
    EditRecords,
    Input,
    Progress,
    Shard,
    open_input,
    start,
    units_of,
)
from clapjax.data.edits.match import Matches, Named, match
from clapjax.data.schema import Example
from clapjax.data.selection import join_provenance
from clapjax.data.shards import RecordsError
from clapjax.data.tables import text_key

LISTED = 20  # rows of a report


@dataclass(frozen=True)
class Report:
    """What `annotate` did."""

    counts: dict[str, int]  # records of each split
    negatives: dict[str, int]  # those of them that now have negative captions
    rows: int
    unmatched: int  # rows that belong to no record
    ambiguous: int  # rows whose file could be several
    without: int  # records without a row
    captions_added: int
    captions_removed: int
    negatives_added: int
    negatives_removed: int
    equal: int  # negatives left out since they are captions of the same record
    listed: tuple[str, ...]  # the first rows that were not matched, and why


@dataclass(frozen=True)
class ListTexts(Work):
    """Reads what tables may name a record by; for texts apart, copies all texts of it."""

    shards: dict[str, Shard]
    copy: bool

    def __call__(self, unit: Unit) -> Iterator[None]:
        """Known afterwards: "records", of each its id, source and captions; "shards" of texts."""
        shard, found = self.shards[unit.name], []
        encode = records.serializer(unit.split, form=None)
        with paths.local_folder(paths.as_path(self.folder), unit.name) as folder:
            writer = records.ShardWriter(folder, unit.name, sys.maxsize)
            for example in shard.read_texts():
                found.append((example.id, example.source, example.captions))
                if self.copy:
                    writer.write(encode(example))
                yield
            writer.close()
            files = [folder / name for name, _, _ in writer.files]
            self.finish(unit, files, {"records": found, "shards": writer.files})


@dataclass(frozen=True)
class Annotate(EditRecords):
    """Writes records with more texts, or with others.

    An item is (captions, negatives) for a record, of each (text, provenance); () where no row
    belongs to it.
    """

    replace: bool = False

    def change(self, example: Example, item: tuple, shard: Shard, tally: Counter) -> Example:
        """See `EditRecords`; counts what `Report` names."""
        texts = zip((example.captions, example.negative_captions), example.kinds(), strict=True)
        old = [dict(zip(*pair, strict=True)) for pair in texts]
        given = [dict(part) for part in item] or [{}, {}]
        # Of replaced captions the negatives go as well.
        goes = [self.replace and bool(given[0]), self.replace and any(given)]
        kept = [{} if gone else part for gone, part in zip(goes, old, strict=True)]
        captions, negatives = (a | b | a for a, b in zip(kept, given, strict=True))
        there = set(map(text_key, captions)) if item else set()
        equal = [text for text in negatives if text_key(text) in there]
        negatives = {text: kind for text, kind in negatives.items() if text not in equal}
        new = [captions, negatives]
        for name, before, after in zip(("captions", "negatives"), old, new, strict=True):
            tally[f"{name}_added"] += len(after.keys() - before.keys())
            tally[f"{name}_removed"] += len(before.keys() - after.keys())
        tally["equal"] += len(equal)
        tally["without"] += not item
        tally["with_negatives"] += bool(negatives)
        if new == old:
            return example
        return dataclasses.replace(
            example,
            captions=tuple(captions),
            negative_captions=tuple(negatives),
            provenance=join_provenance([*captions.values(), *negatives.values()]),
        )


def annotate(
    data_dir: str | os.PathLike,
    source: str | os.PathLike,
    tables: Sequence[str | os.PathLike],
    *,
    replace: bool = False,
    apart: bool = False,
    processes: int = 1,
    progress: Progress = lambda items, total, what: items,
) -> Report:
    """Joins tables to records (see `match`); several rows of one record are joined.

    The tokenizer is the one of `source`, so that a model reads both sets alike. A negative that is
    a caption of the same record is left out.

    Args:
      data_dir: the new data set; where it was made in the same way before, nothing is done.
      source: the data set whose records are told anew.
      tables: see `read_texts`.
      replace: captions that a row has go in the place of the record's captions and their
        negatives, negatives in the place of the negatives; not beside them.
      apart: write texts alone; their audio stays in `source`, which must stay where it is.
      processes, progress: as in `build_records`.

    Raises:
      TableError: a table cannot be read.
      RecordsError: no row matches, `data_dir` exists, or `source` is none or damaged.
    """
    whole = open_input(source)
    rows = [row for table in tables for row in read_texts(table)]
    for table in tables:
        if unread := unread_columns(table):
            warnings.warn(f"{table}: nothing reads the columns {', '.join(unread)}", stacklevel=2)
    build = {
        "annotated": {"data_dir": os.fspath(whole.folder), "build": whole.build},
        "tables": [{"file": os.fspath(table), "sha256": _digest(table)} for table in tables],
        "replace": replace,
        "sample_rate": whole.build["sample_rate"],
        "data": whole.build.get("data", {}),
    }
    if apart:
        audio = whole.audio or whole.folder
        build["audio_from"] = _relative(audio, paths.as_path(data_dir))
        build["audio_id"] = records.build_id(audio)
    edit = start(data_dir, [whole], build, processes=processes, progress=progress)
    if edit.finished():
        return _report_of(edit.finish())
    units, shards, matches = _matched(edit, whole, rows, apart)
    form = None if apart else whole.form
    work = Annotate(
        edit.units,
        edit.context,
        shards=shards,
        form=form,
        replace=replace,
    )
    known = edit.do(work, units, "annotating")
    tally = sum((Counter(one["tally"]) for one in known), Counter())
    sizes = whole.sizes()
    negatives = dict.fromkeys(sizes, 0)
    for unit, one in zip(units, known, strict=True):
        negatives[unit.split] += one["tally"]["with_negatives"]
    fields = ("captions_added", "captions_removed", "negatives_added", "negatives_removed")
    report = Report(
        counts=sizes,
        negatives=negatives,
        rows=len(rows),
        unmatched=len(matches.unmatched),
        ambiguous=len(matches.ambiguous),
        **{name: tally[name] for name in (*fields, "equal", "without")},
        listed=_listed(rows, matches),
    )
    more = {"report": asdict(report)}
    return _report_of(edit.write(units, known, whole.copy_tokenizer, form=form, more=more))


def _matched(
    edit: Edit, whole: Input, rows: list[Texts], apart: bool
) -> tuple[list[Unit], dict[str, Shard], Matches]:
    """The units of the new set, their items the texts that each record is given; their shards."""
    units, shards = units_of([whole], "texts.")
    work = ListTexts(edit.units, edit.context, shards, apart)
    listed = edit.do(work, units, "matching")
    named = [
        Named(unit.split.removeprefix("texts."), *record[:2], tuple(record[2]))
        for unit, one in zip(units, listed, strict=True)
        for record in one["records"]
    ]
    matches = match(rows, named)
    if not any(matches.rows):
        edit.discard()
        raise RecordsError(
            f"{rows[0].place}: {_called(rows[0])} is no record of {whole.folder}, nor is any other "
            f"of the {len(rows)} rows; its first is {named[0].id!r} of {named[0].source!r}. Rows "
            "without id and file are joined by caption"
        )
    given = iter([_given([rows[i] for i in some]) for some in matches.rows])
    units, shards = units_of([whole])
    units = [dataclasses.replace(u, items=tuple(next(given) for _ in u.items)) for u in units]
    if apart:  # what was copied of a shard is a shard
        for unit, one in zip(units, listed, strict=True):
            ((name, count, _),) = one["shards"]
            shards[unit.name] = Shard(
                edit.units, unit.split, whole.form, (os.path.join(edit.units, name),), count
            )
    return units, shards, matches


def _given(rows: list[Texts]) -> tuple:
    """(Captions, negatives) of one record's rows, each with its provenance; () without rows."""
    captions: dict[str, str] = {}
    negatives: dict[str, str] = {}
    for row in rows:
        count = len(row.captions)
        if row.id or row.file:  # else its captions only say whose negatives they are
            for text, kind in zip(row.captions, row.kinds[:count], strict=True):
                captions.setdefault(text, kind)
        for text, kind in zip(row.negatives, row.kinds[count:], strict=True):
            negatives.setdefault(text, kind)
    return (tuple(captions.items()), tuple(negatives.items())) if rows else ()


def _listed(rows: list[Texts], matches: Matches) -> tuple[str, ...]:
    why = ((matches.unmatched, "matches no record"), (matches.ambiguous, "could be several"))
    return tuple(
        f"{rows[i].place}: {_called(rows[i])} {text}" for some, text in why for i in some[:LISTED]
    )


def _called(row: Texts) -> str:
    for name in ("id", "file"):
        if value := getattr(row, name):
            return f"{name} {value!r}"
    return f"caption {row.captions[0]!r}" if row.captions else "a row without id, file and caption"


def _report_of(build: dict) -> Report:
    return Report(**build["report"] | {"listed": tuple(build["report"]["listed"])})


def _relative(audio: Path, data_dir: Path) -> str:
    """How a data set of texts names the one with the audio: so that both can be moved together."""
    if not (paths.is_local(audio) and paths.is_local(data_dir)):
        return os.fspath(audio)
    audio, data_dir = audio.resolve(), data_dir.resolve()
    if os.path.commonpath((audio, data_dir)) in map(os.fspath, (audio.parent, data_dir.parent)):
        return os.path.relpath(audio, data_dir)
    return os.fspath(audio)


def _digest(table: str | os.PathLike) -> str:
    return hashlib.sha256(paths.as_path(table).read_bytes()).hexdigest()
