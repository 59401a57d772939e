"""Rooms and noise: decay times by Schroeder's integral, ratios by their definition."""

import numpy as np
import pytest
import soundfile

from clapjax.audio.files import AudioError
from clapjax.synthesis.acoustics import (
    add_noise,
    decaying_noise,
    list_audio,
    noise_of_length,
    read_noise,
    read_response,
    reverberate,
)

RATE = 16_000


def _reverberation_time(response: np.ndarray) -> float:
    """RT60 in s from the fall by 5 to 25 dB of the energy that is still to come (ISO 3382)."""
    energy = np.cumsum(np.square(response[::-1]))[::-1]
    decibels = 10 * np.log10(energy / energy[0])
    early, late = (int(np.argmax(decibels < level)) for level in (-5, -25))
    return 60 / 20 * (late - early) / RATE


@pytest.mark.parametrize("seconds", [0.2, 0.6, 1.5])
def test_the_noise_falls_by_60_db_in_its_time(seconds):
    response = decaying_noise(seconds, RATE, 3.0, np.random.default_rng(0))
    assert response[0] == 1 and response.size == round(seconds * RATE) + 1
    assert _reverberation_time(response[1:]) == pytest.approx(seconds, rel=0.1)


@pytest.mark.parametrize("direct_db", [0.0, 6.0, 15.0])
def test_the_direct_sound_stands_above_the_rest(direct_db):
    response = decaying_noise(0.5, RATE, direct_db, np.random.default_rng(0))
    assert -10 * np.log10(np.square(response[1:]).sum()) == pytest.approx(direct_db)


def test_reverberate_is_a_convolution():
    generator = np.random.default_rng(0)
    samples = generator.standard_normal(500).astype(np.float32)
    response = generator.standard_normal(40)
    wanted = np.convolve(samples.astype(np.float64), response)
    got = reverberate(samples, response, 10_000)
    assert got.dtype == np.float32 and got.size == 539
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    np.testing.assert_allclose(reverberate(samples, response, 510), wanted[:510], atol=1e-5)
    np.testing.assert_allclose(reverberate(samples, np.ones(1), 10_000), samples, atol=1e-6)


def test_a_measured_response_begins_with_its_direct_sound(tmp_path):
    response = np.zeros(1000)
    response[300], response[700] = -0.5, 0.25  # 300 samples of flight
    soundfile.write(tmp_path / "room.wav", response, RATE, subtype="FLOAT")
    found = read_response(tmp_path / "room.wav", RATE)
    wanted = np.zeros(700)
    wanted[0], wanted[400] = 1, -0.5
    np.testing.assert_allclose(found, wanted, atol=1e-7)


@pytest.mark.parametrize("snr", [-5.0, 0.0, 20.0])
def test_noise_at_a_ratio(snr):
    generator = np.random.default_rng(1)
    samples = generator.standard_normal(4000).astype(np.float32)
    noise = 7 * generator.standard_normal(4000).astype(np.float32)
    added = add_noise(samples, noise, snr).astype(np.float64) - samples
    ratio = np.square(samples, dtype=np.float64).sum() / np.square(added).sum()
    assert 10 * np.log10(ratio) == pytest.approx(snr, abs=1e-3)
    assert np.corrcoef(added, noise)[0, 1] == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(add_noise(samples, np.zeros_like(samples), snr), samples)


def test_longer_noise_is_cut_anywhere():
    noise = np.arange(1000)
    starts = []
    for seed in range(200):
        stretch = noise_of_length(noise, 100, np.random.default_rng(seed))
        np.testing.assert_array_equal(stretch, np.arange(stretch[0], stretch[0] + 100))
        starts.append(stretch[0])
    assert min(starts) < 50 and max(starts) > 850
    again = noise_of_length(noise, 100, np.random.default_rng(7))
    np.testing.assert_array_equal(again, noise_of_length(noise, 100, np.random.default_rng(7)))


@pytest.mark.parametrize("size", [1, 3, 64, 999])
def test_shorter_noise_goes_on_without_a_jump(size):
    noise = np.sin(np.arange(size) / 9)
    long = noise_of_length(noise, 1000, np.random.default_rng(0))
    assert long.size == 1000
    np.testing.assert_array_equal(long[:size], noise)
    assert np.abs(np.diff(long)).max() <= 1 / 9 + 1e-9


def test_files_that_cannot_serve_are_named(tmp_path):
    with pytest.raises(ValueError, match="synthesis.background: no audio files in .*nowhere"):
        list_audio(str(tmp_path / "nowhere"), "synthesis.background")
    soundfile.write(tmp_path / "silent.wav", np.zeros(100), RATE)
    (tmp_path / "text.wav").write_text("no sound")
    for read in (read_noise, read_response):
        with pytest.raises(ValueError, match="silent.wav: is silent"):
            read(tmp_path / "silent.wav", RATE)
        with pytest.raises(AudioError, match="text.wav: cannot be decoded"):
            read(tmp_path / "text.wav", RATE)
