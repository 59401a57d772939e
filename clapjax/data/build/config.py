"""Where the recordings of a build come from, and how they are divided."""

from dataclasses import dataclass

from clapjax.data.selection import SELECTIONS
from clapjax.data.sources import find_source
from clapjax.data.sources.clip import Clip

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
