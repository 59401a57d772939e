"""What reads a clip's audio from where it lies: a file, a member of a tar.

A reader is called with (sample rate in Hz, start in s, length in s or None), returns (T,) float32
and raises as `read_audio` does; what is before and after is not decoded. `seconds()` tells how long
the audio is without decoding it. Readers can be pickled.
"""

import contextlib
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clapjax.audio.files import AudioError, Source, audio_seconds, read_audio
from clapjax.data import recordings


@dataclass(frozen=True)
class FileReader:
    """Audio of a file, here or in a bucket."""

    file: Path

    def __call__(
        self, sample_rate: int, start: float = 0.0, seconds: float | None = None
    ) -> np.ndarray:
        """See the module."""
        return recordings.read_recording(self.file, sample_rate, start, seconds)

    def seconds(self) -> float | None:
        """See the module."""
        with recordings.open_recording(self.file) as source:
            return audio_seconds(source, os.fspath(self.file))


@dataclass(frozen=True)
class MemberReader:
    """Audio of an uncompressed tar, read where it lies."""

    tar: Path
    name: str
    offset: int  # bytes before it in the tar
    size: int  # bytes

    def __call__(
        self, sample_rate: int, start: float = 0.0, seconds: float | None = None
    ) -> np.ndarray:
        """See the module."""
        with self._open() as source:
            if not start and seconds is None:
                source = source.read()
            return read_audio(source, sample_rate, start=start, seconds=seconds, name=self._name())

    def seconds(self) -> float | None:
        """See the module."""
        with self._open() as source:
            return audio_seconds(source, self._name())

    def _name(self) -> str:
        return f"{self.tar}:{self.name}"

    @contextlib.contextmanager
    def _open(self) -> Iterator[Source]:
        errors = recordings.named_errors(self.tar, self._name(), tarfile.TarError)
        with (
            errors,
            self.tar.open("rb") as file,
            tarfile.open(fileobj=file, mode="r:") as archive,
        ):
            file.seek(0, os.SEEK_END)
            if (missing := self.offset + self.size - file.tell()) > 0:
                raise AudioError(f"{self._name()}: ends {missing} bytes before the clip does")
            member = tarfile.TarInfo(self.name)
            member.offset_data, member.size = self.offset, self.size
            with recordings.noted(archive.extractfile(member)) as source:
                yield source
