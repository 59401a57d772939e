"""Recordings: files of sound, on this machine or in a bucket."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from clapjax.audio.files import AudioError, Source, read_audio
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
      AudioError: it cannot be opened.
    """
    if is_local(file):
        yield os.fspath(file)
        return
    try:
        if whole:
            yield file.read_bytes()
            return
        with file.open("rb") as stream:
            stream.read(1)  # here, for an error within libsndfile's callbacks would be lost
            stream.seek(0)
            yield stream
    except OSError as error:
        raise AudioError(f"{file}: cannot be read ({error})") from error
