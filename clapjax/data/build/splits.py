"""Which clips of a listing a build uses: each split has a role, and no origin is on both sides."""

import hashlib
import warnings
from collections import Counter
from dataclasses import dataclass, field

from clapjax.data.build.config import COMPOSITIONAL, TEST, TRAIN, SourceConfig
from clapjax.data.overlap import named_in, read_ids
from clapjax.data.sources.clip import Clip, Rejected
from clapjax.synthesis.compositional import LEAST_CLASSES

LEAST_HELD_OUT = 4  # origins, of 16 or more; of fewer a quarter


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


def divide_clips(clips: list[Clip], source: SourceConfig, seed: int = 0) -> Parts:
    """Puts clips into splits, training splits without what is kept out of them.

    A training clip goes where an `exclude` list names its recording, and where a clip of any
    held-out split has its origin, whether or not that split becomes records. A mix-up has all
    clips for training in one split, and leaves out what has not exactly one label. What is left out
    is listed for the splits that become records.

    Args:
      clips: of the source.
      source: the splits' roles, and what is kept out.
      seed: of what is held out by `source.held_out_share`.

    Raises:
      ValueError: a split whose role is not known, or an `exclude` list that is none.
    """
    listed: dict[str, list[Clip]] = {}
    for clip in clips:
        if split := source.split_of(clip):
            listed.setdefault(split, []).append(clip)
    held_out_splits = {split for split in listed if source.is_held_out(split)}
    if not held_out_splits and source.held_out_share and source.builds(TEST):
        listed = hold_out_origins(listed, source.held_out_share, seed)
        held_out_splits = listed.keys() & {TEST}
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


def hold_out_origins(
    listed: dict[str, list[Clip]], share: float, seed: int
) -> dict[str, list[Clip]]:
    """Moves a part of the origins of splits for training to a split TEST.

    An origin is held out where the hash of it and the seed is low: it stays where it is when clips
    are added. Where that gives fewer than LEAST_HELD_OUT, those with the lowest hashes are; never
    more than half, so that a single origin is for training.

    Raises:
      ValueError: a split for training is called TEST.
    """
    if TEST in listed:
        raise ValueError(f"source.held_out_share: {TEST!r} is for training, says source.roles")
    hashes = {clip.group: _hash(clip.group, seed) for part in listed.values() for clip in part}
    wanted = max(
        sum(value < share for value in hashes.values()), min(LEAST_HELD_OUT, len(hashes) // 4)
    )
    chosen = set(sorted(hashes, key=hashes.get)[: min(wanted, len(hashes) // 2)])
    moved = [clip for part in listed.values() for clip in part if clip.group in chosen]
    left = {
        split: [clip for clip in part if clip.group not in chosen] for split, part in listed.items()
    }
    return left | {TEST: moved} if moved else left


def _hash(group: str, seed: int) -> float:
    """A number in [0, 1)."""
    digest = hashlib.blake2b(f"{seed} {group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


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
            if name == TEST or source.mode != COMPOSITIONAL:
                check_classes(name, [clip.label for clip in part.get(name, [])], source)


def check_classes(split: str, labels: list[str], source: SourceConfig) -> None:
    """Makes sure that mixtures, or queries, can be made of recordings with these labels."""
    least = LEAST_CLASSES if source.mode == COMPOSITIONAL else 2
    if len(set(labels)) < least:
        whole = least == LEAST_CLASSES and not labels
        hint = "; source.whole=test holds out a set without splits or folds" if whole else ""
        raise ValueError(
            f"source: {split} folds hold {len(labels)} usable recordings of {len(set(labels))} "
            f"classes; {least} classes are needed{hint}"
        )
