"""The two-tower CLAP model (Wu et al., ICASSP 2023)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from clapjax.audio.fusion import fusion_mels
from clapjax.audio.mel import log_mel
from clapjax.models.config import ClapConfig
from clapjax.models.htsat import HTSAT
from clapjax.models.layers import Projection
from clapjax.models.packing import Packing
from clapjax.models.pann import PANN
from clapjax.models.text import TextEncoder

MAX_LOG_SCALE = 4.605170185988092  # ln 100: the clamp of CLIP and LAION-CLAP


def compute_dtype(config: ClapConfig, platform: str) -> jnp.dtype:
    """The type that matrix products run in on a "cpu", "gpu" or "tpu"."""
    if config.compute_dtype == "auto":
        return jnp.dtype(jnp.float32 if platform == "cpu" else jnp.bfloat16)
    return jnp.dtype(config.compute_dtype)


def cast_kernels(params: dict, dtype: jnp.dtype) -> dict:
    """The kernels, all that matrix products take, in the type that they run in.

    The model casts them itself, but layer by layer, at each call, and keeps what it cast for the
    backward pass.
    """

    def cast(path, leaf):
        return leaf.astype(dtype) if path[-1].key == "kernel" else leaf

    return jax.tree_util.tree_map_with_path(cast, params)


def normalize(x: jax.Array, eps: float = 0.0) -> jax.Array:
    """(..., D) to unit length, float32: x / |x|, or with BLAT's `eps` x / (|x| + eps)."""
    x = x.astype(jnp.float32)
    if eps > 0:
        return x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + eps)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=-1, keepdims=True), 1e-24))


def make_audio_encoder(
    config: ClapConfig,
    dtype: jnp.dtype,
    remat: str = "none",
    platform: str = "",
    frozen: int = -1,
) -> nn.Module:
    """The audio encoder of a config; for the arguments see `Clap`."""
    if config.audio_encoder == "htsat":
        bins = config.audio.mel_bins
        return HTSAT(config.htsat, bins, dtype, config.fusion, remat, platform, frozen)
    return PANN(config.pann, config.audio_encoder, config.fusion, dtype, remat, frozen)


class Clap(nn.Module):
    """Audio and text towers with projections and the two logit scales.

    Parameters are float32; `dtype` is what matrix products run in. Apply with `method="audio"`,
    `"text"` or another method's name, or without one (both towers).

    `platform` is where it will run, "cpu", "gpu" or "tpu", and decides in which forms it computes
    the same: those of `clapjax.models.cpu`, or for TPUs what takes least to compile; "" is plain.
    """

    config: ClapConfig
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"  # what of an encoder's layers the backward pass computes again
    platform: str = ""
    # Of each encoder, how many layers are frozen, with what is below the first; -1: nothing.
    audio_frozen: int = -1
    text_frozen: int = -1

    def setup(self):
        config, dtype = self.config, self.dtype
        self.audio_encoder = make_audio_encoder(
            config, dtype, self.remat, self.platform, self.audio_frozen
        )
        self.text_encoder = TextEncoder(
            config.text, dtype, self.remat, self.text_frozen, self.platform
        )
        head = (config.projection_size, dtype, config.projection, config.projection_act)
        self.audio_projection = Projection(*head)
        self.text_projection = Projection(*head)
        if config.mlp_transforms:
            self.audio_transform = Projection(config.projection_size, dtype, dropout=0.1)
            self.text_transform = Projection(config.projection_size, dtype, dropout=0.1)
        scale = nn.initializers.constant(config.logit_scale_init)
        self.logit_scale_a = self.param("logit_scale_a", scale, ())
        self.logit_scale_t = self.param("logit_scale_t", scale, ())
        if config.logit_bias:
            bias = nn.initializers.constant(config.logit_bias_init)
            self.logit_bias = self.param("logit_bias", bias, ())

    def audio(
        self,
        mel: jax.Array,
        train: bool = False,
        longer: jax.Array | None = None,
        lengths: jax.Array | None = None,
    ) -> jax.Array:
        """Log-mels to unit-length embeddings.

        Args:
          mel: (B, F, M) dB; with fusion also (B, 4, F, M) as `clapjax.audio.fusion` makes them.
          train: as the encoder has it.
          longer: (B,) bool, with four mels: which rows are longer than a clip.
          lengths: (B,) int32 frames of each row, for a PANN with pooling "length".

        Returns:
          (B, projection_size) float32.
        """
        return self._normalize(self.project_audio(mel, train, longer, lengths))

    def project_audio(
        self,
        mel: jax.Array,
        train: bool = False,
        longer: jax.Array | None = None,
        lengths: jax.Array | None = None,
    ) -> jax.Array:
        """As `audio`, not normalised."""
        pooled, _ = self.audio_encoder(mel, train, longer, lengths)
        return self.audio_projection(pooled).astype(jnp.float32)

    def frames(
        self, mel: jax.Array, longer: jax.Array | None = None, lengths: jax.Array | None = None
    ) -> jax.Array:
        """As `audio`, one embedding for each step of time: (B, T, projection_size).

        T steps divide the mel's time evenly: HTSAT has spec_size**2 / mel_bins / (patch_stride *
        2 ** (stages - 1)) of them for a clip, a PANN one for each 16 (Cnn6) or 32 frames.
        """
        _, hidden = self.audio_encoder(mel, False, longer, lengths)
        return self._normalize(self.audio_projection(self.audio_encoder.frames(hidden)))

    def text(
        self,
        input_ids: jax.Array,
        mask: jax.Array | None,
        train: bool = False,
        packing: Packing | None = None,
    ) -> jax.Array:
        """(B, L) token ids and mask to (B, projection_size) unit-length float32 embeddings.

        Of packed texts, which have no mask, to (B, S, projection_size).
        """
        return self._normalize(self.project_text(input_ids, mask, train, packing))

    def project_text(
        self,
        input_ids: jax.Array,
        mask: jax.Array | None,
        train: bool = False,
        packing: Packing | None = None,
    ) -> jax.Array:
        """As `text`, not normalised."""
        pooled, _ = self.text_encoder(input_ids, mask, train, packing)
        return self.text_projection(pooled).astype(jnp.float32)

    def __call__(
        self,
        mel: jax.Array,
        input_ids: jax.Array,
        mask: jax.Array,
        train: bool = False,
        longer: jax.Array | None = None,
        lengths: jax.Array | None = None,
    ) -> tuple[jax.Array, ...]:
        """Both towers and the clamped scales: (audio, text, exp(logit_scale_a), exp(..._t)).

        With mlp_transforms, the transformed audio and text embeddings follow: not normalised, as
        LAION-CLAP has them. The rows of `input_ids` need not be as many as those of `mel`
        (negatives may follow).
        """
        scales = [
            jnp.exp(jnp.clip(s, 0.0, MAX_LOG_SCALE))
            for s in (self.logit_scale_a, self.logit_scale_t)
        ]
        audio = self.audio(mel, train, longer, lengths)
        text = self.text(input_ids, mask, train)
        if not self.config.mlp_transforms:
            return audio, text, *scales
        transformed = (self.audio_transform(audio, not train), self.text_transform(text, not train))
        return audio, text, *scales, *(x.astype(jnp.float32) for x in transformed)

    def _normalize(self, x: jax.Array) -> jax.Array:
        return normalize(x, self.config.normalize_eps)


