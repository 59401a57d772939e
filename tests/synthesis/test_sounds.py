"""The embedded sound set: determinism, level, presence, no aliasing, separable varied classes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from clapjax.synthesis.sounds import SOUND_CLASSES, render

RATE = 16000


def _band_powers(sound: np.ndarray, rate: int, edges: np.ndarray) -> np.ndarray:
    """Mean power (B,) between each two of the `edges` (B + 1,) in hertz."""
    power = np.abs(np.fft.rfft(sound) / len(sound)) ** 2  # (F,)
    frequency = np.fft.rfftfreq(len(sound), 1 / rate)  # (F,)
    return np.histogram(frequency, edges, weights=power)[0]


def _features(sound: np.ndarray) -> np.ndarray:
    """Means and deviations of 24 log bands, and how strongly the loudness moves at which rate."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, 512)[::160]  # (N, 512)
    power = np.abs(np.fft.rfft(frames * np.hanning(512))) ** 2  # (N, 257)
    edges = np.unique(np.geomspace(2, 257, 25).astype(int))
    bands = np.log(np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1) + 1e-6)  # (N, B)
    loudness = np.sqrt(power.sum(1))  # (N,)
    motion = np.abs(np.fft.rfft(loudness / loudness.mean() - 1))  # (M,) 1/3 Hz apart
    steps = np.array([1, 2, 4, 6, 9, 14, 20, 30, 45, 70, 110])
    motion = np.log(np.add.reduceat(motion**2, steps) + 1e-3)
    shape = bands.mean(0) - bands.mean()  # (B,) without the level
    return np.concatenate([shape, bands.std(0), motion])


def test_there_are_24_distinct_names():
    assert len(SOUND_CLASSES) == len(set(SOUND_CLASSES)) == 24
    assert all(name == name.strip().lower() for name in SOUND_CLASSES)


def test_same_arguments_same_bytes_in_another_process():
    code = (
        "import sys; from clapjax.synthesis.sounds import SOUND_CLASSES, render\n"
        "for name in SOUND_CLASSES: sys.stdout.buffer.write(render(name, (3, 5), 0.5, 16000))"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code]
    other = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout
    assert other == b"".join(render(name, (3, 5), 0.5, RATE).tobytes() for name in SOUND_CLASSES)


@pytest.mark.parametrize("name", SOUND_CLASSES)
def test_seeds_differ_and_may_be_several_integers(name):
    sounds = [render(name, seed, 0.5, RATE) for seed in (0, 1, (0, 1), [1, 0], np.int64(2))]
    assert len({sound.tobytes() for sound in sounds}) == 5
    np.testing.assert_array_equal(sounds[1], render(name, (1,), 0.5, RATE))


@pytest.mark.parametrize("name", SOUND_CLASSES)
@pytest.mark.parametrize(
    ("seconds", "rate"), [(0.01, 8000), (0.25, 8000), (1.7, 11025), (5, 16000), (3.3, 48000)]
)
def test_length_level_and_ends(name, seconds, rate):
    for seed in range(2):
        sound = render(name, seed, seconds, rate)
        assert sound.dtype == np.float32
        assert sound.shape == (round(seconds * rate),)
        assert np.isfinite(sound).all()
        assert 0.29 < np.abs(sound).max() < 0.96
        assert abs(sound.mean(dtype=np.float64)) < 1e-4
        assert sound[0] == sound[-1] == 0  # ends faded


def test_a_minute_renders():
    for name in SOUND_CLASSES:
        assert np.isfinite(render(name, 0, 60, 8000)).all()


@pytest.mark.parametrize("name", SOUND_CLASSES)
def test_sound_is_present_in_every_window(name):
    for seed in range(6):
        sound = render(name, seed, 6, RATE)
        energy = np.square(sound, dtype=np.float64).reshape(4, -1).sum(1)  # (4,) 1.5-s windows
        assert energy.min() > 0.02 * energy.max()
        energy = np.square(sound, dtype=np.float64).reshape(16, -1).sum(1)  # (16,)
        strongest = np.sort(energy)[::-1].cumsum() / energy.sum()
        assert strongest[3] < 0.9  # more than a quarter of the windows hold the sound


@pytest.mark.parametrize("name", ["siren", "car horn", "rooster crow", "cat meow", "church bell"])
def test_tones_do_not_alias(name):
    # what a low rate cannot hold must be absent, not folded down among the rest
    edges = np.arange(100, 3001, 50)
    for seed in range(4):
        low = _band_powers(render(name, seed, 3, 8000), 8000, edges)
        high = _band_powers(render(name, seed, 3, 48000), 48000, edges)
        low, high = low / low.sum(), high / high.sum()
        loud = np.maximum(low, high) > 3e-4
        assert np.abs(10 * np.log10(low[loud] / high[loud])).max() < 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dog brak", 0, 1, RATE), "closest is 'dog bark'"),
        (("siren", 0, 0, RATE), "seconds"),
        (("siren", 0, -1.0, RATE), "seconds"),
        (("siren", 0, float("nan"), RATE), "seconds"),
        (("siren", 0, 601, RATE), "at most 600"),
        (("siren", 0, 1e-6, RATE), "seconds"),
        (("siren", 0, 1, 0), "sample_rate"),
        (("siren", 0, 1, -16000), "sample_rate"),
        (("siren", 0, 1, 96000), "sample_rate"),
        (("siren", -1, 1, RATE), "non-negative"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        render(*arguments)
    assert "\n" not in str(error.value)


def test_classes_are_separable_and_vary_within():
    features = np.array(
        [[_features(render(name, seed, 3, RATE)) for seed in range(30)] for name in SOUND_CLASSES]
    )  # (24, 30, D)
    classes, renders, size = features.shape
    labels = np.repeat(np.arange(classes), renders).reshape(classes, renders)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    model.fit(features[:, :20].reshape(-1, size), labels[:, :20].ravel())
    held_out = model.score(features[:, 20:].reshape(-1, size), labels[:, 20:].ravel())
    assert held_out >= 0.9

    # (24, 30, D) with each feature's spread over all classes as its unit
    scaled = features / features.reshape(-1, size).std(0)
    within = np.linalg.norm(scaled[:, ::2] - scaled[:, 1::2], axis=2).mean(1)  # (24,)
    between = np.linalg.norm(scaled - np.roll(scaled, 7, axis=0), axis=2).mean()
    assert within.min() > 0.15 * between
    assert within.mean() > 0.25 * between
    assert within.max() < between
