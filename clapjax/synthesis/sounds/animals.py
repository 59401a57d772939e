"""Animal sounds; each function takes (rng, seconds, rate) and returns float64 (T,), any scale."""

from __future__ import annotations

import numpy as np

from clapjax.synthesis.sounds.dsp import (
    add_at,
    band,
    below_limit,
    contour,
    event_times,
    filtered,
    harmonics,
    impulses,
    log_uniform,
    noise,
    peaks,
    struck,
    white_noise,
)


def _voice(
    rng: np.random.Generator,
    pitch: np.ndarray,
    vowels: list[np.ndarray],
    breath: float,
    rate: int,
) -> np.ndarray:
    """A throat (E,): harmonics of `pitch` (E,) hertz and breath noise, gliding over `vowels`.

    Each vowel holds the centres of its formants in hertz; `breath` is the noise's level.
    """
    count = len(pitch)
    source = harmonics(pitch, np.arange(1, 31) ** -0.9, rate)
    source += breath * white_noise(rng, count, rate)
    places = np.linspace(0, 1, len(vowels)) if len(vowels) > 1 else np.zeros(1)
    sound = np.zeros(count)
    for index, vowel in enumerate(vowels):
        share = contour(count, places, np.eye(len(vowels))[index])  # (E,) a hat over its place
        sound += share * filtered(source, rate, peaks(vowel, width=0.15))
    return sound