def init_variables(config: ClapConfig, key: jax.Array) -> dict:
    """Fresh {"params", "batch_stats"}; the same key gives the same values on any device count."""
    mel = jnp.zeros((1, config.audio.frames, config.audio.mel_bins))
    ids = jnp.zeros((1, config.text.max_length), jnp.int32)
    return Clap(config).init(key, mel, ids, jnp.ones_like(ids))


def embed_waveform(
    model: Clap,
    variables: dict,
    waveform: jax.Array,
    *,
    lengths: jax.Array | None = None,
    double: bool = True,
) -> jax.Array:
    """Waveforms to embeddings; nothing is random.

    Args:
      model, variables: the model.
      waveform: (B, T) int16 or float. Clips have T = clip_samples; a model with fusion hears any
        T from there on, a PANN with pooling "length" any T at all.
      lengths: (B,) int32 samples of each row, where rows end before T.
      double: float64 FFT; False on TPUs.

    Returns:
      (B, projection_size) float32, unit length.
    """
    audio = model.config.audio
    if model.config.fusion.type != "none":
        antialias = model.config.fusion.antialias
        mels, longer = fusion_mels(waveform, lengths, audio, antialias=antialias, double=double)
        return model.apply(variables, mels, longer=longer, method="audio")
    mel = log_mel(waveform, audio, lengths=lengths, double=double)
    frames = None if lengths is None else lengths // audio.hop_length + 1
    return model.apply(variables, mel, lengths=frames, method="audio")


def any_length(config: ClapConfig) -> bool:
    """Whether the model hears audio of any length as it is, and is told how long each row is."""
    return config.audio_encoder != "htsat" and config.pann.pooling == "length"


def uses_lengths(config: ClapConfig) -> bool:
    """Whether what the model makes of a row depends on where the row ends."""
    return any_length(config) or config.fusion.type != "none"


def embed_clip(model: Clap, double: bool, variables: dict, waveform: jax.Array, lengths: jax.Array):
    """`embed_waveform` of (B, S) waveforms and (B,) lengths, for those models that use them."""
    lengths = lengths if uses_lengths(model.config) else None
    return embed_waveform(model, variables, waveform, lengths=lengths, double=double)
