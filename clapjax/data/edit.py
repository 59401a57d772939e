"""New data sets of records out of old ones: several joined, or one without what is not wanted.

Records are copied as they are, one by one; the new data set appears under its name when whole.
"""

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clapjax.data import paths, records
from clapjax.data.records import RecordsError
from clapjax.data.schema import Example
from clapjax.data.tokenizer import train_tokenizer

Progress = Callable[[Iterable, int, str], Iterable]
YES_NO = {"yes": True, "no": False}


def merge(
    data_dir: str | os.PathLike,
    inputs: Sequence[str | os.PathLike],
    *,
    prefix: bool = False,
    progress: Progress = lambda items, total, what: items,
) -> dict[str, int]:
    """Joins data sets: each split holds those of the inputs, one after the other.

    The tokenizer is that of the inputs where it is one and the same, else one trained on the
    captions of the new split train, or of all where there is none.

    Args:
      data_dir: the new data set; must not exist.
      inputs: data sets of one sample rate.
      prefix: put the name of an input's folder before its ids: FOLDER/ID.
      progress: as in `build_records`.

    Returns:
      Split to number of records.

    Raises:
      RecordsError: sample rates or ids clash, `data_dir` exists, or an input is none or damaged.
    """
    inputs = [paths.as_path(name) for name in inputs]
    builds = [records.read_build(folder) for folder in inputs]
    _check_inputs(inputs, builds, prefix)
    sizes = {folder: _sizes(folder) for folder in inputs}
    ids: dict[str, Path] = {}
    captions: dict[str, list[str]] = {}
    tokenizers = {_tokenizer_bytes(folder) for folder in inputs}
    one_tokenizer = len(tokenizers) == 1

    def joined(split: str) -> Iterator[bytes]:
        parse, serialize = records.parser(), records.serializer(split)
        for folder in inputs:
            if split not in sizes[folder]:
                continue
            for data in records.read_serialized(folder, split):
                example = parse(data)
                if prefix:
                    example = dataclasses.replace(example, id=f"{folder.name}/{example.id}")
                    data = serialize(example)
                if (other := ids.setdefault(example.id, folder)) is not folder:
                    raise RecordsError(
                        f"{folder}: the id {example.id!r} is in {other} too; --prefix puts the "
                        "names of the folders before the ids"
                    )
                if not one_tokenizer:
                    captions.setdefault(split, []).extend(
                        example.captions + example.negative_captions
                    )
                yield data

    splits = dict.fromkeys(split for folder in inputs for split in sizes[folder])
    vocab_size = _largest_vocabulary(builds)

    def tokenizer(folder: Path) -> None:
        if not one_tokenizer:
            every = [caption for part in captions.values() for caption in part]
            train_tokenizer(captions.get("train") or every, folder, vocab_size)
        elif tokenizers != {None}:
            _copy_tokenizer(inputs[0], folder)

    build = {
        "merged": [
            {"data_dir": os.fspath(folder), "build": one}
            for folder, one in zip(inputs, builds, strict=True)
        ],
        "prefix": prefix,
        "sample_rate": builds[0]["sample_rate"],
        "data": {"vocab_size": vocab_size},
    }
    streams = {
        split: progress(joined(split), sum(s.get(split, 0) for s in sizes.values()), split)
        for split in splits
    }
    return _write(paths.as_path(data_dir), streams, build, tokenizer)


def _check_inputs(inputs: list[Path], builds: list[dict], prefix: bool) -> None:
    if len(inputs) < 2:
        raise RecordsError("merge: two data sets at least are needed")
    for folder, build in zip(inputs, builds, strict=True):
        if inputs.count(folder) > 1:
            raise RecordsError(f"{folder}: named twice")
        if build["sample_rate"] != builds[0]["sample_rate"]:
            raise RecordsError(
                f"{folder}: records are at {build['sample_rate']} Hz, those of {inputs[0]} at "
                f"{builds[0]['sample_rate']}; build them with one model.audio.sample_rate"
            )
    names = [folder.name for folder in inputs]
    if prefix and (twice := [name for name in names if names.count(name) > 1]):
        raise RecordsError(f"merge: two folders are named {twice[0]}; --prefix needs other names")


def _largest_vocabulary(builds: list[dict]) -> int:
    return max(build["data"].get("vocab_size", 0) for build in builds)


@dataclass(frozen=True)
class Where:
    """Which records to keep: those that fulfil every criterion that is given."""

    min_seconds: float = 0.0
    max_seconds: float = float("inf")
    split: tuple[str, ...] = ()  # in one of these
    provenance: tuple[str, ...] = ()  # of one of these; "llm" is any "llm:..."
    label: tuple[str, ...] = ()  # with one of these
    labels: bool | None = None  # with any label, or with none
    negatives: bool | None = None  # with negative captions, or without

    def keeps(self, example: Example) -> bool:
        """Whether an example fulfils the criteria; `split` is not among them."""
        seconds = example.audio.size / example.sample_rate
        kinds = example.provenance.split(";")
        return (
            self.min_seconds <= seconds <= self.max_seconds
            and (not self.label or bool(set(self.label) & set(example.labels)))
            and self.labels in (None, bool(example.labels))
            and self.negatives in (None, bool(example.negative_captions))
            and (
                not self.provenance
                or any(kind in (p, p.partition(":")[0]) for p in kinds for kind in self.provenance)
            )
        )


