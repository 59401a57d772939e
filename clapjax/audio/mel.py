"""Log-mel spectrogram on the device.

Same numbers as torchlibrosa in LAION-CLAP and `transformers.ClapFeatureExtractor`: periodic Hann
window, centred frames with reflected edges, power 2, 10 log10 with floor 1e-10 and no top_db.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from clapjax.audio.config import AudioConfig

AMIN = 1e-10
BLOCK = 512  # frames whose spectra are in memory at once where rows have lengths


def _hz_to_mel(hz: np.ndarray, scale: str) -> np.ndarray:
    hz = np.asarray(hz, np.float64)
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hz / 700.0)
    linear = 3.0 * hz / 200.0
    log_part = 15.0 + np.log(np.maximum(hz, 1e-9) / 1000.0) * 27.0 / np.log(6.4)
    return np.where(hz >= 1000.0, log_part, linear)


def _mel_to_hz(mel: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return np.where(
        mel >= 15.0, 1000.0 * np.exp(np.log(6.4) / 27.0 * (mel - 15.0)), 200.0 * mel / 3
    )


@functools.lru_cache(maxsize=8)
def mel_filters(config: AudioConfig) -> np.ndarray:
    """Triangular filters as librosa.filters.mel's, (window_length // 2 + 1, mel_bins) float32."""
    bins = np.linspace(0.0, config.sample_rate / 2, config.window_length // 2 + 1)  # (K,)
    edges = _mel_to_hz(
        np.linspace(
            _hz_to_mel(config.fmin, config.mel_scale),
            _hz_to_mel(config.fmax, config.mel_scale),
            config.mel_bins + 2,
        ),
        config.mel_scale,
    )  # (mel_bins + 2,)
    width = np.diff(edges)
    slopes = edges[None, :] - bins[:, None]  # (K, mel_bins + 2)
    filters = np.maximum(0.0, np.minimum(-slopes[:, :-2] / width[:-1], slopes[:, 2:] / width[1:]))
    if config.mel_norm == "slaney":
        filters *= 2.0 / (edges[2:] - edges[:-2])[None, :]
    return filters.astype(np.float32)


def log_mel(
    waveform: jax.Array,
    config: AudioConfig,
    *,
    lengths: jax.Array | None = None,
    double: bool = True,
) -> jax.Array:
    """Log-mel spectrogram of a batch of clips.

    Args:
      waveform: (B, T) float in [-1, 1], or int16 (divided by 32767); T > window_length // 2.
      config: front-end settings.
      lengths: (B,) int32 samples of each row, more than window_length // 2 and at most T; None:
        all T. A row's frames are what it has alone, its edge reflected where it ends; the frames
        behind them are silent. Memory does not grow with T as it does without lengths.
      double: FFT in float64, as the feature extractors have it: a float32 FFT is off by up to
        2 dB in bins 100 dB below the loudest. TPUs have no float64 FFT: pass False there.

    Returns:
      (B, T // hop_length + 1, mel_bins) float32, dB relative to power 1. Gradients are stopped.

    Raises:
      ValueError: not (B, T), or too short to reflect at the edges.
    """
    if waveform.ndim != 2 or waveform.shape[1] <= config.window_length // 2:
        raise ValueError(
            f"log_mel: expected (B, T) with T > {config.window_length // 2}, got {waveform.shape}"
        )
    if waveform.dtype == jnp.int16:
        waveform = waveform.astype(jnp.float32) / 32767.0
    waveform = jax.lax.stop_gradient(waveform)
    half, frames = config.window_length // 2, 1 + waveform.shape[1] // config.hop_length
    with jax.enable_x64(double):
        waveform = waveform.astype(jnp.float64 if double else jnp.float32)
        if lengths is None:
            padded = jnp.pad(waveform, ((0, 0), (half, half)), mode="reflect")
            mel = _mel_power(padded, frames, config)
        else:
            mel = _mel_power_in_blocks(_reflect(waveform, lengths, half), frames, config)
    if lengths is not None:
        own = jnp.arange(frames) < (lengths // config.hop_length + 1)[:, None]
        mel = jnp.where(own[:, :, None], mel, 0.0)
    return 10.0 * jnp.log10(jnp.maximum(mel, AMIN))


def _reflect(waveform: jax.Array, lengths: jax.Array, half: int) -> jax.Array:
    """(B, T) to (B, T + 2 half), each row reflected at its start and at its own end."""
    size = waveform.shape[1]
    position = jnp.arange(-half, size + half, dtype=jnp.int32)
    last = lengths.astype(jnp.int32)[:, None] - 1
    position = jnp.abs(position)
    position = jnp.where(position > last, 2 * last - position, position)
    return jnp.take_along_axis(waveform, jnp.clip(position, 0, size - 1), axis=1)


def _mel_power(padded: jax.Array, frames: int, config: AudioConfig) -> jax.Array:
    """(B, (frames - 1) * hop + window or more) to (B, frames, mel_bins) float32."""
    window = config.window_length
    hann = np.hanning(window + 1)[:-1].astype(padded.dtype)  # periodic
    filters = mel_filters(config)
    heard = np.flatnonzero(filters.any(axis=1))
    heard = slice(heard[0], heard[-1] + 1)  # the other bins are in no filter
    spectrum = jnp.fft.rfft(_windows(padded, frames, config) * hann, axis=-1)[
        ..., heard
    ]  # (B, F, K)
    power = (jnp.square(spectrum.real) + jnp.square(spectrum.imag)).astype(jnp.float32)
    return jnp.dot(power, filters[heard], precision=jax.lax.Precision.HIGHEST)


def _windows(padded: jax.Array, frames: int, config: AudioConfig) -> jax.Array:
    """(B, T) to (B, frames, window), a hop apart; gathers are fast on CPUs and slow elsewhere."""
    sizes = {"frames": frames, "window": config.window_length, "hop": config.hop_length}
    gather, slices = (functools.partial(f, **sizes) for f in (windows_by_gather, windows_by_slices))
    return jax.lax.platform_dependent(padded, cpu=gather, default=slices)


def windows_by_gather(padded: jax.Array, frames: int, window: int, hop: int) -> jax.Array:
    """(B, T) to (B, frames, window), a hop apart."""
    return padded[:, np.arange(frames)[:, None] * hop + np.arange(window)]


def windows_by_slices(padded: jax.Array, frames: int, window: int, hop: int) -> jax.Array:
    """(B, T) to (B, frames, window), a hop apart."""
    beside = -(-window // hop)  # hops that a window touches
    end = (frames - 1 + beside) * hop
    hops = jnp.pad(padded, ((0, 0), (0, max(0, end - padded.shape[1]))))[:, :end]
    hops = hops.reshape(padded.shape[0], -1, hop)
    parts = [hops[:, first : first + frames] for first in range(beside)]
    return jnp.concatenate(parts, axis=-1)[..., :window]


def _mel_power_in_blocks(padded: jax.Array, frames: int, config: AudioConfig) -> jax.Array:
    """`_mel_power`, BLOCK frames after BLOCK frames: windows and spectra are never whole."""
    block = min(frames, BLOCK)
    count = -(-frames // block)
    hop, window = config.hop_length, config.window_length
    span = (block - 1) * hop + window
    missing = max(0, (count - 1) * block * hop + span - padded.shape[1])
    padded = jnp.pad(padded, ((0, 0), (0, missing)))

    def one(start):
        return _mel_power(jax.lax.dynamic_slice_in_dim(padded, start, span, 1), block, config)

    starts = jnp.arange(count, dtype=jnp.int32) * block * hop
    blocks = jax.lax.map(one, starts)  # (count, B, block, M)
    mel = jnp.moveaxis(blocks, 0, 1).reshape(padded.shape[0], count * block, -1)
    return mel[:, :frames]
