"""Audio fingerprints: finds the same recording again at another level, offset, rate or codec.

After Haitsma and Kalker (ISMIR 2002): a frame's bits are the signs of the change, over time, of the
energy difference of neighbouring bands. Ours differ where sound effects differ from music: a bit
counts only where that change is large (`strong`), so that silence, hum and held tones say nothing
instead of saying the same in every clip, and the error that is tolerated depends on how many bits
were compared. Nothing is random. Measured rates are in docs/sources.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.fft

from clapjax.audio.files import to_mono_at_rate

RATE = 16_000  # Hz
HOP, WINDOW = 512, 2048  # samples: 32 ms and 128 ms
LAG = 2  # frames between the two that are compared: 64 ms
BANDS = 33  # 32 differences make a word
LOW, HIGH = 200.0, 7000.0  # Hz
FLOOR = 1e-6  # of the loudest band energy of the clip: what is 60 dB below it is silence
STRONG = 0.25  # natural logarithm of an energy ratio, 1.1 dB

# A match: unrelated clips differ in half of the n compared bits, give or take 0.63 / sqrt(n).
MOST_ERRORS = 0.2  # of the bits; two alarms of one pattern, which are no copies, reach 0.23
LEAST_EVIDENCE = 7.0  # (0.5 - errors) * sqrt(n), 11 standard deviations
KEY_STRONG = 10  # of the 16 bits of a half word, for it to be looked up
MOST_HITS = 2_000_000  # looked at for a query, those of the rarest half words first
CANDIDATES = 16  # alignments that are compared bit by bit


@dataclass(frozen=True)
class Fingerprint:
    """One word of 32 bits for each 32 ms."""

    bits: np.ndarray  # (F,) uint32
    strong: np.ndarray  # (F,) uint32: which bits count


def fingerprint(samples: np.ndarray, sample_rate: int) -> Fingerprint:
    """The fingerprint of a recording.

    Args:
      samples: (T,) float or int16.
      sample_rate: Hz.
    """
    audio = to_mono_at_rate(samples, sample_rate, RATE)
    audio = np.pad(audio, (0, max(0, WINDOW + LAG * HOP - audio.size)))
    frames = np.lib.stride_tricks.sliding_window_view(audio, WINDOW)[::HOP]  # (F', WINDOW)
    window = np.hanning(WINDOW).astype(np.float32)
    edges = np.geomspace(LOW, HIGH, BANDS + 1) * WINDOW / RATE
    bins = np.round(edges).astype(int)
    energy = np.empty((len(frames), BANDS), np.float32)
    for start in range(0, len(frames), 256):  # bounds the memory
        spectrum = scipy.fft.rfft(frames[start : start + 256] * window)
        power = np.square(np.abs(spectrum[:, bins[0] : bins[-1]])).astype(np.float32)
        energy[start : start + 256] = np.add.reduceat(power, bins[:-1] - bins[0], axis=1)
    level = np.log(energy + FLOOR * max(float(energy.max()), 1e-12))
    slope = level[:, :-1] - level[:, 1:]  # (F', 32)
    change = slope[LAG:] - slope[:-LAG]  # (F, 32)
    return Fingerprint(_pack(change > 0), _pack(np.abs(change) > STRONG))


def _pack(bits: np.ndarray) -> np.ndarray:
    """(F, 32) bool to (F,) uint32."""
    return np.packbits(bits, axis=1, bitorder="little").view(np.uint32)[:, 0]


def bit_errors(left: Fingerprint, right: Fingerprint, offset: int) -> tuple[int, int]:
    """(Differing bits, compared bits) with frame i of `left` on frame i + offset of `right`."""
    start, end = max(0, -offset), min(left.bits.size, right.bits.size - offset)
    if end <= start:
        return 0, 0
    one, other = slice(start, end), slice(start + offset, end + offset)
    both = left.strong[one] & right.strong[other]
    wrong = (left.bits[one] ^ right.bits[other]) & both
    return int(np.bitwise_count(wrong).sum()), int(np.bitwise_count(both).sum())


@dataclass(frozen=True)
class Index:
    """Half words of many fingerprints, sorted, with where they come from."""

    prints: tuple[Fingerprint, ...]
    keys: np.ndarray  # (K,) uint32: which half, and its 16 bits
    clips: np.ndarray  # (K,) int64
    frames: np.ndarray  # (K,) int64


@dataclass(frozen=True)
class Match:
    """One recording found in another."""

    clip: int  # which fingerprint of the index
    offset: float  # s; the query's beginning on the time axis of that clip
    errors: float  # share of the compared bits that differ: 0 for a copy, 0.5 by chance
    bits: int  # compared


def build_index(prints: Iterable[Fingerprint]) -> Index:
    """An index over fingerprints, to find others in: at most two entries a frame, 20 bytes each."""
    prints = tuple(prints)
    parts = [(*_keys(one), clip) for clip, one in enumerate(prints)]
    keys = np.concatenate([keys for keys, _, _ in parts] or [np.zeros(0, np.uint32)])
    frames = np.concatenate([frames for _, frames, _ in parts] or [np.zeros(0, np.int64)])
    clips = np.repeat([clip for *_, clip in parts], [len(keys) for keys, *_ in parts])
    order = np.argsort(keys, kind="stable")
    return Index(prints, keys[order], clips[order].astype(np.int64), frames[order])


def _keys(one: Fingerprint) -> tuple[np.ndarray, np.ndarray]:
    """(Half words with enough strong bits, their frames)."""
    keys, frames = [], []
    for half, shift in enumerate((0, 16)):
        strong = (one.strong >> np.uint32(shift)) & np.uint32(0xFFFF)
        chosen = np.flatnonzero(np.bitwise_count(strong) >= KEY_STRONG)
        bits = (one.bits[chosen] >> np.uint32(shift)) & np.uint32(0xFFFF)
        keys.append(bits | np.uint32(half << 16))
        frames.append(chosen)
    return np.concatenate(keys), np.concatenate(frames)


def find_matches(index: Index, query: Fingerprint) -> list[Match]:
    """The recordings of an index that a recording repeats, the surest first, each once."""
    best: dict[int, Match] = {}
    for clip, offset in _candidates(index, query):
        for near in (offset - 1, offset, offset + 1):
            wrong, bits = bit_errors(query, index.prints[clip], near)
            errors = wrong / max(1, bits)
            evidence = (0.5 - errors) * bits**0.5
            if errors <= MOST_ERRORS and evidence >= LEAST_EVIDENCE:
                match = Match(clip, near * HOP / RATE, errors, bits)
                best[clip] = min(match, best.get(clip, match), key=_unlikeliness)
    return sorted(best.values(), key=_unlikeliness)


def _unlikeliness(match: Match) -> float:
    return (match.errors - 0.5) * match.bits**0.5


def _candidates(index: Index, query: Fingerprint) -> list[tuple[int, int]]:
    """(clip, offset in frames) of the alignments with the most half words in common."""
    keys, frames = _keys(query)
    first = np.searchsorted(index.keys, keys, side="left")
    count = np.searchsorted(index.keys, keys, side="right") - first
    rarest = np.argsort(count, kind="stable")
    rarest = rarest[np.cumsum(count[rarest]) <= MOST_HITS]
    first, count, frames = first[rarest], count[rarest], frames[rarest]
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    hits = np.repeat(first, count) + within
    offsets = index.frames[hits] - np.repeat(frames, count)
    span = 2**24  # frames; 4 hours are 2**19
    codes, votes = np.unique(index.clips[hits] * span + offsets + span // 2, return_counts=True)
    chosen = codes[np.argsort(-votes, kind="stable")[:CANDIDATES]]
    return [(int(code // span), int(code % span) - span // 2) for code in chosen]
