"""How random the order of records is, beside numpy's permutations.

    python -m benchmarks.shuffle_statistics [--sizes 10 50 1000 60000 600000] [--orders 100]
    python -m benchmarks.shuffle_statistics --order blocks [--window_blocks 256] [--lanes 8]

Prints, for each size of a data set, five figures of the first epoch of seeds 0, 1, ... and of as
many numpy permutations: mean, least and most, and the probability that two samples of one
distribution differ as much (Kolmogorov and Smirnov). Exits with 1 where that is below 0.001.

With --order blocks it prints the means of data.order=blocks, of shards of 4,096 records, beside
those of data.order=rows and of numpy; it is no random permutation, and nothing is asked of it. One
more figure stands there:

block mates   other records of a record's block that are in its batch, on average

fixed       records in their own place; of random orders 1
correlation between place and record, its absolute value
spread      variance of the mean index of a batch, beside that of random batches: 1
neighbours  records that follow the one before, or go before the one behind, as stored; 2
meetings    pairs of one batch that are in one batch again in the next epoch
"""

import argparse
import functools
import sys
from collections.abc import Callable

import numpy as np
from scipy.stats import ks_2samp

from clapjax.data.block_order import block_order
from clapjax.data.config import DataConfig
from clapjax.data.order import shuffled

SIZES = (10, 50, 1000, 60_000, 600_000)
NAMES = ("fixed", "correlation", "spread", "neighbours", "meetings")
LEAST = 1e-3
SHARD = 4096  # records
BLOCKS = ("block_rows", "window_blocks", "lanes")


def epochs(size: int, seed: int) -> np.ndarray:
    """The first two epochs of a data set: (2, size) int64."""
    positions = np.arange(2 * size)
    none = np.zeros_like(positions)
    return shuffled(positions, none + size, none, seed).reshape(2, size)


def block_epochs(size: int, seed: int, **settings: int) -> np.ndarray:
    """The same by blocks, for batches as `statistics` has them; settings as of `block_order`."""
    shards = [SHARD] * (size // SHARD) + [size % SHARD] * (size % SHARD > 0)
    order = block_order(shards, width=min(64, size // 5), seed=seed, **settings)
    return order.records_at(np.arange(2 * size))[0].reshape(2, size)


def random_epochs(size: int, seed: int) -> np.ndarray:
    """Two of numpy's permutations: (2, size) int64."""
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(size) for _ in range(2)])


def statistics(epoch: np.ndarray, following: np.ndarray) -> tuple[float, ...]:
    """The figures of an epoch, as NAMES has them.

    Args:
      epoch: (n,) a permutation, n > 5.
      following: (n,) that of the next epoch.
    """
    size = len(epoch)
    batch = min(64, size // 5)
    places, whole = np.arange(size), size // batch * batch
    means = epoch[:whole].reshape(-1, batch).mean(1)
    expected = (size + 1) * (size - batch) / 12 / batch  # without replacement
    both = np.empty((2, size), np.int64)
    for row, order in zip(both, (epoch, following), strict=True):
        row[order] = places // batch
    _, together = np.unique(both[0] * size + both[1], return_counts=True)
    return (
        float((epoch == places).sum()),
        float(abs(np.corrcoef(places, epoch)[0, 1])),
        float(((means - (size - 1) / 2) ** 2).mean() / expected),
        float((np.abs(np.diff(epoch)) == 1).sum()),
        float((together * (together - 1) // 2).sum()),
    )


def compare(
    size: int, orders: int = 100, epochs_of: Callable[[int, int], np.ndarray] = epochs
) -> dict[str, tuple[np.ndarray, np.ndarray, float]]:
    """Each figure's (orders,) values of `epochs_of`, of numpy, and the probability."""
    made, random = (
        np.array([statistics(*source(size, seed)) for seed in range(orders)]).T
        for source in (epochs_of, random_epochs)
    )
    return {
        name: (ours, theirs, float(ks_2samp(ours, theirs).pvalue))
        for name, ours, theirs in zip(NAMES, made, random, strict=True)
    }


def block_mates(epoch: np.ndarray, rows: int) -> float:
    """Of the records of a record's block, how many others are in its batch, on average."""
    batch = min(64, len(epoch) // 5)
    whole = epoch[: len(epoch) // batch * batch].reshape(-1, batch) // rows
    _, counts = np.unique(whole + np.arange(len(whole))[:, None] * len(epoch), return_counts=True)
    return float((counts * (counts - 1)).sum() / counts.sum())


def compare_blocks(sizes: list[int], orders: int, settings: dict) -> None:
    """Prints the means of three orders."""
    print("| records | figure | blocks | rows | numpy |\n|---|---|---|---|---|")
    makers = (functools.partial(block_epochs, **settings), epochs, random_epochs)
    for size in sizes:
        made = [[maker(size, seed) for seed in range(orders)] for maker in makers]
        figures = [np.mean([statistics(*one) for one in own], axis=0) for own in made]
        rows = list(zip(NAMES, *figures, strict=True))
        mates = (np.mean([block_mates(e, settings["block_rows"]) for e, _ in own]) for own in made)
        for name, *values in [*rows, ("block mates", *mates)]:
            shown = " | ".join(f"{value:.4g}" for value in values)
            print(f"| {size:,} | {name} | {shown} |", flush=True)


def main() -> int:
    """Measures, prints, and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--orders", type=int, default=100)
    parser.add_argument("--order", choices=("rows", "blocks"), default="rows")
    for name in BLOCKS:
        parser.add_argument(f"--{name}", type=int, default=getattr(DataConfig(), name))
    args = parser.parse_args()
    if args.order == "blocks":
        compare_blocks(args.sizes, args.orders, {name: getattr(args, name) for name in BLOCKS})
        return 0
    print("| records | figure | ours: mean (least to most) | numpy | p |\n|---|---|---|---|---|")
    least = 1.0
    for size in args.sizes:
        for name, (ours, theirs, p) in compare(size, args.orders).items():
            shown = [f"{x.mean():.4g} ({x.min():.3g} to {x.max():.3g})" for x in (ours, theirs)]
            print(f"| {size:,} | {name} | {shown[0]} | {shown[1]} | {p:.2g} |", flush=True)
            least = min(least, p)
    return 0 if least >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
