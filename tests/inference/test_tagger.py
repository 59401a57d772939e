"""`clapjax.load` of a tagging run: how probable its labels are, in any company, and of windows."""

import jax
import numpy as np
import pytest

import clapjax
from clapjax.audio.files import AudioError
from clapjax.audio.mel import log_mel
from clapjax.inference import Clap, Tagger
from clapjax.models.tagger import Tagger as TaggerModule
from clapjax.tasks.tagging import TaggingConfig
from tests.inference.tiny import CLIP, RATE, SMALL, make_tagging_workdir, noise

LABELS = ("rain", "dog", "cat")  # in an order of their own
CLIPS = [noise(length, seed) for seed, length in enumerate((CLIP, 3000, 20_000))]


@pytest.fixture(scope="module")
def taggers(tmp_path_factory) -> dict[str, Tagger]:
    """One for each loss."""
    return {
        loss: clapjax.load(
            make_tagging_workdir(tmp_path_factory.mktemp(loss), LABELS, loss), batch_size=4
        )
        for loss in ("bce", "ce")
    }


@pytest.mark.parametrize("loss", ["bce", "ce"])
def test_probabilities_are_those_of_the_module(taggers, loss):
    """Of a clip as it is, of a longer one its middle; by numpy from the logits."""
    tagger = taggers[loss]
    assert tagger.labels == LABELS
    found = tagger.tag(CLIPS)
    heard = np.stack([CLIPS[0], CLIPS[2][6000:14_000]])
    variables = jax.device_get(tagger.variables)
    apply = jax.jit(TaggerModule(SMALL, 3).apply)
    logits = np.asarray(apply(variables, log_mel(heard, SMALL.audio)), np.float64)
    expected = 1 / (1 + np.exp(-logits)) if loss == "bce" else np.exp(logits)
    if loss == "ce":
        expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found[[0, 2]], expected, atol=1e-4)
    assert found.shape == (3, 3) and np.ptp(found, axis=0).min() > 1e-3
    for clip, row in zip(CLIPS, found, strict=True):  # bit for bit
        np.testing.assert_array_equal(tagger.tag(clip), row[None])


def test_of_windows_the_mean_counts(taggers):
    tagger, long = taggers["bce"], CLIPS[2]
    found = tagger.tag(long, long="windows", hop=0.75)
    parts = tagger.tag([long[start : start + CLIP] for start in (0, 6000, 12_000)])
    np.testing.assert_allclose(found[0], parts.mean(axis=0), rtol=1e-6)
    with pytest.raises(ValueError, match="this model has no feature fusion"):
        tagger.tag(long, long="fusion")


def test_broken_and_no_inputs(taggers, tmp_path):
    tagger, missing = taggers["bce"], str(tmp_path / "no.wav")
    found = dict(tagger.each([CLIPS[0], missing, CLIPS[1]], RATE))
    assert isinstance(found[1], AudioError) and missing in str(found[1])
    np.testing.assert_array_equal(found[2], tagger.tag(CLIPS[1])[0])
    with pytest.raises(AudioError, match=r"no\.wav"):
        tagger.tag([CLIPS[0], missing])
    assert tagger.tag([]).shape == (0, 3)
    with pytest.raises(ValueError, match="batch_size must be positive"):
        Tagger(SMALL, TaggingConfig(LABELS), {}, batch_size=0)
    with pytest.raises(ValueError, match="2 labels, and the head tells 3 apart"):
        Tagger(SMALL, TaggingConfig(LABELS[:2]), tagger.variables)


def test_load_knows_what_a_workdir_holds(workdir, tmp_path):
    tagging = make_tagging_workdir(tmp_path, LABELS)
    assert isinstance(clapjax.load(workdir), Clap)
    assert isinstance(clapjax.load(tagging, towers="audio"), Tagger)
    with pytest.raises(ValueError, match="a tagger, which has no text tower"):
        clapjax.load(tagging, towers="text")
