"""The log-mel front end against librosa and `transformers.ClapFeatureExtractor`."""

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
import transformers
from jax.sharding import AxisType, PartitionSpec

from clapjax.audio.config import AudioConfig
from clapjax.audio.files import read_audio
from clapjax.audio.fill import fill
from clapjax.audio.mel import log_mel, mel_filters, windows_by_gather, windows_by_slices

SLANEY = AudioConfig()
HTK = AudioConfig(mel_scale="htk", mel_norm="none")
BANKS = {"slaney": SLANEY, "htk": HTK}
SMALL = AudioConfig(sample_rate=16_000, clip_samples=16_000, hop_length=640, fmax=7_600.0)


@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize(
    ("rate", "window", "mels", "fmin", "fmax"),
    [
        (48_000, 1024, 64, 50.0, 14_000.0),
        (16_000, 1024, 64, 50.0, 7_600.0),
        (32_000, 1024, 64, 50.0, 14_000.0),
        (22_050, 2048, 128, 0.0, 11_025.0),
        (8_000, 512, 40, 300.0, 3_400.0),
    ],
)
def test_filters_equal_librosa(bank, rate, window, mels, fmin, fmax):
    config = AudioConfig(
        sample_rate=rate,
        window_length=window,
        mel_bins=mels,
        fmin=fmin,
        fmax=fmax,
        mel_scale=bank,
        mel_norm="slaney" if bank == "slaney" else "none",
    )
    expected = librosa.filters.mel(
        sr=rate,
        n_fft=window,
        n_mels=mels,
        fmin=fmin,
        fmax=fmax,
        htk=bank == "htk",
        norm="slaney" if bank == "slaney" else None,
        dtype=np.float64,
    )
    got = mel_filters(config)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected.T, rtol=1e-6, atol=1e-9 * expected.max())


def _signals(samples: int, rate: int) -> dict[str, np.ndarray]:
    """(T,) float32 each; all but the noise reach from full scale to 100 dB below it."""
    generator = np.random.default_rng(0)
    time = np.arange(samples) / rate
    tone = np.sin(2 * np.pi * 700.0 * time)
    faint = 1e-5 * np.sin(2 * np.pi * 0.21 * rate * time)
    sweep = np.sin(2 * np.pi * (60.0 + 0.12 * rate * time / time[-1]) * time)
    decay = generator.normal(0, 0.2, samples) * np.geomspace(1.0, 1e-5, samples)
    burst = np.where(np.abs(time - time[-1] / 2) < 0.2, tone, faint)
    half_silent = np.where(time < time[-1] / 2, 0.0, tone)
    signals = {
        "noise": generator.normal(0, 0.2, samples),
        "tone-and-faint-tone": 0.9 * tone + faint,
        "sweep": 0.9 * sweep + faint,
        "decay": decay,
        "burst": burst,
        "half-silent": half_silent,
    }
    return {name: np.clip(x, -1, 1).astype(np.float32) for name, x in signals.items()}


def _extractor(config: AudioConfig) -> transformers.ClapFeatureExtractor:
    return transformers.ClapFeatureExtractor(
        feature_size=config.mel_bins,
        sampling_rate=config.sample_rate,
        hop_length=config.hop_length,
        fft_window_size=config.window_length,
        frequency_min=config.fmin,
        frequency_max=config.fmax,
    )


def _reference(waveforms: np.ndarray, config: AudioConfig) -> np.ndarray:
    """(B, T) to (B, F, M); the extractor has both banks (HTK for fusion)."""
    extractor = _extractor(config)
    bank = extractor.mel_filters if config.mel_scale == "htk" else extractor.mel_filters_slaney
    return np.stack([extractor._np_extract_fbank_features(x, bank) for x in waveforms])


@pytest.mark.parametrize("bank", BANKS)
def test_log_mel_equals_the_feature_extractor(bank):
    """1e-3 dB even 100 dB below the loudest bin, where a float32 FFT fails."""
    config = BANKS[bank]
    signals = np.stack(list(_signals(96_000, 48_000).values()))
    expected = _reference(signals, config)
    assert np.ptp(expected[1]) > 100
    got = log_mel(signals, config)
    assert got.dtype == jnp.float32 and got.shape == (len(signals), 201, 64)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3)


def test_log_mel_at_another_rate_and_hop():
    signals = np.stack(list(_signals(16_000, 16_000).values()))
    got = log_mel(signals, SMALL)
    assert got.shape == (len(signals), SMALL.frames, SMALL.mel_bins)
    np.testing.assert_allclose(got, _reference(signals, SMALL), rtol=0, atol=1e-3)


