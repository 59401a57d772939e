"""Every row of the global batch meets every column, tile by tile, without the N x N matrix.

The columns (captions) and what is summed up over them travel round a ring of all devices; the rows
(audio) and what is summed up over them stay. All of this runs inside `jax.shard_map`.

Shapes: b rows on this device, cut into tiles of T; D the embedding size. A block is a dict of
arrays over b with "x": (b, D) embeddings and "id": (b,) int32 or None; equal ids above 0 are
positives of each other, and below 0 is padding that nothing sees.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

PADDING = -1


def accumulator(dtype: jnp.dtype) -> jnp.dtype:
    """What products of `dtype` are summed in: at least float32."""
    return jnp.promote_types(dtype, jnp.float32)


def dot(x: jax.Array, y: jax.Array, x_axis: int, y_axis: int) -> jax.Array:
    """Product of two matrices over the axes named, exact products, float32 sums (or float64)."""
    full = x.dtype.itemsize >= 4  # or a TPU or a GPU would round the factors
    return lax.dot_general(
        x,
        y,
        (((x_axis,), (y_axis,)), ((), ())),
        precision=lax.Precision.HIGHEST if full else lax.Precision.DEFAULT,
        preferred_element_type=accumulator(x.dtype),
    )


def to_tiles(block: dict, tile: int) -> dict:
    """(b, ...) arrays to (count, T, ...): equal tiles, T at most `tile`, the last one padded."""
    rows = block["x"].shape[0]
    count = -(-rows // tile)
    size = -(-rows // count)
    spare = count * size - rows
    if spare and block["id"] is None:
        block = block | {"id": jnp.zeros_like(block["x"], jnp.int32, shape=(rows,))}

    def cut(name: str, x: jax.Array) -> jax.Array:
        edges = ((0, spare),) + ((0, 0),) * (x.ndim - 1)
        x = jnp.pad(x, edges, constant_values=PADDING if name == "id" else 0) if spare else x
        return x.reshape(count, size, *x.shape[1:])

    return {name: None if x is None else cut(name, x) for name, x in block.items()}


def negative_columns(negative: jax.Array, valid: jax.Array, tile: int) -> dict:
    """Tiles of captions that belong to no row; those that are not `valid` are padding."""
    return to_tiles({"x": negative, "id": jnp.where(valid, 0, PADDING)}, tile)


def own_negatives(audio: jax.Array, negative: jax.Array, dtype: jnp.dtype) -> tuple:
    """(b, D) factors as the dot products of `dtype` see them, twice, and their (b,) products."""
    audio, negative = (x.astype(dtype).astype(accumulator(dtype)) for x in (audio, negative))
    return audio, negative, jnp.sum(audio * negative, axis=1)


def from_tiles(x: jax.Array, rows: int) -> jax.Array:
    """(count, T, ...) to (rows, ...): `to_tiles` undone."""
    return x.reshape(-1, *x.shape[2:])[:rows]


def scores(
    row: dict, column: dict, pair: jax.Array | None, scale: jax.Array, bias: jax.Array | float = 0.0
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One tile: dot products, logits, and logits with -inf where there is no negative pair.

    Args:
      row, column: tiles of blocks.
      pair: (T, T) bool, True where row and column belong together, or None where none do.
      scale, bias: () logit = scale * dot product + bias.

    Returns:
      (T, T) float32, three times.
    """
    products = dot(row["x"], column["x"], 1, 1)
    logits = scale * products + bias
    hidden = [] if pair is None else [pair]
    if row["id"] is not None:
        hidden.append((row["id"] < 0)[:, None])
    if column["id"] is not None:
        hidden.append((column["id"] < 0)[None, :])
    if row["id"] is not None and column["id"] is not None:
        hidden.append((row["id"][:, None] == column["id"][None, :]) & (row["id"] > 0)[:, None])
    others = logits
    for mask in hidden:
        others = jnp.where(mask, -jnp.inf, others)
    return products, logits, others


