"""Mix-up of recordings in time (T-CLAP 2.3): join clips of different classes in a known order."""

from dataclasses import dataclass

import numpy as np

from clapjax.audio.files import float_to_int16, int16_to_float
from clapjax.data.schema import Example
from clapjax.data.sources.clip import Recording
from clapjax.synthesis.captions import event_captions, order_captions, wrong_order

EDGE = 0.005  # s, of the fade at both ends of an event: a hard cut would click
LOUD_FRAME = 0.05  # s, over which loudness is looked at when a crop is placed


@dataclass(frozen=True)
class MixupConfig:
    """How mixtures and single-event samples are made. The paper gives no figure but 10 s."""

    train_mixtures: int = 4000
    test_mixtures: int = 400
    crops_per_recording: int = 10  # single-event training samples cut from each recording
    min_events: int = 2
    max_events: int = 2
    clip_seconds: float = 10.0  # longest mixture
    min_event_seconds: float = 2.5
    max_event_seconds: float = 5.0
    max_gap_seconds: float = 0.4
    max_crossfade_seconds: float = 0.2
    level_jitter_db: float = 10.0  # each event's level moves by up to this much either way
    captions: int = 4  # positive captions of a mixture, and as many negative ones
    train_negative_audio: bool = False  # only audio-to-text T-Classify needs it

    def __post_init__(self):
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
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"synthesis.{name} must be >= 0, not {getattr(self, name)}")
        if self.clip_seconds <= 0:
            raise ValueError(f"synthesis.clip_seconds must be positive, not {self.clip_seconds}")
        if self.captions < 1 or min(self.train_mixtures, self.test_mixtures) < 1:
            raise ValueError("synthesis: captions, train_mixtures and test_mixtures must be >= 1")


def crop_sounding(
    samples: np.ndarray, length: int, sample_rate: int, generator: np.random.Generator
) -> np.ndarray:
    """A random crop that holds the recording's loudest moment, so that no event is cut away.

    Args:
      samples: (T,) int16.
      length: samples wanted; a shorter recording comes back whole.
      sample_rate: Hz.
      generator: places the crop.

    Returns:
      (min(T, length),) int16.
    """
    if samples.size <= length:
        return samples
    frame = max(1, int(LOUD_FRAME * sample_rate))
    padded = np.pad(samples, (0, -samples.size % frame)).astype(np.float32)
    loudest = int(np.square(padded).reshape(-1, frame).sum(axis=1).argmax()) * frame
    low = max(0, loudest + frame - length)
    high = min(samples.size - length, loudest)
    start = int(generator.integers(min(low, high), high + 1))
    return samples[start : start + length]


def join(segments: list[np.ndarray], gaps: list[int]) -> np.ndarray:
    """Joins float segments in time.

    Args:
      segments: (T_i,) float each.
      gaps: samples between neighbours, one fewer than segments; a negative one is a cross-fade of
        that length, with raised-cosine ramps (equal gain).

    Returns:
      (T,) float.
    """
    out = segments[0]
    shortest = min(segment.size for segment in segments)  # of all: any order gives one length
    for segment, gap in zip(segments[1:], gaps, strict=True):
        if gap >= 0:
            out = np.concatenate([out, np.zeros(gap, out.dtype), segment])
            continue
        overlap = min(-gap, shortest)
        ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(overlap) + 0.5) / overlap)
        mixed = out[-overlap:] * (1 - ramp) + segment[:overlap] * ramp
        out = np.concatenate([out[:-overlap], mixed, segment[overlap:]])
    return out


def _smooth_edges(samples: np.ndarray, length: int) -> np.ndarray:
    """(T,) float with raised-cosine fades of `length` samples at both ends."""
    length = min(length, samples.size // 2)
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / max(1, length))
    envelope = np.ones(samples.size, samples.dtype)
    envelope[:length] = ramp
    envelope[samples.size - length :] = ramp[::-1]
    return samples * envelope


def _jitter(samples: np.ndarray, decibels: float, generator: np.random.Generator) -> np.ndarray:
    """(T,) int16 to float at a random level, never clipping."""
    waveform = int16_to_float(samples)
    gain = 10 ** (generator.uniform(-decibels, decibels) / 20)
    return waveform * min(gain, 0.99 / max(1e-6, float(np.abs(waveform).max())))


