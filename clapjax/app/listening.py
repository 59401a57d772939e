"""What the page is asked, as functions of a model and a sound: numbers over time, no pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clapjax.app.library import readable, seconds_of
from clapjax.audio.files import read_audio
from clapjax.captions.rules.connectives import sounding_order, split_text
from clapjax.inference import TEMPLATE, Clap
from clapjax.inference.hear import WHOLE_SECONDS
from clapjax.inference.joined import Parts
from clapjax.inference.labels import NEUTRAL, probabilities

LOOKS = ("auto", "windows", "frames")
FRAMES_UP_TO = 4  # clips that "auto" looks at by frames
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
      look: "windows" (a clip each, of which OVERLAP hear each moment), "frames" (the encoder's
        steps of time), or "auto": windows of what is longer than some clips.

    Raises:
      AudioError: the sound cannot be heard.
      ValueError: no such `look`.
    """
    if look not in LOOKS:
        raise ValueError(f"look must be one of {', '.join(LOOKS)}, not {look!r}")
    if look == "auto":
        long = (seconds_of(path) or np.inf) > FRAMES_UP_TO * model.clip_seconds
        look = "windows" if long else "frames"
    if look == "windows":
        return model.embed_windows(path, model.clip_seconds / OVERLAP)
    return model.embed_frames(path)


def listen_between(model: Clap, path: str, start: float, end: float) -> Parts:
    """The frames of a stretch of a sound, of which nothing else is decoded; errors as `listen`."""
    rate = model.config.audio.sample_rate
    source, name = readable(path)
    samples = read_audio(source, rate, start=start, seconds=end - start, name=name)
    times, vectors = model.embed_frames((rate, samples))
    return times + start, vectors


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
    windows = cut and seconds > model.clip_seconds
    return model.embed_audio([path], long="windows" if windows else None)[0]


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
