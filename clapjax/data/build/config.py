"""Where the recordings of a build come from, and how they are divided."""

import math
from dataclasses import dataclass

from clapjax.data.forms import form_of
from clapjax.data.overlap import HELD_OUT_ROLE, TRAIN_ROLE, role_of_name
from clapjax.data.sources import find_source
from clapjax.data.sources.clip import Clip
from clapjax.plain import to_dict
from clapjax.synthesis.mixup import MixupConfig

TRAIN, TEST, TEST_CLIPS, TEST_PROBE = "train", "test", "test_clips", "test_probe"
MIXED_UP = ("sounds", "esc50", "esc10")  # where source.mode is "auto"
COMPOSITIONAL = "compositional"
MODES = ("auto", "mixup", "direct", COMPOSITIONAL)
# Fields of MixupConfig that older records do not have: at their default they are not written, and
# the same settings give the same build_id.
LATER = ("probe_mixtures", "queries", "distractors")
ROLES = (TRAIN_ROLE, HELD_OUT_ROLE)
LEAST_WINDOW = 0.01  # s; windows are told apart by the milliseconds at which they begin


@dataclass(frozen=True)
class SourceConfig:
    """Where recordings come from, how they are divided, and what is kept apart."""

    kind: str = "sounds"  # "sounds" (embedded, synthesised), or a source of docs/sources.md
    path: str = ""  # folder of the data set; "sounds" needs none
    # "mixup"; "direct": clips as published; "compositional": queries among distractors, of held-out
    # clips alone; "auto": mixup for sounds and ESC.
    mode: str = "auto"
    splits: tuple[str, ...] = ()  # those that a direct build makes; none named: all
    # Of splits whose name does not say it, "NAME=train" or "NAME=held_out" (`role_of_name`).
    roles: tuple[str, ...] = ()
    whole: str = "train"  # the split of what is published without splits or folds
    # Where no split is held out: the part of the original recordings that a direct build holds out
    # as "test", by a hash of each and the seed; 0: none (docs/records.md).
    held_out_share: float = 0.0
    train_folds: tuple[int, ...] = (1, 2, 3)  # of sets that are published in folds
    test_folds: tuple[int, ...] = (4,)  # held out
    min_seconds: float = 0.1  # shorter recordings are rejected
    silence_db: float = -70.0  # recordings whose peak is below this are rejected
    on_rejected: str = "skip"  # "skip": list them and go on; "error": the build fails
    sounds_per_fold: int = 16  # embedded set: recordings of each class in a fold
    sounds_seconds: float = 5.0  # embedded set: length of a recording
    # A direct build cuts longer training clips into windows of so many seconds; 0: none.
    window_seconds: float = 0.0
    window_hop_seconds: float = 0.0  # from one window to the next; 0: window_seconds
    window_held_out: bool = False  # cut held-out clips too: a caption then has several audios
    exclude: tuple[str, ...] = ()  # files that name recordings to keep out of training (`read_ids`)
    exclude_audio: tuple[str, ...] = ()  # records "DIR" or "DIR:SPLIT", to keep out by ear
    drop_duplicates: bool = False  # training clips with the audio of a held-out clip are left out

    def __post_init__(self):
        if self.kind != "sounds":
            try:
                find_source(self.kind)
            except ValueError as error:
                raise ValueError(f"source.kind: {error}, sounds") from None
        if self.mode not in MODES:
            raise ValueError(f"source.mode must be one of {', '.join(MODES)}, not {self.mode!r}")
        if self.kind == "sounds" and self.path:
            raise ValueError(
                f"source.path={self.path}: source.kind=sounds, which a config's :runlocal has too, "
                "is the embedded sounds, which lie in no folder; name the kind of this one"
            )
        if self.kind != "sounds" and not self.path:
            raise ValueError("source.path is empty; point it at the folder (--config.source.path=)")
        if self.on_rejected not in ("skip", "error"):
            raise ValueError(
                f"source.on_rejected must be 'skip' or 'error', not {self.on_rejected}"
            )
        if not 0 <= self.held_out_share < 1:
            raise ValueError(f"source.held_out_share must be in 0 .. 1, not {self.held_out_share}")
        for name in ("held_out_share", "window_seconds"):
            if getattr(self, name) and self.mixes_up():
                raise ValueError(
                    f"source.{name} is for direct builds (source.mode=direct), not for mixtures: "
                    f"set --config.source.{name}=0"
                )
        for item in self.roles:
            name, _, role = item.rpartition("=")
            if not name or role not in ROLES:
                raise ValueError(f"source.roles: {item!r} is not NAME=train or NAME=held_out")
        for name in ("window_seconds", "window_hop_seconds"):
            value = getattr(self, name)
            if value and not LEAST_WINDOW <= value < math.inf:
                raise ValueError(
                    f"source.{name} must be 0, or at least {LEAST_WINDOW} s, not {value}"
                )
        if set(self.train_folds) & set(self.test_folds):
            raise ValueError("source: a fold is in both train_folds and test_folds")
        if self.window_hop_seconds and not self.window_seconds:
            raise ValueError("source.window_hop_seconds needs source.window_seconds")
        if self.window_held_out and not self.window_seconds:
            raise ValueError("source.window_held_out needs source.window_seconds")
        if 0 < self.window_seconds < self.min_seconds:
            raise ValueError("source.window_seconds must be at least source.min_seconds")

    def mixes_up(self) -> bool:
        """Whether clips are joined to mixtures, or become records as they are."""
        return _resolved(self.mode, self.kind) != "direct"

    def split_of(self, clip: Clip) -> str:
        """The split that a clip belongs to; "" where its fold is in none."""
        if clip.fold is None:
            return clip.split or self.whole
        if clip.fold in self.train_folds:
            return TRAIN
        return TEST if clip.fold in self.test_folds else ""

    def is_held_out(self, split: str) -> bool:
        """Whether nothing of a split may be trained on.

        Raises:
          ValueError: neither its name nor `roles` tells.
        """
        named = dict(item.rsplit("=", 1) for item in self.roles)
        role = named.get(split) or role_of_name(split)
        if not role:
            raise ValueError(
                f"source: is the split {split!r} for training or held out? Its name does not tell: "
                f"set source.roles=('{split}=train',) or ('{split}=held_out',)"
            )
        return role == HELD_OUT_ROLE

    def builds(self, split: str) -> bool:
        """Whether the clips of a split become records, or parts of them."""
        if self.mode == COMPOSITIONAL:
            return split == TEST
        if self.mixes_up():
            return split == TEST or not self.is_held_out(split)
        return not self.splits or split in self.splits


