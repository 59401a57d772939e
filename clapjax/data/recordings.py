"""Recordings: files of sound, on this machine or in a bucket."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from clapjax.audio.files import AudioError, Source, read_audio
from clapjax.data.bucket_errors import telling_of
from clapjax.data.paths import is_local


def read_recording(
    file: Path, sample_rate: int, start: float = 0.0, seconds: float | None = None
) -> np.ndarray:
    """`read_audio` for a file that may lie in a bucket; of a window, only that is read."""
    whole = not start and seconds is None
    with open_recording(file, whole) as source:
        return read_audio(source, sample_rate, start=start, seconds=seconds, name=os.fspath(file))


@contextlib.contextmanager
def open_recording(file: Path, whole: bool = False) -> Iterator[Source]:
    """What `read_audio` takes of a file that may lie in a bucket.

    Args:
      file: the file.
      whole: whether all of it will be read.

    Raises:
      AudioError: it cannot be read.
      BucketError: it may be another time.
    """
    if is_local(file):
        yield os.fspath(file)
        return
    with named_errors(file, os.fspath(file)):
        if whole:
            yield file.read_bytes()
            return
        with file.open("rb") as stream, noted(stream) as source:
            yield source


@contextlib.contextmanager
def named_errors(file: Path, name: str, *kinds: type[Exception]) -> Iterator[None]:
    """What is wrong with a recording becomes an AudioError; a bucket that is out of order does not.

    For what is left out of records because of an outage would be missed by nobody.

    Args:
      file: that is read.
      name: of the recording.
      kinds: of errors, besides OSError, that say that the file is damaged.

    Raises:
      AudioError: the file cannot be read.
      BucketError: it may be read another time.
    """
    try:
        with telling_of([os.fspath(file)]):
            yield
    except (OSError, *kinds) as error:
        if getattr(error, "passes", False):
            raise
        raise AudioError(f"{name}: cannot be read ({error})") from error


@contextlib.contextmanager
def noted(stream: BinaryIO) -> Iterator[BinaryIO]:
    """A stream to give to a decoder; an error in it, which the decoder would lose, is raised here.

    A decoder takes it for the end of the stream: what was decoded until then is not all there is.
    """
    source = _Noted(stream)
    try:
        yield source
    finally:
        if source.error is not None:
            raise source.error


class _Noted:
    """A stream that ends at an error, which is kept."""

    def __init__(self, stream: BinaryIO):
        self._stream, self.error = stream, None

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def read(self, *size) -> bytes:
        return self._kept(self._stream.read, b"", *size)

    def readinto(self, buffer) -> int:
        return self._kept(self._stream.readinto, 0, buffer)

    def _kept(self, read: Callable, nothing, *arguments):
        if self.error is not None:
            return nothing
        try:
            return read(*arguments)
        except Exception as error:  # of whatever kind a bucket's client has
            self.error = error
            return nothing
