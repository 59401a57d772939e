"""People and things; each function takes (rng, seconds, rate) and returns float64 (T,)."""

from __future__ import annotations

import numpy as np

from clapjax.synthesis.sounds.dsp import (
    add_at,
    band,
    below_limit,
    contour,
    decay,
    drift,
    event_times,
    harmonics,
    impulses,
    log_uniform,
    noise,
    peaks,
    scattered_times,
    struck,
)


def church_bell(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """Slow strokes on a large bell: long partials, the minor third among them, that beat."""
    count = round(seconds * rate)
    strokes = event_times(rng, seconds, rng.uniform(0.9, 1.7), 0.04)
    train = impulses(strokes, rng.uniform(0.75, 1, len(strokes)), count, rate)
    prime = log_uniform(rng, 190, 480)
    # hum, prime, tierce, quint, nominal and three above; the prime is doubled and so beats
    ratios = np.array([0.5, 1, 1.004, 1.2, 1.5, 2, 2.51, 3.01, 4.17])
    ratios *= rng.uniform(0.99, 1.01, len(ratios))
    taus = rng.uniform(0.7, 1.6) * np.array([1.8, 1.2, 1.2, 0.9, 0.5, 0.6, 0.3, 0.25, 0.15])
    weights = np.array([0.5, 0.6, 0.5, 0.7, 0.3, 1, 0.5, 0.5, 0.4])
    weights *= rng.uniform(0.6, 1.3, len(weights))
    blow = noise(rng, count, rate, band(800, 4000)) * decay(train, 0.01, rate)
    return struck(train, prime * ratios, taus, weights, rate) + rng.uniform(0.1, 0.5) * blow


def door_knock(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """Groups of three to five quick dull blows of knuckles on a wooden door."""
    count = round(seconds * rate)
    blows, gap = int(rng.integers(3, 6)), rng.uniform(0.14, 0.24)
    period = blows * gap + rng.uniform(0.25, 0.5)
    starts = event_times(rng, seconds, period, 0.1)
    times = starts[:, None] + gap * np.arange(blows)  # (groups, blows)
    times += rng.uniform(-0.012, 0.012, times.shape)
    train = impulses(times, rng.uniform(0.6, 1, times.shape), count, rate)
    modes = rng.uniform(0.8, 1.3) * np.array([150.0, 270.0, 430.0, 760.0])
    modes *= rng.uniform(0.92, 1.08, 4)
    taus = rng.uniform(0.7, 1.4) * np.array([0.03, 0.022, 0.015, 0.008])
    wood = struck(train, modes, taus, [0.7, 1, 0.7, 0.5], rate)
    knuckle = noise(rng, count, rate, band(500, 2000)) * decay(train, 0.004, rate)
    return wood + rng.uniform(0.2, 0.6) * knuckle


def whistle(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """Blasts of a referee's whistle: one high pure tone, fluttering with the pea inside."""
    count = round(seconds * rate)
    pitch = rng.uniform(2200, 3300)
    flutter_hertz = rng.uniform(24, 42) * (1 + 0.15 * drift(rng, count, rate, 3))  # (T,)
    flutter = np.sin(2 * np.pi / rate * np.cumsum(flutter_hertz))  # (T,)
    shake, bend = rng.uniform(0.1, 0.45), rng.uniform(0.005, 0.03)
    blast, pause = log_uniform(rng, 0.3, 1.3), rng.uniform(0.1, 0.3)
    loudness = np.zeros(count)
    for start in event_times(rng, seconds, blast + pause, rng.uniform(0.0, 0.2)):
        length = round(0.98 * blast * rate)
        edge = 0.03 / blast
        shape = contour(length, [0, edge, 1 - 2 * edge, 1], [0, 1, 0.85, 0])
        add_at(loudness, shape, start, rate)
    loudness = np.minimum(loudness, 1)
    # the tone starts low and rises with the breath
    tone = harmonics(pitch * (0.85 + 0.15 * loudness) * (1 + bend * flutter), [1, 0.12], rate)
    breath = noise(rng, count, rate, peaks([pitch], width=0.25))
    return loudness * (1 + shake * flutter) * (tone + rng.uniform(0.03, 0.15) * breath)


def applause(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """A crowd's random claps, dense, with a few people clapping close by, each at their pace."""
    count = round(seconds * rate)
    claps = scattered_times(rng, seconds, log_uniform(rng, 50, 300))
    train = impulses(claps, rng.exponential(1.0, len(claps)), count, rate)
    room = log_uniform(rng, 750, 1800)
    crowd = noise(rng, count, rate, peaks([room, 2.1 * room], width=0.4))
    mix = crowd * decay(train, rng.uniform(0.008, 0.016), rate)
    loudest = np.abs(mix).max()
    for _ in range(int(rng.integers(2, 5))):
        hands = rng.uniform(800, 1900)  # cupped hands clap lower than flat ones
        claps = event_times(rng, seconds, rng.uniform(0.2, 0.34), 0.08) + rng.uniform(0, 0.2)
        train = impulses(claps, rng.uniform(0.6, 1.2, len(claps)), count, rate)
        # the hands' hollow rings after a burst of noise
        clap = struck(crowd * decay(train, 0.003, rate), [hands], [0.003], [1], rate)
        mix += rng.uniform(0.4, 1) * loudest / (np.abs(clap).max() + 1e-9) * clap
    return mix * (1 + 0.25 * drift(rng, count, rate, 0.8))


def footsteps(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """A steady walk: at each step a dull heel and, a moment later, the grit under the sole."""
    count = round(seconds * rate)
    period = rng.uniform(0.42, 0.62)
    heels = event_times(rng, seconds, period, 0.04)
    levels = rng.uniform(0.8, 1, len(heels)) * np.where(np.arange(len(heels)) % 2, 1, 0.85)
    heel = impulses(heels, levels, count, rate)
    soles = impulses(heels + rng.uniform(0.07, 0.13), levels, count, rate)
    floor = rng.uniform(75, 125)
    thud = struck(heel, [floor, 1.9 * floor], [0.03, 0.018], [1, 0.5], rate)
    thud += noise(rng, count, rate, band(150, 900)) * decay(heel, 0.012, rate) * 0.4
    scuff = decay(soles, rng.uniform(0.02, 0.045), rate)
    scuff = decay(scuff, 0.01, rate) / (0.01 * rate)
    grit = noise(rng, count, rate, band(rng.uniform(1000, 2200), 6000))
    crunch = 1 + drift(rng, count, rate, 150.0)  # (T,) grains breaking
    return thud + rng.uniform(0.2, 0.6) * grit * crunch * scuff


def glass_break(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """A bright crash, then shards that ring high and thin as they fall; and again."""
    count = round(seconds * rate)
    crashes = event_times(rng, seconds, rng.uniform(0.8, 1.3), 0.15)
    train = impulses(crashes, rng.uniform(0.7, 1, len(crashes)), count, rate)
    crash = noise(rng, count, rate, band(1500, 12000)) * decay(train, rng.uniform(0.02, 0.06), rate)
    spread = rng.uniform(0.15, 0.35)
    bottom, top = rng.uniform(1800, 2600), below_limit(rng.uniform(5500, 7500), rate)
    tinkle = np.zeros(count)
    for _ in range(9):
        falls = crashes[:, None] + rng.exponential(spread, (len(crashes), 5))  # (crashes, 5)
        train = impulses(falls, rng.exponential(0.5, falls.shape), count, rate)
        frequency = log_uniform(rng, bottom, top)
        tinkle += struck(train, [frequency], [rng.uniform(0.01, 0.05)], [1.0], rate)
    return 0.8 * crash + rng.uniform(0.4, 0.9) * tinkle