def parse_where(criteria: Sequence[str]) -> Where:
    """Criteria as "max_seconds=30", "label=dog,rain" (one of these), "negatives=yes".

    Raises:
      ValueError: no such criterion, given twice, or no such value.
    """
    found = {}
    for item in criteria:
        name, equals, text = item.partition("=")
        known = {field.name: field.default for field in dataclasses.fields(Where)}
        if not equals or name not in known:
            raise ValueError(f"--where {item}: write one of {', '.join(f'{k}=...' for k in known)}")
        if name in found:
            raise ValueError(f"--where: {name} is given twice")
        try:
            found[name] = _criterion(known[name], text)
        except (ValueError, KeyError) as error:
            wanted = "yes or no" if known[name] is None else "a number or names"
            raise ValueError(f"--where {item}: {text!r} is not {wanted}") from error
    if not found:
        raise ValueError("--where: no criterion is given")
    return Where(**found)


def _criterion(default, text: str) -> float | bool | tuple[str, ...]:
    if default is None:
        return YES_NO[text]
    if isinstance(default, float):
        return float(text)
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ValueError(text)
    return names


def select(
    data_dir: str | os.PathLike,
    source: str | os.PathLike,
    where: Where,
    *,
    progress: Progress = lambda items, total, what: items,
) -> dict[str, int]:
    """Copies the records that fulfil criteria, and the tokenizer: a model reads both sets alike.

    Args:
      data_dir: the new data set; must not exist.
      source: the data set to choose from.
      where: which records to keep.
      progress: as in `build_records`.

    Returns:
      Split to number of records; a split without any is left out.

    Raises:
      RecordsError: nothing is left, no such split, `data_dir` exists, or `source` is damaged.
    """
    source = paths.as_path(source)
    build, sizes = records.read_build(source), _sizes(source)
    if unknown := [split for split in where.split if split not in sizes]:
        raise RecordsError(f"{source}: no split {unknown[0]!r}; there are {', '.join(sizes)}")

    def chosen(split: str) -> Iterator[bytes]:
        parse = records.parser()
        stream = progress(records.read_serialized(source, split), sizes[split], split)
        return (data for data in stream if where.keeps(parse(data)))

    def tokenizer(folder: Path) -> None:
        if _tokenizer_bytes(source) is not None:
            _copy_tokenizer(source, folder)

    given = {
        field.name: getattr(where, field.name)
        for field in dataclasses.fields(where)
        if getattr(where, field.name) != field.default
    }
    described = {
        "filtered": {"data_dir": os.fspath(source), "build": build},
        "where": given,
        "sample_rate": build["sample_rate"],
        "data": build["data"],
    }
    streams = {split: chosen(split) for split in where.split or sizes}
    return _write(paths.as_path(data_dir), streams, described, tokenizer)


def _sizes(folder: Path) -> dict[str, int]:
    splits = records.open_builder(folder).info.splits
    return {split: info.num_examples for split, info in splits.items()}


def _tokenizer_bytes(folder: Path) -> bytes | None:
    file = folder / records.TOKENIZER_FOLDER / "tokenizer.json"
    return file.read_bytes() if file.exists() else None


def _copy_tokenizer(source: Path, folder: Path) -> None:
    for file in (source / records.TOKENIZER_FOLDER).iterdir():
        with paths.local_file(file) as copy:
            shutil.copyfile(copy, folder / file.name)


def _write(
    data_dir: Path,
    streams: dict[str, Iterable[bytes]],
    build: dict,
    tokenizer: Callable[[Path], None],
) -> dict[str, int]:
    """Writes a data set whole, or nothing.

    Args:
      data_dir: where it goes.
      streams: split to serialised records.
      build: its description; the counts are added.
      tokenizer: writes the tokenizer's files into a folder, or none.

    Returns:
      Split to number of records.
    """
    records.check_free(data_dir)
    folder = records.start_build(data_dir)
    splits = []
    try:
        for split, stream in streams.items():
            with paths.local_folder(folder, split) as made:
                writer = records.ShardWriter(made, split, records.SHARD_BYTES)
                for data in stream:
                    writer.write(data)
                writer.close()
                for number, (name, _, _) in enumerate(writer.files):
                    final = records.shard_name(split, number, len(writer.files))
                    paths.put_file(made / name, folder / final)
            if writer.files:
                lengths = [count for _, count, _ in writer.files]
                splits.append((split, lengths, sum(size for _, _, size in writer.files)))
        if not splits:
            raise RecordsError(f"{data_dir}: no record is left; nothing is written")
        records.write_metadata(folder, splits)
        with paths.local_folder(folder, records.TOKENIZER_FOLDER) as made:
            tokenizer(made)
            if any(made.iterdir()):
                paths.put_folder(made, folder / records.TOKENIZER_FOLDER)
        counts = {split: sum(lengths) for split, lengths, _ in splits}
        records.finish_build(folder, data_dir, build | {"counts": counts})
    except BaseException:
        paths.remove_folder(folder)
        raise
    return counts
