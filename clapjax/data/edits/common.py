"""What the edits share: their input shard by shard, and a new data set that grows in units."""

import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clapjax.data import paths, records
from clapjax.data.build.processes import cores, run_units
from clapjax.data.build.units import PLACING, Unit, Work
from clapjax.data.forms import PCM, Form, form_of
from clapjax.data.schema import Example
from clapjax.data.shards import RecordsError, merged, read_shard

Progress = Callable[[Iterable, int, str], Iterable]
MADE_FROM, UNITS = "made_from.json", "units"  # of an edit that is not finished
RESULTS = ("counts", "report", "build_id")  # in a build description, not what it is made from


@dataclass(frozen=True)
class Shard:
    """A stretch of a split: a file, or one of texts and behind it that of their audio."""

    folder: str  # of its data set
    split: str
    form: Form  # of its sound
    files: tuple[str, ...]
    count: int  # records

    def read(self) -> Iterator[bytes]:
        """Yields its records, whole and serialised.

        Raises:
          RecordsError: a file is damaged or missing.
        """
        layers = [read_shard(file, self.count) for file in self.files]
        if len(layers) == 1:
            yield from layers[0]
            return
        parse, encode = records.parser(), records.serializer(self.split, self.form)
        for parts in zip(*layers, strict=True):
            yield encode(parse(merged(parts)))  # what is merged has its texts twice

    def read_texts(self) -> Iterator[Example]:
        """Yields its records, with their audio only where that lies in the same file."""
        return map(records.parser(), read_shard(self.files[0], self.count))


@dataclass(frozen=True)
class Input:
    """A data set that is read."""

    folder: Path
    build: dict
    shards: dict[str, list[Shard]]  # of each split
    audio: Path | None  # where the audio is, if it is not here

    @property
    def form(self) -> Form:
        """How it holds sound."""
        return form_of(self.build)

    def sizes(self) -> dict[str, int]:
        """Split to number of records."""
        return {name: sum(shard.count for shard in part) for name, part in self.shards.items()}

    def tokenizer(self) -> bytes | None:
        """The tokenizer, if there is one."""
        file = self.folder / records.TOKENIZER_FOLDER / "tokenizer.json"
        return file.read_bytes() if file.exists() else None

    def copy_tokenizer(self, folder: Path) -> None:
        """Copies the tokenizer's files, if there are any, so that a model reads both sets alike."""
        if self.tokenizer() is not None:
            for file in (self.folder / records.TOKENIZER_FOLDER).iterdir():
                with paths.local_file(file) as copy:
                    shutil.copyfile(copy, folder / file.name)


def open_input(name: str | os.PathLike) -> Input:
    """A data set to read.

    Raises:
      RecordsError: it is none, is damaged, or the audio that it describes has changed.
    """
    folder = paths.as_path(name)
    build, shards = records.read_build(folder), {}
    for split in records.open_builder(folder).info.splits:
        layers = records.open_split(folder, split).layers
        shards[split] = [
            Shard(os.fspath(folder), split, form_of(build), tuple(files), count)
            for *files, count in zip(
                *(layer.files for layer in layers), layers[0].lengths, strict=True
            )
        ]
    return Input(folder, build, shards, records.audio_folder(folder))


def processes_for(inputs: Sequence[str | os.PathLike]) -> int:
    """How many processes an edit is worth: one a core; one where they take longer to start.

    Raises:
      RecordsError: an input is none.
    """
    splits = [records.open_builder(name).info.splits for name in inputs]
    size = sum(info.num_bytes for part in splits for info in part.values())
    return cores() if size > records.SHARD_BYTES else 1


def units_of(inputs: Sequence[Input], prefix: str = "") -> tuple[list[Unit], dict[str, Shard]]:
    """A unit for each shard, split by split, and the shard of each by the unit's name.

    A unit's items are the numbers of the shard's records.

    Args:
      inputs: in each split, their shards follow one another.
      prefix: before the split in the names of units.
    """
    units, shards = [], {}
    for split in dict.fromkeys(split for one in inputs for split in one.shards):
        files = (shard for one in inputs for shard in one.shards.get(split, ()))
        for number, shard in enumerate(files):
            units.append(Unit(prefix + split, number, tuple(range(shard.count))))
            shards[units[-1].name] = shard
    return units, shards


