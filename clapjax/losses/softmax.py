"""The symmetric softmax loss over the global batch as a tiled ring, with its own backward pass.

The formula is `clapjax.losses.plain.contrastive_loss`. With o the log-sum-exp over a row's (or a
column's) negatives and p its positive logit, a row costs softplus(o - p), and 1 - sigmoid(p - o) is
how far its positive's probability is from 1. Written so, nothing cancels when the loss is small.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from clapjax.losses.ring import (
    accumulator,
    from_tiles,
    negative_columns,
    own_negatives,
    pull,
    scores,
    to_tiles,
    walk,
    zero_gradient,
)

SIDES = "row", "column"


def ring_softmax(
    mesh: Mesh, axes: tuple[str, ...], tile: int, dtype: jnp.dtype, negatives: str
) -> Callable[..., jax.Array]:
    """The loss as a function of global arrays.

    Args:
      mesh, axes: the batch is split over these axes of the mesh.
      tile: most rows of a tile.
      dtype: of the factors of the dot products; sums are float32, or float64 where it is.
      negatives: "none", "own" or "all", as in `LossConfig`.

    Returns:
      loss(audio (N, D), text (N, D), scale (), negative (N, D) or None, valid (N,) bool or None,
      groups (N,) int32 or None, weights ((N,), (N,)) with mean 1 or None) -> () float32,
      differentiable once in the first four.
    """
    settings = {"axes": axes, "tile": tile, "dtype": dtype, "negatives": negatives}
    rows, same = P(axes), P()
    inputs = (rows, rows, same, rows, rows, rows, rows)
    statistics = jax.shard_map(
        partial(_statistics, **settings), mesh=mesh, in_specs=inputs, out_specs=(same, rows)
    )
    gradients = jax.shard_map(
        partial(_gradients, **settings),
        mesh=mesh,
        in_specs=(inputs, rows, same),
        out_specs=(rows, rows, same, rows),
    )

    @jax.custom_vjp
    def loss(*batch):
        return statistics(*batch)[0]

    def forward(*batch):
        value, known = statistics(*batch)
        return value, (batch, known)

    def backward(residuals, cotangent):
        return *gradients(*residuals, cotangent), None, None, None

    loss.defvjp(forward, backward)
    return loss


def _statistics(
    audio, text, scale, negative, valid, groups, weights, *, axes, tile, dtype, negatives
):
    """() loss, and (b,) each: log-sum-exp of a row's, a column's negatives, and positive logit."""
    count, kind = audio.shape[0], accumulator(dtype)
    rows, columns = (to_tiles({"x": x.astype(dtype), "id": groups}, tile) for x in (audio, text))

    def visit(row, state, column, others_of_column, pair):
        _, logits, others = scores(row, column, pair, scale)
        known = {"row": jnp.logaddexp(state["row"], jax.nn.logsumexp(others, axis=1))}
        if pair is not None:
            known["positive"] = state["positive"] + jnp.sum(jnp.where(pair, logits, 0), axis=1)
        if others_of_column is not None:
            others_of_column = jnp.logaddexp(others_of_column, jax.nn.logsumexp(others, axis=0))
        return state | known, others_of_column

    shape = rows["x"].shape[:2]
    nothing = jnp.full_like(rows["x"], -jnp.inf, kind, shape=shape)
    state = {"row": nothing, "positive": jnp.zeros_like(nothing)}
    nothing = nothing[0]
    state, others = walk(visit, rows, state, columns, nothing, axes=axes, merge=jnp.logaddexp)
    if negatives == "all":
        further = negative_columns(negative.astype(dtype), valid, tile)
        state, _ = walk(visit, rows, state, further, None, axes=axes, pairs=False)
    known = {name: from_tiles(x, count) for name, x in (state | {"column": others}).items()}
    if negatives == "own":
        logits = scale * own_negatives(audio, negative, dtype)[-1]
        known["row"] = jnp.where(valid, jnp.logaddexp(known["row"], logits), known["row"])
    costs = [jax.nn.softplus(known[side] - known["positive"]) for side in SIDES]
    if weights is not None:
        costs = [weight * cost for weight, cost in zip(weights, costs, strict=True)]
    return lax.psum(jnp.sum(sum(costs)), axes) / (2 * count * lax.axis_size(axes)), known


def _gradients(batch, known, cotangent, *, axes, tile, dtype, negatives):
    """Gradients of audio, text, scale and negative (None: there is none)."""
    audio, text, scale, negative, valid, groups, weights = batch
    count, positive = audio.shape[0], known["positive"]
    totals = {side: jnp.logaddexp(known[side], positive) for side in SIDES}
    missing = [jax.nn.sigmoid(known[side] - positive) for side in SIDES]
    if weights is not None:  # weight * exp(logit - total) = exp(logit - (total - log weight))
        totals = {s: totals[s] - jnp.log(w) for s, w in zip(SIDES, weights, strict=True)}
        missing = [w * x for w, x in zip(weights, missing, strict=True)]
    rows, columns = ({"x": x.astype(dtype), "id": groups} for x in (audio, text))
    rows = to_tiles(rows | {"total": totals["row"], "missing": sum(missing)}, tile)
    columns = to_tiles(columns | {"total": totals["column"]}, tile)
    factor = cotangent / (2 * count * lax.axis_size(axes))

    def visit(row, state, column, travelling, pair):
        products, _, others = scores(row, column, pair, scale)
        slope = jnp.exp(others - row["total"][:, None])
        if "total" in column:
            slope += jnp.exp(others - column["total"][None, :])
        if pair is not None:
            slope = jnp.where(pair, -row["missing"][:, None], slope)
        return pull(slope, products, row, state, column, travelling)

    def finish(x):
        return (factor * scale * x).astype(text.dtype)

    state = zero_gradient(rows)
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
        slope = jnp.where(valid, jnp.exp(scale * products - totals["row"]), 0)
        state["x"] += slope[:, None] * own_negative
        state["scale"] += slope * products
        d_negative = finish(slope[:, None] * own_audio)
    d_scale = lax.psum(factor * jnp.sum(state["scale"]), axes)
    return finish(state["x"]), from_tiles(d_text, count), d_scale.astype(scale.dtype), d_negative
