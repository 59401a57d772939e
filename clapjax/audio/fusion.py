"""The four log-mels of feature fusion, from audio of any length, on the device.

[the whole shrunk to a clip, a chunk of the front, the middle, the back] as LAION-CLAP and
`transformers.ClapFeatureExtractor(truncation="fusion")` make them, in static shapes.
Shapes: B batch, T samples, N frames of T samples, F frames of a clip, M mels.
"""

import jax
import jax.numpy as jnp

from clapjax.audio.config import AudioConfig
from clapjax.audio.mel import log_mel


def fusion_mels(
    waveform: jax.Array,
    lengths: jax.Array | None,
    config: AudioConfig,
    *,
    key: jax.Array | None = None,
    antialias: bool = False,
    double: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """Four log-mels of each row.

    Args:
      waveform: (B, T) float or int16, T >= clip_samples; what lies behind a row's end is not heard.
      lengths: (B,) int32 samples of each row, or None for T. A row shorter than a clip counts as a
        clip: fill it before (`clapjax.audio.fill`).
      config: front end; LAION-CLAP's has mel_scale "htk" and mel_norm "none" with fusion.
      key: where in each third of a longer row its chunk begins, uniformly as in LAION-CLAP and for
        each row apart. None: in the middle of the third, the same every time.
      antialias: of the shrunk mel, as torchvision >= 0.17 has it by default; without, as LAION-CLAP
        was trained and transformers does.
      double: FFT in float64 (see `log_mel`).

    Returns:
      ((B, 4, F, M) float32 dB, (B,) bool: the row has more frames than a clip). The mels of a row
      that has not are four times the clip's.

    Raises:
      ValueError: T is less than a clip.
    """
    if waveform.ndim != 2 or waveform.shape[1] < config.clip_samples:
        raise ValueError(
            f"fusion_mels: expected (B, T) with T >= {config.clip_samples}, got {waveform.shape}"
        )
    batch, size = waveform.shape
    if lengths is None:
        lengths = jnp.full(batch, size)
    lengths = jnp.clip(lengths.astype(jnp.int32), config.clip_samples, size)
    mel = log_mel(waveform, config, lengths=lengths, double=double)  # (B, N, M)
    return fuse(mel, lengths // config.hop_length + 1, config, key=key, antialias=antialias)


def fuse(
    mel: jax.Array,
    total: jax.Array,
    config: AudioConfig,
    *,
    key: jax.Array | None = None,
    antialias: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """`fusion_mels` of log-mels.

    Args:
      mel: (B, N, M) float32 dB, N at least a clip's frames.
      total: (B,) int32 frames of each row; fewer than a clip has count as those of a clip.
      config, key, antialias: as of `fusion_mels`.
    """
    frames = config.frames
    total = jnp.clip(total.astype(jnp.int32), frames, mel.shape[1])
    starts = _chunk_starts(total - frames + 1, key)  # (B, 3)

    def chunk(row, start):
        return jax.lax.dynamic_slice_in_dim(row, start, frames, axis=0)

    chunks = jax.vmap(jax.vmap(chunk, (None, 0)))(mel, starts)  # (B, 3, F, M)
    shrunk = shrink(mel, total, frames, antialias=antialias)
    return jnp.concatenate([shrunk[:, None], chunks], axis=1), total > frames


def _chunk_starts(choices: jax.Array, key: jax.Array | None) -> jax.Array:
    """One of the first, middle and last third of 0 .. choices - 1: (B,) to (B, 3).

    Thirds as numpy.array_split has them; an empty one counts as [0].
    """
    part = jnp.arange(3)
    small, rest = choices[:, None] // 3, choices[:, None] % 3
    size = small + (part < rest)
    first = jnp.where(size > 0, part * small + jnp.minimum(part, rest), 0)
    if key is None:
        return first + size // 2
    return first + jax.random.randint(key, size.shape, 0, jnp.maximum(size, 1))


def shrink(mel: jax.Array, total: jax.Array, frames: int, *, antialias: bool = False) -> jax.Array:
    """Squeezes the first `total` frames of each row into `frames`, bilinearly.

    torch's `interpolate(mode="bilinear", align_corners=False, antialias=antialias)`. Positions are
    exact fractions: in float32, torch's own are off by 1e-4 of a frame after half a minute.

    Args:
      mel: (B, N, M).
      total: (B,) int32, frames <= total <= N.
      frames: F.
      antialias: a triangle as wide as the scale, instead of the two nearest frames.

    Returns:
      (B, F, M).

    Raises:
      ValueError: N * F is 2**30 or more (three hours for LAION-CLAP), which int32 cannot hold.
    """
    if mel.shape[1] * frames >= 2**30:
        raise ValueError(
            f"shrink: {mel.shape[1]} frames are too many to squeeze into {frames}; embed windows "
            "of such a recording"
        )
    odd = 2 * jnp.arange(frames) + 1  # output i stands at odd * total / (2 F)
    total = total.astype(jnp.int32)[:, None]  # (B, 1)
    if antialias:
        # Taps from floor(centre - scale + 1/2); the widest row needs this many.
        taps = 2 * -(-mel.shape[1] // frames) + 1
        first = ((odd - 2) * total + frames) // (2 * frames)  # (B, F)
        tap = jnp.maximum(first, 0)[:, :, None] + jnp.arange(taps)  # (B, F, taps)
        distance = jnp.abs((2 * tap + 1) * frames - (odd * total)[:, :, None])
        weight = jnp.maximum(0.0, 1.0 - distance / (2 * total[:, :, None]))
        weight = jnp.where(tap < total[:, :, None], weight, 0.0)
        weight = weight / weight.sum(axis=-1, keepdims=True)
    else:
        position = odd * total - frames  # of the lower of two frames, in 1 / (2 F)
        position = jnp.maximum(position, 0)
        tap = (position // (2 * frames))[:, :, None] + jnp.arange(2)
        upper = (position % (2 * frames)) / (2 * frames)
        weight = jnp.stack([1.0 - upper, upper], axis=-1)
    tap = jnp.minimum(tap, total[:, :, None] - 1)
    rows = jax.vmap(lambda row, index: row[index])(mel, tap)  # (B, F, taps, M)
    return jnp.einsum("bft,bftm->bfm", weight, rows, precision=jax.lax.Precision.HIGHEST)
