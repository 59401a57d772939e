"""Small data sets of records for these tests."""

from pathlib import Path

import numpy as np

from clapjax.data import records
from clapjax.data.schema import Example

RATE = 8000  # Hz


def make_example(index: int, **changes) -> Example:
    """Example number `index`: odd ones have negatives, all have texts that are not ASCII."""
    generator = np.random.default_rng(index)
    values = {
        "id": f"clip-{index}",
        "audio": generator.integers(-3000, 3000, 200 + index).astype(np.int16),
        "sample_rate": RATE,
        "captions": (f"A dog barks {index} times", "Größe 🐶, 犬"),
        "labels": ("dog", "animal"),
        "events": ("dog", "rain"),
        "source": f"test:{index}",
        "provenance": "human",
    }
    if index % 2:
        negative = generator.integers(-9, 9, 5).astype(np.int16)
        values |= {"negative_captions": ("Rain then a dog",), "negative_audio": negative}
    return Example(**{**values, **changes})


def write_records(
    data_dir: Path,
    splits: dict[str, list[Example]],
    file_format: str = "array_record",
    shards: int = 2,
) -> Path:
    """Writes a whole data set, without a tokenizer."""
    folder = records.start_build(data_dir)
    written = [
        records.write_split(folder, split, examples, len(examples), file_format, shards)
        for split, examples in splits.items()
    ]
    records.write_metadata(folder, written, file_format)
    build = {"data": {"format": file_format}, "sample_rate": RATE}
    records.finish_build(folder, data_dir, build)
    return data_dir


def assert_same(left: Example, right: Example) -> None:
    """Equal in every field, and audio of the same type."""
    for name, value in vars(left).items():
        other = getattr(right, name)
        if isinstance(value, np.ndarray):
            assert other.dtype == value.dtype
            np.testing.assert_array_equal(other, value)
        else:
            assert other == value, name
