"""SpecAugment: what it drops, how often, where, and from which key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from clapjax.audio.spec_augment import drop_stripes, spec_augment

ROWS = 6000


def _dropped(key: int, size: int, stripes: int, width: int) -> np.ndarray:
    """(ROWS, size) bool: what one call drops from features that are 1 everywhere."""
    out = drop_stripes(
        jax.random.key(key), jnp.ones((ROWS, size, 1)), axis=1, stripes=stripes, width=width
    )
    return np.asarray(out[..., 0]) == 0


def _runs(dropped: np.ndarray) -> np.ndarray:
    """(ROWS,) number of separate stripes in each row."""
    return np.diff(dropped.astype(int), axis=1, prepend=0).clip(0).sum(1)


def test_widths_are_uniform_and_stripes_are_whole():
    dropped = _dropped(0, size=40, stripes=1, width=8)
    widths = dropped.sum(1)
    counts = np.bincount(widths, minlength=8)
    assert counts.size == 8  # 0 to 7: the width itself is never drawn
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    np.testing.assert_array_equal(_runs(dropped), widths > 0)


def test_positions_are_uniform():
    """As in torchlibrosa: starts 0 to size - width - 1, equally often."""
    dropped = _dropped(1, size=20, stripes=1, width=6)
    for width in (1, 5):
        rows = dropped[dropped.sum(1) == width]
        counts = np.bincount(rows.argmax(1), minlength=20 - width)
        assert counts.size == 20 - width
        assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_number_of_stripes():
    """Three stripes: up to three gaps, and three times the mean area but for overlaps."""
    one, three = _dropped(2, 400, 1, 8), _dropped(2, 400, 3, 8)
    assert set(_runs(one)) == {0, 1} and set(_runs(three)) == {0, 1, 2, 3}
    assert one.sum(1).mean() == pytest.approx(3.5, rel=0.03)
    assert three.sum(1).mean() == pytest.approx(10.5, rel=0.03)
    assert not _dropped(2, 40, 0, 8).any()


def test_rows_are_drawn_apart():
    dropped = _dropped(3, size=40, stripes=1, width=8)
    widths, starts = dropped.sum(1), dropped.argmax(1)
    assert abs(np.corrcoef(widths[:-1], widths[1:])[0, 1]) < 0.05
    assert abs(np.corrcoef(starts[:-1], starts[1:])[0, 1]) < 0.05


@pytest.mark.parametrize("axis", [1, 2])
def test_only_stripes_of_the_axis_change(axis):
    """Zeros fill whole slices; every other value stays bit for bit."""
    features = np.random.default_rng(0).normal(1.0, 0.1, (16, 30, 24)).astype(np.float32)
    out = np.asarray(drop_stripes(jax.random.key(0), features, axis=axis, stripes=2, width=9))
    zero = out == 0
    slices = zero.all(axis=3 - axis, keepdims=True)
    np.testing.assert_array_equal(zero, np.broadcast_to(slices, zero.shape))
    np.testing.assert_array_equal(out[~zero], features[~zero])
    assert zero.any(axis=(1, 2)).sum() >= 12


def test_spec_augment_drops_in_time_and_frequency_each_with_its_own_settings():
    features = jnp.ones((500, 50, 20))
    settings = dict(time_stripes=2, time_width=11, freq_stripes=1, freq_width=4)
    out = np.asarray(spec_augment(jax.random.key(0), features, **settings)) == 0
    time, frequency = out.all(axis=2), out.all(axis=1)  # (500, 50), (500, 20)
    np.testing.assert_array_equal(out, time[:, :, None] | frequency[:, None, :])
    assert time.sum(1).max() <= 20 and frequency.sum(1).max() == 3
    assert time.sum(1).mean() == pytest.approx(10 - 0.6, abs=0.6)
    assert frequency.sum(1).mean() == pytest.approx(1.5, abs=0.2)


def test_time_and_frequency_stripes_are_drawn_apart():
    settings = dict(time_stripes=1, time_width=8, freq_stripes=1, freq_width=8)
    out = np.asarray(spec_augment(jax.random.key(0), jnp.ones((500, 20, 20)), **settings)) == 0
    widths = out.all(axis=2).sum(1), out.all(axis=1).sum(1)
    assert abs(np.corrcoef(*widths)[0, 1]) < 0.15


def test_same_key_same_stripes():
    features = jnp.ones((8, 50, 20))
    settings = dict(time_stripes=2, time_width=11, freq_stripes=2, freq_width=4)
    first, again, other = (spec_augment(jax.random.key(k), features, **settings) for k in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_width_one_changes_nothing():
    features = np.random.default_rng(0).normal(size=(8, 30, 24)).astype(np.float32)
    settings = dict(time_stripes=3, time_width=1, freq_stripes=3, freq_width=1)
    np.testing.assert_array_equal(spec_augment(jax.random.key(0), features, **settings), features)


def test_stripe_wider_than_the_axis_never_drops_all():
    assert _dropped(4, size=5, stripes=1, width=64).sum(1).max() == 4


def test_type_is_kept():
    out = drop_stripes(
        jax.random.key(0), jnp.ones((4, 8, 8), jnp.bfloat16), axis=2, stripes=1, width=4
    )
    assert out.dtype == jnp.bfloat16
