"""Decode audio files to mono float32 at the model's sample rate (host side)."""

import io
import os

import numpy as np
import soundfile
import soxr

MAX_SECONDS = 3600.0
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
    name = "<bytes>" if isinstance(source, bytes) else os.fspath(source)
    if not isinstance(source, bytes) and not os.path.isfile(source):
        raise AudioError(f"{name}: no such file")
    stream = io.BytesIO(source) if isinstance(source, bytes) else name
    try:
        with soundfile.SoundFile(stream) as file:
            rate, frames = file.samplerate, file.frames
            if frames > UNKNOWN_LENGTH:  # libsndfile cannot read such a stream
                raise AudioError(f"{name}: does not say how long it is; encode it to a file again")
            if frames > MAX_SECONDS * rate:
                raise AudioError(
                    f"{name}: {frames / rate:.0f} s is longer than {MAX_SECONDS:.0f} s; cut it"
                )
            samples = file.read(dtype="float32", always_2d=True)  # (T, channels)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(f"{name}: cannot be decoded ({error})") from error
    return to_mono_at_rate(samples, rate, sample_rate, name=name)


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
      AudioError: wrong shape or type, empty, or NaN/Inf.
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
    if samples.ndim == 2:
        if samples.shape[1] > 32:
            raise AudioError(f"{name}: (T, channels) with {samples.shape[1]} channels; transposed?")
        samples = samples.mean(axis=1)
    with np.errstate(over="ignore"):  # too large for float32 becomes Inf, and is refused
        samples = samples.astype(np.float32, copy=False)
    if not np.isfinite(samples).all():
        raise AudioError(f"{name}: holds NaN or Inf")
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