@dataclass(frozen=True)
class EditRecords(Work):
    """Writes the records of a shard as `change` makes them, those that it leaves as they are."""

    shards: dict[str, Shard]  # by the names of the units
    # Of their sound; None: they are texts alone, which the shards then are too.
    form: Form | None = PCM
    ids: bool = False  # whether to keep the ids, for the rest of the edit
    captions: bool = False  # the same of captions and negatives

    def change(self, example: Example, item, shard: Shard, tally: Counter) -> Example | None:
        """The new record, the same object where nothing changes; None leaves it out.

        Args:
          example: a record, whole.
          item: of the unit, the one for this record.
          shard: where it comes from.
          tally: what to count for the rest of the edit.
        """
        raise NotImplementedError

    def __call__(self, unit: Unit) -> Iterator[None]:
        """Known afterwards: "shards" (file, records, bytes), "tally", "ids", "captions"."""
        parse, encode = records.parser(), records.serializer(unit.split, self.form)
        tally, ids, captions = Counter(), [], []
        shard = self.shards[unit.name]
        with paths.local_folder(paths.as_path(self.folder), unit.name) as folder:
            writer = records.ShardWriter(folder, unit.name, sys.maxsize)
            for item, data in zip(unit.items, shard.read(), strict=True):
                example = parse(data)
                new = self.change(example, item, shard, tally)
                if new is not None:
                    writer.write(data if new is example else encode(new))
                    if self.ids:
                        ids.append(new.id)
                    if self.captions:
                        captions += new.captions + new.negative_captions
                yield
            writer.close()
            known = {"tally": tally, "ids": ids, "captions": captions, "shards": writer.files}
            self.finish(unit, [folder / name for name, _, _ in writer.files], known)


@dataclass(frozen=True)
class Edit:
    """A data set that is being made."""

    data_dir: Path
    folder: Path  # where it grows
    build: dict  # what it is made from
    processes: int
    progress: Progress

    @property
    def units(self) -> str:
        """The folder of the units."""
        return os.fspath(self.folder / UNITS)

    @property
    def context(self) -> str:
        """What every unit depends on."""
        return hashlib.sha256(json.dumps(self.build).encode()).hexdigest()

    def do(self, work: Work, units: list[Unit], what: str) -> list[dict]:
        """Does the units that are not done; what is known of each, in order."""
        left = [unit for unit in units if work.load(unit) is None]
        if left:
            run_units(left, work, what, processes=self.processes, progress=self.progress)
        return [work.load(unit) for unit in units]

    def write(
        self,
        units: list[Unit],
        known: list[dict],
        tokenizer: Callable[[Path], None],
        *,
        form: Form | None,
        more: dict | None = None,
    ) -> dict:
        """Puts the data set together and gives it its name; returns its build description.

        Args:
          units, known: what `do` did.
          tokenizer: writes the tokenizer's files into a folder, or none.
          form: of the records' sound; None: they are texts alone.
          more: for the build description.

        Raises:
          RecordsError: there is no record.
        """
        parts: dict[str, list] = {}
        for unit, one in zip(units, known, strict=True):
            parts.setdefault(unit.split, []).extend(one["shards"])
        parts = {split: shards for split, shards in parts.items() if shards}
        if not parts:
            self.discard()
            raise RecordsError(f"{self.data_dir}: no record is left; nothing is written")
        paths.write_text(self.folder / PLACING, "")
        splits = []
        for split, shards in parts.items():
            for number, (name, _, _) in enumerate(shards):
                part = self.folder / UNITS / name
                final = self.folder / records.shard_name(split, number, len(shards))
                if part.exists():
                    paths.move_file(part, final)
                elif not final.exists():
                    raise RecordsError(f"{part}: lost; remove {self.folder} and do it again")
            lengths = [count for _, count, _ in shards]
            splits.append((split, lengths, sum(size for _, _, size in shards)))
        records.write_metadata(self.folder, splits, form)
        with paths.local_folder(self.folder / UNITS, records.TOKENIZER_FOLDER) as made:
            tokenizer(made)
            if any(made.iterdir()):
                paths.put_folder(made, self.folder / records.TOKENIZER_FOLDER)
        counts = {split: sum(lengths) for split, lengths, _ in splits}
        build = self.build | {"counts": counts} | (more or {})
        records.write_build(self.folder, build)
        return self.finish()

    def finished(self) -> bool:
        """Whether all is there, but for the name perhaps."""
        return any((one / records.BUILD_FILE).exists() for one in (self.data_dir, self.folder))

    def finish(self) -> dict:
        """Gives a data set that is whole its name, if it has not; returns its build description."""
        if (self.data_dir / records.BUILD_FILE).exists():
            self.discard()
            return records.read_build(self.data_dir)
        build = json.loads(paths.read_text(self.folder / records.BUILD_FILE))
        paths.remove_folder(self.folder / UNITS)
        for name in (PLACING, MADE_FROM):
            (self.folder / name).unlink(missing_ok=True)
        paths.move_folder(self.folder, self.data_dir, last=records.BUILD_FILE)
        return build

    def discard(self) -> None:
        """Removes what was made, where nothing can come of it."""
        paths.remove_folder(self.folder)


