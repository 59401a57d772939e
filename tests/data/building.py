"""Small data sets of records for these tests."""

import functools
from pathlib import Path

import numpy as np

from clapjax.data import records
from clapjax.data.forms import PCM, Form
from clapjax.data.pipeline import train_batches
from clapjax.data.schema import Example
from clapjax.tasks.texts import draw_texts, tokenised

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
    shards: int = 2,
    form: Form | None = PCM,
    **build,
) -> Path:
    """Writes a whole data set, without a tokenizer; `build` is added to its description."""
    folder, written = records.start_build(data_dir), []
    for split, examples in splits.items():
        encode, files = records.serializer(split, form), []
        for shard in range(shards):
            writer = records.ShardWriter(folder, f"{split}-{shard}", records.SHARD_BYTES)
            for at in range(len(examples) * shard // shards, len(examples) * (shard + 1) // shards):
                writer.write(encode(examples[at]))
            writer.close()
            files += writer.files
        for number, (name, _, _) in enumerate(files):
            (folder / name).rename(folder / records.shard_name(split, number, len(files)))
        size = sum(size for _, _, size in files)
        written.append((split, [count for _, count, _ in files], size))
    records.write_metadata(folder, written, form)
    data = {} if form is None else form.described()
    records.finish_build(folder, data_dir, {"sample_rate": RATE, "data": data, **build})
    return data_dir


def example_from_tfds(record: dict) -> Example:
    """The inverse of `Example.to_record` for PCM, of a record that TFDS decoded to numpy."""
    names = ("captions", "negative_captions", "labels", "events")
    texts = {name: tuple(text.decode() for text in record[name]) for name in names}
    names = ("id", "source", "origin", "provenance")
    texts |= {name: record[name].decode() for name in names if name in record}
    negative = record["negative_audio"]
    return Example(
        audio=record["audio"],
        sample_rate=int(record["sample_rate"]),
        negative_audio=negative if negative.size else None,
        **texts,
    )


def assert_same(left: Example, right: Example) -> None:
    """Equal in every field, and audio of the same type."""
    for name, value in vars(left).items():
        other = getattr(right, name)
        if isinstance(value, np.ndarray):
            assert other.dtype == value.dtype
            np.testing.assert_array_equal(other, value)
        else:
            assert other == value, name


def text_batches(data_dir, config, audio, tokenizer, *, max_length: int, **settings):
    """`train_batches` with sound and texts, as the contrastive task has them."""
    pairs = settings.get("reverses", 0) > 0
    features = functools.partial(draw_texts, config.text_augment_selection, pairs=pairs)
    collate = functools.partial(tokenised, tokenizer, max_length)
    return train_batches(data_dir, config, audio, features, collate, draws_of_a_row=2, **settings)
