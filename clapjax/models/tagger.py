"""An audio encoder under a head: one logit for each label."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from clapjax.models.clap import make_audio_encoder
from clapjax.models.config import ClapConfig

HEADS = ("linear", "token_semantic")


class Tagger(nn.Module):
    """The audio encoder of a `ClapConfig`, and a head that is float32.

    The parameters of the encoder have the names that they have in `clapjax.models.clap.Clap`.
    """

    config: ClapConfig
    labels: int
    dtype: jnp.dtype = jnp.float32
    remat: str = "none"  # what of the encoder's layers the backward pass computes again
    platform: str = ""  # as `Clap` has it
    frozen: int = -1  # layers of the encoder, with what is below the first; -1: nothing
    # "linear", of the pooled embedding; or "token_semantic", of HTSAT alone (Chen et al., 2022): a
    # convolution over all frequencies and three steps of time of its tokens, of which the mean over
    # time counts.
    head_kind: str = "linear"

    def setup(self):
        self.audio_encoder = make_audio_encoder(
            self.config, self.dtype, self.remat, self.platform, self.frozen
        )
        if self.head_kind == "linear":
            self.head = nn.Dense(self.labels)
        else:
            height = self.config.audio.mel_bins // self.config.htsat.token_size
            self.head = nn.Conv(self.labels, (height, 3), padding=((0, 0), (1, 1)))

    def __call__(
        self,
        mel: jax.Array,
        train: bool = False,
        longer: jax.Array | None = None,
        lengths: jax.Array | None = None,
    ) -> jax.Array:
        """Log-mels to logits; the arguments are those of `Clap.audio`.

        Returns:
          (B, labels) float32.
        """
        pooled, hidden = self.audio_encoder(mel, train, longer, lengths)
        if self.head_kind == "linear":
            return self.head(pooled)
        return self.head(self.audio_encoder.unfolded(hidden)).mean(axis=(1, 2))


def check_head(config: ClapConfig, head_kind: str) -> None:
    """Raises ValueError where an audio encoder does not go with a head."""
    if head_kind not in HEADS:
        raise ValueError(f"tagging.head must be one of {', '.join(HEADS)}, not {head_kind!r}")
    if head_kind == "token_semantic" and config.audio_encoder != "htsat":
        raise ValueError(
            f"tagging.head 'token_semantic' is for htsat, not for {config.audio_encoder}"
        )


def init_tagger(config: ClapConfig, labels: int, key: jax.Array, head_kind: str = "linear") -> dict:
    """Fresh {"params", "batch_stats"}; the same key gives the same values on any device count."""
    mel = jnp.zeros((1, config.audio.frames, config.audio.mel_bins))
    return Tagger(config, labels, head_kind=head_kind).init(key, mel)
