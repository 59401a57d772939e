"""Contrastive and temporal-focused losses over the global batch: plain formulas.

N is the global batch, D the embedding size; embeddings have unit length.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class LossConfig:
    """Weights of the training objective L = L_contrastive + temporal_weight * L_temporal."""

    temporal_weight: float = 0.5  # lambda of T-CLAP, equation 2
    # Steps over which the weight rises linearly from 0: a model trained from scratch must know the
    # events before their order can teach it anything but noise. Not from the paper.
    temporal_ramp_steps: int = 0
    # Clips in which the same events sound in the same order are not each other's negatives. Not
    # from the papers, whose human captions seldom coincide as template captions do.
    mask_same_events: bool = False

    def __post_init__(self):
        if self.temporal_ramp_steps < 0:
            raise ValueError(
                f"loss.temporal_ramp_steps must be >= 0, not {self.temporal_ramp_steps}"
            )
        if not 0 <= self.temporal_weight < float("inf"):
            raise ValueError(f"loss.temporal_weight must be >= 0, not {self.temporal_weight}")


def contrastive_loss(
    audio: jax.Array, text: jax.Array, scale: jax.Array, groups: jax.Array | None = None
) -> jax.Array:
    """Symmetric InfoNCE (CLIP, LAION-CLAP): mean of audio-to-text and text-to-audio cross entropy.

    Args:
      audio, text: (N, D) float32; row i of one belongs to row i of the other.
      scale: () exp of the logit scale.
      groups: (N,) int32 or None; rows of the same positive group are not each other's negatives.

    Returns:
      () float32.
    """
    logits = scale * jnp.dot(audio, text.T, precision=jax.lax.Precision.HIGHEST)  # (N, N)
    positive = jnp.diagonal(logits)
    if groups is not None:
        same = (groups[:, None] == groups[None, :]) & (groups > 0)[:, None]
        same &= ~jnp.eye(len(groups), dtype=bool)
        logits = jnp.where(same, -jnp.inf, logits)
    rows = jax.nn.logsumexp(logits, axis=1) - positive
    columns = jax.nn.logsumexp(logits, axis=0) - positive
    return 0.5 * (rows.mean() + columns.mean())


def temporal_loss(
    audio: jax.Array, text: jax.Array, negative: jax.Array, valid: jax.Array, scale: jax.Array
) -> jax.Array:
    """Temporal-focused loss of T-CLAP (equation 3, after CLIP-Count).

    -log(exp(s a.t+) / (exp(s a.t+) + exp(s a.t-))), averaged over the samples that have a negative.
    T-CLAP leaves open whether s is the logit scale; here it is.

    Args:
      audio, text, negative: (N, D) float32; `negative` is the caption in a wrong order.
      valid: (N,) bool, False where a sample has no negative.
      scale: () exp of the logit scale.

    Returns:
      () float32; 0 where no sample has a negative.
    """
    margin = scale * jnp.sum(audio * (text - negative), axis=-1)  # (N,)
    weight = valid.astype(jnp.float32)
    return jnp.sum(weight * jax.nn.softplus(-margin)) / jnp.maximum(weight.sum(), 1.0)
