"""Pictures: what is loud is bright, where it is, and a row has the colour of its values."""

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from clapjax.app import pictures
from clapjax.app.listening import OverTime
from clapjax.audio.files import read_audio
from clapjax.audio.mel import log_mel
from tests.inference.tiny import RATE, SMALL

AUDIO = SMALL.audio


def test_a_tone_is_where_and_when_it_sounds(tone):
    mel, hertz = pictures.spectrogram(tone, (0.0, 1.5), AUDIO)
    assert len(mel) == round(1.5 * RATE / AUDIO.hop_length)
    assert abs(hertz[mel[30:].mean(axis=0).argmax()] - 1000) < 200
    assert (mel[:22].max(axis=1) < mel[28:].max(axis=1).min() - 60).all()  # 0.5 s are 25 columns
    later, _ = pictures.spectrogram(tone, (0.5, 1.5), AUDIO)
    np.testing.assert_allclose(later[3:-3].max(axis=1), mel[28:-3].max(axis=1), atol=0.1)


def test_columns_of_a_long_sound_are_the_loudest_of_their_frames(sounds):
    """Made piece by piece, against the spectrogram that models hear of the same stretch."""
    path = str(sounds / "long.wav")
    mel, _ = pictures.spectrogram(path, (0.0, 600.0), AUDIO)
    assert len(mel) == pictures.COLUMNS
    second = read_audio(path, RATE, start=99, seconds=3)  # a column has a second here
    whole = np.asarray(log_mel(second[None], AUDIO)[0])
    frames = RATE // AUDIO.hop_length
    np.testing.assert_allclose(mel[100], whole[frames : 2 * frames].max(axis=0), atol=0.2)


def test_a_value_is_that_of_the_nearest_stretch():
    times = np.array([[0, 1.0], [0.5, 1.5], [1, 2.0]])
    row = pictures.sampled(times, np.array([1.0, 2, 3]), (0.0, 2.0))
    steps = np.array([np.flatnonzero(row == value).size for value in (1, 2, 3)])
    np.testing.assert_allclose(steps * 2 / pictures.COLUMNS, [0.75, 0.5, 0.75], atol=0.01)
    assert (np.diff(row) >= 0).all()


def test_the_picture_has_what_it_was_given():
    mel = np.linspace(-90, 0, 40)[:, None] + np.zeros(16)
    over_time = OverTime(np.array([[10, 11.0], [11, 12]]), {"<a>": np.array([0.2, 1.0])})
    svg = pictures.picture(mel, np.geomspace(50, 3900, 16), (10.0, 12.0), over_time, np.asarray)
    tree = ElementTree.fromstring(svg)
    assert tree.get("data-start") == "10.000" and tree.get("data-end") == "12.000"
    texts = [text.text or text[0].tail for text in tree.iter("text")]
    assert "<a>" in texts and "1.00" in texts and "10.0 s" in texts and "0.5 kHz" in texts
    first, second = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(found))).convert("RGBA"), int)
        for found in re.findall(r"base64,([^\"]+)", svg)
    ]
    assert first.shape == (16, 40, 4) and second.shape == (1, pictures.COLUMNS, 4)
    light = first[..., :3].sum(axis=2)
    assert (np.diff(light, axis=1) >= 0).all() and light[0, 0] < 30 and light[0, -1] > 600
    assert set(second[0, :, 3]) == {51, 255} and second[0, 0, 3] == 51


@pytest.mark.parametrize("span", [(0.0, 0.7), (0.0, 4.0), (300.0, 310.0), (0.0, 601.3), (0, 1e5)])
def test_a_time_axis_is_even_and_not_crowded(span):
    found = pictures.ticks(*span)
    places = np.array([second for second, _ in found])
    assert 3 <= len(found) <= 10 and span[0] <= places[0] and places[-1] <= span[1] + 1e-6
    np.testing.assert_allclose(np.diff(places), places[1] - places[0])
    assert len({said for _, said in found}) == len(found)
