"""Write, open and check a data set of records: TFDS metadata round array_record shards.

A data set is built in `<data_dir>.incomplete` and renamed when the last byte is written, so a
folder named `data_dir` is always whole.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from clapjax.data.schema import Example, example_from_record, features

NAME, VERSION = "clapjax_records", "1.0.0"
BUILD_FILE = "clapjax_build.json"  # what the data set was made from; ours, ignored by TFDS
TOKENIZER_FOLDER = "tokenizer"


class RecordsError(ValueError):
    """A data set of records that is absent, unfinished or damaged; the message says what to do."""


def _filename(split: str, shard: int, shards: int, file_format: str) -> str:
    return f"{NAME}-{split}.{file_format}-{shard:05d}-of-{shards:05d}"


def _open_writer(path: Path, file_format: str):
    if file_format == "array_record":
        from array_record.python.array_record_module import ArrayRecordWriter

        # One by one for random access; PCM hardly shrinks, and reads in half the time as it is.
        return ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    import tensorflow as tf

    return tf.io.TFRecordWriter(str(path))


def write_split(
    folder: Path, split: str, examples: Iterable[Example], count: int, file_format: str, shards: int
) -> tuple[str, list[int], int]:
    """Writes `count` examples as contiguous shards.

    Args:
      folder: where the shards go.
      split: split name.
      examples: exactly `count` of them.
      count: number of examples.
      file_format: "array_record" or "tfrecord".
      shards: number of files.

    Returns:
      (split, examples per shard, bytes).

    Raises:
      RecordsError: an example breaks the schema, or there are more or fewer than `count`.
    """
    serializer = features()
    iterator = iter(examples)
    lengths, size = [], 0
    for shard in range(shards):
        length = count * (shard + 1) // shards - count * shard // shards
        writer = _open_writer(folder / _filename(split, shard, shards, file_format), file_format)
        for _ in range(length):
            example = next(iterator, None)
            if example is None:
                raise RecordsError(f"split {split}: fewer than the {count} examples announced")
            data = _serialize(serializer, split, example)
            size += len(data)
            writer.write(data)
        writer.close()
        lengths.append(length)
    if next(iterator, None) is not None:
        raise RecordsError(f"split {split}: more than the {count} examples announced")
    return split, lengths, size


def write_stream(
    folder: Path, split: str, examples: Iterable[Example], file_format: str, shard_bytes: int
) -> tuple[str, list[int], int]:
    """Writes examples whose number is not known before, in shards of about `shard_bytes`.

    Returns and raises as `write_split`; without an example there is no shard.
    """
    serializer = features()
    lengths, size, room, writer = [], 0, 0, None
    for example in examples:
        data = _serialize(serializer, split, example)
        if writer is None or room < len(data):
            if writer is not None:
                writer.close()
            writer = _open_writer(folder / f"{split}-{len(lengths)}.partial", file_format)
            lengths.append(0)
            room = shard_bytes
        writer.write(data)
        lengths[-1] += 1
        size += len(data)
        room -= len(data)
    if writer is not None:
        writer.close()
    for shard in range(len(lengths)):
        name = _filename(split, shard, len(lengths), file_format)
        os.replace(folder / f"{split}-{shard}.partial", folder / name)
    return split, lengths, size


def _serialize(serializer, split: str, example: Example) -> bytes:
    if problems := example.problems():
        raise RecordsError(f"split {split}, {example.id}: {'; '.join(problems)}")
    import tensorflow as tf

    data = serializer.serialize_example(example.to_record())
    # TFDS leaves the order of the features to chance: it differs from process to process.
    return tf.train.Example.FromString(data).SerializeToString(deterministic=True)


def write_metadata(folder: Path, splits: list[tuple[str, list[int], int]], file_format: str):
    """Writes dataset_info.json and features.json, so that TFDS opens `folder`."""
    import tensorflow_datasets as tfds

    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=NAME, filetype_suffix=file_format
    )
    infos = [
        tfds.core.SplitInfo(
            name=split, shard_lengths=lengths, num_bytes=size, filename_template=template
        )
        for split, lengths, size in splits
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features(),
        split_infos=infos,
        version=VERSION,
        filename_template=template,
        check_data=False,
        description="Audio-caption records of clapjax.",
    )


def start_build(data_dir: Path) -> Path:
    """An empty folder to build in; what an interrupted build left behind is removed."""
    folder = data_dir.with_name(data_dir.name + ".incomplete")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def finish_build(folder: Path, data_dir: Path, build: dict) -> None:
    """Writes the build description and gives the finished folder its name."""
    (folder / BUILD_FILE).write_text(json.dumps(build, indent=2) + "\n")
    os.replace(folder, data_dir)


def read_build(data_dir: str | os.PathLike) -> dict:
    """What a data set was made from (`BUILD_FILE`).

    Raises:
      RecordsError: `data_dir` is not a finished data set of clapjax.
    """
    data_dir = Path(data_dir)
    file = data_dir / BUILD_FILE
    if not file.is_file():
        half = data_dir.with_name(data_dir.name + ".incomplete")
        hint = (
            "its build did not finish; run `clapjax records build` again"
            if half.is_dir()
            else "make one with `clapjax records build`"
        )
        raise RecordsError(f"{data_dir}: no records here; {hint}")
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise RecordsError(f"{file}: damaged ({error}); build the records again") from error


def open_builder(data_dir: str | os.PathLike):
    """The TFDS builder of a finished data set.

    Raises:
      RecordsError: not a finished data set, or its metadata is damaged.
    """
    import tensorflow_datasets as tfds

    read_build(data_dir)
    try:
        return tfds.builder_from_directory(os.fspath(data_dir))
    except Exception as error:  # TFDS, protobuf and json raise kinds of their own
        reason = str(error).splitlines()[0]
        raise RecordsError(
            f"{data_dir}: TFDS metadata damaged or missing ({reason}); build the records again"
        ) from error


def split_size(data_dir: str | os.PathLike, split: str) -> int:
    """Number of examples in a split.

    Raises:
      RecordsError: no such data set or split.
    """
    splits = open_builder(data_dir).info.splits
    if split not in splits:
        raise RecordsError(f"{data_dir}: no split {split!r}; there are {', '.join(splits)}")
    return splits[split].num_examples


def shard_paths(data_dir: str | os.PathLike, split: str) -> list[str]:
    """Paths of a split's shards in order.

    Raises:
      RecordsError: no such data set or split.
    """
    split_size(data_dir, split)
    return [os.fspath(path) for path in open_builder(data_dir).info.splits[split].filepaths]


def read_examples(data_dir: str | os.PathLike, split: str) -> Iterator[Example]:
    """Yields a split's examples in the order of their records.

    Raises:
      RecordsError: no such data set or split, or a damaged shard.
    """
    serializer = features()
    for data in read_serialized(data_dir, split):
        yield example_from_record(serializer.deserialize_example_np(data))


def read_serialized(data_dir: str | os.PathLike, split: str) -> Iterator[bytes]:
    """Yields a split's serialised examples in order; raises as `read_examples` does."""
    for path in shard_paths(data_dir, split):
        try:
            if ".array_record-" in Path(path).name:
                yield from _read_array_record(path)
            else:
                yield from _read_tfrecord(path)
        except (RuntimeError, ValueError, OSError, IndexError) as error:
            raise RecordsError(f"{path}: damaged or missing ({error}); build it again") from error


