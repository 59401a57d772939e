"""An audio encoder under a linear head: one logit for each label."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from clapjax.models.clap import make_audio_encoder
from clapjax.models.config import ClapConfig


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

    def setup(self):
        self.audio_encoder = make_audio_encoder(
            self.config, self.dtype, self.remat, self.platform, self.frozen
        )
        self.head = nn.Dense(self.labels)

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
        pooled, _ = self.audio_encoder(mel, train, longer, lengths)
        return self.head(pooled)


def init_tagger(config: ClapConfig, labels: int, key: jax.Array) -> dict:
    """Fresh {"params", "batch_stats"}; the same key gives the same values on any device count."""
    mel = jnp.zeros((1, config.audio.frames, config.audio.mel_bins))
    return Tagger(config, labels).init(key, mel)
