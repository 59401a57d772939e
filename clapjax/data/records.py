"""Write, open and check a data set of records: TFDS metadata round array_record shards.

A data set is built in `<data_dir>.incomplete` and renamed when the last byte is written, so a
folder named `data_dir` is always whole. Folders may be in a bucket: see clapjax/data/paths.py.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from clapjax.data import paths
from clapjax.data.forms import PCM, Form, form_of
from clapjax.data.paths import as_path
from clapjax.data.schema import Example, example_from_features, features
from clapjax.data.shards import RecordsError, Shards, Split, reader_pool

NAME, VERSION = "clapjax_records", "1.0.0"
FORMAT = "array_record"
BUILD_FILE = "clapjax_build.json"  # what the data set was made from; ours, ignored by TFDS
TOKENIZER_FOLDER = "tokenizer"
SHARD_BYTES = 128 * 2**20


def shard_name(split: str, shard: int, shards: int) -> str:
    """File name of a shard, as TFDS has it."""
    return f"{NAME}-{split}.{FORMAT}-{shard:05d}-of-{shards:05d}"


class ShardWriter:
    """Writes records whose number is not known before, in files of at most `shard_bytes`.

    Args:
      folder: where they go, on this machine.
      name: what their names begin with.
      shard_bytes: bytes of records in a file; one that is larger has a file to itself.

    It raises an OSError where the disk is full.
    """

    def __init__(self, folder: Path, name: str, shard_bytes: int):
        self._folder, self._name, self._most = folder, name, shard_bytes
        self._writer = None
        self.files: list[tuple[str, int, int]] = []  # name, records, bytes of records

    def write(self, data: bytes) -> None:
        """Writes a record that `serializer` made."""
        from array_record.python.array_record_module import ArrayRecordWriter

        if self._writer is None or self.files[-1][2] + len(data) > self._most:
            self.close()
            self.files.append((f"{self._name}-{len(self.files):03d}.{FORMAT}", 0, 0))
            path = self._folder / self.files[-1][0]
            # One by one for random access; PCM hardly shrinks, and reads in half the time as it is.
            with _writing(path):
                self._writer = ArrayRecordWriter(os.fspath(path), "group_size:1,uncompressed")
        with _writing(self._folder / self.files[-1][0]):
            self._writer.write(data)
        name, count, size = self.files[-1]
        self.files[-1] = (name, count + 1, size + len(data))

    def close(self) -> None:
        """Finishes the last file."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            with _writing(self._folder / self.files[-1][0]):
                writer.close()


@contextlib.contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what array_record makes of a full disk
        why = OSError(f"{file}: cannot be written ({str(error).partition(';')[0]})")
        raise paths.no_room(error, file) or why from error


def serializer(split: str, form: Form | None = PCM) -> Callable[[Example], bytes]:
    """A function that turns an example into the bytes of a record.

    It raises a RecordsError where an example breaks the schema; the message names `split`. Without
    a form its texts alone are written, which then lie apart from the audio.
    """
    import tensorflow_datasets as tfds

    schema = features(form)
    encoder = tfds.core.ExampleSerializer(schema.get_serialized_info())

    def serialize(example: Example) -> bytes:
        if problems := example.problems(form is not None):
            raise RecordsError(f"split {split}, {example.id}: {'; '.join(problems)}")
        message = encoder.get_tf_example(schema.encode_example(example.to_record(split, form)))
        # TFDS leaves the order of the features to chance: it differs from process to process.
        return message.SerializeToString(deterministic=True)

    return serialize


def parser() -> Callable[[bytes], Example]:
    """A function that turns the bytes of a record back into an example.

    A record made before there was a feature lacks it; one of texts alone has no audio: an example
    with the default of the schema then. It raises a RecordsError where the bytes are no record.
    """
    from google.protobuf.message import DecodeError
    from tensorflow import train

    def parse(data: bytes) -> Example:
        try:
            return example_from_features(train.Example.FromString(data).features.feature)
        except KeyError as error:
            raise RecordsError(f"a record without the feature {error}") from error
        except (DecodeError, IndexError, ValueError) as error:
            raise RecordsError(f"no record ({type(error).__name__}: {error})") from error

    return parse


def write_metadata(
    folder: Path, splits: list[tuple[str, list[int], int]], form: Form | None = PCM
) -> None:
    """Writes dataset_info.json and features.json, so that TFDS opens `folder`.

    Args:
      folder: of the data set.
      splits: (name, records per shard, bytes of records) of each.
      form: of the records' sound; None: their texts alone.
    """
    import tensorflow_datasets as tfds

    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=NAME, filetype_suffix=FORMAT
    )
    infos = [
        tfds.core.SplitInfo(
            name=split, shard_lengths=lengths, num_bytes=size, filename_template=template
        )
        for split, lengths, size in splits
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features(form),
        split_infos=infos,
        version=VERSION,
        filename_template=template,
        check_data=False,
        description="Audio-caption records of clapjax.",
    )


