"""What the page is asked, as functions of a model and a sound: numbers over time, no pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from clapjax.app.library import readable, seconds_of
from clapjax.audio.files import read_blocks
from clapjax.captions.rules.connectives import sounding_order, split_text
from clapjax.inference import TEMPLATE, Clap
from clapjax.inference.hear import WHOLE_SECONDS
from clapjax.inference.joined import Parts
from clapjax.inference.labels import NEUTRAL, probabilities
from clapjax.inference.pieces import windows

LOOKS = ("auto", "moments", "windows", "frames")
MOMENT = 1.0  # s: shorter ones are heard less well
FINE_UP_TO = 20.0  # s of a sound of which a moment begins every half second
MOMENTS_UP_TO = 60.0  # s of a sound of which "auto" hears moments
MOMENTS_OF_HIT = 10  # at least half a second apart
OVERLAP = 2  # windows that hear each moment
LONG_SECONDS = 60.0  # of a sound whose place nobody knows a search shows the middle
MIDDLE_SECONDS = 20.0


@dataclass(frozen=True)
class OverTime:
    """Values of something, of stretches of a sound that may overlap."""

    times: np.ndarray  # (N, 2) s
    rows: dict[str, np.ndarray]  # by what each is about: (N,)


@dataclass(frozen=True)
class Labelled:
    """How probable labels are, in the whole and over time; the likeliest first."""

    whole: dict[str, float]
    over_time: OverTime


@dataclass(frozen=True)
class Preferred:
    """Which of two captions is nearer to a sound."""

    cosines: tuple[float, float]
    probabilities: tuple[float, float]  # softmax of the scaled cosines
    over_time: OverTime  # cosines of both, and of the events that they name

    @property
    def first(self) -> bool:
        """Whether it is the first one."""
        return self.cosines[0] >= self.cosines[1]


def listen(model: Clap, path: str, look: str = "auto") -> Parts:
    """Embeddings over time of a sound of any length: (times (N, 2) s, (N, D)).

    Args:
      model: what hears.
      path: of a file.
      look: "moments" (of a second, each heard alone, which tells best where something is),
        "windows" (a clip each, of which OVERLAP hear each moment), "frames" (the encoder's steps of
        time, each heard in its clip, which takes least), or "auto": windows of what is long.

    Raises:
      AudioError: the sound cannot be heard.
      ValueError: no such `look`.
    """
    if look not in LOOKS:
        raise ValueError(f"look must be one of {', '.join(LOOKS)}, not {look!r}")
    if look == "frames":
        return model.embed_frames(path)
    seconds = seconds_of(path) or np.inf
    if look == "windows" or (look == "auto" and seconds > MOMENTS_UP_TO):
        return model.embed_windows(path, model.clip_seconds / OVERLAP)
    return _moments(model, path, 0.0, None, MOMENT / 2 if seconds <= FINE_UP_TO else MOMENT)


def listen_between(model: Clap, path: str, start: float, end: float) -> Parts:
    """Some moments of a stretch of a sound, of which no more is decoded; errors as `listen`."""
    return _moments(model, path, start, end, max(MOMENT / 2, (end - start) / MOMENTS_OF_HIT))


def _moments(model: Clap, path: str, start: float, end: float | None, hop: float) -> Parts:
    """Every `hop` s a moment, as long as that or as MOMENT, at most a clip, heard by itself."""
    rate, (source, name) = model.config.audio.sample_rate, readable(path)
    long = min(max(MOMENT, hop), model.clip_seconds)
    seconds = None if end is None else end - start
    blocks = read_blocks(source, rate, start=start, seconds=seconds, name=name)
    times: list[tuple[int, int]] = []

    def pieces() -> Iterator[tuple[int, np.ndarray]]:
        for first, samples in windows(blocks, round(long * rate), round(min(hop, long) * rate)):
            times.append((first, first + samples.size))
            yield rate, samples

    vectors = model.embed_audio(pieces())
    return start + np.array(times) / rate, vectors


def stretch_of(path: str, start: float | None, end: float | None) -> tuple[float, float]:
    """(start, end) in s of what a search shows of a hit: its place, or of a long sound the middle.

    Raises:
      AudioError: the sound cannot be read.
    """
    if start is not None:
        return start, end
    seconds = seconds_of(path)
    if seconds is None:
        return 0.0, MIDDLE_SECONDS
    if seconds <= LONG_SECONDS:
        return 0.0, seconds
    return (seconds - MIDDLE_SECONDS) / 2, (seconds + MIDDLE_SECONDS) / 2


def embed_whole(model: Clap, path: str) -> np.ndarray:
    """(D,) of all of a sound: as the model hears it best, or the mean of its windows.

    Raises:
      AudioError: the sound cannot be heard.
    """
    seconds = seconds_of(path) or np.inf
    cut = model.default_long == "truncate" or seconds > WHOLE_SECONDS
    long = "windows" if cut and seconds > model.clip_seconds else None
    return model.embed_audio([path], long=long)[0]


def classify(
    model: Clap,
    path: str,
    labels: Sequence[str],
    look: str = "auto",
    each: bool = False,
    template: str = TEMPLATE,
) -> Labelled:
    """How probable labels are in a sound.

    Args:
      model, path, look: as `listen` has them.
      labels, template: as `Clap.classify`.
      each: each label for itself, for several may be there; else they sum up to 1.

    Raises: as `listen` and `Clap.classify`.
    """
    text = model.embed_labels(labels, template)
    against = model.embed_labels([NEUTRAL], template) if each else None
    (whole,) = model.rank(embed_whole(model, path)[None], text, labels, against)
    times, vectors = listen(model, path, look)
    parts = model.rank(vectors, text, labels, against)
    rows = {label: np.array([part[label] for part in parts]) for label in whole}
    return Labelled(whole, OverTime(times, rows))


def prefer(model: Clap, path: str, captions: tuple[str, str], look: str = "auto") -> Preferred:
    """Which of two captions a model finds nearer to a sound, and where each of them speaks.

    Raises:
      ValueError: as `listen`; a caption is empty, or both are the same.
    """
    if not all(caption.strip() for caption in captions) or captions[0] == captions[1]:
        raise ValueError("two different captions are needed, as 'rain then a bell' and another")
    texts = list(dict.fromkeys([*captions, *(e for text in captions for e in events(text))]))
    vectors = model.embed_text(texts)
    cosines = model.similarity(embed_whole(model, path)[None], vectors[:2])
    times, heard = listen(model, path, look)
    rows = dict(zip(texts, model.similarity(heard, vectors).T, strict=True))
    shares = probabilities(model.scale * cosines)[0].tolist()
    return Preferred(tuple(cosines[0].tolist()), tuple(shares), OverTime(times, rows))


def events(caption: str) -> list[str]:
    """What a caption says that sounds, in the order in which it says that it sounds; [] unclear."""
    found = split_text(caption)
    if found is None:
        return []
    said = [" ".join(words).replace(" ,", ",").strip(" ,") for words in found.segments]
    return [said[place] for place in sounding_order(found) if said[place]]


def turned_round(caption: str) -> str:
    """The same events the other way round, in the same words.

    Raises:
      ValueError: the caption states no order.
    """
    found = split_text(caption)
    if found is None:
        raise ValueError(f"{caption!r} states no order; say 'rain, then a bell', or 'after'")
    return " ".join(found.written(found.segments[::-1])).replace(" ,", ",")
