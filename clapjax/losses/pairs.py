"""Order pairs: a clip and the same events in another order, both in the batch.

Ours, not T-CLAP's (docs/order.md says why). Of every GROUP rows, some that have a wrong order as
sound too are encoded a second time, as that: a slot of its own, with the wrong caption as its own
caption. N rows have M = N / GROUP * slots such slots. What belongs together lies within a group, so
that any part of a batch which has whole groups has whole pairs; and what is done here for a group
sends nothing between devices.
"""

import jax
import jax.numpy as jnp

from clapjax.losses.ring import PADDING

GROUP = 4  # rows


def of_slots(x: jax.Array, slots: jax.Array) -> jax.Array:
    """(M, ...) what belongs to the rows of the slots, of (N, ...); zero for an empty slot.

    Args:
      x: (N, ...) of the rows.
      slots: (M,) int32, which row of its group a slot has; -1: none.
    """
    count = x.shape[0] // GROUP
    rest = (1,) * (x.ndim - 1)
    mine = (slots.reshape(count, -1, 1) == jnp.arange(GROUP)).reshape(count, -1, GROUP, *rest)
    grouped = x.reshape(count, 1, GROUP, *x.shape[1:])
    return jnp.sum(jnp.where(mine, grouped, 0), axis=2, dtype=x.dtype).reshape(-1, *x.shape[1:])


def in_slots(slots: jax.Array, rows: int) -> jax.Array:
    """(N,) bool: the rows that some slot has."""
    mine = slots.reshape(rows // GROUP, -1, 1) == jnp.arange(GROUP)
    return mine.any(axis=1).reshape(rows)


def joined(rows: jax.Array, slots: jax.Array) -> jax.Array:
    """(N, ...) and (M, ...) to (N + M, ...), the slots of a group behind its rows."""
    count = rows.shape[0] // GROUP
    parts = [x.reshape(count, -1, *x.shape[1:]) for x in (rows, slots)]
    return jnp.concatenate(parts, axis=1).reshape(-1, *rows.shape[1:])


def joined_groups(groups: jax.Array | None, reverse_groups: jax.Array, slots: jax.Array):
    """(N + M,) int32 positive groups of rows and slots, PADDING for a slot that is empty.

    Args:
      groups: (N,) of the rows, or None where no rows are alike.
      reverse_groups: (N,) of what sounds in the rows' wrong orders.
      slots: as in `of_slots`.
    """
    own = jnp.zeros(reverse_groups.shape, jnp.int32) if groups is None else groups
    theirs = jnp.zeros_like(slots) if groups is None else of_slots(reverse_groups, slots)
    return joined(own, jnp.where(slots < 0, PADDING, theirs))


def pair_loss(
    audio: jax.Array,
    text: jax.Array,
    negative: jax.Array,
    valid: jax.Array,
    reverse: jax.Array,
    slots: jax.Array,
    scale: jax.Array,
) -> jax.Array:
    """The temporal-focused loss (`plain.temporal_loss`), from all four sides of an order pair.

    Of a row with a slot, the mean of softplus(-s m) over its four margins m: its audio and its
    reversed audio each against both captions, and its caption and its wrong caption each against
    both audios. Of a row that has but the wrong caption, the first alone, as in T-CLAP.

    Args:
      audio, text, negative: (N, D) float32 of unit length; `negative` is the caption in a wrong
        order.
      valid: (N,) bool, False where a row has no wrong caption; a row with a slot has one.
      reverse: (M, D) float32, the audio in the order that `negative` tells.
      slots: (M,) int32, as in `of_slots`.
      scale: () exp of the logit scale.

    Returns:
      () float32, the mean over the rows that have a wrong caption; 0 where none has.
    """

    def cost(x, right, wrong):
        return jax.nn.softplus(-scale * jnp.sum(x * (right - wrong), axis=-1))

    a, t, n = (of_slots(x, slots) for x in (audio, text, negative))  # (M, D)
    four = cost(a, t, n) + cost(reverse, n, t) + cost(t, a, reverse) + cost(n, reverse, a)
    alone = valid & ~in_slots(slots, len(valid))
    total = jnp.sum(jnp.where(slots < 0, 0, four / 4))
    total += jnp.sum(jnp.where(alone, cost(audio, text, negative), 0))
    return total / jnp.maximum(valid.sum(), 1)
