"""Fingerprints: the same recording is found through what happens to files, another one never."""

import io

import numpy as np
import pytest
import soundfile
import soxr

from clapjax.data import fingerprint as fp
from clapjax.synthesis.sounds import SOUND_CLASSES, render

RATE = 32_000
SECONDS = 3.0
EACH = 2  # recordings of each class


@pytest.fixture(scope="module")
def sounds() -> dict[str, np.ndarray]:
    return {
        f"{name} {i}": render(name, (5, i), SECONDS, RATE)
        for name in SOUND_CLASSES
        for i in range(EACH)
    }


@pytest.fixture(scope="module")
def prints(sounds) -> dict[str, fp.Fingerprint]:
    return {name: fp.fingerprint(samples, RATE) for name, samples in sounds.items()}


def _through(samples: np.ndarray, **settings) -> np.ndarray:
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, **settings)
    stream.seek(0)
    return soundfile.read(stream, dtype="float32")[0]


def _resampled(samples: np.ndarray, rate: int) -> np.ndarray:
    return soxr.resample(soxr.resample(samples, RATE, rate), rate, RATE)


def _mp3(samples: np.ndarray, level: float = 0.5) -> np.ndarray:
    settings = {"format": "MP3", "subtype": "MPEG_LAYER_III", "compression_level": level}
    return _through(samples, **settings)


def _ogg(samples: np.ndarray, level: float = 0.4) -> np.ndarray:
    return _through(samples, format="OGG", subtype="VORBIS", compression_level=level)


