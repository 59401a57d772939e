"""The work of a build in units: a stretch of it that one process does, and its finished files.

A unit is done when its `.json` is there: what it was made from (a digest), its files with their
sizes, and what the rest of the build needs to know of it. A build that is started again does only
the units that are not done. Which items a unit has, and so which records a shard has, does not
depend on who does it.
"""

import base64
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clapjax.data import paths
from clapjax.data.fingerprint import Fingerprint, fingerprint
from clapjax.data.paths import as_path
from clapjax.data.records import ShardWriter, serializer
from clapjax.data.schema import Example
from clapjax.data.sources.clip import Clip, Recording, Rejected, decode_clip

BATCH = 64  # clips that are decoded in one unit
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


def divide(split: str, items: Sequence, size: float, unit_size: float) -> list[Unit]:
    """Cuts items into contiguous units of about `unit_size`.

    Args:
      split: of the units.
      items: at least one.
      size: of all items together, in the same measure as `unit_size`.
      unit_size: of one unit.
    """
    count = max(1, min(len(items), int(-(-size // unit_size))))
    edges = [len(items) * i // count for i in range(count + 1)]
    return [Unit(split, i, tuple(items[edges[i] : edges[i + 1]])) for i in range(count)]


@dataclass(frozen=True)
class Work:
    """What is done with a unit: `__call__` yields once for each item, and leaves finished files."""

    folder: str  # where the units' files go
    context: str  # what the result depends on besides the items

    def digest(self, unit: Unit) -> str:
        """Tells whether a unit that is done is the one that is wanted."""
        plain = [
            dataclasses.replace(item, read=None) if isinstance(item, Clip) else item
            for item in unit.items
        ]
        text = f"{type(self).__name__} {self.context} {unit.name} {plain!r}"
        return hashlib.sha256(text.encode()).hexdigest()

    def load(self, unit: Unit) -> dict | None:
        """What is known of a finished unit; None where it is not done, or was another."""
        try:
            known = json.loads(paths.read_text(self._sidecar(unit)))
        except (OSError, ValueError):  # absent, or cut short by a power failure
            return None
        if known["digest"] != self.digest(unit):
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
    """Makes samples and writes them as records."""

    make: Callable[[object], list[Example | Rejected]]  # a pure function of an item
    shard_bytes: int
    prints: bool = False  # whether to keep the fingerprints

    def __call__(self, unit: Unit) -> Iterator[None]:
        """Known afterwards: "shards" (file, records, bytes), "captions", "rejected", "prints"."""
        encode = serializer(unit.split)
        known = {"captions": [], "rejected": [], "prints": []}
        with paths.local_folder(as_path(self.folder), unit.name) as folder:
            writer = ShardWriter(folder, unit.name, self.shard_bytes)
            for item in unit.items:
                for made in self.make(item):
                    if isinstance(made, Rejected):
                        known["rejected"].append((made.source, made.reason))
                        continue
                    writer.write(encode(made))
                    known["captions"] += made.captions + made.negative_captions
                    if self.prints:
                        known["prints"].append(_pack(made.id, made.audio, made.sample_rate))
                yield
            writer.close()
            files = [folder / name for name, _, _ in writer.files]
            self.finish(unit, files, known | {"shards": writer.files})


@dataclass(frozen=True)
class DecodeClips(Work):
    """Decodes clips, which every process mixes up afterwards, to PCM that lies on the disk."""

    sample_rate: int
    min_seconds: float
    silence_db: float
    prints: bool = False

    def __call__(self, unit: Unit) -> Iterator[None]:
        """Known afterwards: "lengths" in samples, 0 of what is in "rejected"; "prints"."""
        known = {"lengths": [], "rejected": [], "prints": []}
        levels = {"min_seconds": self.min_seconds, "silence_db": self.silence_db}
        with paths.local_folder(as_path(self.folder), unit.name) as folder:
            file = folder / f"{unit.name}.pcm"
            with file.open("wb") as pcm:
                for clip in unit.items:
                    found = decode_clip(clip, self.sample_rate, **levels)
                    if isinstance(found, Rejected):
                        known["lengths"].append(0)
                        known["rejected"].append((found.source, found.reason))
                    else:
                        known["lengths"].append(found.samples.size)
                        pcm.write(found.samples.tobytes())
                        if self.prints:
                            packed = _pack(clip.source, found.samples, self.sample_rate)
                            known["prints"].append(packed)
                    yield
            self.finish(unit, [file], known)

    def recordings(self, unit: Unit, known: dict) -> list["StoredClip"]:
        """The usable clips of a unit that is done."""
        file = os.fspath(as_path(self.folder) / f"{unit.name}.pcm")
        found, start = [], 0
        for clip, length in zip(unit.items, known["lengths"], strict=True):
            if length:
                found.append(StoredClip(clip, file, start, length))
            start += length
        return found


@dataclass(frozen=True)
class StoredClip:
    """A decoded clip whose samples are read when they are needed."""

    clip: Clip
    file: str
    start: int  # samples before it in the file
    length: int  # samples

    def load(self) -> Recording:
        """The clip with its samples, (length,) int16.

        Raises:
          OSError: the file is not there, or too short.
        """
        with as_path(self.file).open("rb") as pcm:
            pcm.seek(2 * self.start)
            data = pcm.read(2 * self.length)
        if len(data) != 2 * self.length:
            raise OSError(f"{self.file}: cut short; remove its folder and build again")
        return Recording(self.clip, np.frombuffer(data, np.int16))


class StoredClips(Sequence):
    """Stored clips as a list of recordings, of which none stays in memory."""

    def __init__(self, stored: Sequence[StoredClip]):
        self._stored = stored

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: int) -> Recording:
        return self._stored[index].load()


def _size(file: Path) -> int:
    """Bytes of a file, here or in a bucket."""
    stat = file.stat()
    return stat.st_size if paths.is_local(file) else stat.length


def _pack(name: str, samples: np.ndarray, sample_rate: int) -> tuple[str, str, str]:
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
