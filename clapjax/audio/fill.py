"""Bring a waveform to the model's clip length (host side)."""

import numpy as np


def fill(samples: np.ndarray, clip_samples: int, mode: str) -> np.ndarray:
    """Lengthens a short clip to `clip_samples`; a longer one comes back unchanged.

    Args:
      samples: (T,) any dtype, T > 0.
      clip_samples: wanted length.
      mode: "repeatpad" tiles whole copies, then pads with zeros; "repeat" tiles and cuts;
        "pad" pads with zeros (the three modes of LAION-CLAP's data.py).

    Returns:
      (max(T, clip_samples),) of the same dtype.

    Raises:
      ValueError: empty input or unknown mode.
    """
    length = samples.shape[0]
    if length == 0:
        raise ValueError("fill: the clip is empty")
    if mode not in ("repeatpad", "repeat", "pad"):
        raise ValueError(f"fill: mode must be 'repeatpad', 'repeat' or 'pad', not {mode!r}")
    if length >= clip_samples:
        return samples
    if mode == "repeat":
        return np.resize(samples, clip_samples)
    copies = clip_samples // length if mode == "repeatpad" else 1
    tiled = np.tile(samples, copies)
    return np.pad(tiled, (0, clip_samples - tiled.shape[0]))


def truncate(samples: np.ndarray, clip_samples: int, where: float | None = None) -> np.ndarray:
    """Cuts (T,) to at most `clip_samples`: `where` in [0, 1) of what is spare, or centred."""
    spare = samples.shape[0] - clip_samples
    if spare <= 0:
        return samples
    start = spare // 2 if where is None else int(where * (spare + 1))
    return samples[start : start + clip_samples]
