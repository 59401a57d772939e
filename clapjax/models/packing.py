"""Texts packed into rows of one length, and encoded a few rows at a time, as many as there are.

A row holds several texts one behind the other, which do not see each other. Shapes are static:
there is room for the longest texts there may be, and what stays empty is never computed.

Shapes: N texts of at most L tokens; rows of R tokens with room for S texts, C of them a chunk.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from clapjax.models.layers import batch_axes

ONE_TILE = 128  # tokens of a row, for one tile of a TPU and the kernel for GPUs
LEAST = 8  # tokens that a text takes of a row, at least: how many go into one is then static
CHUNK = 1024  # tokens at once, at least: of fewer, reading the weights takes longer than products
CHUNKS = 32  # that all rows are, at most
# Where a device has few texts: at least so many tokens, and a part of what the longest would fill
# that texts of 20 tokens do.
FEWEST, SHARE = 256, 6


class Sizes(NamedTuple):
    """What is static of packed texts."""

    length: int  # R
    places: int  # S, of texts in a row
    rows: int  # C, that are encoded at once
    chunks: int  # of so many rows, where every text is as long as it may be


class Packing(NamedTuple):
    """How texts lie in B rows of L tokens, of which each row has S or fewer."""

    segments: jax.Array  # (B, L) int32, which of the row's texts a token is of; -1: padding
    places: jax.Array  # (B, L) int32, which token of its text it is
    picked: jax.Array  # (B, S) int32, the token that stands for each text


class Texts(NamedTuple):
    """N texts, and where in the rows they lie."""

    ids: jax.Array  # (N, L) int32
    first: jax.Array  # (N,) where in them the first token is
    lengths: jax.Array  # (N,) tokens
    begins: jax.Array  # (N,) its first token among those of all rows, ascending
    numbers: jax.Array  # (N,) which text of its row it is; -1: not there
    members: jax.Array  # (chunks * C, S) the texts of each row; N: none
    used: jax.Array  # () rows that have texts


def packed_sizes(count: int, longest: int, length: int = 0, rows: int = 0) -> Sizes:
    """The sizes for texts of a device.

    Args:
      count: N.
      longest: L.
      length: R; 0: a power of two in which one and a half of the longest fit, at most ONE_TILE.
      rows: C; 0: CHUNK tokens, fewer where there are few texts, or one of CHUNKS equal parts of
        all that may be needed.

    Raises:
      ValueError: the longest text does not fit into a row.
    """
    if not length:
        length = min(1 << (3 * longest // 2 - 1).bit_length(), max(ONE_TILE, longest))
    if length < longest:
        raise ValueError(
            f"packed_length {length}: a text may have {longest} tokens; set it to that or more, or "
            "to 0, or lower model.text.max_length"
        )
    # A row is closed where a text does not fit any more, so no row but the last has fewer.
    needed = -(-count // (length // max(longest, min(LEAST, length))))
    tokens = min(CHUNK, max(FEWEST, needed * length // SHARE))
    rows = min(rows or max(-(-tokens // length), -(-needed // CHUNKS)), needed)
    return Sizes(length, max(1, length // LEAST), rows, -(-needed // rows))


def alone(mask: jax.Array, pooling: str, absolute: bool) -> Packing:
    """(B, L) 0/1 mask of texts, one a row; with `absolute` padding before them takes places too."""
    places = jnp.cumsum(mask, axis=1) - 1
    if absolute:
        places = jnp.broadcast_to(jnp.arange(mask.shape[1]), mask.shape)
    picked = jnp.maximum(mask.sum(1, keepdims=True) - 1, 0)
    return Packing(mask - 1, places, picked if pooling == "eos" else jnp.zeros_like(picked))


def next_fit(sizes: jax.Array, room: int) -> tuple[jax.Array, jax.Array]:
    """Puts things into rows in their order; what does not fit any more begins the next row.

    Args:
      sizes: (N,) int32, each at most `room`.
      room: of a row.

    Returns:
      ((N,) row of each, (N,) how much of the row lies before it).
    """
    count, ends = len(sizes), jnp.cumsum(sizes)
    starts = ends - sizes
    # What begins the next row if i begins one; `count`: nothing.
    following = jnp.searchsorted(ends, starts + room, side="right", method="compare_all")
    following = jnp.append(following, count)
    begins = jnp.zeros(count + 1, bool).at[0].set(True)
    for _ in range(count.bit_length()):  # each time twice as many beginnings are known
        begins = begins.at[following].max(begins)
        following = following[following]
    begins = begins[:count]
    return jnp.cumsum(begins) - 1, starts - lax.cummax(jnp.where(begins, starts, 0))


def pack(ids: jax.Array, mask: jax.Array, there: jax.Array, sizes: Sizes) -> Texts:
    """Finds a place for each text.

    Args:
      ids, mask: (N, L) int32 tokens, and 1 where there is one: in one piece, wherever it begins.
      there: (N,) bool, which texts are to be encoded.
      sizes: of `packed_sizes`.
    """
    count, least = len(ids), min(LEAST, sizes.length)
    lengths = jnp.where(there, mask.sum(1), 0)
    taken = jnp.where(there, jnp.maximum(lengths, least), 0)
    row, offset = next_fit(taken, sizes.length)
    before = jnp.cumsum(there) - there
    numbers = before - before[jnp.searchsorted(row, row, method="compare_all")]
    numbers = jnp.where(there, numbers, -1)
    members = jnp.full((sizes.chunks * sizes.rows, sizes.places), count)
    members = members.at[jnp.where(there, row, len(members)), numbers].set(
        jnp.arange(count), mode="drop"
    )
    used = jnp.where(there.any(), row[-1] + 1, 0)
    begins = row * sizes.length + offset
    return Texts(jnp.asarray(ids), jnp.argmax(mask, 1), lengths, begins, numbers, members, used)


def chunk(
    texts: Texts, index: jax.Array, sizes: Sizes, pooling: str
) -> tuple[jax.Array, Packing, jax.Array]:
    """The rows of a chunk.

    Args:
      texts: of `pack`.
      index: () int32, which chunk.
      sizes: as for `pack`.
      pooling: of the text encoder.

    Returns:
      ((C, R) ids, how texts lie in them, (C, S) which texts these are; N: none).
    """
    shape = sizes.rows, sizes.length
    tokens = index * (shape[0] * shape[1]) + jnp.arange(shape[0] * shape[1])
    of = jnp.searchsorted(texts.begins, tokens, side="right", method="compare_all") - 1
    places = tokens - texts.begins[of]
    real = places < texts.lengths[of]
    places = jnp.where(real, places, 0)
    ids = jnp.where(real, texts.ids[of, texts.first[of] + places], 0)
    segments = jnp.where(real, texts.numbers[of], -1)
    members = lax.dynamic_slice_in_dim(texts.members, index * shape[0], shape[0])
    picked = texts.begins % sizes.length
    if pooling == "eos":
        picked = picked + jnp.maximum(texts.lengths - 1, 0)
    picked = picked.at[members].get(mode="fill", fill_value=0)
    return (
        ids.reshape(shape),
        Packing(segments.reshape(shape), places.reshape(shape), picked),
        members,
    )


def computed_again(function: Callable) -> Callable:
    """Marks in a trace what the backward pass computes a second time, for who counts."""

    def computed_again(*arguments):
        return function(*arguments)

    return jax.jit(computed_again)


def encoded(
    encode: Callable[..., jax.Array],
    params: dict,
    still: dict,
    texts: Texts,
    key: jax.Array,
    width: int,
    sizes: Sizes,
    pooling: str,
) -> jax.Array:
    """Encodes the chunks that have texts; the backward pass computes them again, one by one.

    A loop over so many as there are, and not one over all with a condition: of a chunk that is
    skipped the gradients, zeros as large as the parameters, would be added up all the same.

    Args:
      encode: (params and still, (C, R) ids, Packing, key) to (C, S, width) float32.
      params, still: dicts of the parameters to differentiate by and of others.
      texts, sizes: as for `chunk`.
      key: of what is random, folded with the number of the chunk.
      width: of an embedding.
      pooling: of the text encoder.

    Returns:
      (N, width) float32; a text that is not there has the embedding of the first one.
    """
    count = len(texts.ids)

    def part(index, params, still, texts, key):
        ids, packing, members = chunk(texts, index, sizes, pooling)
        key = jax.random.fold_in(key, index)
        return members, lambda params: encode(params | still, ids, packing, key)

    def forward(params, still, texts, key):
        def turn(index, found):
            members, function = part(index, params, still, texts, key)
            return found.at[members].set(function(params), mode="drop")

        return lax.fori_loop(0, turns(texts, sizes), turn, _varying(jnp.zeros((count, width))))

    def backward(saved, cotangent):
        params, still, texts, key = saved

        def turn(index, total):
            members, function = part(index, params, still, texts, key)
            _, pull_back = jax.vjp(function, params)
            (found,) = pull_back(cotangent.at[members].get(mode="fill", fill_value=0))
            return jax.tree.map(jnp.add, total, found)

        zeros = jax.tree.map(lambda x: _varying(jnp.zeros(x.shape, x.dtype)), params)
        return lax.fori_loop(0, turns(texts, sizes), turn, zeros), None, None, None

    run = jax.custom_vjp(computed_again(forward))
    run.defvjp(lambda *saved: (computed_again(forward)(*saved), saved), backward)
    return run(params, still, texts, key)[jnp.where(texts.numbers >= 0, jnp.arange(count), 0)]


def turns(texts: Texts, sizes: Sizes) -> jax.Array:
    """() int32: chunks that have texts."""
    return -(-texts.used // sizes.rows)


def _varying(x: jax.Array) -> jax.Array:
    """A constant that each device goes on with in its own way."""
    axes = batch_axes()
    return x if axes is None else lax.pcast(x, axes, to="varying")
