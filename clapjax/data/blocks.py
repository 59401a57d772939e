"""Blocks of records that are read ahead, many at once, each of them once an epoch."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from clapjax.data.block_order import BlockOrder
from clapjax.data.shards import Split


class BlockReader:
    """The records of a host's batches, step after step, in the order of blocks.

    A block is asked for as soon as a step within `ahead` needs a row of it, and kept until the last
    of its rows that this host needs has been taken: a window is read while the one before is used.

    Args:
      splits, orders: of each data set.
      rows_of: a step to this host's (n,) sets and (n,) positions.
      reads: at once.
      ahead: steps; a window's rows are within so many.
      start_step: the first that is asked for.
    """

    def __init__(
        self,
        splits: Sequence[Split],
        orders: Sequence[BlockOrder],
        rows_of: Callable[[int], tuple[np.ndarray, np.ndarray]],
        reads: int,
        ahead: int,
        start_step: int,
    ):
        self._splits, self._orders, self._rows_of, self._ahead = splits, orders, rows_of, ahead
        self._pool = ThreadPoolExecutor(reads, "blocks")
        self._lock, self._next = threading.Lock(), start_step
        self._planned: dict[int, tuple[np.ndarray, list[tuple]]] = {}
        self._asked: dict[tuple, Future] = {}
        self._needed: Counter = Counter()  # rows of a block that are planned, but not taken

    def take(self, step: int) -> tuple[np.ndarray, list[bytes]]:
        """((n,) int64 indices of this host's records in a step, their bytes); once for each step.

        Raises:
          RecordsError: a block cannot be read.
        """
        with self._lock:
            for coming in range(self._next, step + self._ahead + 1):
                self._plan(coming)
            self._next = max(self._next, step + self._ahead + 1)
            indices, keys = self._planned.pop(step)
            blocks = {key: self._asked[key] for key in set(keys)}
        found = []
        for index, key in zip(indices.tolist(), keys, strict=True):
            number, _, block = key
            found.append(blocks[key].result()[index - int(self._orders[number].starts[block])])
        with self._lock:
            self._needed.subtract(keys)
            for key in blocks:
                if not self._needed[key]:
                    del self._needed[key], self._asked[key]
        return indices, found

    def _plan(self, step: int) -> None:
        sets, positions = self._rows_of(step)
        indices, keys = np.empty_like(positions), [()] * len(positions)
        for number, order in enumerate(self._orders):
            (rows,) = np.nonzero(sets == number)
            indices[rows], blocks, windows = order.records_at(positions[rows])
            for row, *key in zip(rows.tolist(), windows.tolist(), blocks.tolist(), strict=True):
                keys[row] = (number, *key)
        self._planned[step] = indices, keys
        self._needed.update(keys)
        for number, window, block in dict.fromkeys(keys):
            key = number, window, block
            if key not in self._asked:
                first = int(self._orders[number].starts[block])
                end = first + int(self._orders[number].sizes[block])
                self._asked[key] = self._pool.submit(self._splits[number].read_block, first, end)

    def close(self) -> None:
        """Ends its threads."""
        self._pool.shutdown(cancel_futures=True)
