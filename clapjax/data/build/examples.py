"""The functions that make a build's examples: pure, the same in a process and in a Beam worker.

A clip as it is published, whole or in windows; or a mixture or a single event of decoded clips.
"""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from clapjax.captions.templates import timeline_captions
from clapjax.captions.timeline import Timeline, find_steps
from clapjax.data.build.units import StoredClip, StoredClips
from clapjax.data.fingerprint import fingerprint
from clapjax.data.overlap import HeldOut, find_duplicates
from clapjax.data.schema import Example
from clapjax.data.selection import join_provenance
from clapjax.data.sources.clip import Clip, Recording, Rejected, TimedEvent, decode_clip
from clapjax.synthesis.mixup import MixupConfig, draw_mixture, keyed_generator, single_event

ORDER_CAPTIONS = 4  # of a clip with timed events, and as many negatives: as many as of a mixture
# What a caption can tell in one breath; a clip with more gets the caption of its labels.
MOST_STEPS, MOST_TOGETHER = 5, 3
HEARD = 0.25  # s of an event that a window must hold; of a shorter event, all


@dataclass(frozen=True)
class DirectExamples:
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
        return [self._unless_duplicate(made) for made in clip_examples(clip, **settings)]

    def _unless_duplicate(self, made: Example | Rejected) -> Example | Rejected:
        if self.held_out is None or isinstance(made, Rejected):
            return made
        pair = (made.id, fingerprint(made.audio, made.sample_rate))
        duplicate = next(find_duplicates([pair], self.held_out), None)
        return made if duplicate is None else Rejected(made.source, duplicate.reason())


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
class MixupExamples:
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


def clip_example(
    clip: Clip,
    sample_rate: int,
    *,
    min_seconds: float,
    silence_db: float,
    selection: str,
    seed: int = 0,
) -> Example | Rejected:
    """The record of one clip, or why there is none: a pure function of its arguments.

    Args:
      clip: what to decode.
      sample_rate: Hz.
      min_seconds, silence_db: as for `decode_clip`.
      selection: LAION's text_augment_selection: "none" takes the captions as published, "all" also
        those that a model made of the tags, "augment_only" these alone where there are any.
      seed: with the clip's id, chooses the wording of what is told by template.
    """
    found = decode_clip(clip, sample_rate, min_seconds=min_seconds, silence_db=silence_db)
    return found if isinstance(found, Rejected) else _record(found, sample_rate, selection, seed)


def clip_examples(
    clip: Clip,
    sample_rate: int,
    *,
    min_seconds: float,
    silence_db: float,
    selection: str,
    seed: int = 0,
    window_seconds: float = 0.0,
    window_hop_seconds: float = 0.0,
) -> list[Example | Rejected]:
    """The records of one clip's windows, or why there are none; see `clip_example`.

    Args:
      window_seconds: length of the windows; 0: one record of the whole clip.
      window_hop_seconds: from the start of one to the next; 0: they neither overlap nor leave gaps.
    """
    levels = {"min_seconds": min_seconds, "silence_db": silence_db}
    if not window_seconds:
        return [clip_example(clip, sample_rate, selection=selection, seed=seed, **levels)]
    found = decode_clip(clip, sample_rate, **levels)
    if isinstance(found, Rejected):
        return [found]
    hop = window_hop_seconds or window_seconds
    pieces = cut_windows(found, sample_rate, window_seconds, hop, min_seconds)
    quietest = 32767 * 10 ** (silence_db / 20)
    return [
        _record(piece, sample_rate, selection, seed)
        if np.abs(piece.samples.astype(np.int32)).max() >= quietest
        else Rejected(piece.clip.source, f"silent (peak below {silence_db} dB)")
        for piece in pieces
    ]


