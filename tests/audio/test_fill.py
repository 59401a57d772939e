"""Fill modes against the feature extractor's rule, and truncation."""

import numpy as np
import pytest

from clapjax.audio.fill import fill, truncate


def _reference(samples: np.ndarray, wanted: int, mode: str) -> np.ndarray:
    """The padding of `transformers.ClapFeatureExtractor._get_input_mel`."""
    if len(samples) < wanted:
        if mode == "repeat":
            samples = np.tile(samples, int(wanted / len(samples)) + 1)[:wanted]
        if mode == "repeatpad":
            samples = np.tile(samples, int(wanted / len(samples)))
        samples = np.pad(samples, (0, wanted - samples.shape[0]))
    return samples


@pytest.mark.parametrize("mode", ["repeatpad", "repeat", "pad"])
@pytest.mark.parametrize("length", [1, 2, 33, 49, 50, 51, 99, 100, 101, 250])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_fill_equals_the_feature_extractors_rule(mode, length, dtype):
    samples = np.arange(1, length + 1).astype(dtype)
    got = fill(samples, 100, mode)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, _reference(samples, 100, mode))


def test_fill_by_hand():
    samples = np.array([1, 2, 3], np.int16)
    assert fill(samples, 8, "repeatpad").tolist() == [1, 2, 3, 1, 2, 3, 0, 0]
    assert fill(samples, 8, "repeat").tolist() == [1, 2, 3, 1, 2, 3, 1, 2]
    assert fill(samples, 8, "pad").tolist() == [1, 2, 3, 0, 0, 0, 0, 0]
    assert fill(samples, 2, "pad").tolist() == [1, 2, 3]


@pytest.mark.parametrize("length", [0, 1])
def test_unknown_mode_is_an_error_at_any_length(length):
    with pytest.raises(ValueError, match="fill"):
        fill(np.zeros(length), 10, "reflect" if length else "pad")


def test_truncate_without_a_key_is_centred():
    assert truncate(np.arange(10), 4).tolist() == [3, 4, 5, 6]
    assert truncate(np.arange(11), 4).tolist() == [3, 4, 5, 6]
    assert truncate(np.arange(4), 4).tolist() == [0, 1, 2, 3]
    assert truncate(np.arange(3), 4).tolist() == [0, 1, 2]


def test_truncate_reaches_every_offset_equally():
    starts = [int(truncate(np.arange(13), 4, part / 2000)[0]) for part in range(2000)]
    assert np.bincount(starts).tolist() == [200] * 10
    np.testing.assert_array_equal(truncate(np.arange(1000), 20, 0.5), np.arange(490, 510))
