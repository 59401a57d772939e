"""Loudness against the numbers of ITU-R BS.1770 and the test signals of EBU Tech 3341."""

import math

import numpy as np
import pytest

from clapjax.synthesis.loudness import loudness


def _sine(seconds: float, decibels: float, rate: int = 48_000, hertz: float = 1000.0) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return 10 ** (decibels / 20) * np.sin(2 * np.pi * hertz * time)


@pytest.mark.parametrize("rate", [32_000, 44_100, 48_000])
def test_a_full_scale_sine_at_997_hz(rate):
    """BS.1770-5: in one channel it reads -3.01 LKFS."""
    assert loudness(_sine(2, 0, rate, 997), rate) == pytest.approx(-3.01, abs=0.02)


# EBU Tech 3341, requirements 1 to 5: (s, dBFS) of sines at 1 kHz in both channels, and LUFS.
EBU = [
    ([(20, -23)], -23.0),
    ([(20, -33)], -33.0),
    ([(10, -36), (60, -23), (10, -36)], -23.0),
    ([(10, -72), (10, -36), (60, -23), (10, -36), (10, -72)], -23.0),
    ([(20, -26), (20.1, -20), (20, -26)], -23.0),
]


@pytest.mark.parametrize(("parts", "lufs"), EBU)
def test_ebu_signals(parts, lufs):
    """One channel of two that are alike has half of their power. At 8 kHz, to be quick."""
    samples = np.concatenate([_sine(*part, 8000) for part in parts])
    assert loudness(samples, 8000) + 10 * math.log10(2) == pytest.approx(lufs, abs=0.1)


@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.399])
def test_a_short_sound_is_as_loud_as_a_long_one_at_its_level(seconds):
    short = loudness(_sine(seconds, -20), 48_000)
    assert short == pytest.approx(loudness(_sine(3, -20), 48_000), abs=0.6)


def test_a_pause_does_not_count():
    sound = _sine(4, -20)
    paused = np.concatenate([sound, np.zeros(20 * 48_000)])
    assert loudness(paused, 48_000) == pytest.approx(loudness(sound, 48_000), abs=0.3)


def test_silence_has_none():
    for samples in (np.zeros(0), np.zeros(100), np.zeros(48_000), _sine(2, -80)):
        assert loudness(samples, 48_000) == -math.inf


def test_too_low_a_rate_is_refused():
    with pytest.raises(ValueError, match="4000 Hz or more, not 2000"):
        loudness(np.ones(2000), 2000)
