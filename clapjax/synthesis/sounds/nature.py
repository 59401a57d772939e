"""Weather and water; each function takes (rng, seconds, rate) and returns float64 (T,)."""

from __future__ import annotations

import numpy as np

from clapjax.synthesis.sounds.dsp import (
    add_at,
    band,
    decay,
    drift,
    event_times,
    harmonics,
    impulses,
    log_uniform,
    noise,
    scattered_times,
    struck,
)


def rain(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """A dense patter of tiny drops over a steady rush, with some larger drops near by."""
    count = round(seconds * rate)
    rush = noise(
        rng,
        count,
        rate,
        band(rng.uniform(300, 1400), rng.uniform(2500, 9000), slope=1.5),
    )
    small = scattered_times(rng, seconds, log_uniform(rng, 80, 400))
    train = impulses(small, rng.exponential(1.0, len(small)), count, rate)
    patter = noise(rng, count, rate, band(1500, 9000)) * decay(train, 0.002, rate)
    large = scattered_times(rng, seconds, rng.uniform(4, 15))
    train = impulses(large, rng.uniform(0.3, 1, len(large)), count, rate)
    plop = struck(train, rng.uniform(700, 2400, 3), [0.006] * 3, [0.6] * 3, rate)
    return rush * log_uniform(rng, 0.15, 1.0) + patter + rng.uniform(0.2, 1.5) * plop


def wind(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """Soft low noise in slow gusts, with a howl that rises and falls as they do."""
    count = round(seconds * rate)
    gust = 0.6 + 0.4 * drift(rng, count, rate, rng.uniform(0.5, 1.2))  # (T,)
    body = noise(rng, count, rate, band(80, rng.uniform(150, 550), slope=2.5))
    leaves = log_uniform(rng, 0.04, 0.4) * noise(rng, count, rate, band(500, 1500))
    pitch = log_uniform(rng, 300, 800) * 2 ** (1.8 * (gust - 0.6))  # (T,) hertz
    # a carrier times a slow random curve is a band of noise around the moving pitch
    howl = harmonics(pitch, [1], rate) * drift(rng, count, rate, rng.uniform(15, 40))
    return gust * (body + rng.uniform(2, 4) * gust * howl + gust * leaves)


def thunder(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """A crack that breaks up into a long, deep, uneven rumble; another follows before it dies."""
    count = round(seconds * rate)
    starts = event_times(rng, seconds, rng.uniform(1.8, 2.8), 0.2)
    rolls = rng.uniform(0, rng.uniform(1.0, 1.8), (len(starts), 9))  # (N, 9) later reflections
    rolls[:, 0] = 0
    levels = rng.uniform(0.2, 0.9, rolls.shape)
    levels[:, 0] = 1
    train = impulses(starts[:, None] + rolls, levels, count, rate)
    swell = decay(decay(train, rng.uniform(0.3, 0.6), rate), 0.03, rate) / (0.03 * rate)
    rumble = noise(rng, count, rate, band(45, rng.uniform(70, 150), slope=3))
    tear = noise(rng, count, rate, band(150, rng.uniform(800, 2500), slope=1.5))
    growl = 1 + 0.5 * drift(rng, count, rate, rng.uniform(6, 12))  # (T,)
    crack = decay(train, rng.uniform(0.06, 0.2), rate) * tear * rng.uniform(0.08, 0.5)
    return rumble * swell * growl + crack


def water_drops(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """Single drops into a basin: short, round tones that slide upward, with an echo."""
    mix = np.zeros(round(seconds * rate))
    low = log_uniform(rng, 500, 1100)
    slide = rng.uniform(1.3, 2.0)
    echo, delay = rng.uniform(0.1, 0.4), rng.uniform(0.08, 0.18)
    for start in event_times(rng, seconds, rng.uniform(0.16, 0.4), rng.uniform(0.2, 0.6)):
        tau = rng.uniform(0.015, 0.035)
        axis = np.arange(round(6 * tau * rate)) / rate  # (E,) seconds
        pitch = low * log_uniform(rng, 0.75, 1.5) * slide ** np.minimum(axis / 0.06, 1.5)
        shape = np.minimum(axis / 0.003, 1) * np.exp(-axis / tau) - np.exp(-6)
        drop = rng.uniform(0.4, 1) * harmonics(pitch, [1], rate) * np.maximum(shape, 0)
        add_at(mix, drop, start, rate)
        add_at(mix, echo * drop, start + delay, rate)
    return mix
