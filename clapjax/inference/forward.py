"""The models' functions of (variables, arrays) that `clapjax.inference.Clap` compiles."""

import jax

from clapjax.audio.mel import log_mel
from clapjax.models.clap import Clap, any_length
from clapjax.models.config import ClapConfig


def embed_frames(
    model: Clap, double: bool, variables: dict, waveform: jax.Array, lengths: jax.Array
):
    """(B, clip_samples) waveforms and (B,) lengths to (B, T, D)."""
    audio, frames = model.config.audio, None
    lengths = lengths if any_length(model.config) else None
    mel = log_mel(waveform, audio, lengths=lengths, double=double)
    if lengths is not None:
        frames = lengths // audio.hop_length + 1
    return model.apply(variables, mel, lengths=frames, method="frames")


def frame_samples(config: ClapConfig, per_clip: int) -> float:
    """Samples that a frame of `Clap.frames` lasts: HTSAT stretches a clip over its frames."""
    if config.audio_encoder == "htsat":
        return config.audio.clip_samples / per_clip
    return config.audio.hop_length * (16 if config.audio_encoder == "cnn6" else 32)
