"""The four mels of feature fusion against transformers' feature extractor and torch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from jax.sharding import AxisType, PartitionSpec

from clapjax.audio.config import AudioConfig
from clapjax.audio.fill import fill
from clapjax.audio.fusion import _chunk_starts, fusion_mels, shrink
from clapjax.audio.mel import log_mel

CONFIG = AudioConfig(
    sample_rate=8000,
    clip_samples=8000,
    hop_length=80,
    fmax=4000.0,
    mel_scale="htk",
    mel_norm="none",
)  # 101 frames a clip
# A clip; longer, but of as many frames; 1, 2 and 3 frames more; more than one block of frames.
LENGTHS = [8000, 8079, 8080, 8160, 8245, 30_001, 44_960]
SIZE = 45_000


def _wave(seed: int, samples: int) -> np.ndarray:
    """Noise over a rising tone, loud enough in every bin to tell frames apart."""
    noise = np.random.default_rng(seed).normal(0, 0.05, samples)
    time = np.arange(samples) / 8000
    return (noise + 0.3 * np.sin(2 * np.pi * (200 + 100 * time) * time)).astype(np.float32)


def _batch(lengths=tuple(LENGTHS), size: int = SIZE) -> np.ndarray:
    """(B, size); behind a row's end lies what must not be heard."""
    rows = np.full((len(lengths), size), 0.9, np.float32)
    for index, length in enumerate(lengths):
        rows[index, :length] = _wave(index, length)
    return rows


@functools.partial(jax.jit, static_argnames="antialias")
def _fuse(waveform, lengths, key=None, antialias=False):
    return fusion_mels(waveform, lengths, CONFIG, key=key, antialias=antialias)


@functools.cache
def _plain() -> tuple[np.ndarray, np.ndarray]:
    mels, longer = _fuse(_batch(), np.array(LENGTHS))
    return np.asarray(mels), np.asarray(longer)


def _extract(waveform: np.ndarray, choose, monkeypatch) -> tuple[np.ndarray, bool]:
    """transformers' mels of one row, with `choose` in place of its random choice."""
    extractor = transformers.ClapFeatureExtractor(
        feature_size=CONFIG.mel_bins,
        sampling_rate=CONFIG.sample_rate,
        hop_length=CONFIG.hop_length,
        max_length_s=1,
        fft_window_size=CONFIG.window_length,
        frequency_min=CONFIG.fmin,
        frequency_max=CONFIG.fmax,
    )
    monkeypatch.setattr(np.random, "choice", choose)
    # Not __call__, which marks a random row longer where none is.
    return extractor._get_input_mel(waveform.astype(np.float64), 8000, "fusion", "repeatpad")


