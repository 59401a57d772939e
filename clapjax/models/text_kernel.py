"""Attention of short texts on GPUs in one kernel: neither scores nor weights are ever in memory.

All keys of a text are one tile (a text has 128 tokens at most), so there is no running softmax; the
backward pass computes the weights again. Dropout is by bits that are given.

Shapes: B batch, L tokens, h heads of d channels.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as gpu

from clapjax.models.window_kernel import dot, like

ROWS = 32  # queries at once
WARPS = 8


def text_attention(
    qkv: jax.Array,
    bias: jax.Array,
    kept: jax.Array | None,
    rate: float,
    interpret: bool = False,
) -> jax.Array:
    """Scaled dot-product attention with an additive bias and dropout of its weights.

    Args:
      qkv: (B, L, 3, h, d) queries, keys and values, L at most 128.
      bias: (B, 1 or L, L) float32, the same for all heads; no gradient.
      kept: (B, h, L, L) bool, which weights dropout leaves; None: all.
      rate: of dropout.
      interpret: run as plain JAX, on any device.

    Returns:
      (B, L, h, d) in the type of qkv.
    """
    if kept is None:
        kept, rate = jnp.ones((1, 1, 1, 1), jnp.int8), 0.0
    return _attention(qkv, bias, kept.astype(jnp.int8), rate, interpret)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _attention(qkv, bias, kept, rate, interpret):
    batch, length, _, heads, dim = qkv.shape
    return pl.pallas_call(
        functools.partial(_forward_kernel, rate=rate),
        grid=(heads, batch),
        out_shape=like((batch, length, heads, dim), qkv.dtype, qkv, bias, kept),
        compiler_params=gpu.CompilerParams(num_warps=WARPS, num_stages=1),
        cost_estimate=_cost(qkv, 2),
        interpret=interpret,
        name="text_attention",
    )(qkv, bias, kept)


def _forward(qkv, bias, kept, rate, interpret):
    return _attention(qkv, bias, kept, rate, interpret), (qkv, bias, kept)


def _backward(rate, interpret, saved, cotangent):
    qkv, bias, kept = saved
    dqkv = pl.pallas_call(
        functools.partial(_backward_kernel, rate=rate),
        grid=(qkv.shape[3], qkv.shape[0]),
        out_shape=like(qkv.shape, qkv.dtype, qkv, bias, kept, cotangent),
        compiler_params=gpu.CompilerParams(num_warps=WARPS, num_stages=1),
        cost_estimate=_cost(qkv, 5),
        interpret=interpret,
        name="text_attention_backward",
    )(qkv, bias, kept, cotangent)
    return dqkv, jnp.zeros_like(bias), None


_attention.defvjp(_forward, _backward)


def _cost(qkv: jax.Array, products: int) -> pl.CostEstimate:
    batch, length, _, heads, dim = qkv.shape
    return pl.CostEstimate(
        flops=2 * products * batch * heads * length**2 * dim,
        transcendentals=batch * heads * length**2,
        bytes_accessed=products * qkv.size * qkv.dtype.itemsize,
    )


class _Tile:
    """What a program reads: of one text and head, all keys and values, and queries by rows."""

    def __init__(self, qkv, bias, kept, rate: float):
        _, self.length, _, _, self.dim = qkv.shape
        self.refs, self.rate = (qkv, bias, kept), rate
        self.head, self.text = pl.program_id(0), pl.program_id(1)
        self.tokens = jnp.arange(max(16, pl.next_power_of_2(self.length)))
        self.channels = jnp.arange(max(16, pl.next_power_of_2(self.dim)))[None, :]
        self.key, self.value = (self.load(qkv, self.tokens, kind) for kind in (1, 2))

    def inside(self, tokens):
        """Of (rows, channels), those that exist."""
        return (tokens < self.length)[:, None] & (self.channels < self.dim)

    def load(self, ref, tokens, *kind):
        """(rows, padded d) of an array (B, L, ..., h, d)."""
        at = ref.at[self.text, tokens[:, None], *kind, self.head, self.channels]
        return gpu.load(at, mask=self.inside(tokens), other=0.0)

    def store(self, ref, tokens, x, *kind):
        """Back to where `load` would read it."""
        at = ref.at[self.text, tokens[:, None], *kind, self.head, self.channels]
        gpu.store(at, x.astype(ref.dtype), mask=self.inside(tokens))

    def weights(self, rows, query):
        """Softmax (rows, padded L) float32, and by what dropout multiplies it."""
        _, bias, kept = self.refs
        keys = self.tokens[None, :]
        there = (rows < self.length)[:, None] & (keys < self.length)
        line = rows[:, None] if bias.shape[1] > 1 else jnp.zeros_like(rows)[:, None]
        added = gpu.load(bias.at[self.text, line, keys], mask=there, other=0.0)
        scores = dot(query, self.key.T) * self.dim**-0.5 + added
        scores = jnp.where(keys < self.length, scores, -jnp.inf)
        weights = jnp.exp(scores - scores.max(1, keepdims=True))
        weights = weights / weights.sum(1, keepdims=True)
        if self.rate == 0.0:
            return weights, None
        left = gpu.load(kept.at[self.text, self.head, rows[:, None], keys], mask=there, other=0)
        return weights, left.astype(jnp.float32) * (1.0 / (1.0 - self.rate))

    def row_blocks(self):
        """The queries, block after block: their numbers."""
        for first in range(0, self.length, ROWS):
            yield first + jnp.arange(ROWS)


def _forward_kernel(qkv, bias, kept, out, *, rate):
    tile = _Tile(qkv, bias, kept, rate)
    for rows in tile.row_blocks():
        weights, noise = tile.weights(rows, tile.load(qkv, rows, 0))
        dropped = weights if noise is None else weights * noise
        tile.store(out, rows, dot(dropped.astype(tile.value.dtype), tile.value))


def _backward_kernel(qkv, bias, kept, cotangent, dqkv, *, rate):
    tile = _Tile(qkv, bias, kept, rate)
    dkey = dvalue = jnp.zeros(tile.key.shape, jnp.float32)
    for rows in tile.row_blocks():
        query, dmixed = tile.load(qkv, rows, 0), tile.load(cotangent, rows)
        weights, noise = tile.weights(rows, query)
        dweights = dot(dmixed, tile.value.T)
        dropped = weights
        if noise is not None:
            dropped, dweights = weights * noise, dweights * noise
        dvalue += dot(dropped.astype(query.dtype).T, dmixed)
        dscores = weights * (dweights - (weights * dweights).sum(1, keepdims=True))
        low = (dscores * tile.dim**-0.5).astype(query.dtype)
        tile.store(dqkv, rows, dot(low, tile.key), 0)
        dkey += dot(low.T, query)
    tile.store(dqkv, tile.tokens, dkey, 1)
    tile.store(dqkv, tile.tokens, dvalue, 2)
