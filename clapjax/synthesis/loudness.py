"""Loudness of mono audio as ITU-R BS.1770-5 measures it: K-weighted, gated, in LUFS."""

import math

import numpy as np
from scipy.signal import sosfilt

BLOCK, STEP = 0.4, 0.1  # s, of a gating block and from one to the next
SILENCE = -70.0  # LUFS; a quieter block does not count
RELATIVE_GATE = -10.0  # LU below the loudness of what does
OFFSET = -0.691  # dB, so that a sine at 997 Hz is as loud as its level says
LOWEST_RATE = 4000  # Hz; below, half of the sample rate comes too near to the shelf


def loudness(samples: np.ndarray, sample_rate: int) -> float:
    """Integrated loudness (BS.1770-5, annex 1) of one channel.

    Audio shorter than a block of 0.4 s, which the standard leaves out, is one block of its own
    length, without a gate: so a click is as loud as a longer sound at its level.

    Args:
      samples: (T,) float in [-1, 1].
      sample_rate: Hz, 4000 or more.

    Returns:
      LUFS; -inf where nothing passes the gate, for silence and where there are no samples.

    Raises:
      ValueError: the sample rate is below 4000 Hz.
    """
    if sample_rate < LOWEST_RATE:
        raise ValueError(f"loudness: needs {LOWEST_RATE} Hz or more, not {sample_rate}")
    if not samples.size:
        return -math.inf
    weighted = sosfilt(k_weighting(sample_rate), samples.astype(np.float64))
    block, step = round(BLOCK * sample_rate), round(STEP * sample_rate)
    if weighted.size < block:
        return _decibels(np.square(weighted).mean())
    energy = np.concatenate([[0.0], np.cumsum(np.square(weighted))])
    starts = np.arange(0, weighted.size - block + 1, step)
    power = (energy[starts + block] - energy[starts]) / block  # (blocks,)
    heard = power[power > _power(SILENCE)]
    if not heard.size:
        return -math.inf
    heard = heard[heard > heard.mean() * 10 ** (RELATIVE_GATE / 10)]
    return _decibels(heard.mean())


def k_weighting(sample_rate: int) -> np.ndarray:
    """(2, 6) second-order sections: the shelf of a head, then the high-pass.

    The standard tabulates them at 48 kHz only. These are the bilinear transforms of the analog
    filters behind the table, with the parameters that libebur128 derived from it.
    """
    k, q = math.tan(math.pi * 1681.974450955533 / sample_rate), 0.7071752369554196
    high = 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    first = np.array([high + band * k / q + k * k, 2 * (k * k - high), high - band * k / q + k * k])
    first = [*first, 1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k]
    k, q = math.tan(math.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    scale = 1 + k / q + k * k
    second = [scale, -2 * scale, scale, scale, 2 * (k * k - 1), 1 - k / q + k * k]
    return np.array([np.array(first) / first[3], np.array(second) / scale])


def _decibels(power: float) -> float:
    return OFFSET + 10 * math.log10(power) if power > 0 else -math.inf


def _power(lufs: float) -> float:
    return 10 ** ((lufs - OFFSET) / 10)
