"""Moves host batches to the devices ahead of time."""

import queue
import threading
import weakref
from collections.abc import Iterator

import jax
import numpy as np
from jax.sharding import NamedSharding


def device_batches(
    batches: Iterator[dict[str, np.ndarray]], sharding: NamedSharding, ahead: int = 2
) -> Iterator[dict[str, jax.Array]]:
    """Global device arrays of this host's batches, made by a thread `ahead` of their use.

    Args:
      batches: this host's rows.
      sharding: of the global batch.
      ahead: batches kept ready.

    Raises:
      Whatever `batches` raises, at the point where its batch was due.
    """
    ready: queue.Queue = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def put(item) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for batch in batches:
                placed = {
                    name: jax.make_array_from_process_local_data(sharding, rows)
                    for name, rows in batch.items()
                }
                if not put((placed, None)):
                    return
            put((None, None))
        except BaseException as error:  # handed to the consumer, who raises it
            put((None, error))

    thread = threading.Thread(target=work, daemon=True, name="device-batches")

    def close() -> None:
        stop.set()
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
                yield batch
        finally:
            close()

    iterator = placed_batches()
    # A thread that the interpreter's end finds inside TensorFlow or XLA aborts the process.
    weakref.finalize(iterator, close)
    return iterator
