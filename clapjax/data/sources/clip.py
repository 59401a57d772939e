"""One recording of a source with what is published about it, and the check that it can be used."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clapjax.audio.files import AudioError, float_to_int16


class SourceError(ValueError):
    """A folder that is not laid out as its data set is published; the message says what lacks."""


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
    # (Sample rate in Hz, start=0.0 in s, seconds=None: all) -> (T,) float32; raises AudioError.
    read: Callable[..., np.ndarray]
    split: str = ""  # "train", "validation" or "test"; "" where the data set is published whole
    labels: tuple[str, ...] = ()  # class and tag names in plain words
    captions: tuple[str, ...] = ()
    negative_captions: tuple[str, ...] = ()  # the same events in a wrong order
    augmented: tuple[str, ...] = ()  # captions that a model wrote from the tags (LAION's T5)
    events: tuple[TimedEvent, ...] = ()  # by onset; empty where times are not published
    # Of `captions` and then `negative_captions`: one word for all, or one each, joined by ";".
    provenance: str = "human"

    def duration(self) -> float | None:
        """Seconds, without decoding; None where that is not known.

        Raises:
          AudioError: it cannot be read.
        """
        seconds = getattr(self.read, "seconds", None)
        return seconds() if seconds else None


@dataclass(frozen=True)
class Recording:
    """A decoded, usable clip."""

    clip: Clip
    samples: np.ndarray  # (T,) int16 at the rate asked for


@dataclass(frozen=True)
class Notice:
    """What should be said about a source, though no clip is left out for it."""

    source: str  # file or folder
    text: str


@dataclass(frozen=True)
class Problem:
    """Why a clip has no audio."""

    reason: str


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
