"""Which clips of a listing a build uses: each split has a role, and no origin is on both sides."""

import warnings
from collections import Counter
from dataclasses import dataclass, field

from clapjax.data.build.config import TEST, TRAIN, SourceConfig
from clapjax.data.overlap import named_in, read_ids
from clapjax.data.sources.clip import Clip, Rejected


@dataclass(frozen=True)
class Parts:
    """The clips of a build by split."""

    train: dict[str, list[Clip]] = field(default_factory=dict)
    held_out: dict[str, list[Clip]] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    excluded: dict[str, int] = field(default_factory=dict)  # `exclude` list to training clips in it

    def held_out_clips(self) -> list[Clip]:
        """Those of all held-out splits."""
        return [clip for clips in self.held_out.values() for clip in clips]


def divide_clips(clips: list[Clip], source: SourceConfig) -> Parts:
    """Puts clips into splits, training splits without what is kept out of them.

    A training clip goes where an `exclude` list names its recording, and where a clip of any
    held-out split has its origin, whether or not that split becomes records. A mix-up has all
    clips for training in one split, and leaves out what has not exactly one label. What is left out
    is listed for the splits that become records.

    Raises:
      ValueError: a split whose role is not known, or an `exclude` list that is none.
    """
    listed: dict[str, list[Clip]] = {}
    for clip in clips:
        if split := source.split_of(clip):
            listed.setdefault(split, []).append(clip)
    held_out_splits = {split for split in listed if source.is_held_out(split)}
    origins = {clip.group for split in held_out_splits for clip in listed[split]}
    lists = {file: read_ids(file) for file in source.exclude}
    found = Parts(excluded=dict.fromkeys(lists, 0))
    checked = Counter()
    for split, part in listed.items():
        held_out, kept = split in held_out_splits, []
        for clip in part:
            checked[held_out] += 1
            named = [] if held_out else named_in(clip, lists)
            for file in named:
                found.excluded[file] += 1
            if named:
                reason = f"{clip.group} is listed in {named[0]}"
            elif not held_out and clip.group in origins:
                reason = "cut from the same original recording as a held-out clip"
            elif source.mixes_up() and not clip.label:
                reason = "a mixture needs clips with exactly one label"
            else:
                kept.append(clip)
                continue
            if source.builds(split):
                found.rejected.append(Rejected(clip.source, reason))
        name = TRAIN if source.mixes_up() and not held_out else split
        (found.held_out if held_out else found.train).setdefault(name, []).extend(kept)
    for file, count in found.excluded.items():
        if not count:
            warnings.warn(
                f"{file}: names {len(lists[file])} recordings, of which none is among the "
                f"{checked[False]} training clips; do the ids fit this source?",
                stacklevel=2,
            )
    return found


def check_splits(parts: Parts, source: SourceConfig) -> None:
    """Makes sure that a build has what its settings ask for.

    Raises:
      ValueError: a split of `source.splits` is not there, a mix-up has not two classes to train on
        and to test on, or there is nothing to compare with for `source.drop_duplicates`.
    """
    there = parts.train | parts.held_out
    if unknown := sorted(set(source.splits) - there.keys()):
        names = ", ".join(there) or "none"
        raise ValueError(f"source.splits: no clips of a split {unknown[0]!r}; there are {names}")
    if source.drop_duplicates and not parts.held_out:
        raise ValueError(
            "source.drop_duplicates: there is no held-out split to compare with; name one "
            "(source.roles), or name other records (source.exclude_audio)"
        )
    if source.mixes_up():
        for name, part in ((TRAIN, parts.train), (TEST, parts.held_out)):
            check_classes(name, [clip.label for clip in part.get(name, [])])


def check_classes(split: str, labels: list[str]) -> None:
    """Makes sure that mixtures can be made of recordings with these labels."""
    if len(set(labels)) < 2:
        raise ValueError(
            f"source: {split} folds hold {len(labels)} usable recordings of {len(set(labels))} "
            "classes; two classes are needed"
        )
