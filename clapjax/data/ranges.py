"""Records of a file in a bucket, read by ranges of bytes: no more than what is asked for.

array_record's own reader opens files of this machine alone. Its files are Riegeli's: 64 KiB blocks
with a header of 24 bytes each, through which chunks run; ours hold one record in a chunk, not
compressed, and where each chunk begins is in a footer. Riegeli's sums are not looked at here:
`clapjax records check` does.
"""

import struct
from collections.abc import Sequence

BLOCK, BLOCK_HEADER, CHUNK_HEADER = 2**16, 24, 40  # bytes
SIMPLE = ord("r")  # type of a chunk
TAIL = 4 * BLOCK  # bytes that are read first: of a file of 10,000 records, the footer is in them
MAGIC = 0x71930E704FDAE05E


class RemoteReader:
    """What is used of `ArrayRecordReader`, for a file in a bucket; threads may share it.

    Args:
      path: as fsspec has it: gs://, s3://, http://.

    Raises:
      OSError: the bucket does not answer.
      ValueError: it is no file of ours, or damaged.
    """

    def __init__(self, path: str):
        import fsspec

        self._system, self._path = fsspec.core.url_to_fs(path)
        size = self._system.size(self._path)
        if not size or size % BLOCK:
            raise ValueError(f"{size} bytes are no whole file of records")
        start = max(0, size - TAIL)
        tail = self._range(start, size)
        place = _fields(_records(_without_headers(tail[-BLOCK:], size - BLOCK))[0])
        if place.get(2) != MAGIC:
            raise ValueError("it does not end as a file of records does")
        footer = place[1]
        data = tail[footer - start :] if footer >= start else self._range(footer, size)
        entries = [_fields(entry) for entry in _records(_without_headers(data, footer))[1:]]
        if any(entry.get(3, 0) != 1 for entry in entries):
            raise ValueError("its records do not lie one by one; build it again")
        self._edges = [*(entry[1] for entry in entries), footer]

    def num_records(self) -> int:
        """How many there are."""
        return len(self._edges) - 1

    def read(self, places: Sequence[int]) -> list[bytes]:
        """Records, in one request from the first to the last of them; places are ascending.

        Raises:
          OSError: the bucket does not answer.
          ValueError: a record is damaged.
        """
        first, last = places[0], places[-1]
        start = self._edges[first]
        data = self._range(start, self._edges[last + 1])
        found = []
        for place in places:
            own = slice(self._edges[place] - start, self._edges[place + 1] - start)
            (record,) = _records(_without_headers(data[own], self._edges[place]))
            found.append(record)
        return found

    def close(self) -> None:
        """There is nothing to close."""

    def _range(self, start: int, end: int) -> bytes:
        data = self._system.cat_file(self._path, start=start, end=end)
        if len(data) != end - start:
            raise ValueError(f"{self._path}: {len(data)} bytes came of {end - start}")
        return data


def _without_headers(data: bytes, start: int) -> bytes:
    """The bytes of a file from `start` on, without the headers of its blocks."""
    first = -start % BLOCK
    view, parts = memoryview(data), []
    if first:
        parts.append(view[:first])
    for at in range(first, len(data), BLOCK):
        parts.append(view[at + BLOCK_HEADER : at + BLOCK])
    return b"".join(parts)


def _records(chunk: bytes) -> list[bytes]:
    """The records of a simple chunk that is not compressed."""
    try:
        (size,) = struct.unpack_from("<Q", chunk, 8)
        (kind,) = struct.unpack_from("<Q", chunk, 24)
        data = chunk[CHUNK_HEADER : CHUNK_HEADER + size]
        if kind & 255 != SIMPLE or data[0] or len(data) != size:
            raise ValueError("a damaged or compressed chunk")
        length, at = _varint(data, 1)
        sizes, end = [], at + length
        while at < end:
            found, at = _varint(data, at)
            sizes.append(found)
        records = []
        for found in sizes:
            records.append(data[at : at + found])
            at += found
    except (struct.error, IndexError) as error:
        raise ValueError("a damaged chunk") from error
    if at > size or len(records) != kind >> 8:
        raise ValueError("a damaged chunk")
    return records


def _fields(message: bytes) -> dict[int, int]:
    """The numbers of a protocol buffer that has no more than those."""
    at, found = 0, {}
    try:
        while at < len(message):
            key, at = _varint(message, at)
            found[key >> 3], at = _varint(message, at)
    except IndexError as error:
        raise ValueError("a damaged footer") from error
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(number, place behind it)."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
