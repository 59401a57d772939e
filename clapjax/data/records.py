"""Write, open and check a data set of records: TFDS metadata round array_record shards.

A data set is built in `<data_dir>.incomplete` and renamed when the last byte is written, so a
folder named `data_dir` is always whole. Folders may be in a bucket: see clapjax/data/paths.py.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from clapjax.data import paths
from clapjax.data.paths import as_path
from clapjax.data.schema import Example, example_from_record, features

NAME, VERSION = "clapjax_records", "1.0.0"
BUILD_FILE = "clapjax_build.json"  # what the data set was made from; ours, ignored by TFDS
TOKENIZER_FOLDER = "tokenizer"
SHARD_BYTES = 128 * 2**20


class RecordsError(ValueError):
    """A data set of records that is absent, unfinished or damaged; the message says what to do."""


def shard_name(split: str, shard: int, shards: int, file_format: str) -> str:
    """File name of a shard, as TFDS has it."""
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
      folder: where the shards go, on this machine.
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
    encode = serializer(split)
    iterator = iter(examples)
    lengths, size = [], 0
    for shard in range(shards):
        length = count * (shard + 1) // shards - count * shard // shards
        writer = _open_writer(folder / shard_name(split, shard, shards, file_format), file_format)
        for _ in range(length):
            example = next(iterator, None)
            if example is None:
                raise RecordsError(f"split {split}: fewer than the {count} examples announced")
            data = encode(example)
            size += len(data)
            writer.write(data)
        writer.close()
        lengths.append(length)
    if next(iterator, None) is not None:
        raise RecordsError(f"split {split}: more than the {count} examples announced")
    return split, lengths, size


class ShardWriter:
    """Writes records whose number is not known before, in files of at most `shard_bytes`.

    Args:
      folder: where they go, on this machine.
      name: what their names begin with.
      file_format: "array_record" or "tfrecord".
      shard_bytes: bytes of records in a file; one that is larger has a file to itself.
    """

    def __init__(self, folder: Path, name: str, file_format: str, shard_bytes: int):
        self._folder, self._name = folder, name
        self._format, self._most = file_format, shard_bytes
        self._writer = None
        self.files: list[tuple[str, int, int]] = []  # name, records, bytes of records

    def write(self, data: bytes) -> None:
        """Writes a record that `serializer` made."""
        if self._writer is None or self.files[-1][2] + len(data) > self._most:
            self.close()
            self.files.append((f"{self._name}-{len(self.files):03d}.{self._format}", 0, 0))
            self._writer = _open_writer(self._folder / self.files[-1][0], self._format)
        self._writer.write(data)
        name, count, size = self.files[-1]
        self.files[-1] = (name, count + 1, size + len(data))

    def close(self) -> None:
        """Finishes the last file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def serializer(split: str, audio: bool = True):
    """A function that turns an example into the bytes of a record.

    It raises a RecordsError where an example breaks the schema; the message names `split`. Without
    `audio`, its texts alone are written.
    """
    import tensorflow_datasets as tfds

    schema = features(audio)
    encoder = tfds.core.ExampleSerializer(schema.get_serialized_info())

    def serialize(example: Example) -> bytes:
        if problems := example.problems(audio):
            raise RecordsError(f"split {split}, {example.id}: {'; '.join(problems)}")
        record = {name: value for name, value in example.to_record().items() if name in schema}
        message = encoder.get_tf_example(schema.encode_example(record))
        # TFDS leaves the order of the features to chance: it differs from process to process.
        return message.SerializeToString(deterministic=True)

    return serialize


def parser(audio: bool = True):
    """A function that turns the bytes of a record, or of its texts alone, back into an example."""
    schema = features(audio)
    return lambda data: example_from_record(schema.deserialize_example_np(data))


def write_metadata(
    folder: Path, splits: list[tuple[str, list[int], int]], file_format: str, audio: bool = True
):
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
        features=features(audio),
        split_infos=infos,
        version=VERSION,
        filename_template=template,
        check_data=False,
        description="Audio-caption records of clapjax.",
    )


def incomplete(data_dir: Path) -> Path:
    """The folder in which a data set is built."""
    return data_dir.with_name(data_dir.name + ".incomplete")


def start_build(data_dir: Path) -> Path:
    """An empty folder to build in; what an interrupted build left behind is removed."""
    folder = incomplete(data_dir)
    paths.remove_folder(folder)
    folder.mkdir(parents=True)
    return folder


def finish_build(folder: Path, data_dir: Path, build: dict) -> None:
    """Writes the build description and gives the finished folder its name."""
    write_build(folder, build)
    paths.move_folder(folder, data_dir, last=BUILD_FILE)


def write_build(folder: Path, build: dict) -> None:
    """Writes the build description."""
    paths.write_text(folder / BUILD_FILE, json.dumps(build, indent=2) + "\n")


def check_free(data_dir: Path) -> None:
    """Makes sure that a data set may be written to `data_dir`.

    Raises:
      RecordsError: there is something already.
    """
    if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
        raise RecordsError(f"{data_dir}: is there already; choose another folder")


def read_build(data_dir: str | os.PathLike) -> dict:
    """What a data set was made from (`BUILD_FILE`).

    Raises:
      RecordsError: `data_dir` is not a finished data set of clapjax.
    """
    data_dir = as_path(data_dir)
    file = data_dir / BUILD_FILE
    if not file.is_file():
        hint = (
            "its build did not finish; run `clapjax records build` again"
            if incomplete(data_dir).is_dir()
            else "make one with `clapjax records build`"
        )
        raise RecordsError(f"{data_dir}: no records here; {hint}")
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise RecordsError(f"{file}: damaged ({error}); build the records again") from error


def build_id(data_dir: str | os.PathLike) -> str:
    """What tells this data set from any other: a hash of what it was made from and of its shards.

    Raises:
      RecordsError: `data_dir` is not a finished data set of clapjax.
    """
    read_build(data_dir)
    state = hashlib.sha256()
    for name in (BUILD_FILE, "dataset_info.json"):
        state.update((as_path(data_dir) / name).read_bytes())
    return state.hexdigest()


def audio_folder(data_dir: str | os.PathLike) -> Path | None:
    """Where the audio of a data set of texts is; None where it has its own.

    Raises:
      RecordsError: no such data set, or its audio is not there or has been built anew.
    """
    build = read_build(data_dir)
    if "audio_from" not in build:
        return None
    folder = as_path(data_dir) / build["audio_from"]
    if build_id(folder) != build["audio_id"]:
        raise RecordsError(f"{data_dir}: its audio, {folder}, was built anew; annotate that again")
    return folder


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
    parse = parser()
    for data in read_serialized(data_dir, split):
        yield parse(data)


def read_serialized(data_dir: str | os.PathLike, split: str) -> Iterator[bytes]:
    """Yields a split's serialised examples in order; raises as `read_examples` does."""
    for path in shard_paths(data_dir, split):
        yield from read_shard(path)


def read_shard(path: str) -> Iterator[bytes]:
    """Yields the serialised records of a file in order.

    Raises:
      RecordsError: it is damaged or missing.
    """
    try:
        of_arrays = ".array_record" in os.path.basename(path)
        read = _read_array_record if of_arrays else _read_tfrecord
        with paths.local_file(path) as file:
            yield from read(file)
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
