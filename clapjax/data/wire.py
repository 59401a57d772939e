"""The sound of a serialised record, without the two copies that protobuf would make of it."""

import numpy as np

# Fields by number, protobuf.dev/programming-guides/encoding:
#   Example {1: Features {1: entry {1: name, 2: Feature {1: BytesList {1: value}}}}}
LENGTH_DELIMITED = 2


def split_audio(record: bytes) -> tuple[np.ndarray, bytes]:
    """Takes the "audio" out of a serialised `tf.train.Example`.

    Returns:
      ((T,) int16, a view into `record`; the other features as a serialised `tf.train.Features`).

    Raises:
      ValueError: not such an Example.
    """
    audio, others = None, []
    entry, end = _field(record, 0, 1)
    while entry < end:
        start, stop = _field(record, entry, 1)
        name = slice(*_field(record, start, 1))
        if record[name] == b"audio":
            start = _field(record, name.stop, 2)[0]
            start = _field(record, start, 1)[0]
            start, last = _field(record, start, 1)
            audio = np.frombuffer(record, np.int16, (last - start) // 2, start)
        else:
            others.append(record[entry:stop])
        entry = stop
    if audio is None:
        raise ValueError("a record without audio")
    return audio, b"".join(others)


def _field(record: bytes, at: int, number: int) -> tuple[int, int]:
    """Where the content of the length-delimited field that begins at `at` starts and stops."""
    if record[at : at + 1] != bytes([number << 3 | LENGTH_DELIMITED]):
        raise ValueError(f"not a record: field {number} is not at byte {at}")
    size = shift = 0
    for start, byte in enumerate(record[at + 1 : at + 11], at + 2):
        size |= (byte & 127) << shift  # a varint: seven bits a byte, the lowest first
        shift += 7
        if byte < 128 and start + size <= len(record):
            return start, start + size
        if byte < 128:
            break
    raise ValueError("a record is cut short")
