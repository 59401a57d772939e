"""Contrastive and temporal-focused losses over the global batch: plain formulas.

N is the global batch, D the embedding size; embeddings have unit length.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from clapjax.losses.ring import dot

CHOICES = {
    "kind": ("softmax", "sigmoid"),
    "implementation": ("auto", "plain", "ring"),
    "negatives": ("none", "own", "all"),
}


@dataclass(frozen=True)
class LossConfig:
    """The training objective L = L_contrastive + temporal_weight * L_temporal."""

    temporal_weight: float = 0.5  # lambda of T-CLAP, equation 2
    # Steps over which the weight rises linearly from 0: a model trained from scratch must know the
    # events before their order can teach it anything but noise. Not from the paper.
    temporal_ramp_steps: int = 0
    # Clips in which the same events sound in the same order are not each other's negatives. Not
    # from the papers, whose human captions seldom coincide as template captions do.
    mask_same_events: bool = False
    kind: str = "softmax"  # contrastive loss: "softmax" (CLIP) or "sigmoid" (SigLIP)
    # "plain" builds the N x N logits, "ring" never does; "auto" takes "ring" where they are many.
    implementation: str = "auto"
    # Captions in a wrong order as further negatives of the audio: "none", each sample its "own"
    # (of those that have one), or "all" of the batch's.
    negatives: str = "none"
    tile: int = 1024  # rows and columns of a tile of the ring, at most
    # LAION-CLAP's options, see clapjax/losses/laion.py; plain softmax without further negatives.
    mlp_loss: bool = False  # needs model.mlp_transforms
    kappa: float = 0.0  # its weight_loss_kappa; 0: all samples count alike

    def __post_init__(self):
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"loss.{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}"
                )
        if self.tile < 1:
            raise ValueError(f"loss.tile must be positive, not {self.tile}")
        if self.temporal_ramp_steps < 0:
            raise ValueError(
                f"loss.temporal_ramp_steps must be >= 0, not {self.temporal_ramp_steps}"
            )
        if not 0 <= self.temporal_weight < float("inf"):
            raise ValueError(f"loss.temporal_weight must be >= 0, not {self.temporal_weight}")
        if not 0 <= self.kappa < float("inf"):
            raise ValueError(f"loss.kappa must be >= 0, not {self.kappa}")
        asked = (self.kind, self.negatives, self.implementation == "ring")
        if self.laion and asked != ("softmax", "none", False):
            raise ValueError(
                "loss.mlp_loss and loss.kappa go with loss.kind=softmax, loss.negatives=none and "
                "without loss.implementation=ring"
            )

    @property
    def laion(self) -> bool:
        """Whether one of LAION-CLAP's options is on."""
        return self.mlp_loss or self.kappa > 0


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
      groups: (N,) int32 or None; rows of the same positive group are not each other's negatives.
      further: (N, K) logits of captions that are wrong for row i, or None; -inf is no caption.
      weights: ((N,), (N,)) of the rows in the audio-to-text and in the text-to-audio mean, or None.

    Returns:
      () float32.
    """
    logits = scale * dot(audio, text, 1, 1)  # (N, N)
    positive = jnp.diagonal(logits)
    if groups is not None:
        same = (groups[:, None] == groups[None, :]) & (groups > 0)[:, None]
        same &= ~jnp.eye(len(groups), dtype=bool)
        logits = jnp.where(same, -jnp.inf, logits)
    columns = jax.nn.logsumexp(logits, axis=0) - positive
    if further is not None:
        logits = jnp.concatenate([logits, further], axis=1)
    rows = jax.nn.logsumexp(logits, axis=1) - positive
    if weights is None:
        return 0.5 * (rows.mean() + columns.mean())
    to_text, to_audio = weights
    rows = jnp.sum(to_text * rows) / to_text.sum()
    return 0.5 * (rows + jnp.sum(to_audio * columns) / to_audio.sum())


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
