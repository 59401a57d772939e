"""Which record stands where: a pure function of (seed, step), for one data set or a mixture."""

import functools
import math
import re
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

SMALL = 1024  # records; the shuffling operation enciphers 16 bits at least, again until it fits
ROUNDS = 16  # of its cipher; with 8, too many neighbours stay neighbours
CYCLE = 2**17  # rows after which the shares of a mixture come out even at the latest
SHARE = re.compile(r"(?P<number>\d*\.?\d+|\d+/\d+)(?P<unit>%|rows?|)")


def parse_share(item: str) -> tuple[str, Fraction | int]:
    """An entry of `DataConfig.mixture` to (folder, share), which is rows if it is an int.

    "FOLDER=0.25", "FOLDER=25%" and "FOLDER=1/4" are a part of the batch, "FOLDER=16" and
    "FOLDER=16rows" are rows.

    Raises:
      ValueError: it is not of that form, or the share is not positive, or a fraction over 1, or
        "=1", which may be either.
    """
    folder, _, text = item.rpartition("=")
    if folder and text == "1":
        raise ValueError(
            f"data.mixture: {item!r} may be one row or the whole batch; write {folder}=1row, or "
            f"{folder}=1.0 or {folder}=100%"
        )
    found = SHARE.fullmatch(text)
    number, unit = (found["number"], found["unit"]) if found else ("0", "")
    rows = unit.startswith("row") or (not unit and number.isdigit())
    denominator = number.partition("/")[2]
    share = Fraction(0) if denominator and not int(denominator) else Fraction(number)
    share = share / 100 if unit == "%" else share
    if not folder or share <= 0 or (rows and share.denominator > 1) or (share > 1 and not rows):
        raise ValueError(
            f"data.mixture: {item!r} is not FOLDER=SHARE: a part of the batch as 0.25 or 25%, or "
            "rows as 16 or 16rows"
        )
    return folder, int(share) if rows else share


