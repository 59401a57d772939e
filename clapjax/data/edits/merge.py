"""Several data sets as one: each split holds those of the inputs, one after the other."""

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clapjax.data.build.units import Unit
from clapjax.data.edits.common import (
    EditRecords,
    Input,
    Progress,
    Shard,
    open_input,
    start,
    units_of,
)
from clapjax.data.forms import Form
from clapjax.data.schema import Example
from clapjax.data.shards import RecordsError
from clapjax.data.tokenizer import train_tokenizer


@dataclass(frozen=True)
class Join(EditRecords):
    """Copies records, ids with the name of their data set before them if that is asked for."""

    prefix: bool = False

    def change(self, example: Example, item: int, shard: Shard, tally: Counter) -> Example:
        """See `EditRecords`."""
        if not self.prefix:
            return example
        return dataclasses.replace(example, id=f"{Path(shard.folder).name}/{example.id}")


def merge(
    data_dir: str | os.PathLike,
    inputs: Sequence[str | os.PathLike],
    *,
    prefix: bool = False,
    processes: int = 1,
    progress: Progress = lambda items, total, what: items,
) -> dict[str, int]:
    """Joins data sets; their records are copied as they are.

    The tokenizer is that of the inputs where it is one and the same, else one trained on the
    captions of the new split train, or of all where there is none.

    Args:
      data_dir: the new data set; where it was made in the same way before, nothing is done.
      inputs: data sets of one sample rate.
      prefix: put the name of an input's folder before its ids: FOLDER/ID.
      processes, progress: as in `build_records`.

    Returns:
      Split to number of records.

    Raises:
      RecordsError: sample rates or ids clash, `data_dir` exists, or an input is none or damaged.
    """
    sets = [open_input(name) for name in inputs]
    _check(sets, prefix)
    form = _form(sets)
    tokenizers = {one.tokenizer() for one in sets}
    vocab_size = max(one.build.get("data", {}).get("vocab_size", 0) for one in sets)
    build = {
        "merged": [{"data_dir": os.fspath(one.folder), "build": one.build} for one in sets],
        "prefix": prefix,
        "sample_rate": sets[0].build["sample_rate"],
        "data": {"vocab_size": vocab_size} | form.described(),
    }
    edit = start(data_dir, sets, build, processes=processes, progress=progress)
    if edit.finished():
        return edit.finish()["counts"]
    units, shards = units_of(sets)
    work = Join(
        edit.units,
        edit.context,
        shards=shards,
        form=form,
        ids=True,
        captions=len(tokenizers) > 1,
        prefix=prefix,
    )
    known = edit.do(work, units, "merging")
    if clash := _clash(units, known, shards):
        edit.discard()
        raise RecordsError(clash)

    def tokenizer(folder: Path) -> None:
        if len(tokenizers) == 1:
            sets[0].copy_tokenizer(folder)
            return
        captions: dict[str, list[str]] = {}
        for unit, one in zip(units, known, strict=True):
            captions.setdefault(unit.split, []).extend(one["captions"])
        every = [caption for part in captions.values() for caption in part]
        train_tokenizer(captions.get("train") or every, folder, vocab_size)

    return edit.write(units, known, tokenizer, form=form)["counts"]


def _check(sets: list[Input], prefix: bool) -> None:
    if len(sets) < 2:
        raise RecordsError("merge: two data sets at least are needed")
    folders, rate = [one.folder for one in sets], sets[0].build["sample_rate"]
    for one in sets:
        if folders.count(one.folder) > 1:
            raise RecordsError(f"{one.folder}: named twice")
        if one.build["sample_rate"] != rate:
            raise RecordsError(
                f"{one.folder}: records are at {one.build['sample_rate']} Hz, those of "
                f"{folders[0]} at {rate}; build them with one model.audio.sample_rate"
            )
    names = [folder.name for folder in folders]
    if prefix and (twice := [name for name in names if names.count(name) > 1]):
        raise RecordsError(f"merge: two folders are named {twice[0]}; --prefix needs other names")


def _form(sets: list[Input]) -> Form:
    """How all of them hold sound.

    Raises:
      RecordsError: in different ways.
    """
    first = sets[0]
    for one in sets:
        if (one.form.kind, one.form.front_end) != (first.form.kind, first.form.front_end):
            raise RecordsError(
                f"{one.folder}: its records do not hold sound as those of {first.folder} do "
                f"({one.form.kind} and {first.form.kind}, or log-mels of two front ends); build "
                "them alike"
            )
    splits = tuple(dict.fromkeys(split for one in sets for split in one.form.mel_splits))
    for one in sets:
        if unlike := set(splits) & set(one.shards) - set(one.form.mel_splits):
            raise RecordsError(
                f"{one.folder}: its split {min(unlike)} is FLAC, that of another set log-mels; "
                "build them alike"
            )
    return Form(first.form.kind, first.form.front_end, splits)


def _clash(units: list[Unit], known: list[dict], shards: dict[str, Shard]) -> str | None:
    """What is wrong where two data sets have an id in common."""
    found: dict[str, str] = {}
    for unit, one in zip(units, known, strict=True):
        folder = shards[unit.name].folder
        for name in one["ids"]:
            if (other := found.setdefault(name, folder)) != folder:
                return (
                    f"{folder}: the id {name!r} is in {other} too; --prefix puts the names of the "
                    "folders before the ids"
                )
    return None