def _read_array_record(path: str, chunk: int = 32) -> Iterator[bytes]:
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(path)
    try:
        for start in range(0, reader.num_records(), chunk):
            yield from reader.read(list(range(start, min(start + chunk, reader.num_records()))))
    finally:
        reader.close()


def _read_tfrecord(path: str) -> Iterator[bytes]:
    import tensorflow as tf

    try:
        yield from tf.data.TFRecordDataset(path).as_numpy_iterator()
    except tf.errors.OpError as error:  # neither an OSError nor a RuntimeError
        raise OSError(error.message) from error


def check(data_dir: str | os.PathLike) -> list[str]:
    """Reads every record and lists what is wrong; empty where the data set is sound.

    Raises:
      RecordsError: not a finished data set.
    """
    found, ids = [], set()
    for split, info in open_builder(data_dir).info.splits.items():
        count = 0
        try:
            for example in read_examples(data_dir, split):
                count += 1
                found += [f"{split}/{example.id}: {problem}" for problem in example.problems()]
                if example.id in ids:
                    found.append(f"{split}/{example.id}: id is not unique")
                ids.add(example.id)
        except RecordsError as error:
            found.append(str(error))
        if count != info.num_examples:
            found.append(f"{split}: {count} records readable, {info.num_examples} announced")
    return found


def describe(data_dir: str | os.PathLike) -> dict:
    """Counts, hours, captions and labels of each split, for `clapjax records info`.

    Raises:
      RecordsError: not a finished data set, or damaged.
    """
    build = read_build(data_dir)
    out = {"data_dir": os.fspath(data_dir), "build": build, "splits": {}}
    for split in open_builder(data_dir).info.splits:
        out["splits"][split] = _describe_split(read_examples(data_dir, split))
    return out


def _describe_split(examples: Iterable[Example]) -> dict:
    labels, provenance = {}, {}
    count = seconds = captions = words = negatives = negative_audio = 0
    for example in examples:
        count += 1
        seconds += example.audio.size / example.sample_rate
        captions += len(example.captions)
        words += sum(len(caption.split()) for caption in example.captions)
        negatives += bool(example.negative_captions)
        negative_audio += example.negative_audio is not None
        provenance[example.provenance] = provenance.get(example.provenance, 0) + 1
        for label in example.labels:
            labels[label] = labels.get(label, 0) + 1
    return {
        "examples": count,
        "hours": round(seconds / 3600, 3),
        "captions_per_example": round(captions / max(1, count), 2),
        "words_per_caption": round(words / max(1, captions), 2),
        "with_negative_captions": negatives,
        "with_negative_audio": negative_audio,
        "provenance": provenance,
        "labels": dict(sorted(labels.items())),
    }
