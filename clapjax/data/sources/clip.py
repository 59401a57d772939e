"""One labelled recording of a source, and the check that it can be used."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from clapjax.audio.files import AudioError, float_to_int16


@dataclass(frozen=True)
class Clip:
    """A recording that has not been decoded yet."""

    id: str
    label: str  # class name in plain words
    fold: int
    group: str  # recordings cut from one original share it and never straddle train and test
    source: str  # data set and file
    read: Callable[[int], np.ndarray]  # sample rate in Hz -> (T,) float32; raises AudioError


@dataclass(frozen=True)
class Recording:
    """A decoded, usable clip."""

    clip: Clip
    samples: np.ndarray  # (T,) int16 at the rate asked for


@dataclass(frozen=True)
class Rejected:
    """An input that was left out, and why."""

    source: str
    reason: str


def decode_clips(
    clips: Iterable[Clip], sample_rate: int, *, min_seconds: float, silence_db: float
) -> tuple[list[Recording], list[Rejected]]:
    """Decodes every clip and sets aside those that cannot serve as training audio.

    Args:
      clips: what to decode.
      sample_rate: Hz.
      min_seconds: shorter clips are rejected.
      silence_db: clips whose peak is below this many dB of full scale are rejected.

    Returns:
      (usable recordings in order, rejected ones with a reason each).
    """
    good, bad = [], []
    for clip in clips:
        try:
            samples = clip.read(sample_rate)  # (T,)
        except AudioError as error:
            bad.append(Rejected(clip.source, str(error)))
            continue
        peak = float(np.abs(samples).max())
        if samples.size < min_seconds * sample_rate:
            reason = f"only {samples.size} samples ({samples.size / sample_rate:.4f} s)"
            bad.append(Rejected(clip.source, f"{reason}; at least {min_seconds} s are needed"))
        elif peak < 10 ** (silence_db / 20):
            bad.append(Rejected(clip.source, f"silent (peak below {silence_db} dB)"))
        else:
            good.append(Recording(clip, float_to_int16(samples)))
    return good, bad
