"""Checkpoints pickled by newer protocols than the one that torch's safe reader knows."""

import io
import pickle
import pickletools
import struct
import types
from pathlib import Path
from typing import BinaryIO

LONGEST_WORD = 1000  # characters; names of modules and classes are shorter
STRINGS = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
BYTES = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8")


def load(file: Path):
    """What torch saved with pickle_protocol 3, 4 or 5, as `torch.load(weights_only=True)` gives it.

    The pickle is put into protocol 2, and read by the same safe reader: it alone decides what may
    be made.
    """
    import torch
    from torch import _weights_only_unpickler as safe

    class Unpickler(safe.Unpickler):
        def __init__(self, stream: BinaryIO, **settings):
            super().__init__(io.BytesIO(in_protocol_2(stream)), **settings)

    reader = types.SimpleNamespace(
        __name__="in_protocol_2",
        Unpickler=Unpickler,
        load=lambda stream, **settings: Unpickler(stream, **settings).load(),
    )
    # torch.load takes no other reader with weights_only=True.
    return torch.load(file, map_location="cpu", pickle_module=reader, weights_only=False)


def in_protocol_2(stream: BinaryIO) -> bytes:
    """The next pickle of a stream, which is left behind it, in protocol 2.

    Raises:
      ValueError: damaged; or a class that is not named by the two strings before it.
    """
    begin = stream.tell()
    operations = list(pickletools.genops(stream))
    end = stream.tell()
    stream.seek(begin)
    data = stream.read(end - begin)
    places = [place - begin for *_, place in operations] + [len(data)]
    out: list[tuple[bytes, str | None]] = []  # what is said, and the string that it puts there
    memo: set[int] = set()
    words: dict[int, str] = {}  # of the memo: said again where they are asked for
    for index, (operation, value, _) in enumerate(operations):
        kind = operation.name
        if kind == "PROTO":
            out.append((pickle.PROTO + b"\2", None))
        elif kind == "FRAME":
            continue
        elif kind == "MEMOIZE" or kind.endswith("PUT"):
            place = len(memo) if kind == "MEMOIZE" else int(value)
            memo.add(place)
            words.pop(place, None)
            word = out[-1][1] if out else None
            if word is not None and len(word) <= LONGEST_WORD:
                words[place] = word
            else:
                out.append((pickle.LONG_BINPUT + struct.pack("<I", place), None))
        elif kind.endswith("GET"):
            place = int(value)
            again = pickle.LONG_BINGET + struct.pack("<I", place)
            out.append(_string(words[place]) if place in words else (again, None))
        elif kind == "STACK_GLOBAL":
            names = [word for _, word in out[-2:]]
            if len(names) < 2 or any(not word or "\n" in word for word in names):
                raise ValueError("a class without a name")
            out[-2:] = [(pickle.GLOBAL + "{}\n{}\n".format(*names).encode(), None)]
        elif kind in STRINGS:
            out.append(_string(value))
        elif kind in BYTES:  # protocol 2 has none, and makes them of a string
            parts = _string(value.decode("latin-1"))[0], _string("latin1")[0]
            said = (pickle.GLOBAL + b"_codecs\nencode\n", *parts, pickle.TUPLE2, pickle.REDUCE)
            out.append((b"".join(said), None))
        else:
            out.append((data[places[index] : places[index + 1]], None))
    return b"".join(said for said, _ in out)


def _string(value: str) -> tuple[bytes, str]:
    """What says a string in protocol 2, and the string."""
    text = value.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(text)) + text, value
