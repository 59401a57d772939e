"""Sounds whose content is known, and a tiny model; what is compiled for one test all find."""

import numpy as np
import pytest
import soundfile

from clapjax.app.library import make_library
from tests.inference.tiny import RATE, make_clap, make_tokenizer, noise

LONG = 600  # s
SHORT = {"one.wav": 1.0, "two.wav": 2.5, "below/three.wav": 0.7}


@pytest.fixture(scope="package")
def clap(tmp_path_factory):
    return make_clap("plain", make_tokenizer(tmp_path_factory.mktemp("tokenizer")), batch_size=16)


@pytest.fixture(scope="package")
def sounds(tmp_path_factory):
    """A folder of short sounds, one of ten minutes and a broken one."""
    folder = tmp_path_factory.mktemp("sounds")
    (folder / "below").mkdir()
    for seed, (name, seconds) in enumerate(SHORT.items()):
        soundfile.write(folder / name, noise(round(seconds * RATE), seed), RATE)
    soundfile.write(folder / "long.wav", noise(LONG * RATE, 9), RATE)
    (folder / "broken.wav").write_bytes(b"RIFF, and nothing behind it")
    return folder


@pytest.fixture(scope="package")
def library(clap, sounds, tmp_path_factory):
    files = sorted(map(str, sounds.rglob("*.wav")))
    steps = []
    made = make_library(clap, files, tmp_path_factory.mktemp("table"), lambda: steps.append(1))
    assert len(steps) == len(files)
    return made


@pytest.fixture
def tone(tmp_path):
    """Half a second of silence, then one of 1 kHz, in stereo at another rate."""
    wave = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(22_050) / 22_050)
    samples = np.concatenate([np.zeros(11_025), wave])
    soundfile.write(tmp_path / "tone.flac", np.stack([samples, samples], 1), 22_050)
    return str(tmp_path / "tone.flac")
