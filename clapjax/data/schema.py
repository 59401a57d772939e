"""The record schema: one example, its checks, and its TFDS features."""

from dataclasses import dataclass

import numpy as np

PROBE = "probe:"  # by template, to be judged by alone; what is probed follows
PROVENANCES = ("human", "template", "keyword", "rules", "llm:", "captioner:", PROBE)
SEPARATOR = ";"  # between the words of a provenance
AUDIO_FEATURES = ("audio", "sample_rate", "negative_audio")  # texts may lie apart from these


@dataclass(frozen=True)
class Example:
    """One audio-caption record; see the feature table in docs/records.md."""

    id: str
    audio: np.ndarray  # (T,) int16 mono PCM at `sample_rate`
    sample_rate: int  # Hz
    captions: tuple[str, ...]  # at least one
    negative_captions: tuple[str, ...] = ()  # the same events in a wrong order
    negative_audio: np.ndarray | None = None  # (T',) int16: the same events in a wrong order
    labels: tuple[str, ...] = ()
    events: tuple[str, ...] = ()  # in the order in which they sound
    source: str = ""  # data set and file
    origin: str = ""  # the recording it was cut from, "freesound:1234"; several: joined by ";"
    # How each text came to be: one word for all, or one each, captions then negative captions.
    provenance: str = "template"

    def problems(self, audio: bool = True) -> list[str]:
        """What makes this example unfit to be a record; empty where it is fine.

        Without `audio`, unfit to be the texts of one.
        """
        found = []
        for name in ("audio", "negative_audio") if audio else ():
            samples = getattr(self, name)
            if samples is None:
                continue
            if samples.dtype != np.int16 or samples.ndim != 1:
                found.append(f"{name} is {samples.dtype} {samples.shape}, not int16 (T,)")
            elif name == "audio" and not samples.any():
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

    def to_record(self) -> dict:
        """The mapping that the TFDS features serialise."""
        empty = np.zeros(0, np.int16)
        return {
            "id": self.id,
            "audio": self.audio,
            "sample_rate": np.int32(self.sample_rate),
            "captions": list(self.captions),
            "negative_captions": list(self.negative_captions),
            "negative_audio": empty if self.negative_audio is None else self.negative_audio,
            "labels": list(self.labels),
            "events": list(self.events),
            "source": self.source,
            "origin": self.origin,
            "provenance": self.provenance,
        }


def example_from_record(record: dict) -> Example:
    """The inverse of `Example.to_record`, for a record decoded to numpy by TFDS.

    Where a record has its texts alone, audio is empty and sample_rate 0.
    """

    def text(value) -> str:
        return value.decode() if isinstance(value, bytes) else str(value)

    def texts(values) -> tuple[str, ...]:
        return tuple(text(value) for value in values)

    negative = np.asarray(record.get("negative_audio", ()))
    return Example(
        id=text(record["id"]),
        audio=np.asarray(record.get("audio", np.zeros(0, np.int16))),
        sample_rate=int(record.get("sample_rate", 0)),
        captions=texts(record["captions"]),
        negative_captions=texts(record["negative_captions"]),
        negative_audio=negative if negative.size else None,
        labels=texts(record["labels"]),
        events=texts(record["events"]),
        source=text(record["source"]),
        origin=text(record.get("origin", "")),
        provenance=text(record["provenance"]),
    )


def features(audio: bool = True):
    """The TFDS FeaturesDict of a record; PCM is stored as raw bytes, quick to parse.

    Without `audio`, that of texts that lie apart from it.

    `tfds.features.Tensor` with bytes encoding, since `Audio` of TFDS 4.9.10 cannot write bytes.
    """
    import tensorflow_datasets as tfds

    pcm = tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes")
    texts = tfds.features.Sequence(tfds.features.Text())
    found = {
        "id": tfds.features.Text(),
        "audio": pcm,
        "sample_rate": np.int32,
        "captions": texts,
        "negative_captions": texts,
        "negative_audio": pcm,
        "labels": texts,
        "events": texts,
        "source": tfds.features.Text(),
        "origin": tfds.features.Text(),
        "provenance": tfds.features.Text(),
    }
    kept = {name: feature for name, feature in found.items() if audio or name not in AUDIO_FEATURES}
    return tfds.features.FeaturesDict(kept)
