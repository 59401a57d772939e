"""From audio of any length to pieces of a few static lengths, decoded a little ahead."""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np

from clapjax.audio.config import AudioConfig
from clapjax.audio.files import (
    MAX_SECONDS,
    AudioError,
    audio_seconds,
    read_blocks,
    read_middle,
    to_mono_at_rate,
)
from clapjax.audio.fill import fill
from clapjax.inference.inputs import Fetched, Samples, at_hand, take
from clapjax.inference.telling import warn

THREADS = 4  # that decode
INPUTS_AHEAD = 8  # taken from the caller's iterator before their turn
LONG_SECONDS = 120.0  # a file longer than this is decoded at its turn, not ahead


@dataclass(frozen=True)
class Piece:
    """A stretch of one input, at a static length."""

    index: int  # of the input
    samples: np.ndarray  # (S,) float32
    length: int  # samples that count; zeros behind them
    start: float  # s into the input
    end: float
    last: bool  # of its input


@dataclass(frozen=True)
class Failure:
    """An input without an embedding."""

    index: int
    error: AudioError


@dataclass(frozen=True)
class Cutter:
    """How inputs become pieces.

    `mode` is "truncate" (the middle), "windows" (all of it, a clip every `hop` samples) or "whole"
    (one piece, as long as the smallest power of two of clips that holds it).
    """

    audio: AudioConfig
    mode: str
    rate: int | None = None  # Hz of arrays that come without; None: the model's, with a warning
    hop: int = 0
    grid: float = 1.0  # the last window starts at a multiple of so many samples
    filled: bool = True  # short audio is filled up as in training; else its length is what counts
    max_seconds: float = MAX_SECONDS  # but for windows, which may be many

    def __call__(self, index: int, item) -> Iterator[Piece]:
        """The pieces of input number `index`, of any kind that `take` knows and `at_hand`.

        Raises:
          AudioError: the input cannot be used.
        """
        clip, rate = self.audio.clip_samples, self.audio.sample_rate
        item = take(item)
        blocks = self._blocks(index, item)
        if self.mode == "windows":
            parts = windows(blocks, clip, self.hop, self.grid)
        elif self.mode == "truncate":
            held = isinstance(item, Samples | AudioError)
            source = item.data if isinstance(item, Fetched) else item
            found = None if held else read_middle(source, rate, clip)
            parts = iter([middle(blocks, clip) if found is None else found])
        else:
            parts = iter([(0, self._whole(index, blocks))])
        for (start, samples), following in pairwise(chain(parts, [None])):
            end = (start + samples.size) / rate
            if self.filled:
                samples = fill(samples, clip, self.audio.fill)
                length = samples.size
            else:  # the front end reflects half a window at the end
                length = max(samples.size, self.audio.window_length // 2 + 1)
            if missing := static_length(length, clip) - samples.size:  # else it stays a view
                samples = np.pad(samples, (0, missing))
            yield Piece(index, samples, length, start / rate, end, last=following is None)

    def _whole(self, index: int, blocks: Iterable[np.ndarray]) -> np.ndarray:
        samples = np.concatenate(list(blocks))
        if samples.size > self.max_seconds * self.audio.sample_rate:
            seconds = samples.size / self.audio.sample_rate
            raise AudioError(
                f"audio {index}: {seconds:.0f} s is longer than {self.max_seconds:.0f} s; cut it, "
                "or use long='windows'"
            )
        return samples

    def _blocks(self, index: int, item) -> Iterator[np.ndarray]:
        """One input as consecutive (T,) float32 blocks at the model's rate."""
        name = f"audio {index}"
        if isinstance(item, AudioError):
            raise AudioError(f"{name}: {item}")
        if isinstance(item, Samples):
            said = (rate for rate in (item.rate, self.rate) if rate is not None)
            rate = next(said, self.audio.sample_rate)
            yield to_mono_at_rate(item.array, rate, self.audio.sample_rate, name=name)
            return
        if isinstance(item, Fetched):
            item, name = item
        elif not isinstance(item, bytes):
            name = ""  # the path's own
        limit = math.inf if self.mode == "windows" else self.max_seconds
        yield from read_blocks(item, self.audio.sample_rate, limit, name=name)


def windows(
    blocks: Iterable[np.ndarray], size: int, hop: int, grid: float = 1.0
) -> Iterator[tuple[int, np.ndarray]]:
    """Overlapping windows of a stream, of which little more than one is held.

    Args:
      blocks: consecutive (T,) blocks.
      size: samples of a window.
      hop: samples from the start of a window to that of the next one, at most `size`.
      grid: the last window starts at a multiple of so many samples.

    Yields:
      (start, samples): a window every `hop` samples while there are `size` of them; then, if some
      samples were in none of these, one more that ends with the stream (up to `grid` samples short
      of `size`). A stream shorter than `size` is one short window.
    """
    held, first, start = np.zeros(0, np.float32), 0, 0  # held[0] is sample number `first`
    for block in blocks:
        held = np.concatenate([held, block]) if held.size else block
        total = first + held.size
        while start + size <= total:
            yield start, held[start - first :][:size]
            start += hop
        keep = max(first, min(start, total - size))  # the last window may reach back furthest
        held, first = held[keep - first :], keep
    total = first + held.size
    if start == 0:
        yield 0, held
    elif start - hop + size < total:
        start = round(math.ceil((total - size) / grid) * grid)
        yield start, held[start - first :]


def middle(blocks: Iterable[np.ndarray], size: int) -> tuple[int, np.ndarray]:
    """(start, samples) of the centre `size` samples of a stream; half of the stream is held."""
    held, first, total = deque(), 0, 0
    for block in blocks:
        held.append(block)
        total += block.size
        while first + held[0].size <= (total - size) // 2:
            first += held.popleft().size
    start = max(0, total - size) // 2
    return start, np.concatenate(held)[start - first :][:size]


def static_length(samples: int, clip: int) -> int:
    """The clip times the smallest power of two that holds so many samples."""
    size = clip
    while size < samples:
        size *= 2
    return size


def stream(cut: Cutter, items: Iterable, workers: int = THREADS) -> Iterator[Piece | Failure]:
    """The pieces of all inputs in order; `workers` threads decode a few inputs ahead.

    Little is held at any time: `INPUTS_AHEAD` inputs of at most `LONG_SECONDS` each, or as many as
    there are threads. One warning tells of arrays of which nobody says the rate.
    """
    pool, waiting = ThreadPoolExecutor(workers, "clapjax-decode"), deque()
    warned = cut.rate is not None

    def ready() -> Iterator[Piece | Failure]:
        index, pieces = waiting.popleft()
        try:
            yield from pieces.result()
        except AudioError as error:
            yield Failure(index, error)

    try:
        for index, item in enumerate(items):
            item = take(item)  # here, as a file that is open is one for all threads
            if not warned and isinstance(item, Samples) and item.rate is None:
                warned = True
                warn(
                    f"audio {index}: an array without its rate is taken to be at the model's "
                    f"{cut.audio.sample_rate} Hz; say so with sampling_rate="
                )
            waiting.append((index, pool.submit(_cut_unless_long, cut, index, item)))
            if len(waiting) > max(INPUTS_AHEAD, workers):
                yield from ready()
        while waiting:
            yield from ready()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _cut_unless_long(cut: Cutter, index: int, item) -> Iterable[Piece]:
    """All pieces of a short input; those of a long file come when they are asked for."""
    item = at_hand(item)
    pieces = cut(index, item)
    return pieces if cut.mode != "truncate" and _is_long(item) else list(pieces)


def _is_long(item) -> bool:
    if isinstance(item, Samples | AudioError):
        return False  # an array is in memory already
    source, name = item if isinstance(item, Fetched) else (item, "")
    try:
        seconds = audio_seconds(source, name)
    except AudioError:
        return False  # decoding it will say what is wrong
    return seconds is None or seconds > LONG_SECONDS
