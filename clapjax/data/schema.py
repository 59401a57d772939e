"""The record schema: one example, its checks, and its TFDS features."""

from dataclasses import dataclass

import numpy as np

from clapjax.data.forms import NEGATIVE, PCM, Form, features_of, read_sound

PROBE = "probe:"  # by template, to be judged by alone; what is probed follows
PROVENANCES = ("human", "template", "keyword", "rules", "llm:", "captioner:", PROBE)
SILENCE = -100.0  # dB, the floor of log-mels
SEPARATOR = ";"  # between the words of a provenance


@dataclass(frozen=True)
class Example:
    """One audio-caption record; see the feature table in docs/records.md."""

    id: str
    # (T,) int16 mono PCM at `sample_rate`, or (F, mel_bins) float16: its log-mel, dB.
    audio: np.ndarray
    sample_rate: int  # Hz
    captions: tuple[str, ...]  # at least one
    negative_captions: tuple[str, ...] = ()  # the same events in a wrong order
    negative_audio: np.ndarray | None = None  # the same events in a wrong order, as `audio` is
    labels: tuple[str, ...] = ()
    events: tuple[str, ...] = ()  # in the order in which they sound
    source: str = ""  # data set and file
    origin: str = ""  # the recording it was cut from, "freesound:1234"; several: joined by ";"
    # How each text came to be: one word for all, or one each, captions then negative captions.
    provenance: str = "template"
    samples: int = 0  # that a log-mel was made of

    @property
    def seconds(self) -> float:
        """How long the sound is."""
        return (self.samples or len(self.audio)) / self.sample_rate

    def problems(self, audio: bool = True) -> list[str]:
        """What makes this example unfit to be a record; empty where it is fine.

        Without `audio`, unfit to be the texts of one.
        """
        found = []
        for name in ("audio", "negative_audio") if audio else ():
            samples = getattr(self, name)
            if samples is None:
                continue
            if (samples.dtype, samples.ndim) not in ((np.int16, 1), (np.float16, 2)):
                shape = f"{samples.dtype} {samples.shape}"
                found.append(f"{name} is {shape}, not int16 (T,) or float16 (F, mel_bins)")
            elif not np.isfinite(samples).all():
                found.append(f"{name} is not finite")
            elif name == "audio" and not np.any(samples > SILENCE if samples.ndim > 1 else samples):
                found.append("audio is empty or silent")
        if not self.id:
            found.append("id is empty")
        if audio and self.sample_rate < 1:
            found.append(f"sample_rate is {self.sample_rate}")
        if not self.captions or not all(caption.strip() for caption in self.captions):
            found.append("a caption is empty or there is none")
        if set(self.captions) & set(self.negative_captions):
            found.append("a negative caption equals a positive one")
        kinds = self.provenance.split(SEPARATOR)
        if not all(kind.startswith(PROVENANCES) for kind in kinds):
            found.append(f"provenance {self.provenance!r} is not one of {PROVENANCES}")
        # Records made before negatives had one: a word for each caption alone.
        texts = len(self.captions) + len(self.negative_captions)
        if len(kinds) not in (1, len(self.captions), texts):
            found.append(f"provenance has {len(kinds)} words for {texts} texts")
        return found

    def kinds(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """How each caption, and each negative caption, came to be."""
        words = self.provenance.split(SEPARATOR)
        captions, negatives = len(self.captions), len(self.negative_captions)
        if len(words) == 1:
            words = words * (captions + negatives)
        words += ["template"] * (captions + negatives - len(words))  # all that negatives once were
        return tuple(words[:captions]), tuple(words[captions:])

    def to_record(self, split: str = "", form: Form | None = PCM) -> dict:
        """The mapping that the TFDS features serialise; without a form, its texts alone."""
        sound = {} if form is None else form.sound(self, split)
        rate = {} if form is None else {"sample_rate": np.int32(self.sample_rate)}
        return (
            sound
            | rate
            | {
                "id": self.id,
                "captions": list(self.captions),
                "negative_captions": list(self.negative_captions),
                "labels": list(self.labels),
                "events": list(self.events),
                "source": self.source,
                "origin": self.origin,
                "provenance": self.provenance,
            }
        )


def example_from_features(record) -> Example:
    """The inverse of `Example.to_record`, of a record's features by name.

    What a record made before there was a feature lacks has the default of the schema; where it has
    its texts alone, audio is empty and sample_rate 0.

    Raises:
      KeyError: a feature is not there.
      IndexError, ValueError: one is damaged.
    """

    def texts(name: str) -> tuple[str, ...]:
        return tuple(value.decode() for value in _feature(record, name).bytes_list.value)

    def text(name: str) -> str:
        return _feature(record, name).bytes_list.value[0].decode()

    def number(name: str) -> int:
        return record[name].int64_list.value[0] if name in record else 0

    audio, negative = read_sound(record), read_sound(record, negative=True)
    return Example(
        id=text("id"),
        audio=np.zeros(0, np.int16) if audio is None else audio,
        sample_rate=number("sample_rate"),
        captions=texts("captions"),
        negative_captions=texts("negative_captions"),
        negative_audio=negative if negative is not None and negative.size else None,
        labels=texts("labels"),
        events=texts("events"),
        source=text("source"),
        origin=text("origin") if "origin" in record else "",
        provenance=text("provenance"),
        samples=number("samples") if audio is not None and audio.ndim == 2 else 0,
    )


def _feature(record, name: str):
    if name not in record:  # a map of protobuf would make one
        raise KeyError(name)
    return record[name]


def features(form: Form | None = PCM):
    """The TFDS FeaturesDict of a record; sound is stored as raw bytes, quick to parse.

    Without a form, that of texts that lie apart from their sound.

    `tfds.features.Tensor` with bytes encoding, since `Audio` of TFDS 4.9.10 cannot write bytes.
    """
    import tensorflow_datasets as tfds

    def sound(name: str):
        if name == "flac":
            return tfds.features.Text(doc="a FLAC file: int16, mono; empty where there is none")
        if name == "mel":
            doc = "log-mel, dB, of the front end that clapjax_build.json describes"
            shape = (None, form.front_end.mel_bins)
            return tfds.features.Tensor(shape=shape, dtype=np.float16, encoding="bytes", doc=doc)
        return tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes")

    texts = tfds.features.Sequence(tfds.features.Text())
    found = {
        "id": tfds.features.Text(),
        "captions": texts,
        "negative_captions": texts,
        "labels": texts,
        "events": texts,
        "source": tfds.features.Text(),
        "origin": tfds.features.Text(),
        "provenance": tfds.features.Text(),
    }
    if form is not None:
        found["sample_rate"] = np.int32
        names = features_of(form.kind)
        found |= {prefix + name: sound(name) for prefix in ("", NEGATIVE) for name in names}
        if form.kind == "mel":
            found |= {"mel_bins": np.int32, "samples": np.int32}
    return tfds.features.FeaturesDict(found)
