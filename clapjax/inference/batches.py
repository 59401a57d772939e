"""Rows of static shapes through a compiled function, a fixed number at a time."""

from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np

Arrays = tuple[np.ndarray, ...]  # one row's


def in_batches(
    rows: Iterable[tuple[object, Arrays | None]],
    function: Callable[..., jax.Array],
    capacity: Callable[[int], int],
) -> Iterator[tuple[object, np.ndarray | None]]:
    """Runs rows of the same shape together; a row's result does not depend on the others.

    Each shape has one compiled batch size: a batch that is not full repeats its last row. While
    the device works on a batch the next one is collected.

    Args:
      rows: (tag, arrays); arrays of the same first length must agree in all shapes. A row without
        arrays passes through.
      function: of the arrays, stacked, to (B, ...), or to a tuple of such.
      capacity: rows of a batch, from the length of the first array.

    Yields:
      (tag, result); those of one length in order, others overtake them.
    """
    waiting: dict[int, list[tuple[object, Arrays]]] = {}
    flying: list[tuple[list, jax.Array]] = []

    def launch(length: int) -> None:
        group = waiting.pop(length)
        missing = capacity(length) - len(group)
        full = [arrays for _, arrays in group] + [group[-1][1]] * missing
        batch = [np.stack(column) for column in zip(*full, strict=True)]
        flying.append(([tag for tag, _ in group], function(*batch)))

    def land() -> Iterator[tuple[object, np.ndarray]]:
        tags, results = flying.pop(0)
        results = jax.tree.map(np.asarray, results)
        for row, tag in enumerate(tags):  # the rest are repeats
            yield tag, jax.tree.map(lambda x, row=row: x[row], results)

    for tag, arrays in rows:
        if arrays is None:
            yield tag, None
            continue
        length = len(arrays[0])
        waiting.setdefault(length, []).append((tag, arrays))
        if len(waiting[length]) == capacity(length):
            launch(length)
            if len(flying) > 1:
                yield from land()
    for length in sorted(waiting):
        launch(length)
        if len(flying) > 1:
            yield from land()
    while flying:
        yield from land()