def pull(
    slope: jax.Array, products: jax.Array, row: dict, state: dict, column: dict, travelling
) -> tuple[dict, jax.Array]:
    """Adds one tile's part to the gradients.

    Args:
      slope: (T, T) float32 gradient of the logits. It is formed whole before it is rounded to the
        type of the embeddings; a positive that is subtracted afterwards leaves only the rounding.
      products: (T, T) what `scores` returned.
      row, column: tiles of blocks.
      state: {"x": (T, D), "scale": (T,)} gradients over the scale, and of the scale, of these rows.
      travelling: (T, D) gradient over the scale of these columns.

    Returns:
      `state` and `travelling` with this tile's part.
    """
    low = slope.astype(row["x"].dtype)
    state = state | {
        "x": state["x"] + dot(low, column["x"], 1, 0),
        "scale": state["scale"] + jnp.sum(slope * products, axis=1),
    }
    return state, travelling + dot(low, row["x"], 0, 0)


def zero_gradient(rows: dict) -> dict:
    """The `state` of `pull` for all tiles of rows: {"x": (R, T, D), "scale": (R, T)}."""
    dtype = accumulator(rows["x"].dtype)
    x = jnp.zeros_like(rows["x"], dtype)
    return {"x": x, "scale": jnp.zeros_like(x, shape=x.shape[:2])}


def walk(
    visit: Callable,
    rows: dict,
    state,
    columns: dict,
    travelling,
    *,
    axes: tuple[str, ...],
    merge: Callable = jnp.add,
    finish: Callable = lambda x: x,
    pairs: bool = True,
) -> tuple:
    """Takes every tile of columns once round the ring, past all rows of every device.

    One tile travels at a time, so that what is in flight stays small. The next tile and the sums
    of the last one are under way while a tile is worked on.

    Args:
      visit: (row tile, its state, column tile, its travelling sums, pair) -> (state, travelling);
        `pair` is as in `scores`.
      rows: tiles of a block, leaves (R, T, ...).
      state: sums over the columns, leaves (R, T, ...).
      columns: tiles of a block, leaves (C, T, ...).
      travelling: sums over the rows with which a tile starts, leaves (T, ...); None for none. Make
        both with `jnp.full_like` of a block, so that they count as different on every device.
      axes: the mesh axes over which the batch is split; together they are the ring.
      merge: joins two `travelling` leaves.
      finish: of a `travelling` leaf that has come home.
      pairs: whether column i of this device belongs to row i of this device.

    Returns:
      (state, the finished `travelling` of this device's columns, leaves (C, T, ...)).
    """
    devices = lax.axis_size(axes)
    ring = [(i, (i + 1) % devices) for i in range(devices)]
    count, size = rows["x"].shape[:2]

    def send(tree):
        return jax.tree.map(lambda x: lax.ppermute(x, axes, ring), tree)

    def past_rows(state, column: dict, home: jax.Array | None) -> tuple:
        def past_tile(i, carry):
            state, sums = carry
            pair = None
            if home is not None:
                pair = jnp.eye(size, dtype=bool) & (i == home)
                if rows["id"] is not None:
                    pair &= (rows["id"][i] >= 0)[:, None]
            row, own = (jax.tree.map(lambda x: x[i], tree) for tree in (rows, state))
            own, sums = visit(row, own, column, sums, pair)
            put = partial(lax.dynamic_update_index_in_dim, index=i, axis=0)
            return jax.tree.map(put, state, own), sums

        return lax.fori_loop(0, count, past_tile, (state, travelling))

    def hop(_, carry):
        state, column, sums = carry
        following, arriving = send(column), send(sums)
        state, met = past_rows(state, column, None)
        return state, following, jax.tree.map(merge, arriving, met)

    def tour(state, indexed):
        home, column = indexed
        following = send(column) if devices > 1 else None
        state, sums = past_rows(state, column, home if pairs else None)
        if devices > 1:
            state, _, sums = lax.fori_loop(1, devices, hop, (state, following, sums))
            sums = send(sums)
        return state, jax.tree.map(finish, sums)

    numbers = jnp.arange(columns["x"].shape[0])
    return lax.scan(tour, state, (numbers, columns))
