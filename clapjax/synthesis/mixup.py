"""Mix-up of recordings in time (T-CLAP 2.3): join clips of different classes in a known order."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clapjax.audio.files import float_to_int16, int16_to_float
from clapjax.captions.templates import (
    event_captions,
    order_captions,
    spoken,
    together_captions,
    wrong_order,
)
from clapjax.captions.timeline import entry
from clapjax.data.schema import Example
from clapjax.data.sources.clip import Recording
from clapjax.synthesis import acoustics
from clapjax.synthesis.segments import (
    PEAK,
    below_peak,
    crop_sounding,
    gain_to,
    join,
    lay_over,
    smooth_edges,
)

EDGE = 0.005  # s, of the fade at both ends of an event: a hard cut would click
DIRECT_DB = (0.0, 15.0)  # of the direct sound over the reverberation that is made


@dataclass(frozen=True)
class MixupConfig:
    """How mixtures and single-event samples are made. The paper gives no figure but 10 s."""

    train_mixtures: int = 4000  # in the split train
    test_mixtures: int = 400  # in the split test
    crops_per_recording: int = 10  # single-event training samples cut from each recording
    min_events: int = 2  # in a mixture
    max_events: int = 2  # in a mixture, as far as there are so many classes
    clip_seconds: float = 10.0  # longest mixture
    min_event_seconds: float = 2.5  # shortest event, if as many as there are fit into the clip
    max_event_seconds: float = 5.0  # longest event
    max_gap_seconds: float = 0.4  # silence between events, at most
    max_crossfade_seconds: float = 0.2  # overlap of events, at most
    level_jitter_db: float = 10.0  # each event's level moves by up to this much either way
    captions: int = 4  # positive captions of a mixture, and as many negative ones
    train_negative_audio: bool = False  # as test has it; loss.order_pairs is taught by it
    # Chance that a mixture has events that sound together, in pairs: "A while B".
    overlap_share: float = 0.0
    together_db: float = 6.0  # the two of a pair differ in loudness by up to this much
    normalize_loudness: bool = False  # events come to target_lufs before their levels move
    target_lufs: float = -23.0  # as in EBU R 128; no event clips for it
    reverb_share: float = 0.0  # chance that a mixture is put into a room
    impulse_responses: str = ""  # folder of measured rooms; "": decaying noise
    min_reverb_seconds: float = 0.2  # time in which that noise falls by 60 dB
    max_reverb_seconds: float = 1.0  # the same, at most
    background_share: float = 0.0  # chance that noise is added, which no caption tells of
    background: str = ""  # folder of noise
    background_labels: tuple[str, ...] = ()  # or classes of the source, then in no mixture
    min_snr_db: float = 5.0  # of the mixture over the noise
    max_snr_db: float = 20.0  # the same, at most
    # Of each part of the order probe, the split test_probe, for which pairs of classes and wordings
    # are kept out of train and test (docs/order.md); 0: no probe.
    probe_mixtures: int = 0
    queries: int = 40  # of each kind, where source.mode is "compositional"
    distractors: int = 9  # clips that are wrong for a query, there

    def __post_init__(self):
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"synthesis.{name} must be a finite number, not {value}")
        if not 2 <= self.min_events <= self.max_events:
            raise ValueError(
                f"synthesis: need 2 <= min_events <= max_events, not {self.min_events}, "
                f"{self.max_events}"
            )
        if not 0 < self.min_event_seconds <= self.max_event_seconds:
            raise ValueError("synthesis: need 0 < min_event_seconds <= max_event_seconds")
        if self.max_crossfade_seconds > self.min_event_seconds / 2:
            raise ValueError("synthesis: max_crossfade_seconds exceeds half of min_event_seconds")
        for name in (
            "level_jitter_db",
            "max_gap_seconds",
            "max_crossfade_seconds",
            "crops_per_recording",
            "together_db",
            "probe_mixtures",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"synthesis.{name} must be >= 0, not {getattr(self, name)}")
        if self.clip_seconds <= 0:
            raise ValueError(f"synthesis.clip_seconds must be positive, not {self.clip_seconds}")
        if self.captions < 1 or min(self.train_mixtures, self.test_mixtures) < 1:
            raise ValueError("synthesis: captions, train_mixtures and test_mixtures must be >= 1")
        if min(self.queries, self.distractors) < 1:
            raise ValueError("synthesis: queries and distractors must be >= 1")
        for name in ("overlap_share", "reverb_share", "background_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"synthesis.{name} must be in 0..1, not {getattr(self, name)}")
        if not -70 <= self.target_lufs <= 0:
            raise ValueError(f"synthesis.target_lufs must be in -70..0, not {self.target_lufs}")
        if not 0 < self.min_reverb_seconds <= self.max_reverb_seconds:
            raise ValueError("synthesis: need 0 < min_reverb_seconds <= max_reverb_seconds")
        if not self.min_snr_db <= self.max_snr_db:
            raise ValueError("synthesis: need min_snr_db <= max_snr_db")
        if bool(self.background_share) != bool(self.background or self.background_labels):
            raise ValueError(
                "synthesis: background_share goes with background or background_labels, which are "
                "the noise"
            )
        if self.background and self.background_labels:
            raise ValueError("synthesis: either background or background_labels, not both")


@dataclass(frozen=True)
class Noise:
    """What is heard behind a mixture."""

    samples: np.ndarray  # (T,), as `noise_of_length` takes it
    source: str
    origin: str = ""  # of a recording of the source


def _set_level(
    samples: np.ndarray, sample_rate: int, config: MixupConfig, generator: np.random.Generator
) -> np.ndarray:
    """(T,) int16 to float at a random level, never clipping."""
    waveform = int16_to_float(samples)
    gain = 10 ** (generator.uniform(-config.level_jitter_db, config.level_jitter_db) / 20)
    if config.normalize_loudness:
        gain *= gain_to(config.target_lufs, waveform, sample_rate)
    return waveform * min(gain, PEAK / max(1e-6, float(np.abs(waveform).max())))


def mixture(
    recordings: list[Recording],
    sample_rate: int,
    config: MixupConfig,
    generator: np.random.Generator,
    *,
    id: str,
    negative_audio: bool,
    sizes: list[int] | None = None,
    noise: Noise | None = None,
    templates: tuple[str, ...] = (),
    provenance: str = "template",
) -> Example:
    """Joins recordings of different classes, with captions in the right and in a wrong order.

    Args:
      recordings: two or more, first sounding first, all of different classes.
      sample_rate: Hz of the recordings.
      config: durations, gaps, levels, rooms and caption counts.
      generator: makes every choice.
      id: id of the example.
      negative_audio: also join the same segments in the wrong order.
      sizes: how many recordings sound together at each step, 1 or 2; by default they never do.
      noise: to be heard behind it all.
      templates: of the captions of two steps, as for `order_captions`.
      provenance: of the captions.

    Returns:
      The example; its audio is at most `config.clip_seconds` long. It has no negatives where there
      is but one step.
    """
    budget = int(config.clip_seconds * sample_rate)
    sizes = sizes or [1] * len(recordings)
    count = len(sizes)
    parts = []
    for recording in recordings:
        seconds = generator.uniform(config.min_event_seconds, config.max_event_seconds)
        length = min(int(seconds * sample_rate), budget // count)
        crop = crop_sounding(recording.samples, length, sample_rate, generator)
        part = _set_level(crop, sample_rate, config, generator)
        parts.append(smooth_edges(part, int(EDGE * sample_rate)))
    segments = [
        step[0] if len(step) == 1 else lay_over(*step, sample_rate, config.together_db, generator)
        for step in _grouped(parts, sizes)
    ]
    spare = (budget - sum(segment.size for segment in segments)) // max(1, count - 1)
    low = -int(config.max_crossfade_seconds * sample_rate)
    high = max(low, min(int(config.max_gap_seconds * sample_rate), spare))
    gaps = generator.integers(low, high, count - 1, endpoint=True).tolist()
    labels = [recording.clip.label for recording in recordings]
    steps = _grouped(labels, sizes)
    positives, negatives, order = _order_texts(steps, config.captions, generator, templates)
    versions = [join(segments, gaps)]
    if negative_audio and order:
        versions.append(join([segments[i] for i in order], gaps))
    versions = _place(versions, budget, sample_rate, config, generator, noise)
    clips = [recording.clip for recording in recordings]
    return Example(
        id=id,
        audio=float_to_int16(versions[0]),
        sample_rate=sample_rate,
        captions=positives,
        negative_captions=negatives,
        negative_audio=float_to_int16(versions[1]) if len(versions) > 1 else None,
        labels=tuple(sorted(labels)),
        events=tuple(map(entry, steps)),
        source=" + ".join([clip.source for clip in clips] + ([noise.source] if noise else [])),
        origin=";".join(dict.fromkeys([clip.group for clip in clips] + _origins(noise))),
        provenance=provenance,
    )


def _origins(noise: Noise | None) -> list[str]:
    return [noise.origin] if noise and noise.origin else []


def _grouped(items: list, sizes: list[int]) -> list[tuple]:
    ends = np.cumsum(sizes).tolist()
    return [tuple(items[end - size : end]) for end, size in zip(ends, sizes, strict=True)]


def _order_texts(
    steps: list[tuple[str, ...]],
    count: int,
    generator: np.random.Generator,
    templates: tuple[str, ...],
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...]]:
    """(captions, negative captions, a wrong order of the steps); () where none is wrong."""
    name = spoken([label for step in steps for label in step])
    said = tuple(tuple(name[label] for label in step) for step in steps)
    if len(said) == 1:
        return together_captions(said[0], count, generator), (), ()
    positives, negatives = order_captions(said, count, generator, templates)
    return positives, negatives, wrong_order(tuple(range(len(said))), generator)


def _place(
    versions: list[np.ndarray],
    budget: int,
    sample_rate: int,
    config: MixupConfig,
    generator: np.random.Generator,
    noise: Noise | None,
) -> list[np.ndarray]:
    """Takes of one length, (T,) float, in one room and before one noise, where chance wants it."""
    reverberant = config.reverb_share and generator.random() < config.reverb_share
    if reverberant:
        response = _draw_room(sample_rate, config, generator)
        versions = [acoustics.reverberate(version, response, budget) for version in versions]
    if noise:
        bed = acoustics.noise_of_length(noise.samples, versions[0].size, generator)
        snr = generator.uniform(config.min_snr_db, config.max_snr_db)
        versions = [acoustics.add_noise(version, bed, snr) for version in versions]
    return [below_peak(version) for version in versions] if reverberant or noise else versions


def _draw_room(sample_rate: int, config: MixupConfig, generator: np.random.Generator) -> np.ndarray:
    if not config.impulse_responses:
        seconds = generator.uniform(config.min_reverb_seconds, config.max_reverb_seconds)
        direct = generator.uniform(*DIRECT_DB)
        return acoustics.decaying_noise(seconds, sample_rate, direct, generator)
    files = acoustics.list_audio(config.impulse_responses, "synthesis.impulse_responses")
    return acoustics.read_response(files[generator.integers(len(files))], sample_rate)


def _draw_noise(
    by_label: dict[str, list[Recording]],
    sample_rate: int,
    config: MixupConfig,
    generator: np.random.Generator,
) -> Noise | None:
    """Noise, where chance wants it."""
    if not config.background_share or generator.random() >= config.background_share:
        return None
    if config.background:
        files = acoustics.list_audio(config.background, "synthesis.background")
        file = files[generator.integers(len(files))]
        return Noise(acoustics.read_noise(file, sample_rate), f"background:{file.name}")
    labels = [label for label in config.background_labels if label in by_label]
    pool = [(label, i) for label in labels for i in range(len(by_label[label]))]
    if not pool:
        raise ValueError(
            f"synthesis.background_labels: no recordings of {', '.join(config.background_labels)}; "
            f"there are {', '.join(sorted(by_label))}"
        )
    label, index = pool[generator.integers(len(pool))]
    recording = by_label[label][index]
    return Noise(recording.samples, recording.clip.source, recording.clip.group)


def _draw_sizes(count: int, share: float, generator: np.random.Generator) -> list[int]:
    """How many of `count` events sound together at each step: pairs, where chance wants any."""
    if not share or generator.random() >= share:
        return [1] * count
    pairs = int(generator.integers(1, count // 2, endpoint=True))
    sizes = np.array([2] * pairs + [1] * (count - 2 * pairs))
    return generator.permutation(sizes).tolist()


def choose_classes(
    labels: list[str], count: int, partner: Mapping[str, str], generator: np.random.Generator
) -> list[str]:
    """`count` classes in a random order, no two of which are kept apart."""
    chosen: list[str] = []
    for i in generator.permutation(len(labels)):
        if partner.get(labels[i]) not in chosen and len(chosen) < count:
            chosen.append(labels[i])
    return chosen


def most_classes(labels: list[str], partner: Mapping[str, str]) -> int:
    """How many classes can be in one mixture: of two that are kept apart, one."""
    return len({min(label, partner.get(label, label)) for label in labels})


def draw_mixture(
    by_label: dict[str, list[Recording]],
    sample_rate: int,
    config: MixupConfig,
    seed: int,
    split: str,
    index: int,
    *,
    negative_audio: bool,
    partner: Mapping[str, str] | None = None,
) -> Example:
    """Mixture number `index` of a split: a pure function of its arguments.

    Args:
      by_label: recordings of each class.
      sample_rate: Hz of the recordings.
      config: how mixtures are made.
      seed, split, index: which mixture.
      negative_audio: also join the same segments in a wrong order.
      partner: class to the one that it is in no mixture with (`probe.kept_apart`).

    Raises:
      ValueError: too few classes.
    """
    generator, partner = keyed_generator(seed, split, "mixture", index), partner or {}
    labels = sorted(by_label.keys() - set(config.background_labels))
    most = min(config.max_events, most_classes(labels, partner))
    if most < config.min_events:
        apart = ", pairs of which synthesis.probe_mixtures keeps apart" if partner else ""
        raise ValueError(
            f"synthesis: mixtures of {config.min_events} events need as many classes; the {split} "
            f"recordings have {len(labels)}{apart}"
        )
    count = int(generator.integers(config.min_events, most, endpoint=True))
    chosen = choose_classes(labels, count, partner, generator)
    return mix_classes(
        by_label,
        chosen,
        sample_rate,
        config,
        generator,
        id=f"{split}-mixture-{index:07d}",
        negative_audio=negative_audio,
    )


def mix_classes(
    by_label: dict[str, list[Recording]],
    chosen: list[str],
    sample_rate: int,
    config: MixupConfig,
    generator: np.random.Generator,
    **settings,
) -> Example:
    """`mixture` of any recordings of these classes, first sounding first."""
    recordings = [by_label[label][generator.integers(len(by_label[label]))] for label in chosen]
    sizes = _draw_sizes(len(chosen), config.overlap_share, generator)
    noise = _draw_noise(by_label, sample_rate, config, generator)
    settings |= {"sizes": sizes, "noise": noise}
    return mixture(recordings, sample_rate, config, generator, **settings)


def single_event(
    recording: Recording, sample_rate: int, config: MixupConfig, seed: int, split: str, index: int
) -> Example:
    """Crop number `index` of one recording (0 is the whole of it), with single-event captions."""
    generator = keyed_generator(seed, split, recording.clip.id, index)
    if not index:
        samples = recording.samples[:]
    else:
        seconds = generator.uniform(config.min_event_seconds, config.max_event_seconds)
        samples = crop_sounding(
            recording.samples, int(seconds * sample_rate), sample_rate, generator
        )
        samples = float_to_int16(_set_level(samples, sample_rate, config, generator))
    label = recording.clip.label
    return Example(
        id=f"{split}-{recording.clip.id}-{index:03d}",
        audio=samples,
        sample_rate=sample_rate,
        captions=event_captions(spoken([label])[label], config.captions, generator),
        labels=(label,),
        events=(label,),
        source=recording.clip.source,
        origin=recording.clip.group,
        provenance="template",
    )


def keyed_generator(seed: int, *key: str | int) -> np.random.Generator:
    """A generator that depends on nothing but (seed, key)."""
    words = "/".join(map(str, key)).encode()
    return np.random.default_rng([seed, *words])