def _resolved(mode: str, kind: str) -> str:
    """The mode that "auto" is."""
    return mode if mode != "auto" else "mixup" if kind in MIXED_UP else "direct"


def written_settings(synthesis: MixupConfig) -> dict:
    """How a description of records has its mix-up settings."""
    default = MixupConfig()
    return {
        name: value
        for name, value in to_dict(synthesis).items()
        if name not in LATER or value != getattr(default, name)
    }


def used_settings(build: dict) -> dict:
    """The settings that make a difference to the records of a build, of all that describe it.

    Args:
      build: as clapjax_build.json has it; what it lacks has its default.
    """
    source, synthesis = (
        {name: build.get(group, {}).get(name, value) for name, value in to_dict(default).items()}
        for group, default in (("source", SourceConfig()), ("synthesis", MixupConfig()))
    )
    source["mode"] = _resolved(source["mode"], source["kind"])
    mixes_up = source["mode"] != "direct"
    unused = ["on_rejected"]
    if source["kind"] == "sounds":
        unused += ["path", "whole", "roles"]
    else:
        unused += ["sounds_per_fold", "sounds_seconds"]
    if mixes_up:
        unused += [
            "splits",
            "held_out_share",
            "window_seconds",
            "window_hop_seconds",
            "window_held_out",
        ]
    elif not source["window_seconds"]:
        unused += ["window_hop_seconds", "window_held_out"]
    form = form_of(build).described()
    form.pop("mel_splits", None)  # those for training, whichever they are
    if source["mode"] == "mixup":
        del synthesis["queries"], synthesis["distractors"]
    return {
        "seed": build.get("seed"),
        "sample_rate": build.get("sample_rate"),
        "source": {name: value for name, value in source.items() if name not in unused},
        "synthesis": synthesis if mixes_up else {},
        "data": {"vocab_size": build.get("data", {}).get("vocab_size")} | form,
    }
