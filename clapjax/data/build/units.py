"""The work of a build in units: a stretch of it that one process does, and its finished files.

A unit is done when its `.json` is there: what it was made from (a digest), its files with their
sizes, and what the rest of the build needs to know of it. A build that is started again does only
the units that are not done. Which items a unit has, and so which records a shard has, does not
depend on who does it.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from clapjax.data import paths
from clapjax.data.build.listing import describe
from clapjax.data.fingerprint import Fingerprint, fingerprint
from clapjax.data.forms import Form
from clapjax.data.paths import as_path
from clapjax.data.records import ShardWriter, serializer
from clapjax.data.schema import Example
from clapjax.data.sources.clip import Clip, Rejected

PLACING = "placing"  # a file: all units are done, and their shards are getting their names


@dataclass(frozen=True)
class Unit:
    """A stretch of a split, or of the clips that are decoded."""

    split: str
    number: int
    items: tuple  # arguments of the function that makes a sample

    @property
    def name(self) -> str:
        """Of its files; unique in a build."""
        return f"{self.split}-{self.number:05d}"


@dataclass(frozen=True)
class Crashed:
    """An item whose work killed its process, twice: it is left out."""

    item: object
    reason: str

    def rejected(self) -> Rejected:
        """What is listed of it."""
        return Rejected(getattr(self.item, "source", repr(self.item)), self.reason)


def divide(split: str, items: Sequence, unit_items: int) -> list[Unit]:
    """Cuts items into contiguous units of `unit_items`, the last one shorter.

    Edges do not depend on how many items there are, so that one more at the end is one more unit,
    or another last one.
    """
    starts = range(0, len(items), unit_items)
    return [Unit(split, i, tuple(items[k : k + unit_items])) for i, k in enumerate(starts)]


@dataclass(frozen=True)
class Work:
    """What is done with a unit: `__call__` yields once for each item, and leaves finished files."""

    folder: str  # where the units' files go
    context: str  # what the result depends on besides the items
    leaves_out: ClassVar[bool] = False  # whether it takes `Crashed` items, and lists them

    def digest(self, unit: Unit) -> str:
        """Tells whether a unit that is done is the one that is wanted."""
        items = [item.item if isinstance(item, Crashed) else item for item in unit.items]
        said = [describe(item) if isinstance(item, Clip) else repr(item) for item in items]
        text = f"{type(self).__name__} {self.context} {unit.name} {said!r}"
        return hashlib.sha256(text.encode()).hexdigest()

    def load(self, unit: Unit) -> dict | None:
        """What is known of a finished unit; None where it is not done, or was another."""
        try:
            known = json.loads(paths.read_text(self._sidecar(unit)))
        except (OSError, ValueError):  # absent, or cut short by a power failure
            return None
        if not isinstance(known, dict) or known.get("digest") != self.digest(unit):
            return None
        folder = as_path(self.folder)
        if not (folder.parent / PLACING).exists():
            for name, size in known["files"]:
                if not (folder / name).exists() or _size(folder / name) != size:
                    return None
        return known

    def finish(self, unit: Unit, files: list[Path], known: dict) -> None:
        """Puts the files of a unit in their place, then says that it is done."""
        sizes = [(file.name, file.stat().st_size) for file in files]
        for file in files:
            paths.put_file(file, as_path(self.folder) / file.name)
        known = {"digest": self.digest(unit), "files": sizes} | known
        paths.write_text(self._sidecar(unit), json.dumps(known))

    def _sidecar(self, unit: Unit) -> Path:
        return as_path(self.folder) / f"{unit.name}.json"


@dataclass(frozen=True)
class WriteRecords(Work):
    """Makes examples and writes them as records."""

    leaves_out = True
    make: Callable[[object], list[Example | Rejected]]  # a pure function of an item
    shard_bytes: int
    form: Form  # of their sound
    prints: bool = False  # whether to keep the fingerprints

    def __call__(self, unit: Unit) -> Iterator[None]:
        """Known afterwards: "shards" (file, records, bytes), "captions", "rejected", "prints".

        And "content", a digest of the records.
        """
        encode, content = serializer(unit.split, self.form), hashlib.sha256()
        known = {"captions": [], "rejected": [], "prints": []}
        with paths.local_folder(as_path(self.folder), unit.name) as folder:
            writer = ShardWriter(folder, unit.name, self.shard_bytes)
            for item in unit.items:
                for made in [item.rejected()] if isinstance(item, Crashed) else self.make(item):
                    if isinstance(made, Rejected):
                        known["rejected"].append((made.source, made.reason))
                        continue
                    data = encode(made)
                    content.update(data)
                    writer.write(data)
                    known["captions"] += made.captions + made.negative_captions
                    if self.prints:
                        known["prints"].append(pack(made.id, made.audio, made.sample_rate))
                yield
            writer.close()
            files = [folder / name for name, _, _ in writer.files]
            known |= {"shards": writer.files, "content": content.hexdigest()}
            self.finish(unit, files, known)


def _size(file: Path) -> int:
    """Bytes of a file, here or in a bucket."""
    stat = file.stat()
    return stat.st_size if paths.is_local(file) else stat.length


def pack(name: str, samples: np.ndarray, sample_rate: int) -> tuple[str, str, str]:
    """(name, bits, strong) of a fingerprint, for JSON."""
    one = fingerprint(samples, sample_rate)
    return name, *(base64.b64encode(words.tobytes()).decode() for words in (one.bits, one.strong))


def prints_of(known: list[dict]) -> list[tuple[str, Fingerprint]]:
    """(name, fingerprint) of the clips of units that are done."""
    return [
        (name, Fingerprint(*(np.frombuffer(base64.b64decode(w), np.uint32) for w in words)))
        for unit in known
        for name, *words in unit["prints"]
    ]


def rejected_of(known: list[dict]) -> list[Rejected]:
    """What the units left out, in order."""
    return [Rejected(*pair) for unit in known for pair in unit["rejected"]]
