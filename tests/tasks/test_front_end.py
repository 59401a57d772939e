"""Log-mels in place of waveforms, where tasks change or fuse them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clapjax.audio.config import AudioConfig
from clapjax.audio.host_mel import host_log_mel
from clapjax.models.config import FusionConfig
from clapjax.tasks.front_end import front_end, mixed, turned
from tests.training.tiny import tiny_config

AUDIO = AudioConfig(
    sample_rate=8000, clip_samples=2000, window_length=256, hop_length=100, mel_bins=16, fmax=4000.0
)
NOISE = np.random.default_rng(0).normal(0, 3000, (4, 3000)).astype(np.int16)
LENGTHS = np.array([3000, 2000, 2500, 2040], np.int32)
MELS = np.full((4, 31, 16), -100, np.float16)
for row, own in enumerate(LENGTHS):
    MELS[row, : own // 100 + 1] = host_log_mel(NOISE[row, :own], AUDIO)


@pytest.mark.parametrize("fusion", ["none", "aff_2d"])
def test_mels_are_heard_as_their_waveforms(fusion):
    config = dataclasses.replace(tiny_config().model, audio=AUDIO, fusion=FusionConfig(type=fusion))
    key, lengths = jax.random.key(1), jnp.asarray(LENGTHS)
    ours, theirs = (
        front_end(config, jnp.asarray(x), lengths, key=key, double=True) for x in (MELS, NOISE)
    )
    assert ours.keys() == theirs.keys()
    np.testing.assert_allclose(ours.pop("mel"), theirs.pop("mel"), atol=0.05)
    for name, rows in ours.items():
        np.testing.assert_array_equal(rows, theirs[name])


def test_powers_are_mixed():
    """Of noise the mean of a band is that of the mixed waveforms."""
    share = jnp.asarray([0.8, 0.3, 0.6, 1.0])
    found = np.asarray(mixed(jnp.asarray(MELS[:, :20]), share))
    waveforms = np.round(np.asarray(mixed(jnp.asarray(NOISE), share)) * 32767).astype(np.int16)
    exact = np.stack([host_log_mel(one[:2000], AUDIO)[:20] for one in waveforms])
    assert np.abs((found - exact)[:, 2:18].mean(axis=(1, 2))).max() < 1.0
    np.testing.assert_allclose(found[3], MELS[3, :20], atol=0.05)


def test_rows_are_turned_in_their_own_length():
    shift = jnp.asarray([0.0, 0.5, 0.25, 0.999])
    found = np.asarray(turned(jnp.asarray(MELS), jnp.asarray(LENGTHS), shift, AUDIO.hop_length))
    for row, (length, part) in enumerate(zip(LENGTHS, np.asarray(shift), strict=True)):
        frames = length // 100 + 1
        own = np.roll(MELS[row, :frames], -int(part * frames), axis=0)
        np.testing.assert_array_equal(found[row, :frames], own)
        np.testing.assert_array_equal(found[row, frames:], MELS[row, frames:])
    whole = np.asarray(turned(jnp.asarray(NOISE), None, shift, AUDIO.hop_length))
    np.testing.assert_array_equal(whole[1], np.roll(NOISE[1], -1500))
