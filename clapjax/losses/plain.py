"""Contrastive and temporal-focused losses over the global batch: plain formulas.

N is the global batch, D the embedding size; embeddings have unit length.
"""

import jax
import jax.numpy as jnp

from clapjax.losses.ring import dot


def contrastive_loss(
    audio: jax.Array,
    text: jax.Array,
    scale: jax.Array,
    groups: jax.Array | None = None,
    further: jax.Array | None = None,
    weights: tuple[jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """Symmetric InfoNCE (CLIP, LAION-CLAP): mean of audio-to-text and text-to-audio cross entropy.

    Args:
      audio, text: (N, D) float32; row i of one belongs to row i of the other.
      scale: () exp of the logit scale.
      groups: (N,) int32 or None; rows of the same positive group are not each other's negatives. A
        row below 0 is not there: nothing sees it, and it costs 0 (in a mean that counts it).
      further: (N, K) logits of captions that are wrong for row i, or None; -inf is no caption.
      weights: ((N,), (N,)) of the rows in the audio-to-text and in the text-to-audio mean, or None.

    Returns:
      () float32.
    """
    logits = scale * dot(audio, text, 1, 1)  # (N, N)
    positive = jnp.diagonal(logits)
    if groups is not None:
        logits = jnp.where(hidden_pairs(groups), -jnp.inf, logits)
    columns = jax.nn.logsumexp(logits, axis=0) - positive
    if further is not None:
        logits = jnp.concatenate([logits, further], axis=1)
    rows = jax.nn.logsumexp(logits, axis=1) - positive
    if weights is None:
        return 0.5 * (rows.mean() + columns.mean())
    to_text, to_audio = weights
    rows = jnp.sum(to_text * rows) / to_text.sum()
    return 0.5 * (rows + jnp.sum(to_audio * columns) / to_audio.sum())


def hidden_pairs(groups: jax.Array) -> jax.Array:
    """(N, N) bool: different rows that are no negatives, by `contrastive_loss`'s groups."""
    same = (groups[:, None] == groups[None, :]) & (groups > 0)[:, None]
    absent = groups < 0
    same |= absent[:, None] | absent[None, :]
    return same & ~jnp.eye(len(groups), dtype=bool)


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
