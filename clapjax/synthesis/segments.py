"""What is done to the audio of single events: cut, levelled, joined, laid over one another."""

import math

import numpy as np

from clapjax.synthesis.loudness import loudness

LOUD_FRAME = 0.05  # s, over which loudness is looked at when a crop is placed
SOUNDING_DB = 30.0  # what is quieter than the loudest frame by more than this is a pause
PAUSE = 0.25  # s; a shorter one does not end a sound
PEAK = 0.99  # of full scale: nothing is made louder than this


def loudest_moment(samples: np.ndarray, sample_rate: int) -> int:
    """Where the loudest 0.05 s of (T,) int16 samples begin: a multiple of their number."""
    frame = max(1, int(LOUD_FRAME * sample_rate))
    padded = np.pad(samples, (0, -samples.size % frame)).astype(np.float32)
    return int(np.square(padded).reshape(-1, frame).sum(axis=1).argmax()) * frame


def crop_sounding(
    samples: np.ndarray, length: int, sample_rate: int, generator: np.random.Generator
) -> np.ndarray:
    """A random crop that holds the recording's loudest moment, so that no event is cut away.

    Args:
      samples: (T,) int16, or what has a size, is read in slices, and knows its `loudest` moment.
      length: samples wanted; a shorter recording comes back whole.
      sample_rate: Hz.
      generator: places the crop.

    Returns:
      (min(T, length),) int16.
    """
    if samples.size <= length:
        return samples[:]
    frame = max(1, int(LOUD_FRAME * sample_rate))
    known = not isinstance(samples, np.ndarray)
    loudest = samples.loudest if known else loudest_moment(samples, sample_rate)
    low = max(0, loudest + frame - length)
    high = min(samples.size - length, loudest)
    start = int(generator.integers(min(low, high), high + 1))
    return samples[start : start + length]


def join(segments: list[np.ndarray], gaps: list[int]) -> np.ndarray:
    """Joins float segments in time.

    Args:
      segments: (T_i,) float each.
      gaps: samples between neighbours, one fewer than segments; a negative one is a cross-fade of
        that length, with raised-cosine ramps (equal gain).

    Returns:
      (T,) float.
    """
    out = segments[0]
    shortest = min(segment.size for segment in segments)  # of all: any order gives one length
    for segment, gap in zip(segments[1:], gaps, strict=True):
        if gap >= 0:
            out = np.concatenate([out, np.zeros(gap, out.dtype), segment])
            continue
        overlap = min(-gap, shortest)
        ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(overlap) + 0.5) / overlap)
        mixed = out[-overlap:] * (1 - ramp) + segment[:overlap] * ramp
        out = np.concatenate([out[:-overlap], mixed, segment[overlap:]])
    return out


def smooth_edges(samples: np.ndarray, length: int) -> np.ndarray:
    """(T,) float with raised-cosine fades of `length` samples at both ends."""
    length = min(length, samples.size // 2)
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / max(1, length))
    envelope = np.ones(samples.size, samples.dtype)
    envelope[:length] = ramp
    envelope[samples.size - length :] = ramp[::-1]
    return samples * envelope


def sustain(samples: np.ndarray, length: int, sample_rate: int) -> np.ndarray:
    """A sound that goes on for so long: its loudest stretch without a pause, repeated if need be.

    Args:
      samples: (T,) float.
      length: samples wanted.
      sample_rate: Hz.

    Returns:
      (length,) of the same type, without a silence of PAUSE or longer.
    """
    frame = max(1, int(LOUD_FRAME * sample_rate))
    padded = np.pad(samples, (0, -samples.size % frame)).reshape(-1, frame)
    power = np.square(padded, dtype=np.float64).sum(axis=1)
    heard = np.flatnonzero(power >= power.max() * 10 ** (-SOUNDING_DB / 10))
    runs = np.split(heard, np.flatnonzero(np.diff(heard) * LOUD_FRAME > PAUSE) + 1)
    run = next(run for run in runs if power.argmax() in run)
    stretch = samples[run[0] * frame : (run[-1] + 1) * frame]
    if stretch.size < length:
        stretch = smooth_edges(stretch, frame // 10)  # else it would click
    return np.resize(stretch, length)


def gain_to(lufs: float, samples: np.ndarray, sample_rate: int) -> float:
    """What brings samples to a loudness; 1 where they have none, or it is none."""
    now = loudness(samples, sample_rate)
    return 10 ** ((lufs - now) / 20) if math.isfinite(now) and math.isfinite(lufs) else 1.0


def below_peak(samples: np.ndarray) -> np.ndarray:
    """(T,) float, turned down where its peak exceeds 0.99."""
    return samples * min(1.0, PEAK / max(1e-6, float(np.abs(samples).max())))


def lay_over(
    first: np.ndarray,
    second: np.ndarray,
    sample_rate: int,
    together_db: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """Two float events at once: the shorter sounds somewhere within the longer, all of it.

    Args:
      first, second: (T_i,) float.
      sample_rate: Hz.
      together_db: the second becomes as loud as the first up to so many LU; else it might not be
        heard.
      generator: of the difference in loudness and the place.

    Returns:
      (max T_i,) float, peak at most 0.99.
    """
    target = loudness(first, sample_rate) + generator.uniform(-together_db, together_db)
    second = second * gain_to(target, second, sample_rate)
    short, long = sorted((first, second), key=len)
    start = int(generator.integers(long.size - short.size, endpoint=True))
    out = long.copy()
    out[start : start + short.size] += short
    return below_peak(out)
