"""The functions that make a build's examples: pure, the same in a process and in a Beam worker.

A clip as it is published, whole or in windows; or a mixture or a single event of decoded clips.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from clapjax.audio.files import AudioError
from clapjax.captions.templates import timeline_captions
from clapjax.captions.timeline import Timeline, find_steps
from clapjax.data.build.config import TEST, TEST_PROBE, TRAIN
from clapjax.data.build.decoded import StoredClip, StoredClips
from clapjax.data.fingerprint import fingerprint
from clapjax.data.overlap import HeldOut, find_duplicates
from clapjax.data.schema import SEPARATOR, Example
from clapjax.data.selection import join_provenance
from clapjax.data.sources.clip import Clip, Recording, Rejected, TimedEvent, decode_clip
from clapjax.synthesis.compositional import draw_query
from clapjax.synthesis.mixup import MixupConfig, draw_mixture, keyed_generator, single_event
from clapjax.synthesis.probe import draw_probe, kept_apart, probe_parts

ORDER_CAPTIONS = 4  # of a clip with timed events, and as many negatives: as many as of a mixture
# What a caption can tell in one breath; a clip with more gets the caption of its labels.
MOST_STEPS, MOST_TOGETHER = 5, 3
HEARD = 0.25  # s of an event that a window must hold; of a shorter event, all


@dataclass(frozen=True)
class DirectExamples:
    """Clips as they are published, whole or in windows."""

    sample_rate: int  # Hz
    min_seconds: float
    silence_db: float
    seed: int = 0
    window_seconds: float = 0.0  # 0: the whole clip
    window_hop_seconds: float = 0.0  # 0: window_seconds
    held_out: HeldOut | None = None  # what sounds like one of these is left out

    def __call__(self, clip: Clip) -> Iterator[Example | Rejected]:
        """Yields the records of a clip, or why there are none: a pure function of the clip."""
        levels = {"min_seconds": self.min_seconds, "silence_db": self.silence_db}
        if self.window_seconds:
            hop = self.window_hop_seconds or self.window_seconds
            found = cut_windows(clip, self.sample_rate, self.window_seconds, hop, **levels)
        else:
            found = iter([decode_clip(clip, self.sample_rate, **levels)])
        for one in found:
            if isinstance(one, Recording):
                one = make_example(one, self.sample_rate, self.seed)
            yield self._unless_duplicate(one)

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
class Probed:
    """Which mixture of the order probe to make."""

    part: str
    events: int
    index: int


@dataclass(frozen=True)
class Query:
    """Which query to make, with its distractors."""

    kind: str
    index: int


@dataclass(frozen=True)
class MixupExamples:
    """Mixtures, single events and queries of decoded clips."""

    clips: dict[str, Sequence[StoredClip]]  # split to what it is made of
    synthesis: MixupConfig
    sample_rate: int  # Hz
    seed: int

    def __call__(self, wanted: Mixture | Single | Probed | Query) -> list[Example]:
        """The examples that an item names: several of a query, else one."""
        how = (self.sample_rate, self.synthesis, self.seed)
        if isinstance(wanted, Query):
            key = (*how, TEST, wanted.index)
            return list(draw_query(self._by_label[TEST], *key, kind=wanted.kind))
        if isinstance(wanted, Probed):
            key = (*how, TEST_PROBE, wanted.index)
            asked = {"part": wanted.part, "count": wanted.events, "partner": self._partner}
            return [draw_probe(self._known, *key, **asked)]
        key = (*how, wanted.split, wanted.index)
        if isinstance(wanted, Single):
            return [single_event(self.clips[wanted.split][wanted.clip].open(), *key)]
        asked = {"negative_audio": wanted.negative_audio, "partner": self._partner}
        return [draw_mixture(self._by_label[wanted.split], *key, **asked)]

    def probes(self) -> list[Probed]:
        """All mixtures of the order probe."""
        count = self.synthesis.probe_mixtures
        labels = self._known.keys() - set(self.synthesis.background_labels)
        parts = probe_parts(sorted(labels), self._partner) if count else []
        return [Probed(*part, i) for part in parts for i in range(count)]

    @functools.cached_property
    def _partner(self) -> dict[str, str]:
        """Of each class the one that it is never mixed with, but in the probe."""
        if not self.synthesis.probe_mixtures:
            return {}
        labels = self._by_label[TRAIN].keys() - set(self.synthesis.background_labels)
        return kept_apart(labels, self.seed)

    @functools.cached_property
    def _known(self) -> dict[str, StoredClips]:
        """Test recordings of the classes that are heard in training."""
        return {k: v for k, v in self._by_label[TEST].items() if k in self._by_label[TRAIN]}

    @functools.cached_property
    def _by_label(self) -> dict[str, dict[str, StoredClips]]:
        found = {}
        for split, clips in self.clips.items():
            labels: dict[str, list[StoredClip]] = {}
            for clip in clips:
                labels.setdefault(clip.clip.label, []).append(clip)
            found[split] = {label: StoredClips(part) for label, part in labels.items()}
        return found


def cut_windows(
    clip: Clip,
    sample_rate: int,
    seconds: float,
    hop: float,
    *,
    min_seconds: float,
    silence_db: float,
) -> Iterator[Recording | Rejected]:
    """A long clip in windows, each a clip of its own, with the events that are heard in it.

    Window by window is read, so that hours take no more memory than one. The last one ends with the
    clip; it is dropped where it is shorter than `min_seconds`. Silent windows are listed, but where
    all are: then the clip is.

    Args:
      clip: one that fits into a window comes back as it is.
      sample_rate: Hz.
      seconds: length of a window.
      hop: s from the start of one to the next.
      min_seconds, silence_db: as for `decode_clip`.
    """
    length, step = round(seconds * sample_rate), round(hop * sample_rate)
    levels = {"min_seconds": min_seconds, "silence_db": silence_db}
    first, more = 0, True
    left_out, usable = [], False  # the windows before the first that is usable
    while more:
        start = first / sample_rate
        try:  # one sample further than needed, to see whether the clip goes on
            part = clip.read(sample_rate, start, (max(length, step) + 1) / sample_rate)
        except AudioError as error:
            yield from left_out
            yield Rejected(f"{clip.source}@{start:.3f}" if first else clip.source, str(error))
            return
        more = part.size > length
        piece = dataclasses.replace(clip, read=functools.partial(_given, part[:length]))
        if first or more:
            piece = _window_of(piece, start, start + min(part.size, length) / sample_rate)
        dropped = first and part.size < max(1, min_seconds * sample_rate)
        found = [] if dropped else [decode_clip(piece, sample_rate, **levels)]
        usable = usable or any(isinstance(one, Recording) for one in found)
        left_out += found
        if usable:
            yield from left_out
            left_out = []
        more, first = more and part.size > step, first + step
    if left_out:
        yield dataclasses.replace(left_out[0], source=clip.source)


def _given(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    return samples


def _window_of(clip: Clip, start: float, end: float) -> Clip:
    events = _events_within(clip.events, start, end)
    silent = {event.label for event in clip.events} - {event.label for event in events}
    return dataclasses.replace(
        clip,
        id=f"{clip.id}@{start:.3f}",
        source=f"{clip.source}@{start:.3f}",
        labels=tuple(label for label in clip.labels if label not in silent),
        events=events,
    )


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


def make_example(recording: Recording, sample_rate: int, seed: int) -> Example | Rejected:
    """The record of a decoded clip: all its texts, or what is told by template of its labels.

    Args:
      recording: what was decoded.
      sample_rate: Hz.
      seed: with the clip's id, chooses the wording of what is told by template.
    """
    clip = recording.clip
    captions, negatives, provenance = choose_texts(clip)
    timeline = find_steps(clip.events)
    published = clip.captions or clip.augmented or clip.negative_captions
    if timeline and not published and _fits_a_caption(timeline):
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
        origin=clip.group,
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


def choose_texts(clip: Clip) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """(Captions, those as published first; negative captions; how each text came to be).

    One caption is made of the labels where there is none. The last is as `join_provenance` has it.
    """
    captions, negatives = clip.captions, clip.negative_captions
    kinds = clip.provenance.split(SEPARATOR)
    if len(kinds) == 1:
        kinds *= len(captions + negatives)
    published, of_negatives = kinds[: len(captions)], kinds[len(captions) :]
    if not captions and clip.labels and not clip.augmented:
        kinds = ["template", *of_negatives]
        return (label_caption(clip.labels),), negatives, join_provenance(kinds)
    kinds = [*published, *["keyword"] * len(clip.augmented), *of_negatives]
    return captions + clip.augmented, negatives, join_provenance(kinds or [clip.provenance])


def label_caption(labels: tuple[str, ...]) -> str:
    """LAION-CLAP's caption for data that has labels only: "The sounds of A, B and C"."""
    *others, last = (label.replace("_", " ") for label in labels)
    return f"The sounds of {', '.join(others)} and {last}" if others else f"The sound of {last}"


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