def start(
    data_dir: str | os.PathLike,
    inputs: Sequence[Input],
    build: dict,
    *,
    processes: int,
    progress: Progress,
) -> Edit:
    """Begins an edit, or goes on with one that was interrupted; one that is done is `finished`.

    Args:
      data_dir: the new data set.
      inputs: what is read.
      build: what it is made from, for JSON; its first name is that of the kind of edit.
      processes, progress: as in `build_records`.

    Raises:
      RecordsError: `data_dir` is something else, or lies in an input, or another edit or build to
        it is unfinished.
      ValueError: no process.
    """
    if processes < 1:
        raise ValueError(f"processes must be at least 1, not {processes}")
    data_dir = paths.as_path(data_dir)
    build = json.loads(json.dumps(build))
    folder = records.incomplete(data_dir)
    edit = Edit(data_dir, folder, build, processes, progress)
    there = _read_json(data_dir / records.BUILD_FILE) or {}
    if there and not (changed := _differing(there, build)):
        return edit
    if next(iter(build)) in there:  # made by the same kind of edit
        raise RecordsError(
            f"{data_dir}: is there already, made from something else ({', '.join(changed)} "
            "differ); remove it or choose another folder"
        )
    records.check_free(data_dir)
    local = [
        one.folder for one in inputs if paths.is_local(one.folder) and paths.is_local(data_dir)
    ]
    if above := [one for one in local if one.resolve() in data_dir.resolve().parents]:
        raise RecordsError(f"{data_dir}: lies in {above[0]}, of which it is to be made")
    for stray in folder.glob(".*.tmp"):  # of a process that was killed
        stray.unlink()
    if folder.exists() and any(folder.iterdir()):
        there = _read_json(folder / MADE_FROM) or _read_json(folder / records.BUILD_FILE) or {}
        if changed := _differing(there, build):
            raise RecordsError(
                f"{folder}: holds unfinished work from something else ({', '.join(changed)} "
                "differ); remove it or choose another folder"
            )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        paths.write_text(folder / MADE_FROM, json.dumps(build, indent=2) + "\n")
    (folder / UNITS).mkdir(exist_ok=True)
    return edit


def _differing(there: dict, build: dict) -> list[str]:
    """In what a build description is not that of `build`."""
    names = [*build, *(name for name in there if name not in (*build, *RESULTS))]
    return [name for name in names if there.get(name) != build.get(name)]


def _read_json(file: Path) -> dict | None:
    try:
        return json.loads(paths.read_text(file))
    except (FileNotFoundError, ValueError):
        return None
