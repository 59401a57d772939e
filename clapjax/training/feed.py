"""Moves host batches to the devices ahead of time."""

import queue
import threading
import time
import weakref
from collections.abc import Iterator

import jax
import numpy as np
from jax.sharding import NamedSharding


class Waiting(Iterator):
    """An iterator whose user is told how long it has waited for its items."""

    def __init__(self, items):
        self._items, self._seconds = items, 0.0

    def __next__(self):
        began = time.perf_counter()
        item = next(self._items)
        self._seconds += time.perf_counter() - began
        return item

    def seconds(self) -> float:
        """Those since this was asked last."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def close(self) -> None:
        """Closes the iterator."""
        self._items.close()


def device_batches(
    batches: Iterator[dict[str, np.ndarray]], sharding: NamedSharding, ahead: int = 2
) -> Iterator[dict[str, jax.Array]]:
    """Global device arrays of this host's batches, put there by a thread ahead of their use.

    Args:
      batches: this host's rows.
      sharding: of the global batch.
      ahead: how many are on the devices that have not been asked for.

    Raises:
      Whatever `batches` raises, at the point where its batch was due.
    """
    ready: queue.Queue = queue.Queue()
    room, stop = threading.Semaphore(ahead), threading.Event()

    def work() -> None:
        try:
            for batch in batches:
                room.acquire()
                if stop.is_set():
                    return
                placed = {
                    name: jax.make_array_from_process_local_data(sharding, rows)
                    for name, rows in batch.items()
                }
                ready.put((placed, None))
                del placed  # the queue has it
            ready.put((None, None))
        except BaseException as error:  # handed to the consumer, who raises it
            ready.put((None, error))

    thread = threading.Thread(target=work, daemon=True, name="device-batches")

    def close() -> None:
        stop.set()
        room.release()
        if thread.is_alive():
            thread.join()

    def placed_batches():
        thread.start()
        try:
            while True:
                batch, error = ready.get()
                if error is not None:
                    raise error
                if batch is None:
                    return
                room.release()
                yield batch
                del batch  # lest it lives until the next one is here
        finally:
            close()

    iterator = placed_batches()
    # A thread that the interpreter's end finds inside TensorFlow or XLA aborts the process.
    weakref.finalize(iterator, close)
    return iterator
