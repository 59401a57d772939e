"""Waveforms to what an audio encoder takes."""

import jax

from clapjax.audio.fusion import fusion_mels
from clapjax.audio.mel import log_mel
from clapjax.models.config import ClapConfig


def front_end(
    config: ClapConfig,
    waveform: jax.Array,
    lengths: jax.Array | None,
    key: jax.Array | None = None,
    double: bool = False,
) -> dict:
    """Waveforms to the mels that a model takes, and what it must know about their rows.

    Args:
      config: audio, fusion, and whether the encoder knows lengths.
      waveform: (B, T) int16 or float.
      lengths: (B,) int32 samples of each row; None: all are of one length.
      key: of the chunks that fusion hears; None: fixed places.
      double: float64 FFT; not on TPUs.

    Returns:
      "mel", and with fusion "longer", else "lengths", as `clapjax.models.clap.Clap.audio` has them.
    """
    if config.fusion.type != "none":
        key = None if key is None else jax.random.fold_in(key, 1)
        antialias = config.fusion.antialias
        mel, longer = fusion_mels(
            waveform, lengths, config.audio, key=key, antialias=antialias, double=double
        )
        return {"mel": mel, "longer": longer}
    mel = log_mel(waveform, config.audio, lengths=lengths, double=double)
    frames = None if lengths is None else lengths // config.audio.hop_length + 1
    return {"mel": mel, "lengths": frames}
