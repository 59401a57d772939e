"""Some of the records of a data set: those that fulfil criteria."""

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from clapjax.data.edits.common import EditRecords, Progress, Shard, open_input, start, units_of
from clapjax.data.schema import SEPARATOR, Example
from clapjax.data.selection import is_of_kind
from clapjax.data.shards import RecordsError

YES_NO = {"yes": True, "no": False}


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
        words = example.provenance.split(SEPARATOR)
        return (
            self.min_seconds <= example.seconds <= self.max_seconds
            and (not self.label or bool(set(self.label) & set(example.labels)))
            and self.labels in (None, bool(example.labels))
            and self.negatives in (None, bool(example.negative_captions))
            and (not self.provenance or any(is_of_kind(word, self.provenance) for word in words))
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


@dataclass(frozen=True)
class Choose(EditRecords):
    """Copies the records that fulfil criteria."""

    where: Where = Where()

    def change(self, example: Example, item: int, shard: Shard, tally: Counter) -> Example | None:
        """See `EditRecords`."""
        return example if self.where.keeps(example) else None


def select(
    data_dir: str | os.PathLike,
    source: str | os.PathLike,
    where: Where,
    *,
    processes: int = 1,
    progress: Progress = lambda items, total, what: items,
) -> dict[str, int]:
    """Copies the records that fulfil criteria, and the tokenizer: a model reads both sets alike.

    Args:
      data_dir: the new data set; where it was made in the same way before, nothing is done.
      source: the data set to choose from.
      where: which records to keep.
      processes, progress: as in `build_records`.

    Returns:
      Split to number of records; a split without any is left out.

    Raises:
      RecordsError: nothing is left, no such split, `data_dir` exists, or `source` is damaged.
    """
    whole = open_input(source)
    if unknown := [split for split in where.split if split not in whole.shards]:
        there = ", ".join(whole.shards)
        raise RecordsError(f"{source}: no split {unknown[0]!r}; there are {there}")
    given = {
        field.name: getattr(where, field.name)
        for field in dataclasses.fields(where)
        if getattr(where, field.name) != field.default
    }
    build = {
        "filtered": {"data_dir": os.fspath(whole.folder), "build": whole.build},
        "where": given,
        "sample_rate": whole.build["sample_rate"],
        "data": whole.build.get("data", {}),
    }
    edit = start(data_dir, [whole], build, processes=processes, progress=progress)
    if edit.finished():
        return edit.finish()["counts"]
    units, shards = units_of([whole])
    units = [unit for unit in units if not where.split or unit.split in where.split]
    work = Choose(
        edit.units,
        edit.context,
        shards=shards,
        form=whole.form,
        where=where,
    )
    known = edit.do(work, units, "filtering")
    return edit.write(units, known, whole.copy_tokenizer, form=whole.form)["counts"]
