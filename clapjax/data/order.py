"""Which record stands where: a pure function of (seed, step), for one data set or a mixture."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

MAX_INDEX = 2**31 - 1


def parse_share(item: str) -> tuple[str, Fraction | int]:
    """An entry of `DataConfig.mixture`: "FOLDER=0.25" or "FOLDER=16" to (folder, share).

    Raises:
      ValueError: it is not of that form, or the share is not positive, or a fraction over 1.
    """
    folder, equals, text = item.rpartition("=")
    try:
        share = Fraction(text)
    except (ValueError, ZeroDivisionError):
        share = Fraction(0)
    rows = "." not in text and "/" not in text
    if not (folder and equals) or share <= 0 or (share > 1 and not rows):
        raise ValueError(
            f"data.mixture: {item!r} is not FOLDER=SHARE: a part of the batch, 0.25, or rows, 16"
        )
    return folder, int(share) if rows else share


def batch_rows(
    step: int, batch_size: int, shares: Sequence[Fraction | int]
) -> tuple[np.ndarray, np.ndarray]:
    """Of each row of a batch: the data set, and its position in that set's endless sequence.

    A fraction of the batch that is no whole number of rows comes to one row more in some batches,
    so that after any number of them the set has had its share to within a row.

    Args:
      step: of the batch, from 0.
      batch_size: rows, over all hosts.
      shares: of the sets 1, 2, ...: rows, or a fraction of the batch. Set 0 has the rest.

    Returns:
      ((B,) int64 sets, those of 0 first; (B,) int64 positions).

    Raises:
      ValueError: the shares are more than the batch.
    """
    rows = [share if isinstance(share, int) else share * batch_size for share in shares]
    if sum(rows) > batch_size:
        raise ValueError(f"data.mixture: the shares are more than the {batch_size} rows of a batch")
    first = [int(step * share) for share in rows]  # rows that a set had before this batch
    counts = [int((step + 1) * share) - had for share, had in zip(rows, first, strict=True)]
    first.insert(0, step * batch_size - sum(first))
    counts.insert(0, batch_size - sum(counts))
    sets = np.repeat(np.arange(len(counts)), counts)
    positions = np.concatenate(
        [had + np.arange(count) for had, count in zip(first, counts, strict=True)]
    )
    return sets, positions


def shuffled(positions: np.ndarray, sizes: np.ndarray, sets: np.ndarray, seed: int) -> np.ndarray:
    """Positions to record indices: each epoch of a set is a permutation of its own.

    Args:
      positions: (N,) int64 in the endless sequences.
      sizes: (N,) int64: records of the set that each is in.
      sets: (N,) int64.
      seed: of the order.

    Returns:
      (N,) int64 indices.
    """
    import tensorflow as tf

    # tf.random.experimental.index_shuffle's own operation, which takes a seed for each row.
    seeds = np.stack([sets, np.full_like(sets, seed), positions // sizes % MAX_INDEX], axis=1)
    return tf.raw_ops.RandomIndexShuffle(
        index=positions % sizes, seed=seeds.astype(np.int32), max_index=sizes - 1, rounds=4
    ).numpy()
