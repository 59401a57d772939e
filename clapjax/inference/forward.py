"""The models' functions of (variables, arrays) that `clapjax.inference.Clap` compiles."""

import jax

from clapjax.audio.mel import log_mel
from clapjax.models.clap import Clap, embed_waveform
from clapjax.models.config import ClapConfig


def any_length(config: ClapConfig) -> bool:
    """Whether the model hears audio of any length as it is, and is told how long each row is."""
    return config.audio_encoder != "htsat" and config.pann.pooling == "length"


def embed(model: Clap, double: bool, variables: dict, waveform: jax.Array, lengths: jax.Array):
    """(B, S) waveforms and (B,) lengths to (B, D)."""
    knows_lengths = any_length(model.config) or model.config.fusion.type != "none"
    lengths = lengths if knows_lengths else None
    return embed_waveform(model, variables, waveform, lengths=lengths, double=double)


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
