"""Small signal tools the sound classes are built from; all work on float64 arrays, shape (T,).

`rng` is a numpy Generator, `rate` a sample rate in hertz, `times` and `tau` (the time in which a
decay falls to 1/e) are in seconds. A `gain` is a function from frequencies in hertz, (F,), to
linear amplitude factors, (F,).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import lfilter

Gain = Callable[[np.ndarray], np.ndarray]

# Tones keep below this share of the sample rate, so that nothing folds over at half of it.
HIGHEST_TONE = 0.45


def below_limit(frequency: float, rate: int) -> float:
    """`frequency` in hertz, lowered where needed for a tone that must be heard at any rate."""
    return min(frequency, 0.42 * rate)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """One draw between `low` and `high`, even on a logarithmic scale (as pitches are heard)."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


# --- where events lie ---------------------------------------------------------------------------


def event_times(
    rng: np.random.Generator, seconds: float, period: float, jitter: float
) -> np.ndarray:
    """Start times (N,), N >= 1, in [0, seconds): steps of `period` * (1 +- `jitter`)."""
    steps = int(seconds / (period * (1 - jitter))) + 1
    gaps = period * (1 + jitter * rng.uniform(-1, 1, steps))  # (N - 1,)
    first = rng.uniform(0, 0.1) * min(period, seconds)
    times = first + np.concatenate([[0.0], np.cumsum(gaps)])  # (N,)
    return times[times < seconds]


def scattered_times(rng: np.random.Generator, seconds: float, per_second: float) -> np.ndarray:
    """Unordered times (N,), N >= 1, in [0, seconds): a Poisson process of that density."""
    return rng.uniform(0, seconds, max(1, rng.poisson(per_second * seconds)))


def impulses(
    times: np.ndarray, amplitudes: np.ndarray | float, count: int, rate: int
) -> np.ndarray:
    """A train (count,) with each amplitude ((N,) or one for all) added at its time (N,).

    Times outside the train are dropped.
    """
    index = np.round(times * rate).astype(np.int64)  # (N,)
    inside = (index >= 0) & (index < count)  # (N,)
    weights = np.broadcast_to(amplitudes, index.shape)[inside]
    train = np.bincount(index[inside], weights, minlength=count)
    return train.astype(np.float64, copy=False)  # with no impulse at all, bincount gives integers


def add_at(mix: np.ndarray, event: np.ndarray, start: float, rate: int) -> None:
    """Add `event` (E,) into `mix` (T,) in place from `start` seconds on; what sticks out is cut."""
    first = round(start * rate)
    room = mix[first : first + len(event)]
    room += event[: len(room)]


# --- curves over time ---------------------------------------------------------------------------


def contour(count: int, points: Sequence[float], values: Sequence[float]) -> np.ndarray:
    """A curve (count,) through `values` at `points` (fractions of its length, from 0 to 1)."""
    return np.interp(np.linspace(0, 1, count), points, values)


def drift(rng: np.random.Generator, count: int, rate: int, hertz: float) -> np.ndarray:
    """A slow random curve (count,) within -1..1 that turns about `hertz` times a second."""
    knots = rng.uniform(-1, 1, int(count / rate * hertz) + 3)  # (K,)
    position = np.arange(count) * (hertz / rate) + rng.uniform()  # (T,)
    return np.interp(position, np.arange(len(knots)), knots)


def decay(train: np.ndarray, tau: float, rate: int) -> np.ndarray:
    """Exponential decays (T,) started by the impulses of `train` (T,)."""
    return lfilter([1.0], [1.0, -np.exp(-1 / (tau * rate))], train)


# --- tones --------------------------------------------------------------------------------------