def test_equals_the_feature_extractor_at_the_middle_of_each_third(monkeypatch):
    mels, longer = _plain()
    for index, length in enumerate(LENGTHS):
        expected, expected_longer = _extract(
            _wave(index, length), lambda choices: choices[len(choices) // 2], monkeypatch
        )
        np.testing.assert_allclose(mels[index], expected, rtol=0, atol=2e-3, err_msg=str(length))
        assert longer[index] == expected_longer, length
    assert longer.sum() == 5


def test_equals_the_feature_extractor_at_random_starts(monkeypatch):
    key = jax.random.key(7)
    mels, _ = _fuse(_batch(), np.array(LENGTHS), key)
    frames = np.array(LENGTHS) // CONFIG.hop_length + 1
    starts = np.asarray(_chunk_starts(jnp.asarray(frames - CONFIG.frames + 1), key))
    for index, length in enumerate(LENGTHS):
        queue = list(starts[index])

        def choose(choices, queue=queue):
            assert queue[0] in choices
            return queue.pop(0)

        expected, _ = _extract(_wave(index, length), choose, monkeypatch)
        np.testing.assert_allclose(mels[index], expected, rtol=0, atol=2e-3)
    assert np.abs(mels[-1, 1:] - _plain()[0][-1, 1:]).max() > 1  # other chunks than without a key
    np.testing.assert_array_equal(mels[0], _plain()[0][0])


def test_a_filled_clip_equals_the_feature_extractor(monkeypatch):
    short = _wave(0, 3100)
    filled = fill(short, CONFIG.clip_samples, "repeatpad")
    mels, longer = _fuse(filled[None], np.array([8000]))
    expected, _ = _extract(short, None, monkeypatch)
    np.testing.assert_allclose(mels[0], expected, rtol=0, atol=2e-3)
    assert not longer[0]


def test_a_row_has_the_mels_that_it_has_alone():
    """Whatever stands behind its end or beside it, and however wide the batch is."""
    mels, longer = _plain()
    index = 5
    alone, alone_longer = _fuse(_wave(index, LENGTHS[index])[None], None)
    np.testing.assert_allclose(mels[index], alone[0], rtol=0, atol=1e-4)
    assert longer[index] and alone_longer[0]


def test_one_mel_four_times_where_the_row_is_no_longer_than_a_clip():
    mels, longer = _plain()
    for row in mels[~longer]:
        for copy in row[1:]:
            np.testing.assert_array_equal(copy, row[0])
    assert all(np.abs(row[1:] - row[:1]).max() > 1 for row in mels[longer])


def test_int16_is_the_same_audio():
    waveform = np.round(_batch([9000], 9000) * 32767).astype(np.int16)
    got, _ = _fuse(waveform, np.array([9000]))
    expected, _ = _fuse((waveform / 32767).astype(np.float32), np.array([9000]))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


def test_rows_split_over_devices_under_shard_map():
    """As the training step calls the front end: nothing is gathered."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows = PartitionSpec("data")
    lengths = [8000, 8500, 9000, 10_000, 12_000, 12_001, 14_000, 16_000]
    front_end = jax.jit(
        jax.shard_map(
            lambda x, n: fusion_mels(x, n, CONFIG), mesh=mesh, in_specs=rows, out_specs=rows
        )
    )
    arguments = _batch(lengths, 16_000), np.array(lengths)
    assert "all-gather" not in front_end.lower(*arguments).compile().as_text()
    mels, longer = front_end(*arguments)
    expected, expected_longer = _fuse(*arguments)
    np.testing.assert_allclose(mels, expected, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(longer, expected_longer)


@pytest.mark.parametrize("choices", [1, 2, 3, 4, 5, 9, 10, 11, 1500])
def test_starts_are_uniform_over_the_thirds(choices):
    thirds = [third if len(third) else [0] for third in np.array_split(np.arange(choices), 3)]
    rows = 3000
    starts = _chunk_starts(jnp.full(rows, choices), jax.random.key(choices))
    middle = _chunk_starts(jnp.full(1, choices), None)[0]
    for part, third in enumerate(thirds):
        assert set(np.unique(starts[:, part])) <= set(third)
        assert middle[part] == third[len(third) // 2]
        mean, spread = np.mean(third), np.std(third) / np.sqrt(rows)
        assert abs(np.mean(starts[:, part]) - mean) <= 4 * spread


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("total", [101, 102, 150, 202, 203, 562, 999])
def test_shrink_equals_torch(total, antialias):
    """In float64, where torch's positions are exact too; rows of one batch differ in length."""
    mel = np.random.default_rng(0).normal(-30, 20, (2, 999, 6)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.tensor(mel[:1, :total]).double()[None],
        size=(101, 6),
        mode="bilinear",
        align_corners=False,
        antialias=antialias,
    )[0, 0]
    got = shrink(jnp.asarray(mel), jnp.array([total, 500]), 101, antialias=antialias)
    np.testing.assert_allclose(got[0], expected, rtol=0, atol=2e-5)


def test_antialias_reaches_the_shrunk_mel_alone():
    mels, longer = _fuse(_batch(), np.array(LENGTHS), antialias=True)
    plain, _ = _plain()
    np.testing.assert_array_equal(mels[:, 1:], plain[:, 1:])
    np.testing.assert_allclose(mels[~longer], plain[~longer], rtol=0, atol=1e-4)
    assert np.abs(mels[-1, 0] - plain[-1, 0]).max() > 1
    assert np.std(mels[-1, 0]) < np.std(plain[-1, 0])  # a mean of frames is smoother


def test_log_mel_of_rows_with_lengths():
    """Each row as alone, from the shortest that can be reflected; -100 dB behind it."""
    lengths, size = (513, 4999, 5039), 5050
    front_end = jax.jit(lambda waveform, lengths=None: log_mel(waveform, CONFIG, lengths=lengths))
    mel = front_end(_batch(lengths, size), jnp.array(lengths))
    assert mel.shape[1] == size // CONFIG.hop_length + 1
    for index, length in enumerate(lengths):
        alone = front_end(_wave(index, length)[None])[0]
        np.testing.assert_allclose(mel[index, : len(alone)], alone, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(mel[index, len(alone) :], -100.0)


def test_less_than_a_clip_is_refused():
    with pytest.raises(ValueError, match=r"T >= 8000, got \(2, 7999\)"):
        fusion_mels(jnp.zeros((2, 7999)), None, CONFIG)
    with pytest.raises(ValueError, match=r"\(8000,\)"):
        fusion_mels(jnp.zeros(8000), None, CONFIG)


def test_a_recording_of_many_hours_is_refused():
    """Positions would overflow int32; nothing is allocated here."""
    mel = jax.ShapeDtypeStruct((1, 1_100_000, 64), jnp.float32)
    with pytest.raises(ValueError, match="1100000 frames are too many to squeeze into 1001"):
        jax.eval_shape(lambda x: shrink(x, jnp.array([1_100_000]), 1001), mel)
