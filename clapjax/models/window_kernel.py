"""Window attention on GPUs in one kernel: scores never leave the chip (Dao et al., 2022, in small).

A window of 64 tokens is one tile, so there is no running softmax: a program reads the queries, keys
and values of a window and head where they lie in the image, cyclic shift included, and writes its
result back there. The backward pass computes the probabilities again.

Shapes: B batch, T = side**2 tokens of an image in rows, N = window**2 of them in a window, h heads
of d channels.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as gpu

WARPS = 4
CHUNK = 16  # windows whose bias gradients one program sums up


def window_attention(
    qkv: jax.Array, bias: jax.Array, side: int, window: int, shift: int, interpret: bool = False
) -> jax.Array:
    """Attention inside windows of an image, with an additive bias, and with Swin's cyclic shift.

    Args:
      qkv: (B, T, 3, h, d) queries, keys and values.
      bias: (h, N, N) float32.
      side: of the image, a multiple of the window.
      window: a power of two of at least 4.
      shift: by how much windows begin later; tokens that only the wrap joins do not mix.
      interpret: run as plain JAX, on any device.

    Returns:
      (B, T, h, d) in the type of qkv.
    """
    return _attention(qkv, bias, side, window, shift, interpret)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _attention(qkv, bias, side, window, shift, interpret):
    batch, tokens, _, heads, dim = qkv.shape
    windows = (side // window) ** 2
    return pl.pallas_call(
        functools.partial(_forward_kernel, side=side, window=window, shift=shift, dim=dim),
        grid=(heads, windows, batch),
        out_shape=like((batch, tokens, heads, dim), qkv.dtype, qkv, bias),
        compiler_params=gpu.CompilerParams(num_warps=WARPS, num_stages=1),
        cost_estimate=_cost(qkv, bias, 2),
        interpret=interpret,
        name="window_attention",
    )(qkv, bias)


def _forward(qkv, bias, side, window, shift, interpret):
    return _attention(qkv, bias, side, window, shift, interpret), (qkv, bias)


def _backward(side, window, shift, interpret, kept, cotangent):
    qkv, bias = kept
    batch, _, _, heads, dim = qkv.shape
    windows = (side // window) ** 2
    chunk = math.gcd(CHUNK, batch)
    dqkv, dbias = pl.pallas_call(
        functools.partial(
            _backward_kernel,
            side=side,
            window=window,
            shift=shift,
            dim=dim,
            chunk=chunk,
        ),
        grid=(heads, windows, batch // chunk),
        out_shape=(
            like(qkv.shape, qkv.dtype, qkv, bias, cotangent),
            like((batch // chunk, windows, *bias.shape), jnp.float32, qkv, bias, cotangent),
        ),
        compiler_params=gpu.CompilerParams(num_warps=WARPS, num_stages=1),
        cost_estimate=_cost(qkv, bias, 5),
        interpret=interpret,
        name="window_attention_backward",
    )(qkv, bias, cotangent)
    return dqkv, dbias.sum((0, 1))


_attention.defvjp(_forward, _backward)


def _cost(qkv: jax.Array, bias: jax.Array, products: int) -> pl.CostEstimate:
    """Of so many products of (N, d) with (d, N), or like them, for each window and head."""
    pairs = qkv.shape[0] * qkv.shape[1] * bias.shape[0] * bias.shape[1]
    return pl.CostEstimate(
        flops=2 * products * pairs * qkv.shape[-1],
        transcendentals=pairs,
        bytes_accessed=products * qkv.size * qkv.dtype.itemsize,
    )


def like(shape: tuple, dtype, *inputs: jax.Array) -> jax.ShapeDtypeStruct:
    """A result that varies over the mesh axes over which any of the inputs does."""

    def combine(*inputs):
        return jnp.zeros(shape, dtype) + sum(x.ravel()[0].astype(dtype) for x in inputs)

    return jax.eval_shape(combine, *inputs)


def _place(number, side: int, window: int, shift: int):
    """Where the tokens of a window lie in the image, and which of them may mix: (N,), (N, N)."""
    across = side // window
    token = jnp.arange(window * window)
    row = number // across * window + token // window
    column = number % across * window + token % window
    if not shift:
        return row * side + column, None
    # Behind the last whole window's start, and behind what the shift wraps around.
    region = (row >= side - shift) * 2 + (column >= side - shift)
    places = (row + shift) % side * side + (column + shift) % side
    return places, region[:, None] == region[None, :]


def _probabilities(qkv, bias, image, head, places, mixes, dim: int):
    """Query, key, value (N, padded d) and the softmax (N, N) float32 of a window and head."""
    columns = jnp.arange(max(16, pl.next_power_of_2(dim)))[None, :]
    own = columns < dim
    query, key, value = (
        gpu.load(qkv.at[image, places[:, None], kind, head, columns], mask=own, other=0.0)
        for kind in range(3)
    )
    scores = dot(query, key.T) * dim**-0.5 + bias[head, :, :]
    if mixes is not None:
        scores = jnp.where(mixes, scores, scores - 100.0)
    weights = jnp.exp(scores - scores.max(1, keepdims=True))
    return query, key, value, weights / weights.sum(1, keepdims=True), columns


def _forward_kernel(qkv, bias, out, *, side, window, shift, dim):
    head, number, image = (pl.program_id(axis) for axis in range(3))
    places, mixes = _place(number, side, window, shift)
    _, _, value, weights, columns = _probabilities(qkv, bias, image, head, places, mixes, dim)
    mixed = dot(weights.astype(value.dtype), value)
    gpu.store(
        out.at[image, places[:, None], head, columns],
        mixed.astype(out.dtype),
        mask=columns < dim,
    )


def _backward_kernel(qkv, bias, cotangent, dqkv, dbias, *, side, window, shift, dim, chunk):
    head, number, part = (pl.program_id(axis) for axis in range(3))
    places, mixes = _place(number, side, window, shift)

    def visit(index, total):
        image = part * chunk + index
        query, key, value, weights, columns = _probabilities(
            qkv, bias, image, head, places, mixes, dim
        )
        own = columns < dim
        dmixed = gpu.load(cotangent.at[image, places[:, None], head, columns], mask=own, other=0.0)
        dvalue = dot(weights.astype(value.dtype).T, dmixed)
        dweights = dot(dmixed, value.T)
        dscores = weights * (dweights - (weights * dweights).sum(1, keepdims=True))
        low = (dscores * dim**-0.5).astype(query.dtype)
        gradients = (dot(low, key), dot(low.T, query), dvalue)
        for kind, gradient in enumerate(gradients):
            gpu.store(
                dqkv.at[image, places[:, None], kind, head, columns],
                gradient.astype(dqkv.dtype),
                mask=own,
            )
        return total + dscores

    nothing = jnp.zeros((window * window, window * window), jnp.float32)
    dbias[part, number, head, :, :] = jax.lax.fori_loop(0, chunk, visit, nothing)


def dot(x: jax.Array, y: jax.Array) -> jax.Array:
    """A product inside of a kernel, with sums in float32."""
    return jnp.dot(x, y, preferred_element_type=jnp.float32)
