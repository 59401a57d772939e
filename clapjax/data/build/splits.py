"""What a build is made of: which clips of a source, divided, and without what is kept apart."""

from dataclasses import dataclass

from clapjax.data.build.units import StoredClip
from clapjax.data.fingerprint import Fingerprint
from clapjax.data.overlap import find_duplicates, hold_out, named_in, read_ids
from clapjax.data.selection import SELECTIONS
from clapjax.data.sources import find_source, list_clips
from clapjax.data.sources.clip import Clip, Rejected
from clapjax.synthesis.embedded import list_sounds

TRAIN, TEST, TEST_CLIPS = "train", "test", "test_clips"
MIXED_UP = ("sounds", "esc50", "esc10")  # where source.mode is "auto"


@dataclass(frozen=True)
class SourceConfig:
    """Where recordings come from, how they are divided, and what is kept apart."""

    kind: str = "sounds"  # "sounds" (embedded, synthesised), or a source of docs/sources.md
    path: str = ""  # folder of the data set; "sounds" needs none
    mode: str = "auto"  # "mixup"; "direct": clips as published; "auto": mixup for sounds and ESC
    splits: tuple[str, ...] = ()  # those that a direct build makes; none named: all
    whole: str = "train"  # the split of what is published without splits or folds
    text_augment_selection: str = "none"  # LAION's: "none", "all", "augment_only"
    train_folds: tuple[int, ...] = (1, 2, 3)
    test_folds: tuple[int, ...] = (4,)
    min_seconds: float = 0.1  # shorter recordings are rejected
    silence_db: float = -70.0  # recordings whose peak is below this are rejected
    on_rejected: str = "skip"  # "skip": list them and go on; "error": the build fails
    sounds_per_fold: int = 16  # embedded set: recordings of each class in a fold
    sounds_seconds: float = 5.0
    # A direct build cuts longer clips into windows of so many seconds; 0: clips stay whole.
    window_seconds: float = 0.0
    window_hop_seconds: float = 0.0  # from one window to the next; 0: window_seconds
    exclude: tuple[str, ...] = ()  # files that name recordings to keep out of train (`read_ids`)
    exclude_audio: tuple[str, ...] = ()  # records "DIR" or "DIR:SPLIT", to keep out by ear
    drop_duplicates: bool = False  # training clips with the audio of a test clip are left out

    def __post_init__(self):
        if self.kind != "sounds":
            try:
                find_source(self.kind)
            except ValueError as error:
                raise ValueError(f"source.kind: {error}, sounds") from None
        if self.mode not in ("auto", "mixup", "direct"):
            raise ValueError(f"source.mode must be auto, mixup or direct, not {self.mode!r}")
        if self.text_augment_selection not in SELECTIONS:
            raise ValueError(
                f"source.text_augment_selection must be one of {', '.join(SELECTIONS)}, not "
                f"{self.text_augment_selection!r}"
            )
        if self.kind != "sounds" and not self.path:
            raise ValueError("source.path is empty; point it at the folder (--config.source.path=)")
        if self.on_rejected not in ("skip", "error"):
            raise ValueError(
                f"source.on_rejected must be 'skip' or 'error', not {self.on_rejected}"
            )
        if not (self.window_seconds >= 0 and self.window_hop_seconds >= 0):
            raise ValueError("source: window_seconds and window_hop_seconds must be >= 0")
        if set(self.train_folds) & set(self.test_folds):
            raise ValueError("source: a fold is in both train_folds and test_folds")
        if self.window_hop_seconds and not self.window_seconds:
            raise ValueError("source.window_hop_seconds needs source.window_seconds")
        if self.window_seconds and self.mixes_up():
            raise ValueError("source.window_seconds is for direct builds (source.mode=direct)")
        if 0 < self.window_seconds < self.min_seconds:
            raise ValueError("source.window_seconds must be at least source.min_seconds")

    def mixes_up(self) -> bool:
        """Whether clips are joined to mixtures, or become records as they are."""
        return self.mode == "mixup" or (self.mode == "auto" and self.kind in MIXED_UP)

    def split_of(self, clip: Clip) -> str:
        """The split that a clip belongs to; "" where its fold is in none."""
        if clip.fold is None:
            return clip.split or self.whole
        if clip.fold in self.train_folds:
            return TRAIN
        return TEST if clip.fold in self.test_folds else ""


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


def drop_twins(
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


def parts_of(
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
