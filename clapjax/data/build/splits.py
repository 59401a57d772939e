"""What a build is made of: which clips of a source, divided, and without what is kept apart."""

from clapjax.data.build.config import TEST, TRAIN, SourceConfig
from clapjax.data.build.units import StoredClip
from clapjax.data.fingerprint import Fingerprint
from clapjax.data.overlap import find_duplicates, hold_out, named_in, read_ids
from clapjax.data.sources import list_clips
from clapjax.data.sources.clip import Clip, Rejected
from clapjax.synthesis.embedded import list_sounds


class RejectedError(ValueError):
    """Recordings were rejected and the config says that this is an error."""


def refuse(rejected: list[Rejected], source: SourceConfig) -> None:
    """Ends the build where the config says that a rejection is an error."""
    if rejected and source.on_rejected == "error":
        lines = [f"  {item.source}: {item.reason}" for item in rejected]
        raise RejectedError(f"{len(rejected)} recordings rejected:\n" + "\n".join(lines))


def choose_clips(source: SourceConfig, seed: int) -> tuple[list[Clip], list[Rejected]]:
    """The clips that the config asks for, and what was left out by the source or by an id list."""
    if source.kind == "sounds":
        folds = source.train_folds + source.test_folds
        clips = list_sounds(seed, folds, source.sounds_per_fold, source.sounds_seconds)
        rejected = []
    else:
        clips, rejected = list_clips(source.kind, source.path)
    lists = {file: read_ids(file) for file in source.exclude}
    kept = []
    for clip in clips:
        split = source.split_of(clip)
        if not split:
            continue
        if split == TRAIN and (file := named_in(clip, lists)):
            rejected.append(Rejected(clip.source, f"{clip.group} is listed in {file}"))
        elif source.mixes_up() and not clip.label:
            rejected.append(Rejected(clip.source, "a mixture needs clips with exactly one label"))
        else:
            kept.append(clip)
    return kept, rejected


def _straddling(clip: Clip) -> Rejected:
    return Rejected(clip.source, "cut from the same original recording as a test clip")


def divide_clips(
    recordings: list[StoredClip], source: SourceConfig
) -> tuple[list[StoredClip], list[StoredClip], list[Rejected]]:
    """Train and test; a training recording that shares its origin with a test one goes."""
    test = [r for r in recordings if source.split_of(r.clip) == TEST]
    groups = {r.clip.group for r in test}
    train = [r for r in recordings if source.split_of(r.clip) == TRAIN]
    straddling = [_straddling(r.clip) for r in train if r.clip.group in groups]
    train = [r for r in train if r.clip.group not in groups]
    for name, part in ((TRAIN, train), (TEST, test)):
        labels = {r.clip.label for r in part}
        if len(labels) < 2:
            raise ValueError(
                f"source: {name} folds hold {len(part)} usable recordings of {len(labels)} "
                "classes; two classes are needed"
            )
    return train, test, straddling


def drop_duplicates(
    train: list[StoredClip],
    test: list[StoredClip],
    source: SourceConfig,
    kept_apart: list[tuple[str, Fingerprint]],
    prints: dict[str, Fingerprint],
) -> tuple[list[StoredClip], list[Rejected]]:
    """Train without what sounds the same as what is kept apart, if the config asks for it."""
    if source.drop_duplicates:
        kept_apart = [*kept_apart, *((r.clip.source, prints[r.clip.source]) for r in test)]
    if not kept_apart:
        return train, []
    reasons = {}
    pairs = ((r.clip.source, prints[r.clip.source]) for r in train)
    for twin in find_duplicates(pairs, hold_out(kept_apart)):
        reasons.setdefault(twin.train, twin.reason())
    twins = [Rejected(name, reason) for name, reason in reasons.items()]
    return [r for r in train if r.clip.source not in reasons], twins


def direct_parts(
    clips: list[Clip], source: SourceConfig
) -> tuple[dict[str, list[Clip]], list[Rejected]]:
    """Split to its clips for a direct build, and the training clips that share a test origin."""
    parts: dict[str, list[Clip]] = {}
    for clip in clips:
        parts.setdefault(source.split_of(clip), []).append(clip)
    if unknown := sorted(set(source.splits) - parts.keys()):
        there = ", ".join(parts) or "none"
        raise ValueError(f"source.splits: no clips of a split {unknown[0]!r}; there are {there}")
    groups = {clip.group for clip in parts.get(TEST, ())}
    straddling = [clip for clip in parts.get(TRAIN, ()) if clip.group in groups]
    if straddling:
        parts[TRAIN] = [clip for clip in parts[TRAIN] if clip.group not in groups]
    parts = {name: parts[name] for name in source.splits or parts}
    return parts, [_straddling(clip) for clip in straddling if TRAIN in parts]
