"""The files of records of a split, read by index or in order.

How many records a file has is known from the data set's metadata, so nothing is opened to count.
Few files are open at a time, however many there are: to open one costs little beside a record.
"""

import bisect
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from clapjax.data import paths

READERS = 64  # files open at a time; a system's limit may be 256 descriptors
CHUNK = 32  # records read at once, in order
# For random access: nothing is read ahead, nor in threads of its own.
BY_INDEX = "readahead_buffer_size:0,max_parallelism:0,footer_prefetch_bytes:0"


class RecordsError(ValueError):
    """A data set of records that is absent, unfinished or damaged; the message says what to do."""


def reader_pool(most: int = READERS) -> Callable:
    """A function from a file and its number of records to an open reader of it.

    The `most` that were used last stay open, and all of a bucket, of which only the place of each
    record is kept. Threads may share it: a reader that makes room is closed when the last thread is
    done with it. `cache_clear` closes all.
    """
    near = functools.lru_cache(maxsize=most)(functools.partial(_open_by_index, _open_near))
    far = functools.lru_cache(maxsize=None)(functools.partial(_open_by_index, _open_far))

    def open_reader(file: str, length: int):
        return (near if paths.is_local(paths.as_path(file)) else far)(file, length)

    def clear() -> None:
        near.cache_clear()
        far.cache_clear()

    open_reader.cache_clear = clear
    return open_reader


def _open_near(file: str):
    return _open(file, BY_INDEX, file_reader_buffer_size=2**15)


def _open_far(file: str):
    from clapjax.data.ranges import RemoteReader

    try:
        return RemoteReader(file)
    except (ValueError, FileNotFoundError) as error:  # others are of the bucket, not of the file
        raise RecordsError(_damaged(file, error)) from error


def _open_by_index(open_file: Callable, file: str, length: int):
    reader = open_file(file)
    if reader.num_records() != length:
        raise RecordsError(_miscounted(file, reader.num_records(), length))
    return reader


def _open(file: str, options: str = "", **more):
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(file, options, **more)
    if not reader.ok():
        try:
            reader.close()  # which tells what is wrong
        except (RuntimeError, ValueError) as error:
            raise RecordsError(_damaged(file, error)) from error
    return reader


def _damaged(place: str, error: Exception) -> str:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return f"{place}: cannot be read ({reason}); if it is damaged or missing, build it again"


def _miscounted(file: str, found: int, length: int) -> str:
    return f"{file}: {found} records, {length} announced; build it again"


def read_shard(path: str, length: int | None = None) -> Iterator[bytes]:
    """Yields the serialised records of a file, which may be in a bucket, in order.

    Raises:
      RecordsError: it is damaged or missing, or has not `length` records.
    """
    try:
        with paths.local_file(path) as file:
            reader = _open(file)
            count = reader.num_records()
            try:
                for start in range(0, count, CHUNK):
                    yield from reader.read(list(range(start, min(start + CHUNK, count))))
            finally:
                reader.close()
    except RecordsError:
        raise
    except (RuntimeError, ValueError, OSError, IndexError) as error:
        near = paths.is_local(paths.as_path(path))
        if isinstance(error, OSError) and not (near or isinstance(error, FileNotFoundError)):
            raise  # of the bucket, not of the file
        raise RecordsError(_damaged(path, error)) from error
    if length not in (None, count):
        raise RecordsError(_miscounted(path, count, length))


@dataclass(frozen=True)
class Shards:
    """The files of a split of one data set, and the records in each."""

    files: tuple[str, ...]
    lengths: tuple[int, ...]

    @functools.cached_property
    def ends(self) -> list[int]:
        """Index of the record behind each file's last."""
        return list(itertools.accumulate(self.lengths))

    def only(self, number: int) -> "Shards":
        """One of the files."""
        return Shards(self.files[number : number + 1], self.lengths[number : number + 1])

    def locate(self, index: int) -> tuple[int, int]:
        """Number of the file that has a record, and the record's place in it.

        Raises:
          IndexError: there is no such record.
        """
        if not 0 <= index < (self.ends or [0])[-1]:
            raise IndexError(f"no record {index}")
        shard = bisect.bisect_right(self.ends, index)
        return shard, index - self.ends[shard] + self.lengths[shard]

    def place(self, index: int) -> str:
        """Where a record is, for messages."""
        shard, at = self.locate(index)
        return f"{self.files[shard]}, record {at}"

    def read(self, index: int, readers: Callable) -> bytes:
        """A record; raises as `Split.read` does."""
        return self.read_block(index, index + 1, readers)[0]

    def read_block(self, first: int, end: int, readers: Callable) -> list[bytes]:
        """Records that follow one another in one file, at once; raises as `Split.read` does."""
        shard, at = self.locate(first)
        reader = readers(self.files[shard], self.lengths[shard])
        try:
            return reader.read(list(range(at, at + end - first)))
        except (RuntimeError, ValueError, FileNotFoundError) as error:
            raise RecordsError(_damaged(self.place(first), error)) from error

    def scan(self) -> Iterator[bytes]:
        """All records in order; raises as `read_shard` does."""
        for file, length in zip(self.files, self.lengths, strict=True):
            yield from read_shard(file, length)


@dataclass(frozen=True)
class Split:
    """The serialised `tf.train.Example` records of a split; threads may share it.

    A data set of texts alone lies over the one that has their audio. Protocol buffers that follow
    one another are merged when parsed, and the last feature of a name counts: so a record is that
    of the lowest layer, with those above behind it.
    """

    layers: tuple[Shards, ...]  # index-aligned; the texts first, the audio last
    readers: Callable  # from `reader_pool`

    def __len__(self) -> int:
        return sum(self.layers[0].lengths)

    def read(self, indices: Iterable[int]) -> Iterator[bytes]:
        """Yields records in the order of `indices`.

        Sorted ones open each file once.

        Raises:
          IndexError: there is no such record.
          RecordsError: a file is damaged or missing.
        """
        for index in indices:
            yield merged([layer.read(index, self.readers) for layer in self.layers])

    def read_block(self, first: int, end: int) -> list[bytes]:
        """Records that follow one another in one file, at once; raises as `read` does."""
        layers = [layer.read_block(first, end, self.readers) for layer in self.layers]
        return [merged(parts) for parts in zip(*layers, strict=True)]

    def scan(self) -> Iterator[bytes]:
        """Yields all records in order.

        Raises:
          RecordsError: a file is damaged or missing.
        """
        for parts in self.scan_layers():
            yield merged(parts)

    def scan_layers(self) -> Iterator[Sequence[bytes]]:
        """The same, each record as what every layer has of it."""
        return zip(*(layer.scan() for layer in self.layers), strict=True)

    def place(self, index: int) -> str:
        """Where a record is, for messages."""
        return self.layers[0].place(index)


def merged(parts: Sequence[bytes]) -> bytes:
    """A record of what each layer has of it."""
    return parts[0] if len(parts) == 1 else b"".join(reversed(parts))


def missing_files(files: Sequence[str]) -> list[str]:
    """Those of a folder's files that are not there."""
    there = set(os.listdir(os.path.dirname(files[0]))) if files else set()
    return [file for file in files if os.path.basename(file) not in there]
