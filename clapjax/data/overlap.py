"""Keeps what is evaluated on out of what is trained on: by role, by id lists, by fingerprints."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clapjax.data import paths
from clapjax.data.fingerprint import Fingerprint, Index, build_index, find_matches, fingerprint
from clapjax.data.forms import heard
from clapjax.data.records import RecordsError, open_builder, read_examples
from clapjax.data.sources.clip import Clip, SourceError
from clapjax.data.sources.common import read_json, read_rows
from clapjax.data.sources.finding import VIDEO_FILE, stem_of
from clapjax.data.tables import SUFFIXES, table_columns

# Columns of published tables, and the collection whose ids they hold.
ID_COLUMNS = {
    "youtube_id": "youtube",  # AudioCaps, Auto-ACD
    "fsid": "freesound",  # UrbanSound8K
    "src_file": "freesound",  # ESC-50
    "sound_id": "freesound",  # Clotho's metadata
    "freesound_id": "freesound",  # LAION-Audio-630K
    "mids": "freesound",  # FSD50K, whose ids are in the column fname
}
# What a split is for, and the words of a name that say that it is held out.
TRAIN_ROLE, HELD_OUT_ROLE = "train", "held_out"
HELD_OUT_WORDS = frozenset(
    ["test", "tests", "testing", "val", "valid", "validation", "dev", "eval", "evaluation"]
    + ["held", "heldout", "holdout"]
)
COLLECTIONS = {"AudioSet": "youtube", "FreeSound": "freesound"}  # of WavCaps' blacklists


def role_of_name(split: str) -> str:
    """Whether a split is trained on or held out, by its name; "" where that does not tell.

    "balanced_train" and "training" are trained on; "valid", "test_clips" and "dev-clean" held out.
    """
    words = re.findall(r"[a-z]+", split.lower())
    train = any("train" in word for word in words)
    held_out = any(word in HELD_OUT_WORDS for word in words)
    if train == held_out:
        return ""
    return TRAIN_ROLE if train else HELD_OUT_ROLE


@dataclass(frozen=True)
class Duplicate:
    """A recording that is in both of two sets."""

    train: str  # id
    test: str  # id
    offset: float  # s; where the first begins on the time axis of the second
    errors: float  # share of differing bits, 0.5 by chance

    def reason(self) -> str:
        """Why the training clip is left out."""
        return f"the same audio as {self.test} (fingerprints differ in {self.errors:.1%})"


def read_ids(file: str | os.PathLike) -> frozenset[str]:
    """The recordings that a list names, as `Clip.group` writes them, e.g. "youtube:dQw4w9WgXcQ".

    Understands: text with one id a line ("youtube:..." or "freesound:..."; # begins a comment);
    WavCaps' blacklists (.json); the tables of AudioCaps, AudioSet, Auto-ACD, UrbanSound8K, ESC-50,
    Clotho (metadata), FSD50K and LAION-Audio-630K (.csv, or .tsv and .jsonl with such columns; all
    rows), and VGGSound's, of which the rows of the test set count. The file may be in a bucket.

    Raises:
      ValueError: the file is missing, empty, or of no such kind.
    """
    file = paths.as_path(file)
    suffix = file.suffix.lower()
    if suffix == ".json":
        ids = _from_blacklist(file)
    elif suffix in SUFFIXES:
        ids = _from_table(file)
    else:
        ids = _from_lines(file)
    if not ids:
        raise SourceError(f"{file}: names no recordings")
    return frozenset(ids)


def _from_blacklist(file: Path) -> set[str]:
    content = read_json(file)
    lists = content.values() if isinstance(content, dict) else [None]
    entries = [entry for ids in lists for entry in (ids if isinstance(ids, list) else [None])]
    plain = all(isinstance(entry, str | int) for entry in entries)
    if not plain or not content.keys() <= COLLECTIONS.keys():
        raise SourceError(f"{file}: expected lists of ids under the names {', '.join(COLLECTIONS)}")
    return {_group(COLLECTIONS[name], str(entry)) for name, ids in content.items() for entry in ids}


def _from_table(file: Path) -> set[str]:
    encoding = "utf-8-sig"
    try:
        paths.read_text(file, encoding)
    except UnicodeDecodeError:
        encoding = "latin-1"  # Clotho's metadata
    except OSError as error:
        raise SourceError(f"{file}: cannot be read ({error.strerror or error})") from error
    first = table_columns(file, encoding)
    for column, collection in ID_COLUMNS.items():
        if column in first:
            rows = read_rows(file, ("fname" if column == "mids" else column,), encoding=encoding)
            names = (row["fname" if column == "mids" else column] for row in rows)
            return {_group(collection, str(name)) for name in names if name}
    if first[0].startswith("# segments csv"):  # AudioSet's
        rows = read_rows(file, ("id", "start", "end", "labels"), header=False, comment="#")
        return {_group("youtube", row["id"]) for row in rows}
    if len(first) == 4 and first[3] in ("train", "test"):  # VGGSound's has no header
        rows = read_rows(file, ("id", "start", "label", "split"), header=False)
        return {_group("youtube", row["id"]) for row in rows if row["split"] == "test"}
    raise SourceError(
        f"{file}: no column of ids; known are {', '.join(ID_COLUMNS)}. A text file with one "
        "youtube:ID or freesound:ID a line will do"
    )


def _from_lines(file: Path) -> set[str]:
    try:
        lines = paths.read_text(file, "utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{file}: cannot be read ({error})") from error
    ids = {line.partition("#")[0].strip() for line in lines} - {""}
    if bare := sorted(name for name in ids if not re.fullmatch(r"[a-z0-9_]+:.+", name)):
        raise SourceError(f"{file}: {bare[0]!r} is not COLLECTION:ID, e.g. freesound:{bare[0]}")
    return ids


def _group(collection: str, name: str) -> str:
    """An id as published, e.g. "Y3Gc8iEAZgwk.wav" or "3Gc8iEAZgwk_000030", as a group."""
    name = stem_of(name.strip())
    name = re.sub(r"^(\d+)\.0$", r"\1", name) if collection == "freesound" else name  # by pandas
    video = VIDEO_FILE.fullmatch(name) if collection == "youtube" else None
    return f"{collection}:{video[1] if video else name}"


def named_in(clip: Clip, lists: dict[str, frozenset[str]]) -> list[str]:
    """The names of the lists that have a clip's recording."""
    return [name for name, ids in lists.items() if clip.group in ids]


@dataclass(frozen=True)
class HeldOut:
    """Recordings of which none may be trained on."""

    ids: tuple[str, ...]
    index: Index


def hold_out(prints: Iterable[tuple[str, Fingerprint]]) -> HeldOut:
    """Indexes (id, fingerprint) pairs."""
    pairs = list(prints)
    return HeldOut(tuple(name for name, _ in pairs), build_index(one for _, one in pairs))


def find_duplicates(train: Iterable[tuple[str, Fingerprint]], test: HeldOut) -> Iterator[Duplicate]:
    """Yields what is in both, in the order of `train`; a recording's surest match first."""
    for name, one in train:
        for match in find_matches(test.index, one):
            yield Duplicate(name, test.ids[match.clip], match.offset, match.errors)


def fingerprint_records(splits: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Fingerprint]]:
    """Yields (DIR/ID, fingerprint) of each example of the splits that `find_splits` found.

    Raises:
      RecordsError: no such data set or split.
    """
    for folder, split in splits:
        for example in read_examples(folder, split):
            yield (
                f"{folder}/{example.id}",
                fingerprint(heard(example.audio, f"{folder}/{example.id}"), example.sample_rate),
            )


def find_splits(name: str, role: str) -> list[tuple[str, str]]:
    """(DIR, split) of what "DIR:SPLIT" names, or of all splits of "DIR" with a role.

    Raises:
      RecordsError: no such data set, or "DIR" has no split of this role.
    """
    folder, colon, split = name.rpartition(":")
    if colon and "/" not in split:
        return [(folder, split)]
    splits = list(open_builder(name).info.splits)
    found = [(name, split) for split in splits if role_of_name(split) == role]
    if not found:
        raise RecordsError(
            f"{name}: no split whose name says {role}; write {name}:SPLIT, one of "
            f"{', '.join(splits)}"
        )
    return found