@pytest.mark.parametrize("bank", BANKS)
def test_real_recordings_equal_the_feature_extractor(esc10, bank):
    """The extractor's public call, filling included; two of the clips hold long digital silence."""
    config = BANKS[bank]
    names = ["2-82538-A-5.ogg", "1-21189-A-1.ogg", "1-100032-A-0.ogg"]
    names += sorted(path.name for path in (esc10 / "audio").iterdir())[100:300:100]
    clips = [read_audio(esc10 / "audio" / name, 48_000) for name in names]
    expected = _extractor(config)(
        clips,
        truncation="fusion" if bank == "htk" else "rand_trunc",
        padding="repeatpad",
        sampling_rate=48_000,
        return_tensors="np",
    )["input_features"][:, 0]
    waveforms = np.stack([fill(clip, config.clip_samples, "repeatpad") for clip in clips])
    np.testing.assert_allclose(log_mel(waveforms, config), expected, rtol=0, atol=1e-3)


def test_silence_is_at_the_floor():
    np.testing.assert_array_equal(log_mel(np.zeros((1, 4800), np.float32), SLANEY), -100.0)


def test_int16_input_equals_its_float():
    samples = np.random.default_rng(0).integers(-32767, 32768, (2, 9600)).astype(np.int16)
    floats = samples.astype(np.float32) / 32767
    np.testing.assert_allclose(
        log_mel(jnp.asarray(samples), SLANEY), log_mel(floats, SLANEY), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("double", [True, False])
def test_sharded_front_end_is_local_and_equal(double):
    """Under shard_map each device transforms its own rows: no collective, same numbers."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows = PartitionSpec("data")
    signals = np.tile(np.stack(list(_signals(16_000, 16_000).values())), (3, 1))[:16]
    signals *= np.linspace(0.1, 1.0, 16, dtype=np.float32)[:, None]  # no two rows alike
    signals = jax.device_put(signals, jax.NamedSharding(mesh, rows))
    front_end = jax.shard_map(
        lambda x: log_mel(x, SMALL, double=double), mesh=mesh, in_specs=rows, out_specs=rows
    )
    compiled = jax.jit(front_end).lower(signals).compile()
    assert "all-gather" not in compiled.as_text()
    expected = log_mel(np.asarray(signals), SMALL, double=double)
    np.testing.assert_allclose(compiled(signals), expected, rtol=0, atol=1e-3 if double else 1.0)


def test_single_precision_is_close_where_it_is_loud():
    signals = np.stack(list(_signals(96_000, 48_000).values()))
    expected = log_mel(signals, SLANEY)
    got = log_mel(signals, SLANEY, double=False)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1.0)
    loud = np.asarray(expected >= expected.max(axis=(1, 2), keepdims=True) - 60.0)
    np.testing.assert_allclose(got[loud], expected[loud], rtol=0, atol=1e-3)


@pytest.mark.parametrize("double", [True, False])
def test_gradient_is_stopped(double):
    waveform = jnp.asarray(_signals(4800, 48_000)["noise"])[None]
    gradient = jax.grad(lambda x: log_mel(x, SLANEY, double=double).sum())(waveform)
    assert gradient.dtype == jnp.float32
    np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize("shape", [(4800,), (1, 1, 4800), (2, 512), (2, 0)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="log_mel"):
        log_mel(jnp.zeros(shape), SLANEY)


def test_shortest_clip_that_can_be_reflected():
    assert log_mel(jnp.ones((2, 513)), SLANEY).shape == (2, 2, 64)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sample_rate": 0}, "audio.sample_rate"),
        ({"clip_samples": 0}, "audio.clip_samples"),
        ({"hop_length": -1}, "audio.hop_length"),
        ({"mel_bins": 0}, "audio.mel_bins"),
        ({"fmin": -1.0}, "fmin"),
        ({"fmin": 14_000.0}, "fmin"),
        ({"sample_rate": 16_000}, "sample_rate / 2"),
        ({"fill": "wrap"}, "audio.fill"),
        ({"mel_scale": "mel"}, "audio.mel_scale"),
        ({"mel_norm": None}, "audio.mel_norm"),
    ],
)
def test_config_errors_name_the_setting(change, reason):
    with pytest.raises(ValueError, match=reason):
        AudioConfig(**change)


def test_frames_of_a_clip():
    assert SLANEY.frames == 1001 and SMALL.frames == 26


@pytest.mark.parametrize(
    ("frames", "window", "hop"),
    [(21, 1024, 480), (9, 512, 160), (7, 64, 64), (5, 30, 64), (1, 8, 3)],
)
def test_windows_by_slices_equal_a_gather(frames, window, hop):
    """Each serves one kind of device; the waveform may be longer than the windows reach."""
    for spare in (0, 1, 700):
        size = (frames - 1) * hop + window + spare
        waveform = np.random.default_rng(spare).normal(size=(2, size)).astype(np.float32)
        expected = np.stack([waveform[:, i * hop : i * hop + window] for i in range(frames)], 1)
        for windows in (windows_by_gather, windows_by_slices):
            found = windows(jnp.asarray(waveform), frames, window, hop)
            np.testing.assert_array_equal(found, expected)
