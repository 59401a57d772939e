"""The models' functions of (variables, arrays) that `clapjax.inference.Clap` compiles."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax

from clapjax.audio.mel import log_mel
from clapjax.models.clap import Clap, any_length, embed_clip
from clapjax.models.config import ClapConfig


class Functions(NamedTuple):
    """Of a model, compiled for each shape that they meet; each takes its variables first."""

    audio: Callable  # waveforms (B, S), lengths (B,) to (B, D)
    frames: Callable  # the same to (B, T, D)
    text: Callable  # ids (B, L), mask (B, L) to (B, D)


@functools.lru_cache(maxsize=16)
def functions(config: ClapConfig, dtype: jax.numpy.dtype, platform: str, exact: bool) -> Functions:
    """Those of a configuration, the same at each call: what one model compiles others find.

    `exact`: float32 throughout, where a GPU or TPU would multiply in fewer bits.
    """
    model, double = Clap(config, dtype, platform=platform), platform != "tpu"
    every = (
        functools.partial(embed_clip, model, double),
        functools.partial(embed_frames, model, double),
        functools.partial(model.apply, method="text"),
    )
    return Functions(*(jax.jit(in_float32(one) if exact else one) for one in every))


def in_float32(function: Callable) -> Callable:
    """The function with matrix products of all bits of float32, where it is traced."""

    @functools.wraps(function)
    def traced(*arrays):
        with jax.default_matmul_precision("float32"):
            return function(*arrays)

    return traced


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
