"""The contrastive loss that a config asks for, on the mesh that it will run on."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from clapjax.losses.config import LossConfig
from clapjax.losses.plain import contrastive_loss
from clapjax.losses.ring import dot, own_negatives
from clapjax.losses.sigmoid import ring_sigmoid, sigmoid_loss
from clapjax.losses.softmax import ring_softmax

# "auto" takes the plain form up to so many logits on a device: 64 MiB of them, and about three
# times as much in temporaries.
PLAIN_LOGITS = 2**24


def make_contrastive(
    config: LossConfig, mesh: Mesh, axes: tuple[str, ...], dtype: jnp.dtype = jnp.float32
) -> Callable[..., jax.Array]:
    """The loss over the global batch, to be called under `jax.jit` or outside of it.

    Args:
      config: kind, implementation, negatives and tile.
      mesh, axes: the batch is split over these axes of the mesh.
      dtype: of the factors of the dot products; their sums, the loss and its softmax are float32
        (float64 where it is).

    Returns:
      loss(audio (N, D), text (N, D), scale (), *, bias () (of the sigmoid loss only), negative
      (N, D) and valid (N,) bool (where config.negatives is not "none"; `valid` None: all are),
      groups (N,) int32 or None, weights ((N,), (N,)) as in `contrastive_loss`, constants, or None)
      -> () float32. Raises ValueError where an argument is missing, of
      another shape, or has no place in this loss, and where the ring cannot split N evenly.
    """
    devices = math.prod(mesh.shape[axis] for axis in axes)
    make_ring = ring_softmax if config.kind == "softmax" else ring_sigmoid
    ring = make_ring(mesh, axes, config.tile, dtype, config.negatives)
    plain = contrastive_loss if config.kind == "softmax" else sigmoid_loss

    def loss(
        audio, text, scale, *, bias=None, negative=None, valid=None, groups=None, weights=None
    ):
        _check(config, audio, text, bias, negative, valid, groups, weights)
        rows = audio.shape[0]
        if config.negatives == "none":
            negative = valid = None
        elif valid is None:
            valid = jnp.ones(rows, bool)
        scales = tuple(jnp.asarray(x) for x in (scale, bias) if x is not None)
        weights = weights and tuple(jax.lax.stop_gradient(x / x.mean()) for x in weights)
        options = () if config.kind == "sigmoid" else (weights,)
        if implementation(config, rows, devices) == "ring":
            if rows % devices:
                raise ValueError(
                    f"loss.implementation=ring: a batch of {rows} does not split over {devices} "
                    "devices; change batch_size, or take plain"
                )
            return ring(audio, text, *scales, negative, valid, groups, *options)
        further = None
        if config.negatives == "own":
            further = own_negatives(audio, negative, dtype)[-1][:, None]  # (N, 1)
            valid = valid[:, None]
        elif config.negatives == "all":
            further = dot(audio.astype(dtype), negative.astype(dtype), 1, 1)  # (N, N)
        if further is not None:
            further = scale * further + (0.0 if bias is None else bias)
            further = jnp.where(valid, further, -jnp.inf)
        return plain(audio.astype(dtype), text.astype(dtype), *scales, groups, further, *options)

    return loss


def implementation(config: LossConfig, rows: int, devices: int) -> str:
    """ "plain" or "ring" for a global batch of `rows`: what the config says, or decides."""
    if config.implementation != "auto":
        return config.implementation
    few = rows * rows <= PLAIN_LOGITS * devices
    return "plain" if few or rows % devices else "ring"


def _check(config: LossConfig, audio, text, bias, negative, valid, groups, weights) -> None:
    """Raises ValueError, naming the argument."""
    if audio.ndim != 2 or audio.shape != text.shape or audio.dtype != text.dtype:
        raise ValueError(
            f"contrastive loss: audio {audio.dtype}{audio.shape} and text {text.dtype}{text.shape} "
            "must be two equal (N, D)"
        )
    if (bias is None) != (config.kind == "softmax"):
        raise ValueError(
            "loss.kind=sigmoid needs a bias"
            if bias is None
            else "loss.kind=softmax has no bias: it would cancel"
        )
    if config.negatives != "none" and negative is None:
        raise ValueError(f"loss.negatives={config.negatives} needs negative captions")
    if config.negatives == "none" and negative is not None:
        raise ValueError("loss.negatives=none, yet negative captions came; leave them out")
    if negative is not None and (negative.shape, negative.dtype) != (text.shape, text.dtype):
        raise ValueError(
            f"contrastive loss: negative {negative.dtype}{negative.shape} must be as text, "
            f"{text.dtype}{text.shape}"
        )
    if weights is not None and config.kind == "sigmoid":
        raise ValueError("loss.kind=sigmoid takes no weights")
    to_text, to_audio = weights or (None, None)
    for name, x in (
        ("valid", valid),
        ("groups", groups),
        ("weights", to_text),
        ("weights", to_audio),
    ):
        if x is not None and x.shape != audio.shape[:1]:
            raise ValueError(f"contrastive loss: {name} {x.shape} must be {audio.shape[:1]}")