def dog_bark(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """Short harsh bursts whose pitch jumps up and falls; small dogs bark higher and faster."""
    mix = np.zeros(round(seconds * rate))
    size = rng.uniform()  # 0 is a small dog, 1 a large one
    pitch = 620 * 0.36**size * rng.uniform(0.9, 1.1)
    length = 0.1 + 0.1 * size + rng.uniform(-0.02, 0.03)
    formants = np.array([780.0, 1600.0, 2900.0]) * 0.65**size * rng.uniform(0.9, 1.1, 3)
    breath = rng.uniform(0.3, 0.9)
    period = length + rng.uniform(0.15, 0.4)
    for start in event_times(rng, seconds, period, rng.uniform(0.05, 0.3)):
        count = round(length * rng.uniform(0.85, 1.15) * rate)
        bend = contour(count, [0, 0.2, 0.5, 1], [0.7, 1.15, 1.0, rng.uniform(0.45, 0.65)])
        bark = _voice(rng, pitch * rng.uniform(0.93, 1.07) * bend, [formants], breath, rate)
        bark *= contour(count, [0, 0.1, 0.35, 0.7, 1], [0, 1, 0.8, 0.25, 0])
        add_at(mix, rng.uniform(0.6, 1) * bark, start, rate)
    return mix


def rooster_crow(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """Three short syllables and a long one that rises and falls: cock-a-doodle-doo."""
    mix = np.zeros(round(seconds * rate))
    length = rng.uniform(1.2, 1.7)
    pitch = rng.uniform(0.8, 1.25)
    formants = np.array([1000.0, 1900.0, 3000.0]) * rng.uniform(0.85, 1.15, 3)
    breath = rng.uniform(0.1, 0.4)
    rough_hertz, rough = rng.uniform(50, 90), rng.uniform(0.1, 0.4)
    points = [0, 0.1, 0.14, 0.24, 0.28, 0.38, 0.43, 0.55, 0.8, 1]
    hertz = np.array([480, 600, 640, 720, 760, 800, 680, 920, 840, 400]) * pitch
    hertz *= rng.uniform(0.93, 1.07, len(points))
    loud = [0, 0, 0.7, 0, 0.8, 0, 0.9, 0, 1, 1, 0.7, 0]
    moments = [0, 0.001, 0.06, 0.12, 0.19, 0.26, 0.33, 0.4, 0.48, 0.7, 0.88, 1]
    for start in event_times(rng, seconds, length + rng.uniform(0.1, 0.4), 0.05):
        count = round(length * rng.uniform(0.95, 1.05) * rate)
        bend = contour(count, points, hertz * rng.uniform(0.98, 1.02))
        crow = _voice(rng, bend, [formants], breath, rate)
        wobble = np.sin(2 * np.pi * rough_hertz / rate * np.arange(count))  # (E,)
        crow *= contour(count, moments, loud) * (1 + rough * wobble)
        add_at(mix, crow, start, rate)
    return mix


def cat_meow(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """A whining voice whose mouth opens and closes: the pitch arches, the vowel goes ee-ah-oo."""
    mix = np.zeros(round(seconds * rate))
    length = rng.uniform(0.5, 0.95)
    pitch = log_uniform(rng, 380, 720)
    mouth = rng.uniform(0.9, 1.2)
    vowels = [
        mouth * np.array([400.0, 2500.0, 3400.0]),
        mouth * np.array([1100.0, 1800.0, 3000.0]),
        mouth * np.array([550.0, 1000.0, 2700.0]),
    ]
    breath, peak = rng.uniform(0.02, 0.15), rng.uniform(0.25, 0.55)
    rise, fall = rng.uniform(0.65, 0.85), rng.uniform(0.6, 0.85)
    for start in event_times(rng, seconds, length + rng.uniform(0.1, 0.5), 0.12):
        count = round(length * rng.uniform(0.85, 1.15) * rate)
        arch = contour(count, [0, peak, 0.7, 1], [rise, 1, 0.93, fall])
        vibrato = 1 + 0.012 * np.sin(2 * np.pi * 6 / rate * np.arange(count))  # (E,)
        bend = pitch * rng.uniform(0.94, 1.06) * arch * vibrato
        meow = _voice(rng, bend, vowels, breath, rate)
        meow *= contour(count, [0, 0.15, peak + 0.1, 0.8, 1], [0, 0.5, 1, 0.5, 0])
        add_at(mix, rng.uniform(0.7, 1) * meow, start, rate)
    return mix


def cricket_chirp(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """Chirps of a few quick pulses of one high, nearly pure tone, all night long."""
    count = round(seconds * rate)
    pitch = below_limit(rng.uniform(3600, 5200), rate)
    pulses, pulse_period = int(rng.integers(3, 6)), rng.uniform(0.022, 0.036)
    period = pulses * pulse_period + rng.uniform(0.1, 0.35)
    starts = event_times(rng, seconds, period, rng.uniform(0.01, 0.06))
    length = round(pulse_period * rng.uniform(0.6, 0.8) * rate)
    pulse = np.sin(np.pi * np.arange(length) / length)  # (P,)
    loudness = np.zeros(count)
    for start in starts:
        for index in range(pulses):
            level = 0.6 + 0.4 * index / pulses
            add_at(loudness, level * pulse, start + index * pulse_period, rate)
    tone = harmonics(np.full(count, pitch), [1, 0.15], rate)
    leaves = noise(rng, count, rate, band(200, 2500))
    return tone * loudness + rng.uniform(0.005, 0.04) * leaves


def bird_song(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """A motif of three to six whistled syllables, each a fast sweep or a trill, sung again."""
    mix = np.zeros(round(seconds * rate))
    top = below_limit(rng.uniform(4200, 6400), rate)
    syllables = int(rng.integers(3, 7))
    lengths = rng.uniform(0.06, 0.16, syllables)
    knots = top * rng.uniform(0.5, 1, (syllables, 3))  # (S, 3) hertz: start, middle, end
    trills = np.where(rng.uniform(size=syllables) < 0.35, rng.uniform(0.03, 0.08), 0)  # (S,)
    trill_hertz = rng.uniform(25, 45)
    gap, second = rng.uniform(0.02, 0.06), rng.uniform(0.0, 0.2)
    period = lengths.sum() + syllables * gap + rng.uniform(0.1, 0.4)
    for start in event_times(rng, seconds, period, 0.1):
        for length, knot, trill in zip(lengths, knots, trills, strict=True):
            count = round(length * rate)
            shake = 1 + trill * np.sin(2 * np.pi * trill_hertz / rate * np.arange(count))  # (E,)
            sweep = np.minimum(contour(count, [0, 0.5, 1], knot) * shake, 0.44 * rate)
            sound = harmonics(sweep, [1, second], rate) * np.sin(np.linspace(0, np.pi, count))
            add_at(mix, rng.uniform(0.6, 1) * sound, start, rate)
            start += length + gap
    return mix


def frog_croak(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """A rattle of low resonant pulses that swells and stops, often in two parts (rib-bit)."""
    count = round(seconds * rate)
    length, pulse_hertz = rng.uniform(0.22, 0.5), rng.uniform(28, 60)
    low = log_uniform(rng, 320, 750)
    high = low * rng.uniform(2.1, 2.8)
    dip = rng.uniform(0.1, 1)  # how much of the level is left between the parts
    times, levels = [], []
    for start in event_times(rng, seconds, length + rng.uniform(0.15, 0.45), 0.15):
        position = np.arange(0, 1, 1 / (length * pulse_hertz))  # (P,) within the croak
        times.append(start + length * position)
        shape = np.interp(position, [0, 0.25, 0.45, 0.55, 0.85, 1], [0.2, 0.8, dip, dip, 1, 0.3])
        levels.append(shape * rng.uniform(0.7, 1) * rng.uniform(0.85, 1.15, len(position)))
    train = impulses(np.concatenate(times), np.concatenate(levels), count, rate)
    taus = rng.uniform(0.7, 1.4) * np.array([0.008, 0.005, 0.003])
    frequencies = [low, high, 1.9 * high]
    pond = noise(rng, count, rate, band(100, 1500))
    return struck(train, frequencies, taus, [1, 0.7, 0.2], rate) + rng.uniform(0, 0.02) * pond
