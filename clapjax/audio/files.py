"""Decode audio files to mono float32 at the model's sample rate (host side)."""

import io
import math
import os
from collections.abc import Iterator

import numpy as np
import soundfile
import soxr

MAX_SECONDS = 3600.0
BLOCK_SAMPLES = 2**19  # decoded at once, all channels together
MAX_AMPLITUDE = 1000.0  # beyond it a file is damaged, or an array holds 16-bit numbers as floats
MIN_RATE, MAX_RATE = 100, 10_000_000  # Hz; a header that says otherwise is damaged
UNKNOWN_LENGTH = 2**40  # more frames than this: a FLAC written to a pipe, without a length


class AudioError(ValueError):
    """An audio input that cannot be used; the message names it and says why."""


def read_audio(source: str | os.PathLike | bytes, sample_rate: int) -> np.ndarray:
    """Decodes WAV, FLAC, OGG or MP3, mixes it down to mono and resamples it.

    Args:
      source: path of a file, or the file's bytes.
      sample_rate: wanted rate in Hz; soxr's HQ recipe resamples whatever the file has.

    Returns:
      (T,) float32, nominally in [-1, 1].

    Raises:
      AudioError: missing, empty, undecodable, non-finite, or longer than an hour.
    """
    return np.concatenate(list(read_blocks(source, sample_rate, MAX_SECONDS)))


def read_blocks(
    source: str | os.PathLike | bytes, sample_rate: int, max_seconds: float = math.inf
) -> Iterator[np.ndarray]:
    """Decodes piece by piece, so that a long recording takes no more memory than a short one.

    Joined, the pieces are bit for bit what `read_audio` gives; its arguments and errors are the
    same, but for the length: without `max_seconds` a file may be as long as it likes.
    """
    name = "<bytes>" if isinstance(source, bytes) else os.fspath(source)
    if not isinstance(source, bytes) and not os.path.isfile(source):
        raise AudioError(f"{name}: no such file")
    stream = io.BytesIO(source) if isinstance(source, bytes) else name
    try:
        with soundfile.SoundFile(stream) as file:
            rate, frames = file.samplerate, file.frames
            if frames > UNKNOWN_LENGTH:  # libsndfile cannot read such a stream
                raise AudioError(f"{name}: does not say how long it is; encode it to a file again")
            if frames > max_seconds * rate:
                raise AudioError(
                    f"{name}: {frames / rate:.0f} s is longer than {max_seconds:.0f} s; cut it"
                )
            if not MIN_RATE <= rate <= MAX_RATE:
                raise AudioError(f"{name}: damaged; it claims a sample rate of {rate} Hz")
            yield from _blocks(file, sample_rate, name)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(f"{name}: cannot be decoded ({error})") from error


def _blocks(file: soundfile.SoundFile, sample_rate: int, name: str) -> Iterator[np.ndarray]:
    """The rest of an open file, mono at `sample_rate`."""
    rate, size = file.samplerate, max(1, BLOCK_SAMPLES // file.channels)
    # A header may claim any length: nothing is allocated for what it says.
    resampler = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
    given, last, first = 0, False, True
    while not last:
        block = file.read(size, dtype="float32", always_2d=True)  # (T, channels)
        last = len(block) < size
        if first or len(block):
            samples = to_mono_at_rate(block, rate, rate, name=name)
        else:
            samples = np.zeros(0, np.float32)
        if rate != sample_rate:
            samples = resampler.resample_chunk(samples, last=last)
        first, given = False, given + samples.size
        if samples.size:
            yield samples
    if not given:
        raise AudioError(f"{name}: too short to resample from {rate} to {sample_rate} Hz")


def to_mono_at_rate(
    samples: np.ndarray, rate: int, sample_rate: int, *, name: str = "array"
) -> np.ndarray:
    """Mixes (T,) or (T, channels) audio down to mono and resamples it.

    Args:
      samples: float in [-1, 1] or int16, (T,) or (T, channels).
      rate: Hz of `samples`.
      sample_rate: Hz wanted.
      name: what to call the input in an error.

    Returns:
      (T',) float32.

    Raises:
      AudioError: wrong shape or type, empty, NaN/Inf, or a thousand times louder than full scale.
    """
    for value, what in ((rate, "sample rate"), (sample_rate, "wanted sample rate")):
        if not 0 < value < float("inf"):
            raise AudioError(f"{name}: {what} must be positive, not {value}")
    try:
        samples = np.asarray(samples)
    except ValueError as error:
        raise AudioError(f"{name}: not an array of samples ({error})") from error
    if samples.ndim not in (1, 2) or samples.size == 0:
        raise AudioError(
            f"{name}: expected (T,) or (T, channels) samples, T > 0; got {samples.shape}"
        )
    if samples.dtype == np.int16:
        samples = int16_to_float(samples)
    elif not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(f"{name}: expected float or int16 samples, not {samples.dtype}")
    if samples.ndim == 2 and samples.shape[1] > 32:
        raise AudioError(f"{name}: (T, channels) with {samples.shape[1]} channels; transposed?")
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
        if samples.ndim == 2:
            samples = samples.mean(axis=1)
        samples = samples.astype(np.float32, copy=False)
    if not np.isfinite(samples).all():
        raise AudioError(f"{name}: holds NaN or Inf")
    if (peak := np.abs(samples).max()) > MAX_AMPLITUDE:
        raise AudioError(f"{name}: has samples up to {peak:.3g}; float audio is in -1 .. 1")
    if rate != sample_rate:
        samples = soxr.resample(samples, rate, sample_rate, quality="HQ")
        if samples.size == 0:
            raise AudioError(f"{name}: too short to resample from {rate} to {sample_rate} Hz")
    return np.ascontiguousarray(samples)


def float_to_int16(samples: np.ndarray) -> np.ndarray:
    """(T,) float in [-1, 1] to int16: clip, times 32767, truncate (LAION-CLAP's data.py)."""
    return (np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16)


def int16_to_float(samples: np.ndarray) -> np.ndarray:
    """(T,) int16 to float32 in [-1, 1], the inverse of `float_to_int16` up to truncation."""
    return samples.astype(np.float32) / np.float32(32767.0)
