"""LAION-CLAP's variants of the contrastive loss: second heads (mlp_loss) and kappa weighting.

N is the global batch, D the embedding size.
"""

import jax
import jax.numpy as jnp

from clapjax.losses.plain import contrastive_loss
from clapjax.losses.ring import dot


def kappa_weights(x: jax.Array, kappa: float) -> jax.Array:
    """How much each sample counts: exp(mean similarity to the batch / kappa), without gradient.

    Args:
      x: (N, D) unit-length audio, or text, embeddings.
      kappa: `weight_loss_kappa`; the smaller, the more the samples count that resemble others.

    Returns:
      (N,).
    """
    x = jax.lax.stop_gradient(x)
    return jnp.exp(dot(x, x, 1, 1).mean(axis=1) / kappa)


def laion_loss(
    audio: jax.Array,
    text: jax.Array,
    scale: jax.Array,
    *,
    transformed: tuple[jax.Array, jax.Array, jax.Array] | None = None,
    kappa: float = 0.0,
    groups: jax.Array | None = None,
) -> jax.Array:
    """`contrastive_loss` with LAION-CLAP's options.

    Args:
      audio, text: (N, D) unit-length float32; row i of one belongs to row i of the other.
      scale: () exp of logit_scale_a.
      transformed: (audio, text) behind the heads of `ClapConfig.mlp_transforms`, (N, D) each, and
        exp of logit_scale_t. The loss is then the mean of audio against transformed text at
        `scale`, and of transformed audio against text at the other (mlp_loss).
      kappa: 0 counts all samples alike. Otherwise each direction is weighted by what it is looked
        up in (audio-to-text by the texts), with `transformed` the first pair by the audio and the
        second by the text.
      groups: as in `contrastive_loss`.

    Returns:
      () float32.
    """
    by_audio = by_text = None
    if kappa:
        by_audio, by_text = kappa_weights(audio, kappa), kappa_weights(text, kappa)
    if transformed is None:
        weights = (by_text, by_audio) if kappa else None
        return contrastive_loss(audio, text, scale, groups, weights=weights)
    audio_mlp, text_mlp, scale_t = transformed
    first = (by_audio, by_audio) if kappa else None
    second = (by_text, by_text) if kappa else None
    return 0.5 * (
        contrastive_loss(audio, text_mlp, scale, groups, weights=first)
        + contrastive_loss(audio_mlp, text, scale_t, groups, weights=second)
    )
