"""Which records of a split have each label, and a file of it."""

import io
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clapjax.data.order import balanced
from clapjax.data.paths import write_bytes
from clapjax.data.records import open_split, read_examples

SHOWN = 5.0  # seconds between lines that say how far reading is


@dataclass(frozen=True)
class LabelIndex:
    """The records of a split by label, of the labels that some record has."""

    counts: np.ndarray  # (L,) int64, positive
    records: np.ndarray  # (sum of counts,) int64: those of the first label, of the second, ...

    def draw(self, positions: np.ndarray, seed: int) -> np.ndarray:
        """(N,) int64 positions to records, by `clapjax.data.order.balanced`."""
        labels, nth = balanced(positions, self.counts, seed)
        return self.records[(np.cumsum(self.counts) - self.counts)[labels] + nth]


def records_by_label(data_dir: str | os.PathLike, split: str) -> dict[str, list[int]]:
    """The records that have each label; reads all of a split, and says so where that takes long.

    Raises:
      RecordsError: no such data set or split, or a damaged shard.
    """
    found: dict[str, list[int]] = {}
    total, shown = len(open_split(data_dir, split)), time.monotonic()
    for index, example in enumerate(read_examples(data_dir, split)):
        for label in dict.fromkeys(example.labels):
            found.setdefault(label, []).append(index)
        if time.monotonic() - shown > SHOWN:
            shown = time.monotonic()
            said = f"{data_dir}: labels of {index + 1:,} of {total:,} records read"
            print(said, file=sys.stderr, flush=True)
    return found


def write_index(file: Path, records: list[list[int]], source: str) -> None:
    """Writes the records of each label; `source` tells of what, for `read_index`."""
    data = io.BytesIO()
    own = [one for one in records if one]
    counts = np.array([len(one) for one in own], np.int64)
    np.savez(data, counts=counts, records=np.concatenate(own), source=source)
    write_bytes(file, data.getvalue())


def read_index(file: Path) -> tuple[LabelIndex, str]:
    """What `write_index` wrote: the index, and of what it is.

    Raises:
      ValueError: the file is missing or damaged.
    """
    try:
        with np.load(io.BytesIO(file.read_bytes())) as found:
            return LabelIndex(found["counts"], found["records"]), str(found["source"])
    except Exception as error:  # a damaged zip file fails in many ways
        raise ValueError(f"{file}: missing or damaged ({error})") from error
