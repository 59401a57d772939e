"""Sound to what an audio encoder takes: waveforms, or log-mels that records hold."""

import jax
import jax.numpy as jnp

from clapjax.audio.config import AudioConfig
from clapjax.audio.fusion import fuse, fusion_mels
from clapjax.audio.mel import AMIN, log_mel
from clapjax.models.config import ClapConfig


def front_end(
    config: ClapConfig,
    sound: jax.Array,
    lengths: jax.Array | None,
    key: jax.Array | None = None,
    double: bool = False,
) -> dict:
    """Sound to the mels that a model takes, and what it must know about their rows.

    Args:
      config: audio, fusion, and whether the encoder knows lengths.
      sound: (B, T) int16 or float waveforms; or (B, N, M) log-mels of this front end, any float,
        silent behind each row's end, for which nothing is computed.
      lengths: (B,) int32 samples of each row; None: all are of one length.
      key: of the chunks that fusion hears; None: fixed places.
      double: float64 FFT; not on TPUs.

    Returns:
      "mel", and with fusion "longer", else "lengths", as `clapjax.models.clap.Clap.audio` has them.
    """
    audio, mel = config.audio, None
    if sound.ndim == 3:
        mel = jax.lax.stop_gradient(sound.astype(jnp.float32))
    frames = None if lengths is None else lengths // audio.hop_length + 1
    if config.fusion.type != "none":
        key = None if key is None else jax.random.fold_in(key, 1)
        how = {"key": key, "antialias": config.fusion.antialias}
        if mel is None:
            mel, longer = fusion_mels(sound, lengths, audio, double=double, **how)
        else:
            total = jnp.full(len(mel), mel.shape[1]) if frames is None else frames
            mel, longer = fuse(mel, total, audio, **how)
        return {"mel": mel, "longer": longer}
    if mel is None:
        mel = log_mel(sound, audio, lengths=lengths, double=double)
    return {"mel": mel, "lengths": frames}


def sound_shape(audio: AudioConfig, kind: str, rows: int) -> tuple[tuple[int, ...], jnp.dtype]:
    """(Shape, type) of the sound of a batch for a plan, with data.audio of this kind."""
    if kind == "mel":
        return (rows, audio.frames, audio.mel_bins), jnp.float16
    return (rows, audio.clip_samples), jnp.int16


def mixed(sound: jax.Array, share: jax.Array) -> jax.Array:
    """Each row joined with the one that is as far from the other end of the batch.

    Args:
      sound: (N, T) int16, or (N, F, M) log-mels, whose powers are joined: those of waveforms add up
        so, on average, where these have nothing to do with one another.
      share: (N,) in [0, 1], the amplitude of a row beside the other's 1 - share.

    Returns:
      The same shape, float32: waveforms in [-1, 1], or dB.
    """
    if sound.ndim == 2:
        sound, share = sound.astype(jnp.float32) / 32767.0, share[:, None]
        return share * sound + (1 - share) * sound[::-1]
    share, power = share[:, None, None], 10 ** (sound.astype(jnp.float32) / 10)
    power = share**2 * power + (1 - share) ** 2 * power[::-1]
    return 10 * jnp.log10(jnp.maximum(power, AMIN))


def turned(sound: jax.Array, lengths: jax.Array | None, shift: jax.Array, hop: int) -> jax.Array:
    """Each row turned round in its own length, by a part of it.

    Args:
      sound: (N, T), or (N, F, M) log-mels.
      lengths: (N,) samples of each row, or None for all there are.
      shift: (N,) in [0, 1).
      hop: samples from a frame of a log-mel to the next.
    """
    size = sound.shape[1]
    if lengths is None:
        lengths = jnp.full(len(sound), size, jnp.int32)
    elif sound.ndim == 3:
        lengths = lengths // hop + 1
    lengths = lengths[:, None]
    start = jnp.floor(shift[:, None] * lengths).astype(jnp.int32)
    position = jnp.arange(size, dtype=jnp.int32)[None]
    position = jnp.where(position < lengths, (position + start) % lengths, position)
    if sound.ndim == 3:
        position = position[:, :, None]
    return jnp.take_along_axis(sound, position, axis=1)
