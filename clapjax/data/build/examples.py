"""The functions that make samples: pure, picklable, the same in a process and in a Beam worker."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields

from clapjax.data.build.direct import clip_examples
from clapjax.data.build.units import StoredClip, StoredClips
from clapjax.data.fingerprint import fingerprint
from clapjax.data.overlap import HeldOut, find_duplicates
from clapjax.data.schema import Example
from clapjax.data.sources.clip import Clip, Rejected
from clapjax.synthesis.mixup import MixupConfig, draw_mixture, single_event


@dataclass(frozen=True)
class DirectSample:
    """A clip as it is published, whole or in windows."""

    sample_rate: int  # Hz
    min_seconds: float
    silence_db: float
    selection: str  # LAION's text_augment_selection
    seed: int
    window_seconds: float  # 0: the whole clip
    window_hop_seconds: float
    held_out: HeldOut | None = None  # what sounds like one of these is left out

    def __call__(self, clip: Clip) -> list[Example | Rejected]:
        """The records of a clip, or why there are none."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        del settings["held_out"]
        return [self._heard_first(made) for made in clip_examples(clip, **settings)]

    def _heard_first(self, made: Example | Rejected) -> Example | Rejected:
        if self.held_out is None or isinstance(made, Rejected):
            return made
        pair = (made.id, fingerprint(made.audio, made.sample_rate))
        twin = next(find_duplicates([pair], self.held_out), None)
        return made if twin is None else Rejected(made.source, twin.reason())


@dataclass(frozen=True)
class Mixture:
    """Which mixture to make."""

    split: str
    index: int
    negative_audio: bool


@dataclass(frozen=True)
class Single:
    """Which crop to make of which clip."""

    split: str
    clip: int
    index: int


@dataclass(frozen=True)
class MixupSample:
    """Mixtures and single events of decoded clips."""

    clips: dict[str, Sequence[StoredClip]]  # split to what it is made of
    synthesis: MixupConfig
    sample_rate: int  # Hz
    seed: int

    def __call__(self, wanted: Mixture | Single) -> list[Example]:
        """The sample that an item names, alone in a list."""
        split = wanted.split
        key = (self.sample_rate, self.synthesis, self.seed, split, wanted.index)
        if isinstance(wanted, Single):
            return [single_event(self.clips[split][wanted.clip].load(), *key)]
        return [draw_mixture(self._by_label[split], *key, negative_audio=wanted.negative_audio)]

    @functools.cached_property
    def _by_label(self) -> dict[str, dict[str, StoredClips]]:
        found = {}
        for split, clips in self.clips.items():
            labels: dict[str, list[StoredClip]] = {}
            for clip in clips:
                labels.setdefault(clip.clip.label, []).append(clip)
            found[split] = {label: StoredClips(part) for label, part in labels.items()}
        return found
