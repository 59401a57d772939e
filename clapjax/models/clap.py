"""The two-tower CLAP model (Wu et al., ICASSP 2023)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from clapjax.audio.mel import log_mel
from clapjax.models.config import ClapConfig
from clapjax.models.htsat import HTSAT
from clapjax.models.layers import Projection
from clapjax.models.text import TextEncoder

MAX_LOG_SCALE = 4.605170185988092  # ln 100: the clamp of CLIP and LAION-CLAP


def compute_dtype(config: ClapConfig, platform: str) -> jnp.dtype:
    """The type that matrix products run in on a "cpu", "gpu" or "tpu"."""
    if config.compute_dtype == "auto":
        return jnp.dtype(jnp.float32 if platform == "cpu" else jnp.bfloat16)
    return jnp.dtype(config.compute_dtype)


def normalize(x: jax.Array) -> jax.Array:
    """(..., D) to unit length, float32."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=-1, keepdims=True), 1e-24))


class Clap(nn.Module):
    """Audio and text towers with projections and the two logit scales.

    Parameters are float32; `dtype` is what matrix products run in. Apply with `method="audio"`,
    `"text"`, or neither (both towers).
    """

    config: ClapConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        size = self.config.projection_size
        self.audio_encoder = HTSAT(self.config.htsat, self.config.audio.mel_bins, self.dtype)
        self.text_encoder = TextEncoder(self.config.text, self.dtype)
        self.audio_projection = Projection(size, self.dtype)
        self.text_projection = Projection(size, self.dtype)
        scale = nn.initializers.constant(self.config.logit_scale_init)
        self.logit_scale_a = self.param("logit_scale_a", scale, ())
        self.logit_scale_t = self.param("logit_scale_t", scale, ())

    def audio(self, mel: jax.Array, train: bool = False) -> jax.Array:
        """(B, F, M) log-mels in dB to (B, projection_size) unit-length float32 embeddings."""
        pooled, _ = self.audio_encoder(mel, train)
        return normalize(self.audio_projection(pooled))

    def text(self, input_ids: jax.Array, mask: jax.Array, train: bool = False) -> jax.Array:
        """(B, L) token ids and mask to (B, projection_size) unit-length float32 embeddings."""
        pooled, _ = self.text_encoder(input_ids, mask, train)
        return normalize(self.text_projection(pooled))

    def __call__(self, mel: jax.Array, input_ids: jax.Array, mask: jax.Array, train: bool = False):
        """Both towers and the clamped scales: (audio, text, exp(logit_scale_a), exp(..._t)).

        The rows of `input_ids` need not be as many as those of `mel` (negatives may follow).
        """
        scales = [
            jnp.exp(jnp.clip(s, 0.0, MAX_LOG_SCALE))
            for s in (self.logit_scale_a, self.logit_scale_t)
        ]
        return self.audio(mel, train), self.text(input_ids, mask, train), *scales


def init_variables(config: ClapConfig, key: jax.Array) -> dict:
    """Fresh {"params", "batch_stats"}; the same key gives the same values on any device count."""
    mel = jnp.zeros((1, config.audio.frames, config.audio.mel_bins))
    ids = jnp.zeros((1, config.text.max_length), jnp.int32)
    return Clap(config).init(key, mel, ids, jnp.ones_like(ids))


def embed_waveform(
    model: Clap, variables: dict, waveform: jax.Array, *, double: bool = True
) -> jax.Array:
    """(B, clip_samples) int16 or float waveforms to (B, projection_size) embeddings, no dropout."""
    mel = log_mel(waveform, model.config.audio, double=double)
    return model.apply(variables, mel, method="audio")
