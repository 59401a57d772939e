"""The sigmoid loss of SigLIP (Zhai et al., 2023, arXiv 2303.15343): plain, and as a tiled ring.

Every pair of the global batch is a question of its own, so its gradient is known as soon as its
logit is: one round of the ring gathers value and gradients, and the backward pass only scales.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from clapjax.losses.plain import hidden_pairs
from clapjax.losses.ring import (
    dot,
    from_tiles,
    negative_columns,
    own_negatives,
    pull,
    scores,
    to_tiles,
    walk,
    zero_gradient,
)


def sigmoid_loss(
    audio: jax.Array,
    text: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    groups: jax.Array | None = None,
    further: jax.Array | None = None,
) -> jax.Array:
    """-1/N of the sum over all i, j of log sigmoid(z_ij (scale a_i . t_j + bias)).

    z_ij is 1 where i = j, else -1.

    Args:
      audio, text: (N, D) float32; row i of one belongs to row i of the other.
      scale, bias: () exp of the logit scale, and the logit bias (SigLIP starts at 10 and -10).
      groups: (N,) int32 or None, as in `contrastive_loss`.
      further: (N, K) logits of captions that are wrong for row i, or None; -inf is no caption.

    Returns:
      () float32.
    """
    logits = scale * dot(audio, text, 1, 1) + bias  # (N, N)
    positive = jnp.diagonal(logits)
    hidden = jnp.eye(len(positive), dtype=bool)
    if groups is not None:
        hidden |= hidden_pairs(groups)
        positive = jnp.where(groups < 0, jnp.inf, positive)
    cost = jax.nn.softplus(-positive).sum()
    cost += jax.nn.softplus(jnp.where(hidden, -jnp.inf, logits)).sum()
    if further is not None:
        cost += jax.nn.softplus(further).sum()
    return cost / len(positive)


def ring_sigmoid(
    mesh: Mesh, axes: tuple[str, ...], tile: int, dtype: jnp.dtype, negatives: str
) -> Callable[..., jax.Array]:
    """`sigmoid_loss` as a function of global arrays.

    Args:
      mesh, axes: the batch is split over these axes of the mesh.
      tile: most rows of a tile.
      dtype: of the factors of the dot products; sums are float32, or float64 where it is.
      negatives: "none", "own" or "all", as in `LossConfig`.

    Returns:
      loss(audio (N, D), text (N, D), scale (), bias (), negative (N, D) or None, valid (N,) bool or
      None, groups (N,) int32 or None) -> () float32, differentiable once in the first five.
    """
    rows, same = P(axes), P()
    value_and_gradients = jax.shard_map(
        partial(_value_and_gradients, axes=axes, tile=tile, dtype=dtype, negatives=negatives),
        mesh=mesh,
        in_specs=(rows, rows, same, same, rows, rows, rows),
        out_specs=(same, (rows, rows, same, same, rows)),
    )

    @jax.custom_vjp
    def loss(*batch):
        return value_and_gradients(*batch)[0]

    def backward(gradients, cotangent):
        scaled = jax.tree.map(lambda x: (cotangent * x).astype(x.dtype), gradients)
        return *scaled, None, None

    loss.defvjp(value_and_gradients, backward)
    return loss


def _value_and_gradients(
    audio, text, scale, bias, negative, valid, groups, *, axes, tile, dtype, negatives
):
    """() loss, and its gradients of audio, text, scale, bias and negative (None: there is none)."""
    count = audio.shape[0]
    rows, columns = (to_tiles({"x": x.astype(dtype), "id": groups}, tile) for x in (audio, text))
    factor = 1 / (count * lax.axis_size(axes))

    def visit(row, state, column, travelling, pair):
        products, logits, others = scores(row, column, pair, scale, bias)
        cost, slope = jax.nn.softplus(others), jax.nn.sigmoid(others)
        if pair is not None:
            cost = jnp.where(pair, jax.nn.softplus(-logits), cost)
            slope = jnp.where(pair, -jax.nn.sigmoid(-logits), slope)
        state, travelling = pull(slope, products, row, state, column, travelling)
        sums = {"cost": jnp.sum(cost, axis=1), "bias": jnp.sum(slope, axis=1)}
        return state | {name: state[name] + x for name, x in sums.items()}, travelling

    def finish(x):
        return (factor * scale * x).astype(text.dtype)

    state = zero_gradient(rows)
    state |= {"cost": jnp.zeros_like(state["scale"]), "bias": jnp.zeros_like(state["scale"])}
    nothing = jnp.zeros_like(state["x"][0])
    state, d_text = walk(visit, rows, state, columns, nothing, axes=axes, finish=finish)
    d_negative = None
    if negatives == "all":
        further = negative_columns(negative.astype(dtype), valid, tile)
        state, d_negative = walk(
            visit, rows, state, further, nothing, axes=axes, finish=finish, pairs=False
        )
        d_negative = from_tiles(d_negative, count)
    state = {name: from_tiles(x, count) for name, x in state.items()}
    if negatives == "own":
        own_audio, own_negative, products = own_negatives(audio, negative, dtype)
        logits = jnp.where(valid, scale * products + bias, -jnp.inf)
        slope = jax.nn.sigmoid(logits)
        state["x"] += slope[:, None] * own_negative
        state["scale"] += slope * products
        state["bias"] += slope
        state["cost"] += jax.nn.softplus(logits)
        d_negative = finish(slope[:, None] * own_audio)
    sums = {name: factor * jnp.sum(state[name]) for name in ("cost", "scale", "bias")}
    total = lax.psum(sums, axes)
    return total["cost"], (
        finish(state["x"]),
        from_tiles(d_text, count),
        total["scale"].astype(scale.dtype),
        total["bias"].astype(bias.dtype),
        d_negative,
    )