def harmonics(pitch: np.ndarray, weights: Sequence[float], rate: int) -> np.ndarray:
    """Sum of sine harmonics (T,) of the moving `pitch` (T,) in hertz; weights[0] is the first's.

    Each harmonic fades out as it nears the limit, so that sweeps neither click nor alias.
    """
    phase = np.cumsum(pitch) * (2 * np.pi / rate)  # (T,)
    previous, current, twice_cosine = (
        np.zeros_like(phase),
        np.sin(phase),
        2 * np.cos(phase),
    )
    lowest, highest = pitch.min() / rate, pitch.max() / rate
    total = np.zeros_like(phase)
    for order, weight in enumerate(weights, start=1):
        if order * lowest >= HIGHEST_TONE:
            break
        if order * highest > HIGHEST_TONE - 0.03:
            gate = np.clip((HIGHEST_TONE - order / rate * pitch) / 0.03, 0, 1)  # (T,)
            total += weight * gate * current
        else:
            total += weight * current
        # sin((k+1)x) = 2 cos(x) sin(kx) - sin((k-1)x): no sine per harmonic
        previous, current = current, twice_cosine * current - previous
    return total


def struck(
    train: np.ndarray,
    frequencies: Sequence[float],
    taus: Sequence[float],
    weights: Sequence[float],
    rate: int,
) -> np.ndarray:
    """Decaying sine modes (T,) started by the impulses of `train` (T,); one entry a mode."""
    total = np.zeros_like(train)
    for frequency, tau, weight in zip(frequencies, taus, weights, strict=True):
        if frequency >= HIGHEST_TONE * rate:
            continue
        angle, radius = 2 * np.pi * frequency / rate, np.exp(-1 / (tau * rate))
        # the impulse response of this two-pole filter is radius^n sin(angle n)
        total += lfilter(
            [0.0, weight * radius * np.sin(angle)],
            [1.0, -2 * radius * np.cos(angle), radius * radius],
            train,
        )
    return total


# --- spectra ------------------------------------------------------------------------------------


def band(low: float, high: float, slope: float = 2.0) -> Gain:
    """A gain that is flat from `low` to `high` hertz and falls by `slope` orders outside."""

    def gain(frequency: np.ndarray) -> np.ndarray:
        frequency = np.maximum(frequency, 1.0)
        return 1 / ((1 + (low / frequency) ** slope) * (1 + (frequency / high) ** slope))

    return gain


def peaks(centres: Sequence[float], width: float, floor: float = 0.02) -> Gain:
    """A gain with resonances at `centres` (hertz), ever weaker, `width` of each centre wide."""

    def gain(frequency: np.ndarray) -> np.ndarray:
        total = np.full_like(frequency, floor)
        for order, centre in enumerate(centres):
            total += 0.7**order / (1 + ((frequency - centre) / (width * centre)) ** 2)
        return total

    return gain


def filtered(signal: np.ndarray, rate: int, gain: Gain) -> np.ndarray:
    """`signal` (T,) with its spectrum multiplied by `gain`; its phases stay."""
    size = next_fast_len(len(signal), real=True)
    frequency = np.arange(size // 2 + 1) * (rate / size)  # (F,)
    return irfft(rfft(signal, size) * gain(frequency), size)[: len(signal)]


def white_noise(rng: np.random.Generator, count: int, rate: int) -> np.ndarray:
    """White Gaussian noise (count,) of unit power below 8 kHz, whatever the rate.

    Drawn from a child of `rng`, so that later draws do not depend on the sample rate.
    """
    return rng.spawn(1)[0].standard_normal(count) * np.sqrt(rate / 16000)


def noise(rng: np.random.Generator, count: int, rate: int, gain: Gain) -> np.ndarray:
    """Gaussian noise (count,) of unit power whose spectrum follows `gain`.

    Drawn from a child of `rng`, as white_noise is.
    """
    size = next_fast_len(count, real=True)
    bins = size // 2 + 1
    frequency = np.arange(bins) * (rate / size)  # (F,)
    parts = rng.spawn(1)[0].standard_normal((bins, 2))  # (F, 2) real, imaginary
    spectrum = parts.view(np.complex128)[:, 0] * gain(frequency)  # (F,)
    result = irfft(spectrum, size)[:count]
    return result / np.sqrt(np.mean(result**2))
