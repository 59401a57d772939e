"""Loudness of mono audio as ITU-R BS.1770 measures it: K-weighted, gated, in LUFS."""

import math

import numpy as np

BLOCK = 0.4  # s, of a gating block
LOWEST_RATE = 4000  # Hz; below, half of the sample rate comes too near to the weighting's shelf
# The filters of the standard's table at 48 kHz, at any rate (De Man, AES 2014): pyloudnorm's
# "K-weighting" rounds their parameters.
FILTERS = "DeMan"


def loudness(samples: np.ndarray, sample_rate: int) -> float:
    """Integrated loudness of one channel.

    Audio shorter than a block of 0.4 s, which the standard leaves out, is one block of its own
    length: so a click is as loud as a longer sound at its level.

    Args:
      samples: (T,) float in [-1, 1].
      sample_rate: Hz, 4000 or more.

    Returns:
      LUFS; -inf where nothing passes the gate, for silence and where there are no samples.

    Raises:
      ValueError: the sample rate is below 4000 Hz.
    """
    from pyloudnorm import Meter

    if sample_rate < LOWEST_RATE:
        raise ValueError(f"loudness: needs {LOWEST_RATE} Hz or more, not {sample_rate}")
    if not samples.any():
        return -math.inf
    block = min(BLOCK, samples.size / sample_rate)
    meter = Meter(sample_rate, filter_class=FILTERS, block_size=block)
    return float(meter.integrated_loudness(samples.astype(np.float64)))