def batch_rows(
    step: int, batch_size: int, shares: Sequence[Fraction | int], group: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Of each row of a batch: the data set, and its position in that set's endless sequence.

    A share that is no whole number of rows comes to a row more or less in some batches, so that
    after any number of them each set has had its share to within a row. Shares that would not come
    out even within `CYCLE` rows are rounded to the nearest that do.

    Args:
      step: of the batch, from 0.
      batch_size: rows, over all hosts.
      shares: of the sets 1, 2, ...: rows, or a fraction of the batch. Set 0 has the rest.
      group: rows that lie together, by which B divides; each set is dealt out evenly to the groups.

    Returns:
      ((B,) int64 sets, those of 0 first, in each group; (B,) int64 positions).

    Raises:
      ValueError: the shares are more than the batch, or one is so small that it comes to nothing.
    """
    rows = [Fraction(share if isinstance(share, int) else share * batch_size) for share in shares]
    rows.insert(0, Fraction(batch_size) - sum(rows))
    if rows[0] < 0:
        raise ValueError(f"data.mixture: the shares are more than the {batch_size} rows of a batch")
    first, end = (_rows_before(at, tuple(rows)) for at in (step, step + 1))
    sets = np.repeat(np.arange(len(rows)), end - first)
    positions = np.concatenate([np.arange(*stretch) for stretch in zip(first, end, strict=True)])
    return tuple(x.reshape(group, -1).T.ravel() for x in (sets, positions))


def _rows_before(step: int, rows: tuple[Fraction, ...]) -> np.ndarray:
    """(sets,) int64: rows that each set has had before a batch."""
    whole, others, table = _turns(rows)
    cycles, rest = divmod(step * others, len(table) - 1)
    return step * whole + cycles * table[-1] + table[rest]


@functools.lru_cache(maxsize=16)
def _turns(rows: tuple[Fraction, ...]) -> tuple[np.ndarray, int, np.ndarray]:
    """How batches are dealt out of which each set has so many rows, on average.

    Returns:
      ((sets,) int64: whole rows that each set has of every batch; how many others there are in a
      batch; (cycle + 1, sets) int64: of the first 0, 1, ..., cycle of those others, how many each
      set has; then it begins again).
    """
    whole = np.array([int(share) for share in rows])
    parts = [share - int(share) for share in rows]
    others = int(sum(parts))
    weights = [part / (others or 1) for part in parts]
    cycle = math.lcm(*(weight.denominator for weight in weights))
    cycle = min(cycle, CYCLE)
    counts = [int(weight * cycle) for weight in weights]
    rest = [weight * cycle - count for weight, count in zip(weights, counts, strict=True)]
    for number in sorted(range(len(rest)), key=rest.__getitem__)[len(rest) - int(sum(rest)) :]:
        counts[number] += 1
    if any(
        share > 0 and not (w or count) for share, w, count in zip(rows, whole, counts, strict=True)
    ):
        raise ValueError(f"data.mixture: a share of a batch of {sum(rows)} rows is too small")
    return whole, others, _in_turn(counts, cycle)


def _in_turn(counts: Sequence[int], cycle: int) -> np.ndarray:
    """Deals out `cycle` rows, `counts` of them to each set, so that no set is ever a row off.

    The chairman assignment of Tijdeman (1980): of those that are behind enough, the one that would
    first be too far behind.

    Returns:
      (cycle + 1, sets) int64: how many of the first p rows each set has: within one of
      p * count / cycle.
    """
    table = np.zeros((cycle + 1, len(counts)), np.int64)
    had = [0] * len(counts)
    sets = [number for number, count in enumerate(counts) if count]
    least = cycle / (2 * len(sets) - 2) if sets else 0
    for row in range(1, cycle + 1) if sets else ():
        behind = {number: row * counts[number] - cycle * had[number] for number in sets}
        ready = [number for number in sets if behind[number] >= least]
        had[min(ready, key=lambda number: (cycle - behind[number] - least) / counts[number])] += 1
        table[row] = had
    return table


def mixed(words: np.ndarray) -> np.ndarray:
    """(N,) uint64 to (N,) uint64: a step of SplitMix64 (Steele, Lea, Flood 2014) from each."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def keys_of(seed: int, *words: np.ndarray) -> np.ndarray:
    """(N,) uint64: of each row, from the seed and the row's (N,) int64 words."""
    keys = mixed(np.full(len(words[0]), seed % 2**64, np.uint64))
    for word in words:
        keys = mixed(keys ^ word.astype(np.uint64))
    return keys


def draws(positions: np.ndarray, sets: np.ndarray, seed: int, count: int) -> np.ndarray:
    """Random numbers that belong to a place in the order.

    Args:
      positions, sets, seed: as of `shuffled`.
      count: numbers for each.

    Returns:
      (N, count) float64 in [0, 1).
    """
    keys = [keys_of(seed, sets, positions, np.full_like(sets, number)) for number in range(count)]
    return (np.stack(keys, axis=1) >> np.uint64(11)) * 2.0**-53


def shuffled(positions: np.ndarray, sizes: np.ndarray, sets: np.ndarray, seed: int) -> np.ndarray:
    """Positions to record indices: each epoch of a set is a permutation of its own.

    Args:
      positions: (N,) int64 in the endless sequences.
      sizes: (N,) int64: records of the set that each is in.
      sets: (N,) int64.
      seed: of the order, any integer of 64 bits.

    Returns:
      (N,) int64 indices.
    """
    keys = keys_of(seed, sets, positions // sizes)
    places, indices = positions % sizes, np.empty(len(sets), np.int64)
    few = sizes <= SMALL
    for key in np.unique(keys[few]):
        rows = few & (keys == key)
        order = np.argsort(mixed(key ^ mixed(np.arange(sizes[rows][0], dtype=np.uint64))))
        indices[rows] = order[places[rows]]
    many = ~few
    if many.any():
        indices[many] = _permuted(places[many], sizes[many], keys[many])
    return indices


def balanced(positions: np.ndarray, counts: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions to labels, and of each label to its records: all labels come equally often.

    In every L positions each label comes once, in an order of its own, as in PANNs' balanced
    sampling (Kong et al., 2020); each label's records are an endless sequence of permutations.

    Args:
      positions: (N,) int64 in the endless sequence.
      counts: (L,) int64: records of each label, positive.
      seed: as of `shuffled`.

    Returns:
      ((N,) int64 labels, (N,) int64 which of the label's records).
    """
    labels = shuffled(
        positions, np.full_like(positions, len(counts)), np.full_like(positions, -1), seed
    )
    nth = shuffled(positions // len(counts), counts[labels], -2 - labels, seed)
    return labels, nth


def _permuted(places: np.ndarray, sizes: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Each place to that in a permutation of its own size and key."""
    import tensorflow as tf

    # tf.random.experimental.index_shuffle's own operation, which takes a seed for each row.
    words = [keys >> np.uint64(32), keys, mixed(keys)]
    seeds = np.stack([(word & np.uint64(2**32 - 1)).astype(np.uint32) for word in words], axis=1)
    return tf.raw_ops.RandomIndexShuffle(
        index=places, seed=seeds, max_index=sizes - 1, rounds=ROUNDS
    ).numpy()
