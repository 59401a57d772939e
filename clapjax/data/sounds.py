"""What a batch holds of sound: samples, or log-mels that are cut in whole hops."""

from dataclasses import dataclass

import numpy as np

from clapjax.audio.config import AudioConfig
from clapjax.audio.fill import fill, truncate
from clapjax.data.config import DataConfig
from clapjax.data.forms import read_sound
from clapjax.data.schema import SILENCE

ALIGNMENT = 64  # bytes, Eigen's


@dataclass(frozen=True)
class Room:
    """The room that a batch has for the sound of a row, in units: samples, or frames of a mel."""

    audio: AudioConfig
    width: int  # units of a row
    mel: bool

    @property
    def dtype(self) -> np.dtype:
        """Of the array."""
        return np.dtype(np.float16 if self.mel else np.int16)

    def empty(self, rows: int) -> np.ndarray:
        """An array of rows, which begins where TensorFlow takes one over without copying it."""
        shape = (rows, self.width, self.audio.mel_bins) if self.mel else (rows, self.width)
        size = self.dtype.itemsize * int(np.prod(shape))
        memory = np.empty(size + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        return memory[start : start + size].view(self.dtype).reshape(shape)

    def cut(self, record, where: float, negative: bool = False) -> np.ndarray:
        """The sound of a record's features, a clip at least and `width` at most.

        Args:
          record: by name.
          where: in [0, 1), the place of a cut among those there are: of log-mels, at whole hops.
          negative: the sound in a wrong order.

        Raises:
          ValueError: there is none, or it is damaged.
        """
        found = read_sound(record, negative)
        if found is None or (found.ndim == 2) != self.mel:
            raise ValueError(f"there is no {'negative_' if negative else ''}audio")
        found = truncate(found, self.width, where)
        if not self.mel:
            return fill(found, self.audio.clip_samples, self.audio.fill)
        if len(found) < self.audio.frames:
            raise ValueError(f"a log-mel of {len(found)} frames, less than a clip has")
        return found

    def put(self, array: np.ndarray, row: int, sound: np.ndarray) -> None:
        """A row's sound, and silence behind it."""
        array[row, : len(sound)] = sound
        array[row, len(sound) :] = SILENCE if self.mel else 0

    def samples(self, lengths: np.ndarray) -> np.ndarray:
        """Lengths in units to samples: of so many has a log-mel so many frames."""
        return (lengths - 1) * self.audio.hop_length if self.mel else lengths


def room_for(kind: str, config: DataConfig, audio: AudioConfig) -> Room:
    """The room of a batch of "pcm" or "mel"."""
    width = audio.clip_samples
    if config.long_clips == "whole":
        width = max(width, round(config.longest_seconds * audio.sample_rate))
    mel = kind == "mel"
    return Room(audio, width // audio.hop_length + 1 if mel else width, mel)
