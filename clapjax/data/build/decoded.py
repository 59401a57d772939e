"""Clips that are decoded once, to PCM on the disk, of which processes then read what they need."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from clapjax.data import paths
from clapjax.data.build.units import Crashed, Unit, Work, pack
from clapjax.data.paths import as_path
from clapjax.data.sources.clip import Clip, Recording, Rejected, decode_clip
from clapjax.synthesis.segments import loudest_moment

BATCH = 64  # clips that are decoded in one unit


@dataclass(frozen=True)
class DecodeClips(Work):
    """Decodes clips, for mixtures of them or for their fingerprints alone."""

    leaves_out = True
    sample_rate: int
    min_seconds: float
    silence_db: float
    keep_pcm: bool = True
    prints: bool = False

    def __call__(self, unit: Unit) -> Iterator[None]:
        """Known afterwards, of each usable clip: "clips", "prints"; of the others: "rejected".

        "clips" has (index in the unit, samples before it in the file, samples, loudest moment).
        """
        known = {"clips": [], "rejected": [], "prints": []}
        levels = {"min_seconds": self.min_seconds, "silence_db": self.silence_db}
        with paths.local_folder(as_path(self.folder), unit.name) as folder:
            file, start = folder / f"{unit.name}.pcm", 0
            with file.open("wb") as pcm:
                for index, clip in enumerate(unit.items):
                    if isinstance(clip, Crashed):
                        found = clip.rejected()
                    else:
                        found = decode_clip(clip, self.sample_rate, **levels)
                    if isinstance(found, Rejected):
                        known["rejected"].append((found.source, found.reason))
                    else:
                        size = found.samples.size
                        loudest = loudest_moment(found.samples, self.sample_rate)
                        known["clips"].append((index, start, size, loudest))
                        start += size
                        if self.keep_pcm:
                            pcm.write(found.samples.tobytes())
                        if self.prints:
                            known["prints"].append(
                                pack(clip.source, found.samples, self.sample_rate)
                            )
                    yield
            self.finish(unit, [file] if self.keep_pcm else [], known)

    def recordings(self, unit: Unit, known: dict) -> list["StoredClip"]:
        """The usable clips of a unit that is done."""
        file = os.fspath(as_path(self.folder) / f"{unit.name}.pcm")
        return [StoredClip(unit.items[index], file, *place) for index, *place in known["clips"]]


@dataclass(frozen=True)
class StoredClip:
    """A decoded clip whose samples are read when they are needed."""

    clip: Clip
    file: str
    start: int  # samples before it in the file
    length: int  # samples
    loudest: int  # as `loudest_moment` has it

    def open(self) -> Recording:
        """The clip with samples that are read in slices."""
        return Recording(self.clip, StoredSamples(self.file, self.start, self.length, self.loudest))


@dataclass(frozen=True)
class StoredSamples:
    """(T,) int16 in a file; a slice is read, not the whole."""

    file: str
    start: int
    size: int
    loudest: int

    def __getitem__(self, part: slice) -> np.ndarray:
        """The samples of a slice without a step.

        Raises:
          OSError: the file is not there, or too short.
        """
        first, last, _ = part.indices(self.size)
        with as_path(self.file).open("rb") as pcm:
            pcm.seek(2 * (self.start + first))
            data = pcm.read(2 * max(0, last - first))
        if len(data) != 2 * max(0, last - first):
            raise OSError(f"{self.file}: cut short; remove its folder and build again")
        return np.frombuffer(data, np.int16)


class StoredClips(Sequence):
    """Stored clips as a list of recordings, of which none stays in memory."""

    def __init__(self, stored: Sequence[StoredClip]):
        self._stored = stored

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: int) -> Recording:
        return self._stored[index].open()
