"""Audio of films and phones (MP4, M4A, WebM, Matroska, AAC, WMA, ...), by PyAV, an extra."""

import contextlib
import itertools
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

# (place, bytes there, FFmpeg's name of the format). FFmpeg is told the format rather than asked to
# guess it: it would take text for play lists, and open what they name.
MAGIC = (
    (4, b"ftyp", "mov"),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
    (0, b"\x30\x26\xb2\x75", "asf"),
    (0, b"\xff\xf1", "aac"),
    (0, b"\xff\xf9", "aac"),
    (0, b"ID3", "aac"),
    (0, b"OggS", "ogg"),
    (8, b"WAVE", "wav"),
    (8, b"AVI ", "avi"),
    (0, b"FLV", "flv"),
    (0, b"\x0b\x77", "ac3"),
    (0, b"#!AMR", "amr"),
    (0, b"wvpk", "wv"),
    (0, b"MAC ", "ape"),
    (0, b"caff", "caf"),
)
PREROLL = 0.5  # s decoded before a place sought, until decoders sound as if they had not jumped


def media_format(head: bytes) -> str:
    """FFmpeg's name of the format of a file that begins with `head`; "" of no such."""
    return next((name for at, magic, name in MAGIC if head[at:].startswith(magic)), "")


@contextlib.contextmanager
def media_errors() -> Iterator[None]:
    """Makes FFmpeg's errors ValueErrors; ImportError where PyAV is not installed."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise ValueError(error.strerror or str(error)) from error


class MediaFile:
    """The first audio stream of a file, with what is used of the interface of `SoundFile`.

    Args:
      source: name of a file, or a seekable binary stream.
      kind: as `media_format` tells it.

    Raises:
      ImportError: PyAV is not installed.
      ValueError, av.FFmpegError: it cannot be decoded, or there is no sound in it.
    """

    def __init__(self, source: str | BinaryIO, kind: str):
        import av

        self._file = av.open(source, format=kind)
        try:
            if not self._file.streams.audio:
                raise ValueError("there is no sound in it")
            self._stream = self._file.streams.audio[0]
            self._first = next(self._file.decode(self._stream), None)
            if self._first is None:
                raise ValueError("there is no sound in it")
        except BaseException:
            self._file.close()
            raise
        self.samplerate = self._first.sample_rate
        self.channels = self._first.layout.nb_channels
        # What a bare stream of packets is said to last is a guess.
        length = None if kind in ("aac", "ac3", "amr") else self._file.duration
        self.frames = None if length is None else round(length * 1e-6 * self.samplerate)
        self._planes = av.AudioResampler(format="fltp")
        self._decoded = itertools.chain([self._first], self._file.decode(self._stream))
        self._held = np.zeros((0, self.channels), np.float32)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def read(self, frames: int, **_) -> np.ndarray:
        """The next samples, (T, channels) float32; fewer than `frames` at the end only."""
        parts, length = [self._held], len(self._held)
        while length < frames and (frame := next(self._decoded, None)) is not None:
            for plane in self._planes.resample(frame):
                parts.append(plane.to_ndarray().T)
                length += len(parts[-1])
        samples = np.concatenate(parts)
        self._held = samples[frames:]
        return samples[:frames]

    def seek(self, frame: int) -> None:
        """Goes to a sample, of a file that was just opened.

        Raises:
          ValueError: the file does not say where its parts are.
        """
        place = 0
        if frame > 2 * PREROLL * self.samplerate:
            base, second = self._stream.time_base, frame / self.samplerate - PREROLL
            start = self._first.pts or 0
            self._file.seek(start + int(second / base), stream=self._stream)
            self._decoded = self._file.decode(self._stream)
            there = next(self._decoded, None)
            if there is None:
                return  # the file ends before
            if there.pts is None:
                raise ValueError("it does not say where its parts are")
            place = self._place(float((there.pts - start) * base) * self.samplerate, there.samples)
            if place > frame:
                raise ValueError("it cannot be entered in its middle")
            self._decoded = itertools.chain([there], self._decoded)
        self.read(frame - place)

    def _place(self, time: float, samples: int) -> int:
        """Where a packet begins: Matroska and ASF tell that to a millisecond.

        Packets are of one length, but for the first and the last.
        """
        first = self._first.samples
        exact = first + round((time - first) / samples) * samples
        tick = float(self._stream.time_base) * self.samplerate
        return exact if abs(exact - time) <= tick else round(time)

    def count(self) -> int:
        """Samples, of a file that does not say: its packets are read, but not decoded."""
        self._file.seek(0)
        length = sum(packet.duration or 0 for packet in self._file.demux(self._stream))
        return round(float(length * self._stream.time_base) * self.samplerate)
