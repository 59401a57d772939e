"""Rows of embeddings of one kind, in memory or in a folder that is mapped: what an index is of."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from clapjax.inference.store import KINDS, Table

VECTORS, ABOUT = "vectors.npy", "rows.arrow"


class Rows:
    """Vectors (N, D) float32, and for each its name and times."""

    def __init__(self, vectors: np.ndarray, about):
        """`about`: a pyarrow.Table of name, start and end."""
        if vectors.ndim != 2:
            raise ValueError(f"vectors of shape {vectors.shape}")
        if len(vectors) != len(about):
            raise ValueError(f"{len(vectors)} vectors, and names of {len(about)}")
        self.vectors, self._about = vectors, about

    def __len__(self) -> int:
        return len(self.vectors)

    def about(self, row: int) -> tuple[str, float | None, float | None]:
        """Name, start and end in seconds (None: the whole, or a text)."""
        return tuple(self._about[column][row].as_py() for column in ("name", "start", "end"))


def open_rows(folder: Path) -> Rows:
    """What a `RowsWriter` wrote, mapped into memory.

    Raises:
      OSError, ValueError: damaged; pyarrow's errors are both.
    """
    import pyarrow
    import pyarrow.ipc

    about = pyarrow.ipc.open_file(pyarrow.memory_map(str(folder / ABOUT))).read_all()
    return Rows(np.load(folder / VECTORS, mmap_mode="r"), about)


def rows_of(table: Table) -> dict[str, Rows]:
    """{kind: its rows} of a table in memory."""
    import pyarrow

    batches = {kind: (part.vectors, _batch(part)) for kind, part in split(table)}
    return {k: Rows(x, pyarrow.Table.from_batches([batch])) for k, (x, batch) in batches.items()}


def split(table: Table) -> Iterator[tuple[str, Table]]:
    """(kind, its rows) of each kind that a table has."""
    if unknown := set(table.kinds) - set(KINDS):
        raise ValueError(f"rows of kind {min(unknown)!r}, which an index does not have")
    kinds = np.array(table.kinds)
    for kind in KINDS:
        rows = np.flatnonzero(kinds == kind)
        if rows.size:
            whole = rows.size == len(kinds)
            yield (
                kind,
                Table(
                    table.vectors if whole else table.vectors[rows],
                    [table.names[row] for row in rows],
                    [kind] * rows.size,
                    table.model,
                    table.fingerprints,
                    None if table.times is None else table.times[rows],
                ),
            )


class RowsWriter:
    """Writes rows of one kind into a folder, some at a time, for `open_rows`."""

    def __init__(self, folder: Path, size: int):
        import pyarrow.ipc

        folder.mkdir()
        self.count, self._size = 0, size
        self._vectors = (folder / VECTORS).open("wb")
        self._header()
        self._about = pyarrow.ipc.new_file(str(folder / ABOUT), _schema())

    def write(self, table: Table) -> None:
        """Raises ValueError for vectors of another size, or that are not of unit length."""
        if table.vectors.shape[1] != self._size:
            raise ValueError(
                f"vectors of {self._size} numbers, and some of {table.vectors.shape[1]}"
            )
        check_unit(table)
        self._vectors.write(np.ascontiguousarray(table.vectors, np.float32))
        self._about.write_batch(_batch(table))
        self.count += len(table.names)

    def close(self) -> None:
        """Finishes the files."""
        self._vectors.seek(0)
        self._header()
        self._vectors.close()
        self._about.close()

    def _header(self) -> None:
        """numpy leaves room in it for any number of rows."""
        about = {"descr": "<f4", "fortran_order": False, "shape": (self.count, self._size)}
        np.lib.format.write_array_header_1_0(self._vectors, about)


def check_unit(table: Table) -> None:
    """Raises ValueError where a vector is not of unit length, as those of `clapjax embed` are."""
    lengths = np.linalg.norm(table.vectors, axis=1)
    if (wrong := np.flatnonzero(np.abs(lengths - 1) > 1e-3)).size:
        raise ValueError(
            f"{table.names[wrong[0]]}: a vector of length {lengths[wrong[0]]:.4g}, not 1"
        )


def _schema():
    import pyarrow

    seconds = pyarrow.float64()
    return pyarrow.schema([("name", pyarrow.string()), ("start", seconds), ("end", seconds)])


def _batch(table: Table):
    """A record batch of names and times; without times null."""
    import pyarrow

    times = np.full((len(table.names), 2), np.nan) if table.times is None else table.times
    seconds = [pyarrow.array(column, mask=np.isnan(column)) for column in times.T]
    return pyarrow.record_batch([pyarrow.array(table.names, pyarrow.string()), *seconds], _schema())
