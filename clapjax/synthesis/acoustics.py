"""Rooms and background noise for mixtures, every choice from a generator."""

import functools
import math
from pathlib import Path

import numpy as np
from scipy.signal import fftconvolve

from clapjax.audio.files import int16_to_float
from clapjax.data import paths, recordings
from clapjax.data.sources.finding import audio_files


def decaying_noise(
    seconds: float, sample_rate: int, direct_db: float, generator: np.random.Generator
) -> np.ndarray:
    """An impulse response: the direct sound, then white noise that falls by 60 dB in `seconds`.

    Args:
      seconds: reverberation time (RT60).
      sample_rate: Hz.
      direct_db: energy of the direct sound over that of all the noise.
      generator: of the noise.

    Returns:
      (T,) float64; sample 0 is the direct sound, 1.
    """
    size = max(1, round(seconds * sample_rate))
    tail = generator.standard_normal(size) * 10 ** (-3 * np.arange(size) / size)
    tail *= 10 ** (-direct_db / 20) / math.sqrt(np.square(tail).sum())
    return np.concatenate([[1.0], tail])


@functools.lru_cache(maxsize=64)  # the same few files serve many mixtures
def read_noise(file: Path, sample_rate: int) -> np.ndarray:
    """A recording of noise, (T,) float32, not to be written to.

    Raises:
      AudioError: the file cannot be decoded.
      ValueError: it is silent.
    """
    samples = recordings.read_recording(file, sample_rate)
    if not samples.any():
        raise ValueError(f"{file}: is silent")
    samples.flags.writeable = False
    return samples


def read_response(file: Path, sample_rate: int) -> np.ndarray:
    """A measured impulse response from its peak on, the direct sound, which becomes 1.

    Raises as `read_noise` does.
    """
    response = read_noise(file, sample_rate).astype(np.float64)
    start = int(np.abs(response).argmax())
    return response[start:] / response[start]


def reverberate(samples: np.ndarray, response: np.ndarray, longest: int) -> np.ndarray:
    """(T,) float convolved with a response (R,): (min(longest, T + R - 1),), of the same type."""
    return fftconvolve(samples, response)[:longest].astype(samples.dtype)


def noise_of_length(noise: np.ndarray, length: int, generator: np.random.Generator) -> np.ndarray:
    """A stretch of (T,) noise from a random place; a shorter one goes back and forth, seamlessly.

    Args:
      noise: float, or int16, or what has a size and gives int16 for slices.
      length: samples wanted.
      generator: of the place.

    Returns:
      (length,) float.
    """
    start = int(generator.integers(max(1, noise.size - length + 1)))
    missing = max(0, start + length - noise.size)
    stretch = noise[: noise.size] if missing else noise[start : start + length]
    if missing:  # start is 0
        stretch = np.pad(stretch, (0, missing), mode="symmetric")
    return int16_to_float(stretch) if stretch.dtype == np.int16 else stretch


def add_noise(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """(T,) samples plus (T,) noise whose power is `snr_db` below theirs, over the whole length."""
    power, other = (np.square(x, dtype=np.float64).mean() for x in (samples, noise))
    if not other:
        return samples
    return (samples + noise * math.sqrt(power / other) * 10 ** (-snr_db / 20)).astype(samples.dtype)


@functools.lru_cache(maxsize=16)  # a walk through a folder is much slower than a mixture
def list_audio(folder: str, setting: str) -> tuple[Path, ...]:
    """The audio files below a folder that a setting names, sorted.

    Raises:
      ValueError: there are none.
    """
    files = tuple(audio_files(paths.as_path(folder)))
    if not files:
        raise ValueError(f"{setting}: no audio files in {folder}")
    return files
