"""One recording of a source with what is published about it, and the check that it can be used."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from clapjax.audio.files import AudioError, float_to_int16


@dataclass(frozen=True)
class TimedEvent:
    """A labelled stretch of a recording."""

    start: float  # s
    end: float  # s
    label: str


@dataclass(frozen=True)
class Clip:
    """A recording that has not been decoded yet."""

    id: str
    label: str  # class name in plain words; "" where there is none, or more than one
    fold: int | None  # None where the data set is not published in folds
    group: str  # recordings cut from one original share it and never straddle train and test
    source: str  # data set and file
    read: Callable[[int], np.ndarray]  # sample rate in Hz -> (T,) float32; raises AudioError
    split: str = ""  # "train", "validation" or "test"; "" where the data set is published whole
    labels: tuple[str, ...] = ()  # class and tag names in plain words
    captions: tuple[str, ...] = ()
    negative_captions: tuple[str, ...] = ()  # the same events in a wrong order
    augmented: tuple[str, ...] = ()  # captions that a model wrote from the tags (LAION's T5)
    events: tuple[TimedEvent, ...] = ()  # by onset; empty where times are not published
    provenance: str = "human"  # of `captions`, as in docs/records.md


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


def decode_clip(
    clip: Clip, sample_rate: int, *, min_seconds: float, silence_db: float
) -> Recording | Rejected:
    """Decodes a clip, or says why it cannot serve as training audio.

    Args:
      clip: what to decode.
      sample_rate: Hz.
      min_seconds: a shorter clip is rejected.
      silence_db: a clip whose peak is below this many dB of full scale is rejected.
    """
    try:
        samples = clip.read(sample_rate)  # (T,)
    except AudioError as error:
        return Rejected(clip.source, str(error))
    if samples.size < min_seconds * sample_rate:
        reason = f"only {samples.size} samples ({samples.size / sample_rate:.4f} s)"
        return Rejected(clip.source, f"{reason}; at least {min_seconds} s are needed")
    if float(np.abs(samples).max()) < 10 ** (silence_db / 20):
        return Rejected(clip.source, f"silent (peak below {silence_db} dB)")
    return Recording(clip, float_to_int16(samples))


def decode_clips(
    clips: Iterable[Clip], sample_rate: int, *, min_seconds: float, silence_db: float
) -> tuple[list[Recording], list[Rejected]]:
    """(Usable recordings in order, rejected clips with a reason each); see `decode_clip`."""
    good, bad = [], []
    for clip in clips:
        found = decode_clip(clip, sample_rate, min_seconds=min_seconds, silence_db=silence_db)
        (good if isinstance(found, Recording) else bad).append(found)
    return good, bad
