"""Queries among distractors that differ from what is asked for in one thing alone.

In small what benchmarks of compositional retrieval ask: which of two sounds is first, whether they
sound at once, how long one is, what does not sound, and what sounds beside it.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from clapjax.audio.files import float_to_int16, int16_to_float
from clapjax.captions.templates import order_captions, spoken, together_captions
from clapjax.captions.timeline import entry
from clapjax.data.schema import PROBE, Example
from clapjax.data.sources.clip import Recording
from clapjax.synthesis.mixup import EDGE, MixupConfig, keyed_generator
from clapjax.synthesis.segments import below_peak, crop_sounding, gain_to, smooth_edges, sustain

KINDS = ("order", "overlap", "duration", "negation", "mix")
LEAST_CLASSES = 3  # of "mix"
# What is said of a long and of a short sound, and the part of the clip that each lasts.
DURATIONS = (
    ("a long sound of {0}", "a short sound of {0}"),
    ("the sound of {0} for a long time", "the sound of {0} for a moment"),
    ("the sound of {0} goes on and on", "the sound of {0} is over at once"),
)
LASTS = ((0.6, 0.8), (0.08, 0.12))
NEGATIONS = (
    ("{0} but no {1}", "{0} and {1}"),
    ("{0} without {1}", "{0} with {1}"),
    ("{0} and no {1}", "{0} and also {1}"),
)
BESIDE = ("{0} and {1}", "{0} with {1}", "both {0} and {1}")


@dataclass(frozen=True)
class Scene:
    """What a clip holds, and a caption that is true of it."""

    steps: tuple[tuple[str, ...], ...]  # classes that sound at once, one step after the other
    caption: str
    lasts: tuple[float, float] | None = None  # part of the clip that its one event goes on


def count_queries(kind: str, classes: int, wanted: int) -> int:
    """How many different queries of a kind there are, at most as many as are wanted."""
    there = classes * 2 * len(DURATIONS) if kind == "duration" else classes * (classes - 1)
    return min(wanted, there)


def scenes(
    kind: str, number: int, labels: list[str], distractors: int, seed: int
) -> tuple[Scene, list[Scene]]:
    """Query number `number` of a kind, the scene that is asked for, and its distractors.

    Args:
      kind: one of KINDS.
      number: below `count_queries`.
      labels: the classes, at least LEAST_CLASSES.
      distractors: how many.
      seed: with the kind, which query has which number.
    """
    labels = sorted(labels)
    name, places = spoken(labels), range(distractors)
    content = _content(kind, number, len(labels), seed)
    generator = keyed_generator(seed, kind, number)
    if kind == "duration":
        which, wording, asked = content
        x = labels[which]
        said = [Scene(((x,),), _said(DURATIONS[wording][i], name[x]), LASTS[i]) for i in (0, 1)]
        return said[asked], [said[1 - asked] for _ in places]
    x, y = (labels[i] for i in content)
    if kind in ("order", "overlap"):
        (forwards,), (backwards,) = order_captions((name[x], name[y]), 1, generator)
        after = [Scene(((x,), (y,)), forwards), Scene(((y,), (x,)), backwards)]
        if kind == "order":
            return after[0], [after[1] for _ in places]
        (caption,) = together_captions((name[x], name[y]), 1, generator)
        at_once = Scene(((x, y),), caption)
        if number % 2:
            return after[0], [at_once for _ in places]
        return at_once, [after[place % 2] for place in places]
    if kind == "negation":
        without, both = NEGATIONS[generator.integers(len(NEGATIONS))]
        beside = Scene(((x, y),), _said(both, name[x], name[y]))
        return Scene(((x,),), _said(without, name[x], name[y])), [beside for _ in places]
    template = BESIDE[generator.integers(len(BESIDE))]
    others = [z for z in generator.permutation(labels).tolist() if z not in (x, y)]
    mixed = [Scene(((x, z),), _said(template, name[x], name[z])) for z in (y, *others)]
    return mixed[0], [mixed[1 + place % len(others)] for place in places]


def _content(kind: str, number: int, classes: int, seed: int) -> tuple[int, ...]:
    """What a query is of: two classes; or a class, the wording, and whether long (0) or short."""
    if kind == "duration":
        there = list(itertools.product(range(classes), range(len(DURATIONS)), (0, 1)))
    else:
        there = list(itertools.permutations(range(classes), 2))
    return there[keyed_generator(seed, kind).permutation(len(there))[number]]


def _said(template: str, *names: str) -> str:
    caption = template.format(*names)
    return caption[0].upper() + caption[1:]


def draw_query(
    by_label: dict[str, list[Recording]],
    sample_rate: int,
    config: MixupConfig,
    seed: int,
    split: str,
    number: int,
    *,
    kind: str,
) -> Iterator[Example]:
    """The clip that is asked for, then its distractors: a pure function of the arguments.

    Their ids are the same up to the last "/". The query is the caption of the first, and a negative
    caption of all others. All clips are `config.clip_seconds` long, silence around what sounds, so
    that length tells nothing. The first distractor is made of the same recordings, the others of
    any. `source` tells what sounds from when to when, in s: "FILE@0.512-3.201".

    Args:
      by_label: recordings of each class.
      sample_rate: Hz of the recordings.
      config: lengths of events, gaps, loudness, and how many distractors.
      seed, split, number, kind: which query.
    """
    generator = keyed_generator(seed, split, kind, number)
    right, wrong = scenes(kind, number, list(by_label), config.distractors, seed)
    take: dict[str, _Take] = {}
    for place, scene in enumerate([right, *wrong]):
        if place > 1:
            take = {}
        for label in sorted({label for step in scene.steps for label in step} - take.keys()):
            recording = by_label[label][generator.integers(len(by_label[label]))]
            take[label] = _cut(recording, sample_rate, config, generator)
        yield _clip(
            scene,
            take,
            sample_rate,
            config,
            generator,
            id=f"{split}/{kind}/{number:04d}/{place:02d}",
            negative_captions=(right.caption,) if place else (),
            provenance=f"{PROBE}{kind}",
        )


@dataclass(frozen=True)
class _Take:
    """An event of a recording."""

    recording: Recording
    samples: np.ndarray = field(repr=False)  # (T,) float


def _cut(
    recording: Recording, sample_rate: int, config: MixupConfig, generator: np.random.Generator
) -> _Take:
    """A stretch of a recording that sounds all the time, at the target loudness.

    Give or take half of `together_db`. Without a pause, for else two that overlap might take turns.
    """
    seconds = generator.uniform(config.min_event_seconds, config.max_event_seconds)
    longest = (config.clip_seconds - config.max_gap_seconds) / 2
    length = int(min(seconds, longest) * sample_rate)
    samples = int16_to_float(crop_sounding(recording.samples, length, sample_rate, generator))
    samples = sustain(samples, length, sample_rate)
    target = config.target_lufs + generator.uniform(-0.5, 0.5) * config.together_db
    samples = below_peak(samples * gain_to(target, samples, sample_rate))
    return _Take(recording, smooth_edges(samples, int(EDGE * sample_rate)))


def _clip(
    scene: Scene,
    take: dict[str, _Take],
    sample_rate: int,
    config: MixupConfig,
    generator: np.random.Generator,
    **fields,
) -> Example:
    budget = int(config.clip_seconds * sample_rate)
    sounding = {label: take[label].samples for step in scene.steps for label in step}
    if scene.lasts:
        length = int(generator.uniform(*scene.lasts) * budget)
        sounding = {
            label: smooth_edges(sustain(part, length, sample_rate), int(EDGE * sample_rate))
            for label, part in sounding.items()
        }
    starts, end = {}, 0
    for number, step in enumerate(scene.steps):
        if number:
            end += int(generator.uniform(0, config.max_gap_seconds) * sample_rate)
        longest = max(sounding[label].size for label in step)
        for label in step:  # the shorter somewhere within the longer
            starts[label] = end + int(generator.integers(longest - sounding[label].size + 1))
        end += longest
    before = int(generator.integers(budget - end + 1))
    audio, told = np.zeros(budget), []
    for label, start in starts.items():
        first, last = before + start, before + start + sounding[label].size
        audio[first:last] += sounding[label]
        source = take[label].recording.clip.source
        told.append(f"{source}@{first / sample_rate:.3f}-{last / sample_rate:.3f}")
    clips = [take[label].recording.clip for label in starts]
    return Example(
        audio=float_to_int16(below_peak(audio)),
        sample_rate=sample_rate,
        captions=(scene.caption,),
        labels=tuple(sorted(starts)),
        events=tuple(map(entry, scene.steps)),
        source=" + ".join(told),
        origin=";".join(dict.fromkeys(clip.group for clip in clips)),
        **fields,
    )
