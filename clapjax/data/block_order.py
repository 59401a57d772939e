"""An order in which records that lie together are read together: blocks, and rows within a window.

In each epoch the blocks of a split, stretches of consecutive records of one shard, are permuted;
every so many of them are a window, and the rows of a window are permuted among its positions. So
it is a function of (seed, position), as `order.shuffled` is, and each epoch is a permutation.

The rows of a window are not dealt out freely, for then every host would read every block. A batch
is cut into lanes, equal stretches of its rows; each lane takes the window's blocks in turn, as many
as it has positions there, and permutes its own rows. Lanes do not depend on the hosts: hosts that
divide the lanes read each block once among them, but for the blocks in which one lane ends and the
next begins, which both read.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clapjax.data.order import keys_of, mixed

EPOCHS, WINDOWS = 4, 256  # whose orders are kept


@dataclass(frozen=True)
class BlockOrder:
    """The order of one data set.

    `epoch` costs as much as the split has blocks, once for each epoch.
    """

    starts: np.ndarray  # (N,) int64: first record of each block
    sizes: np.ndarray  # (N,) int64: its records
    window_blocks: int  # blocks of a window
    lanes: int
    width: int  # positions of a batch; it is cut into lanes
    number: int  # of the set in a mixture
    seed: int

    @functools.cached_property
    def records(self) -> int:
        """All of them."""
        return int(self.sizes.sum())

    @functools.cached_property
    def largest_window(self) -> int:
        """No window has more rows."""
        return int(np.sort(self.sizes)[-self.window_blocks :].sum())

    def records_at(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What stands at positions of the endless sequence, (n,) int64.

        Returns:
          ((n,) int64 records, (n,) int64 their blocks, (n,) int64 the windows in which these are
          read, counted through all epochs).
        """
        windows = np.empty_like(positions)
        epochs, places = np.divmod(positions, self.records)
        for epoch in np.unique(epochs).tolist():
            own = epochs == epoch
            found = np.searchsorted(self._epoch(epoch)[1], places[own], side="right") - 1
            windows[own] = epoch * self._windows + found
        records = np.empty_like(positions)
        for window in np.unique(windows).tolist():
            own = windows == window
            first, arranged = self._window(window)
            records[own] = arranged[positions[own] - first]
        return records, np.searchsorted(self.starts, records, side="right") - 1, windows

    @property
    def _windows(self) -> int:
        """Of an epoch."""
        return -(-len(self.sizes) // self.window_blocks)

    @functools.cached_property
    def _epoch(self):
        return functools.lru_cache(EPOCHS)(self._make_epoch)

    @functools.cached_property
    def _window(self):
        return functools.lru_cache(WINDOWS)(self._make_window)

    def _key(self, *words: int) -> np.uint64:
        return keys_of(self.seed, *(np.array([word]) for word in (self.number, *words)))[0]

    def _make_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """((N,) the blocks in their order, (W + 1,) the place at which each window begins)."""
        blocks = len(self.sizes)
        order = np.argsort(mixed(self._key(epoch, -1) ^ mixed(np.arange(blocks, dtype=np.uint64))))
        ends = np.cumsum(self.sizes[order])
        return order, np.concatenate([[0], ends[self.window_blocks - 1 : -1 : self.window_blocks]])

    def _make_window(self, window: int) -> tuple[int, np.ndarray]:
        """(Its first position in the endless sequence, the record at each of its positions)."""
        epoch, number = divmod(window, self._windows)
        order, begins = self._epoch(epoch)
        blocks = order[number * self.window_blocks :][: self.window_blocks]
        records = np.concatenate(
            [np.arange(self.starts[b], self.starts[b] + self.sizes[b]) for b in blocks.tolist()]
        )
        first = epoch * self.records + int(begins[number])
        positions = first + np.arange(len(records))
        lanes = positions % self.width * min(self.lanes, self.width) // self.width
        by_lane = np.argsort(lanes, kind="stable")
        drawn = mixed(self._key(epoch, number) ^ mixed(records.astype(np.uint64)))
        arranged = np.empty_like(records)
        arranged[by_lane] = records[np.lexsort((drawn, lanes[by_lane]))]
        return first, arranged


def block_order(
    lengths: Sequence[int],
    *,
    block_rows: int,
    window_blocks: int,
    lanes: int,
    width: int,
    number: int = 0,
    seed: int = 0,
) -> BlockOrder:
    """The order of a data set whose shards have so many records; arguments as of `BlockOrder`.

    Args:
      lengths: records of each shard.
      block_rows: records of a block; the last of a shard may have fewer.
    """
    ends = np.cumsum(lengths)
    starts = [
        np.arange(end - length, end, block_rows) for end, length in zip(ends, lengths, strict=True)
    ]
    starts = np.concatenate(starts).astype(np.int64)
    sizes = np.diff(np.append(starts, ends[-1]))
    return BlockOrder(starts, sizes, window_blocks, lanes, width, number, seed)