# What happens to a file, and where its beginning then is on the time axis of the original.
CHANGES = {
    "copy": (lambda x: x, 0.0),
    "26 dB quieter": (lambda x: 0.05 * x, 0.0),
    "polarity": (lambda x: -x, 0.0),
    "35 ms cut off": (lambda x: x[1111:], 1111 / RATE),
    "243 ms of silence first": (lambda x: np.pad(x, (7777, 0)), -7777 / RATE),
    "1.5 s from the middle": (lambda x: x[RATE // 2 : 2 * RATE], 0.5),
    "over 44.1 kHz": (lambda x: _resampled(x, 44_100), 0.0),
    "over 16 kHz": (lambda x: _resampled(x, 16_000), 0.0),
    "over 8 kHz": (lambda x: _resampled(x, 8000), 0.0),
    "MP3": (_mp3, 0.0),
    "bad MP3": (lambda x: _mp3(x, 0.9), 0.0),
    "Ogg": (_ogg, 0.0),
    "bad Ogg": (lambda x: _ogg(x, 0.9), 0.0),
    "several": (lambda x: _mp3(_resampled(0.2 * x[1111:], 16_000)), 1111 / RATE),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_recording_is_found(sounds, prints, change):
    alter, offset = CHANGES[change]
    index = fp.build_index(prints.values())
    names = list(prints)
    worst = 0.0
    for number, name in enumerate(names):
        if number % EACH:
            continue
        found = fp.find_matches(index, fp.fingerprint(alter(sounds[name]), RATE))
        assert [names[match.clip] for match in found] == [name]
        assert abs(found[0].offset - offset) <= fp.HOP / fp.RATE
        worst = max(worst, found[0].errors)
    if change in ("copy", "polarity"):
        assert worst == 0.0
    assert worst < fp.MOST_ERRORS - 0.03  # none by a hair


def test_unrelated_recordings_never_match(prints):
    """No false alarm among all pairs, of one class or two; docs/sources.md has the figures."""
    names = list(prints)
    index = fp.build_index(prints.values())
    for number, name in enumerate(names):
        assert [names[m.clip] for m in fp.find_matches(index, prints[name])] == [name], number


def test_unrelated_bits_differ_by_halves(prints):
    """What the threshold rests on: errors of 1/2 give or take 0.63 / sqrt(n), and no fat tail."""
    ones = list(prints.values())
    evidence, close = [], 0
    for number, one in enumerate(ones):
        other = ones[(number * 7 + 3) % len(ones)]
        for offset in range(-60, 61, 3):
            wrong, bits = fp.bit_errors(one, other, offset)
            if one is not other and bits >= 100:
                evidence.append((0.5 - wrong / bits) * bits**0.5)
                close += wrong / bits <= fp.MOST_ERRORS
    assert len(evidence) > 1500
    assert abs(np.mean(evidence)) < 0.1
    assert 0.5 < np.std(evidence) < 0.75
    assert max(evidence) < fp.LEAST_EVIDENCE
    assert close < 0.001 * len(evidence)


def test_silence_and_held_tones_match_nothing(sounds, prints):
    time = np.arange(3 * RATE) / RATE
    hum = [np.sin(2 * np.pi * 440 * time), np.sin(2 * np.pi * 441 * time + 1)]
    for samples in (np.zeros(3 * RATE), np.full(3 * RATE, 0.3), *hum):
        one = fp.fingerprint(samples.astype(np.float32), RATE)
        assert np.bitwise_count(one.strong[8:-8]).sum() == 0
    bark, drop = sounds["dog bark 0"][: RATE // 2], sounds["glass break 0"][: RATE // 2]
    padded = [np.pad(x, (RATE, 2 * RATE)) for x in (bark, drop)]
    index = fp.build_index([fp.fingerprint(padded[0], RATE)])
    assert fp.find_matches(index, fp.fingerprint(padded[1], RATE)) == []
    (match,) = fp.find_matches(index, fp.fingerprint(padded[0][RATE // 2 :] * 0.5, RATE))
    assert abs(match.offset - 0.5) <= fp.HOP / fp.RATE


def test_bits_are_counted_as_written(prints):
    generator = np.random.default_rng(0)
    bits, strong = generator.integers(0, 2, (2, 2, 30, 32)).astype(bool)
    packed = [fp.Fingerprint(fp._pack(bits[i]), fp._pack(strong[i])) for i in range(2)]
    for offset in (-40, -29, -3, 0, 5, 29, 30):
        wrong = compared = 0
        for i in range(30):
            j = i + offset
            if 0 <= j < 30:
                both = strong[0, i] & strong[1, j]
                compared += int(both.sum())
                wrong += int((both & (bits[0, i] != bits[1, j])).sum())
        assert fp.bit_errors(*packed, offset) == (wrong, compared)


def test_bits_against_the_formula():
    """One frame in float64, band by band."""
    samples = render("rain", 3, 1.0, fp.RATE)
    one = fp.fingerprint(samples, fp.RATE)
    edges = np.round(np.geomspace(200, 7000, 34) * fp.WINDOW / fp.RATE).astype(int)
    starts = range(0, samples.size - fp.WINDOW + 1, fp.HOP)
    energy = np.empty((len(starts), 33))
    for row, start in enumerate(starts):
        frame = samples[start : start + fp.WINDOW].astype(float) * np.hanning(fp.WINDOW)
        power = np.abs(np.fft.rfft(frame)) ** 2
        energy[row] = [power[a:b].sum() for a, b in zip(edges[:-1], edges[1:], strict=True)]
    level = np.log(energy + 1e-6 * energy.max())
    slope = level[:, :-1] - level[:, 1:]
    change = slope[2:] - slope[:-2]
    assert one.bits.size == len(change)
    for row, word in enumerate(one.bits):
        for band in range(32):
            if abs(change[row, band]) > 1e-3:
                assert bool(word >> np.uint32(band) & np.uint32(1)) == (change[row, band] > 0)


@pytest.mark.parametrize("length", [1, 100, fp.WINDOW, fp.WINDOW + 3 * fp.HOP])
def test_very_short_recordings(length):
    one = fp.fingerprint(render("rain", 0, 1.0, fp.RATE)[:length], fp.RATE)
    assert one.bits.size >= 1 and one.bits.dtype == one.strong.dtype == np.uint32
    index = fp.build_index([one])
    assert fp.find_matches(index, one) == [] or length > fp.WINDOW


def test_an_empty_index_finds_nothing(prints):
    assert fp.find_matches(fp.build_index([]), prints["rain 0"]) == []