def cut_windows(
    recording: Recording, sample_rate: int, seconds: float, hop: float, min_seconds: float
) -> list[Recording]:
    """A long recording in windows, each a clip of its own, with the events that are heard in it.

    The last window ends with the recording. One that is shorter than `min_seconds` is dropped.

    Args:
      recording: one that fits into a window comes back as it is.
      sample_rate: Hz.
      seconds: length of a window.
      hop: s from the start of one to the next.
      min_seconds: of the last window.
    """
    clip, samples = recording.clip, recording.samples
    length, step = round(seconds * sample_rate), round(hop * sample_rate)
    if samples.size <= length:
        return [recording]
    pieces = []
    for first in range(0, samples.size - length + step, step):
        part = samples[first : first + length]
        if part.size < max(1, min_seconds * sample_rate):
            continue
        start = first / sample_rate
        events = _events_within(clip.events, start, start + part.size / sample_rate)
        silent = {event.label for event in clip.events} - {event.label for event in events}
        piece = dataclasses.replace(
            clip,
            id=f"{clip.id}@{start:.3f}",
            source=f"{clip.source}@{start:.3f}",
            labels=tuple(label for label in clip.labels if label not in silent),
            events=events,
        )
        pieces.append(Recording(piece, part))
    return pieces


def _events_within(
    events: tuple[TimedEvent, ...], start: float, end: float
) -> tuple[TimedEvent, ...]:
    """What is heard of events from `start` to `end` s, in the time of the window."""
    inside = []
    for event in events:
        first, last = max(event.start, start), min(event.end, end)
        if last - first >= min(HEARD, event.end - event.start):
            inside.append(TimedEvent(first - start, last - start, event.label))
    return tuple(inside)


def _record(
    recording: Recording, sample_rate: int, selection: str, seed: int
) -> Example | Rejected:
    clip = recording.clip
    captions, provenance = choose_captions(clip, selection)
    negatives: tuple[str, ...] = ()
    timeline = find_steps(clip.events)
    if timeline and provenance == "template" and not clip.captions and _fits_a_caption(timeline):
        generator = keyed_generator(seed, clip.id, "order")
        captions, negatives = timeline_captions(timeline, ORDER_CAPTIONS, generator)
    example = Example(
        id=clip.id,
        audio=recording.samples,
        sample_rate=sample_rate,
        captions=captions,
        negative_captions=negatives,
        labels=clip.labels,
        events=sounding_order(clip),
        source=clip.source,
        provenance=provenance,
    )
    problems = example.problems()
    return Rejected(clip.source, "; ".join(problems)) if problems else example


def _fits_a_caption(timeline: Timeline) -> bool:
    """Whether a caption can say in which order, or that things sound at once."""
    steps, behind = timeline.steps, timeline.background
    several = len(steps) > 1 or len(steps[0]) > 1 or behind
    return (
        bool(several)
        and len(steps) <= MOST_STEPS
        and max(len(behind), *map(len, steps)) <= MOST_TOGETHER
    )


def choose_captions(clip: Clip, selection: str) -> tuple[tuple[str, ...], str]:
    """(Captions, those as published first; how they came to be: see `join_provenance`).

    One is made of the labels where there is none.
    """
    augmented = clip.augmented if selection != "none" else ()
    published = () if augmented and selection == "augment_only" else clip.captions
    if published or augmented:
        kinds = [clip.provenance] * len(published) + ["keyword"] * len(augmented)
        return published + augmented, join_provenance(kinds)
    if clip.labels:
        return (label_caption(clip.labels),), "template"
    return clip.augmented, "keyword"


def label_caption(labels: tuple[str, ...]) -> str:
    """LAION-CLAP's caption for data that has labels only: "The sounds of A, B and C"."""
    if len(labels) == 1:
        return f"The sound of {labels[0]}"
    return f"The sounds of {', '.join(labels[:-1])} and {labels[-1]}"


def sounding_order(clip: Clip) -> tuple[str, ...]:
    """A record's `events`: by onset, repetitions in a row once, "a + b" where they sound together.

    Without times it is the sole label; where sounds are too entangled, the bare onsets count.
    """
    if timeline := find_steps(clip.events):
        return timeline.entries
    labels = [event.label for event in clip.events]
    if not labels:
        return clip.labels if len(clip.labels) == 1 else ()
    return tuple(label for i, label in enumerate(labels) if i == 0 or label != labels[i - 1])