def incomplete(data_dir: Path) -> Path:
    """The folder in which a data set is built."""
    if data_dir.name in ("", "..") and paths.is_local(data_dir):
        data_dir = data_dir.resolve()
    return data_dir.parent / f"{data_dir.name}.incomplete"


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
    """Writes the build description, and in it the `build_id`."""
    build = build | {"build_id": _digest(build)}
    paths.write_text(folder / BUILD_FILE, json.dumps(build, indent=2) + "\n")


def _digest(build: dict) -> str:
    known = {key: value for key, value in build.items() if key != "build_id"}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:32]


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
      RecordsError: `data_dir` is not a finished data set of clapjax in array_record format.
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
        build = json.loads(file.read_text())
        made_as = build.get("data", {}).get("format", FORMAT)  # older ones tell
    except (ValueError, AttributeError) as error:
        raise RecordsError(f"{file}: damaged ({error}); build the records again") from error
    if made_as != FORMAT:
        raise RecordsError(f"{data_dir}: made as {made_as}, which is read no more; build it again")
    return build


def check_rate(data_dir: str | os.PathLike, sample_rate: int) -> None:
    """Makes sure that a model can hear a data set.

    Raises:
      RecordsError: as `read_build`, or they are of another rate than the model, in Hz.
    """
    found = read_build(data_dir)["sample_rate"]
    if found != sample_rate:
        raise RecordsError(
            f"{data_dir}: records are at {found} Hz, the model wants {sample_rate}; make records "
            "for it in another folder"
        )


def read_form(data_dir: str | os.PathLike) -> Form:
    """How a data set holds sound.

    Raises:
      RecordsError: `data_dir` is not a finished data set of clapjax.
    """
    return form_of(read_build(data_dir))


def build_id(data_dir: str | os.PathLike) -> str:
    """Tells a data set from others: a digest of what it was made from and of its records.

    Raises:
      RecordsError: `data_dir` is not a finished data set of clapjax.
    """
    build = read_build(data_dir)
    return build.get("build_id") or _digest(build)


def audio_folder(data_dir: str | os.PathLike) -> Path | None:
    """The data set that has the audio of one of texts alone; None for one that has its own.

    Raises:
      RecordsError: there is no such data set, or another one in its place.
    """
    build = read_build(data_dir)
    if "audio_from" not in build:
        return None
    folder = as_path(build["audio_from"])
    if paths.is_local(folder):
        folder = as_path(data_dir) / folder
    try:
        found = build_id(folder)
    except RecordsError as error:
        raise RecordsError(f"{data_dir}: has its audio from {error}") from error
    if found != build.get("audio_id"):
        raise RecordsError(f"{data_dir}: its audio, {folder}, is not what it was; annotate anew")
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


def _split_info(data_dir: str | os.PathLike, split: str):
    splits = open_builder(data_dir).info.splits
    if split not in splits:
        raise RecordsError(
            f"{data_dir}: no split {split!r}; there are {', '.join(splits)}: name one of them (in "
            "training --config.data.split=NAME), or build records that have it"
        )
    return splits[split]


def split_size(data_dir: str | os.PathLike, split: str) -> int:
    """Number of examples in a split.

    Raises:
      RecordsError: no such data set or split.
    """
    return _split_info(data_dir, split).num_examples


def shard_paths(data_dir: str | os.PathLike, split: str) -> list[str]:
    """Paths of a split's shards in order.

    Raises:
      RecordsError: no such data set or split.
    """
    return [os.fspath(path) for path in _split_info(data_dir, split).filepaths]


def open_split(data_dir: str | os.PathLike, split: str, readers: Callable | None = None) -> Split:
    """The records of a split, by index or in order; texts that lie apart are put to their audio.

    Args:
      data_dir: a finished data set.
      split: its name; "a+b" is all of several.
      readers: a `reader_pool`, for several splits that are read by index together.

    Raises:
      RecordsError: no such data set or split, or texts and audio do not belong together.
    """
    layers, folder = [], as_path(data_dir)
    while folder is not None:
        infos = [_split_info(folder, part) for part in split.split("+")]
        files = tuple(os.fspath(path) for info in infos for path in info.filepaths)
        lengths = tuple(length for info in infos for length in info.shard_lengths)
        layers.append(Shards(files, lengths))
        if layers[-1].lengths != layers[0].lengths:
            raise RecordsError(
                f"{data_dir}: split {split} has other records or shards than that of its audio, "
                f"{folder}; annotate that anew"
            )
        folder = audio_folder(folder)
    return Split(tuple(layers), readers or reader_pool())


def read_examples(data_dir: str | os.PathLike, split: str) -> Iterator[Example]:
    """Yields a split's examples in the order of their records.

    Raises:
      RecordsError: no such data set or split, or a damaged shard.
    """
    yield from _parsed(open_split(data_dir, split))


def _parsed(records: Split) -> Iterator[Example]:
    parse = parser()
    for index, data in enumerate(records.scan()):
        try:
            yield parse(data)
        except RecordsError as error:
            raise RecordsError(f"{records.place(index)}: {error}") from error


def read_serialized(data_dir: str | os.PathLike, split: str) -> Iterator[bytes]:
    """Yields a split's serialised examples in order; raises as `read_examples` does."""
    yield from open_split(data_dir, split).scan()