def mixture(
    recordings: list[Recording],
    sample_rate: int,
    config: MixupConfig,
    generator: np.random.Generator,
    *,
    id: str,
    negative_audio: bool,
) -> Example:
    """Joins recordings of different classes, with captions in the right and in a wrong order.

    Args:
      recordings: two or more, first sounding first, all of different classes.
      sample_rate: Hz of the recordings.
      config: durations, gaps, levels and caption counts.
      generator: makes every choice.
      id: id of the example.
      negative_audio: also join the same segments in the wrong order.

    Returns:
      The example; its audio is at most `config.clip_seconds` long.
    """
    budget = int(config.clip_seconds * sample_rate)
    count = len(recordings)
    segments = []
    for recording in recordings:
        seconds = generator.uniform(config.min_event_seconds, config.max_event_seconds)
        length = min(int(seconds * sample_rate), budget // count)
        crop = crop_sounding(recording.samples, length, sample_rate, generator)
        segment = _jitter(crop, config.level_jitter_db, generator)
        segments.append(_smooth_edges(segment, int(EDGE * sample_rate)))
    spare = (budget - sum(segment.size for segment in segments)) // (count - 1)
    low = -int(config.max_crossfade_seconds * sample_rate)
    high = max(low, min(int(config.max_gap_seconds * sample_rate), spare))
    gaps = generator.integers(low, high, count - 1, endpoint=True).tolist()
    events = tuple(recording.clip.label for recording in recordings)
    positives, negatives = order_captions(events, config.captions, generator)
    order = wrong_order(tuple(range(count)), generator)
    wrong = join([segments[i] for i in order], gaps) if negative_audio else None
    return Example(
        id=id,
        audio=float_to_int16(join(segments, gaps)),
        sample_rate=sample_rate,
        captions=positives,
        negative_captions=negatives,
        negative_audio=None if wrong is None else float_to_int16(wrong),
        labels=tuple(sorted(events)),
        events=events,
        source=" + ".join(recording.clip.source for recording in recordings),
        provenance="template",
    )


def draw_mixture(
    by_label: dict[str, list[Recording]],
    sample_rate: int,
    config: MixupConfig,
    seed: int,
    split: str,
    index: int,
    *,
    negative_audio: bool,
) -> Example:
    """Mixture number `index` of a split: a pure function of its arguments."""
    generator = keyed_generator(seed, split, "mixture", index)
    most = min(config.max_events, len(by_label))
    if most < config.min_events:
        raise ValueError(
            f"synthesis: mixtures of {config.min_events} events need as many classes; the {split} "
            f"recordings have {len(by_label)}"
        )
    count = int(generator.integers(config.min_events, most, endpoint=True))
    labels = sorted(by_label)
    chosen = [labels[i] for i in generator.permutation(len(labels))[:count]]
    recordings = [by_label[label][generator.integers(len(by_label[label]))] for label in chosen]
    return mixture(
        recordings,
        sample_rate,
        config,
        generator,
        id=f"{split}-mixture-{index:07d}",
        negative_audio=negative_audio,
    )


def single_event(
    recording: Recording, sample_rate: int, config: MixupConfig, seed: int, split: str, index: int
) -> Example:
    """Crop number `index` of one recording (0 is the whole of it), with single-event captions."""
    generator = keyed_generator(seed, split, recording.clip.id, index)
    samples = recording.samples
    if index:
        seconds = generator.uniform(config.min_event_seconds, config.max_event_seconds)
        samples = crop_sounding(samples, int(seconds * sample_rate), sample_rate, generator)
        samples = float_to_int16(_jitter(samples, config.level_jitter_db, generator))
    return Example(
        id=f"{split}-{recording.clip.id}-{index:03d}",
        audio=samples,
        sample_rate=sample_rate,
        captions=event_captions(recording.clip.label, config.captions, generator),
        labels=(recording.clip.label,),
        events=(recording.clip.label,),
        source=recording.clip.source,
        provenance="template",
    )


def keyed_generator(seed: int, *key: str | int) -> np.random.Generator:
    """A generator that depends on nothing but (seed, key)."""
    words = "/".join(map(str, key)).encode()
    return np.random.default_rng([seed, *words])
