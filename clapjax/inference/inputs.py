"""What people hold as audio: each kind of it becomes a path, the bytes of a file, or samples."""

import numbers
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from clapjax.audio.files import MAX_CHANNELS, AudioError
from clapjax.data import paths

ARRAYS = ("array", "raw", "waveform")  # keys of datasets, of transformers' pipelines, of torchaudio
RATES = ("sampling_rate", "sample_rate")


class Samples(NamedTuple):
    """A recording in memory."""

    array: np.ndarray  # (T,) or (T, channels), if it is one that can be used
    rate: float | None = None  # Hz; None: nobody said


class Fetched(NamedTuple):
    """A file of a bucket in memory."""

    data: bytes
    name: str


# A path; the bytes of a file, or a file open for reading them; an array (T,), (T, channels) or
# (channels, T) of numpy, JAX or torch; that with its rate, as (rate, array), (array, rate) or a
# dictionary of both; or a dictionary of bytes or path.
Audio = str | os.PathLike | bytes | np.ndarray | tuple | Mapping | Samples
Taken = str | os.PathLike | bytes | Samples | Fetched | AudioError


def each_input(audio: Iterable[Audio] | Audio) -> Iterable[Taken]:
    """What a caller gave, one recording or any iterable of them, as one iterable of `take`.

    Raises:
      AudioError: an array that may be a batch: two clips and one in stereo look the same.
    """
    if _is_single(audio):
        return [take(audio)]
    if hasattr(audio, "__array__"):
        array = _as_array(audio)
        if array.dtype.kind in "OUT":  # paths, or arrays of several lengths; a pandas column
            return [take(item) for item in np.atleast_1d(array).ravel().tolist()]
        if array.ndim > 1 and array.shape[0] > 1 and array.shape[-1] > MAX_CHANNELS:
            one = ", [x] for one" if array.ndim == 2 and array.shape[0] <= MAX_CHANNELS else ""
            raise AudioError(
                f"an array of shape {array.shape}: clips, or one with channels? Give list(x) for "
                f"{array.shape[0]} clips{one}"
            )
        return [take(array)]
    if isinstance(audio, Sequence):
        return map(take, audio)
    if isinstance(audio, Iterable):
        return map(_take_copy, audio)
    return [take(audio)]


def take(item: Audio) -> Taken:
    """One recording as its caller has it, in one of few kinds; files that are open are read.

    What is of no kind comes back as the AudioError that says so, for others need not stop for it.
    """
    if isinstance(item, str | os.PathLike | bytes | Samples | Fetched | AudioError):
        return item
    try:
        if isinstance(item, bytearray | memoryview):
            return bytes(item)
        if hasattr(item, "read"):
            return _read(item)
        if isinstance(item, Mapping):
            return _from_mapping(item)
        if hasattr(item, "get_all_samples"):  # of torchcodec, what datasets 4 decodes with
            heard = item.get_all_samples()
            return Samples(_one(heard.data), heard.sample_rate)
        if pair := _pair(item):
            rate, array = pair
            return Samples(_one(array), rate)
        if hasattr(item, "__array__"):
            array = _as_array(item)
            if array.dtype.kind in "OUT" and array.ndim == 0:
                return take(array.item())
            return Samples(_one(array))
    except AudioError as error:
        return error
    return AudioError(f"expected a path or an array, not {type(item)}")


def at_hand(item: Taken) -> Taken:
    """A file of a bucket ("gs://bucket/dog.wav") is fetched; all else is here already.

    Raises:
      AudioError: it cannot be read.
    """
    if not isinstance(item, str | os.PathLike) or "://" not in os.fspath(item):
        return item
    try:
        return Fetched(paths.as_path(item).read_bytes(), os.fspath(item))
    except (OSError, ValueError) as error:
        raise AudioError(f"{os.fspath(item)}: cannot be read ({error})") from error


def _take_copy(item: Audio) -> Taken:
    """An iterator may use its array again for the next input, while this one waits."""
    taken = take(item)
    return taken._replace(array=taken.array.copy()) if isinstance(taken, Samples) else taken


def _is_single(audio) -> bool:
    """Whether it is one recording, although it could be gone through."""
    one = str | os.PathLike | bytes | bytearray | memoryview | Mapping | Samples | Fetched
    return (
        isinstance(audio, one)
        or hasattr(audio, "read")
        or hasattr(audio, "get_all_samples")
        or _pair(audio) is not None
    )


def _pair(item) -> tuple[float, object] | None:
    """(rate, array) of that or of (array, rate); None of anything else."""
    if not isinstance(item, tuple) or len(item) != 2:
        return None
    for rate, array in (item, item[::-1]):
        number = isinstance(rate, numbers.Real) and not isinstance(rate, bool)
        if number and hasattr(array, "__array__") and not isinstance(array, numbers.Number):
            return rate, array
    return None


def _from_mapping(item: Mapping) -> Taken:
    for key in ARRAYS:
        if item.get(key) is not None:
            rate = next((item[name] for name in RATES if item.get(name) is not None), None)
            return Samples(_one(item[key]), rate)
    for key in ("bytes", "path"):
        if item.get(key) is not None:
            return take(item[key])
    raise AudioError(
        "a dictionary needs 'array' and 'sampling_rate', or 'bytes' or 'path'; this one has "
        f"{', '.join(map(repr, item)) or 'nothing'}"
    )


def _read(file) -> bytes:
    """All of an open file, from its beginning where it can be wound back."""
    try:
        if (seekable := getattr(file, "seekable", None)) is not None and seekable():
            file.seek(0)
        data = file.read()
    except (OSError, ValueError) as error:
        raise AudioError(f"a file that cannot be read ({error})") from error
    if not isinstance(data, bytes | bytearray | memoryview):
        raise AudioError("a file that was opened as text; open it with 'rb'")
    return bytes(data)


def _as_array(item) -> np.ndarray:
    """An array of numpy, JAX, torch or anything that numpy understands, as numpy has it."""
    try:
        if hasattr(item, "detach"):  # a tensor of torch, which may need a gradient or be on a GPU
            item = item.detach().cpu()
            item = item.float() if item.is_floating_point() else item
        array = np.asarray(item)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AudioError(f"not an array of samples ({error})") from error
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _one(array) -> np.ndarray:
    """An array that is one recording: (T,) or (T, channels), which torch and librosa turn round."""
    array = _as_array(array)
    if array.ndim == 2 and array.shape[0] <= MAX_CHANNELS < array.shape[1]:
        return array.T
    return array
