"""Machine sounds; each function takes (rng, seconds, rate) and returns float64 (T,), any scale."""

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
    filtered,
    harmonics,
    impulses,
    log_uniform,
    noise,
    peaks,
    struck,
)


def siren(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """A horn whose pitch sweeps slowly up and down, over about an octave, without a pause."""
    count = round(seconds * rate)
    low = rng.uniform(420, 720)
    octaves = rng.uniform(0.7, 1.4)
    cycles = log_uniform(rng, 0.3, 1.6) / rate * np.arange(count) + rng.uniform()  # (T,)
    triangle = 1 - np.abs(2 * (cycles % 1) - 1)  # (T,) 0..1
    sine = 0.5 - 0.5 * np.cos(2 * np.pi * cycles)  # (T,) 0..1
    blend = rng.uniform()
    sweep = low * 2 ** (octaves * (blend * triangle + (1 - blend) * sine))  # (T,) hertz
    tone = harmonics(sweep, np.arange(1, 9) ** -rng.uniform(0.8, 1.8), rate)
    tone = filtered(tone, rate, peaks([rng.uniform(900, 1600)], width=0.8, floor=0.1))
    return tone * (1 + 0.2 * drift(rng, count, rate, 2.0))


def engine(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """A running motor: unequal explosions of four cylinders, revving a little, in an exhaust."""
    count = round(seconds * rate)
    firing = log_uniform(rng, 28, 75) * (1 + rng.uniform(0.03, 0.25) * drift(rng, count, rate, 0.7))
    phase = np.cumsum(firing) / rate  # (T,) explosions so far
    order = np.arange(int(phase[-1]) + 1)  # (N,)
    times = np.interp(order, phase, np.arange(count) / rate)  # (N,)
    cylinders = rng.uniform(0.5, 1, 4)
    levels = cylinders[order % 4] * (1 + 0.1 * rng.uniform(-1, 1, len(order)))  # (N,)
    train = impulses(times, levels, count, rate)
    pipe = np.array([85.0, 210.0, 480.0, 1100.0]) * rng.uniform(0.8, 1.25, 4)
    weights = np.array([1, 0.9, 0.6, 0.35]) * rng.uniform(0.6, 1.2, 4)
    roar = struck(train, pipe, [0.02, 0.012, 0.007, 0.004], weights, rate)
    valves = noise(rng, count, rate, band(600, 3000)) * (0.3 + decay(train, 0.006, rate))
    return roar + rng.uniform(0.05, 0.15) * valves


def car_horn(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """Honks of a steady, bright chord of two reeds with short pauses."""
    count = round(seconds * rate)
    low = rng.uniform(320, 470)
    ratio = rng.choice([1.19, 1.25, 1.33]) * rng.uniform(0.99, 1.01)
    weights = np.arange(1, 13) ** -rng.uniform(0.3, 0.8)
    chord = harmonics(np.full(count, low), weights, rate)
    chord += rng.uniform(0.7, 1) * harmonics(np.full(count, low * ratio), weights, rate)
    chord = filtered(chord, rate, peaks([rng.uniform(1200, 2600)], width=0.6, floor=0.2))
    honk, pause = log_uniform(rng, 0.25, 1.2), rng.uniform(0.1, 0.3)
    mask = np.zeros(count)
    for start in event_times(rng, seconds, honk + pause, rng.uniform(0, 0.1)):
        length = round(honk * rate)
        edge = min(0.3, 0.015 / honk)
        add_at(mask, contour(length, [0, edge, 1 - edge, 1], [0, 1, 1, 0]), start, rate)
    return chord * np.minimum(mask, 1)


def helicopter(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """Rotor blades chopping the air ten to sixteen times a second over a turbine's whine."""
    count = round(seconds * rate)
    period = 1 / rng.uniform(9.5, 16)
    times = event_times(rng, seconds, period, 0.01)
    train = impulses(times, rng.uniform(0.8, 1, len(times)), count, rate)
    modes = [rng.uniform(55, 85), rng.uniform(120, 180)]
    thump = struck(train, modes, [0.02, 0.015], [1, 0.6], rate)
    chop = decay(train, rng.uniform(0.015, 0.03), rate)
    chop = decay(chop, 0.005, rate) / (0.005 * rate)  # the air gives way softly
    air = noise(rng, count, rate, band(150, log_uniform(rng, 600, 2600), slope=1.5))
    whine = harmonics(
        np.full(count, rng.uniform(1300, 2400)) * (1 + 0.01 * drift(rng, count, rate, 1)),
        [1],
        rate,
    )
    near = 1 + 0.3 * drift(rng, count, rate, 0.5)  # (T,) it comes and goes
    air *= chop + log_uniform(rng, 0.04, 0.3)
    return near * (log_uniform(rng, 0.4, 1.3) * thump + air + rng.uniform(0.0, 0.05) * whine)


def telephone_ring(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """A clapper rattling between two small gongs, in rings of about a second."""
    count = round(seconds * rate)
    length, pause = rng.uniform(0.8, 1.4), rng.uniform(0.25, 0.5)
    strokes = rng.uniform(18, 28)
    starts = event_times(rng, seconds, length + pause, 0.02)
    order = np.arange(round(length * strokes))  # (N,)
    times = starts[:, None] + order / strokes  # (rings, N)
    levels = rng.uniform(0.8, 1, times.shape)
    gong = log_uniform(rng, 900, 1500)
    partials = np.array([1, 2.3, 3.1])
    ring = np.zeros(count)
    for side, ratio in enumerate([1.0, rng.uniform(1.12, 1.3)]):
        train = impulses(times[:, side::2], levels[:, side::2], count, rate)
        taus = rng.uniform(0.06, 0.15) * np.array([1, 0.7, 0.5])
        ring += struck(train, gong * ratio * partials, taus, rng.uniform(0.4, 1, 3), rate)
    return ring


def clock_tick(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """Sharp, exactly regular clicks of a small mechanism, tick and tock in turn."""
    count = round(seconds * rate)
    times = event_times(rng, seconds, log_uniform(rng, 0.22, 0.55), 0.0)
    pitch = rng.uniform(2200, 3300)
    tock = rng.uniform(0.75, 0.95)
    case = rng.uniform(500, 900)
    sound = np.zeros(count)
    for side, ratio in enumerate([1.0, tock]):
        # each click is the pallet's blow and, at once, a weaker rebound
        blows = times[side::2]
        train = impulses(blows, 1.0, count, rate) + impulses(blows + 0.012, 0.4, count, rate)
        modes = ratio * np.array([case, pitch, 1.7 * pitch])
        sound += struck(train, modes, [0.008, 0.005, 0.003], [0.25, 1, 0.6], rate)
    return sound


def keyboard_typing(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """Irregular, dry clacks of keys going down and, softer, up again; now and then the space."""
    count = round(seconds * rate)
    presses = event_times(rng, seconds, rng.uniform(0.1, 0.18), 0.6)
    space = rng.uniform(size=len(presses)) < 0.17  # (N,)
    levels = rng.uniform(0.4, 1, len(presses))
    down = impulses(presses, levels, count, rate)
    up = impulses(presses + rng.uniform(0.05, 0.09, len(presses)), 0.35 * levels, count, rate)
    centre = below_limit(rng.uniform(2200, 4200), rate)
    click = noise(rng, count, rate, peaks([centre, 0.45 * centre], width=0.35))
    click *= decay(down + up, rng.uniform(0.003, 0.007), rate)
    body = rng.uniform(260, 480)
    thock = struck(down, [body, 2.2 * body], [0.009, 0.006], [0.5, 0.4], rate)
    bar = struck(impulses(presses[space], 1.0, count, rate), [0.6 * body], [0.02], [0.7], rate)
    return click + rng.uniform(0.3, 0.8) * thock + bar


def steam_hiss(rng: np.random.Generator, seconds: float, rate: int) -> np.ndarray:
    """High-pitched rushing noise of escaping steam, let out in surges that never quite stop."""
    count = round(seconds * rate)
    edge = min(rng.uniform(2800, 4500), 0.3 * rate)
    rush = noise(rng, count, rate, band(edge, 20000, slope=rng.uniform(3, 6)))
    surges = event_times(rng, seconds, rng.uniform(0.7, 2.0), 0.2)
    train = impulses(surges, rng.uniform(0.5, 1, len(surges)), count, rate)
    pressure = decay(train, rng.uniform(0.25, 0.8), rate)
    pressure = decay(pressure, 0.015, rate) / (0.015 * rate)  # the valve opens softly
    gurgle = 1 + 0.25 * drift(rng, count, rate, 25.0)  # (T,)
    return rush * gurgle * (rng.uniform(0.3, 0.9) + pressure)
