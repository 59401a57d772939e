"""The forms in which records hold sound: PCM, FLAC, or the log-mel of one model's front end.

FLAC is PCM, bit for bit, in about half of the bytes. A log-mel is a quarter of the PCM or less, and
serves training alone: splits that are held out are FLAC in such a data set, for what judges a model
hears sound. What front end made them is in the data set's description, and is compared.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clapjax.audio.config import AudioConfig
from clapjax.data.shards import RecordsError
from clapjax.plain import from_dict, to_dict

KINDS = ("pcm", "flac", "mel")
NAMES = {"pcm": "audio", "flac": "flac", "mel": "mel"}  # of the feature of a record
NEGATIVE = "negative_"  # before it, of the sound in a wrong order


@dataclass(frozen=True)
class Form:
    """How the records of a data set hold sound."""

    kind: str = "pcm"
    front_end: AudioConfig | None = None  # of log-mels
    mel_splits: tuple[str, ...] = ()  # those that hold log-mels

    def described(self) -> dict:
        """What a build description has of it; of PCM nothing, as before there were others."""
        if self.kind == "pcm":
            return {}
        if self.kind == "flac":
            return {"audio": "flac"}
        return {
            "audio": "mel",
            "mel_splits": list(self.mel_splits),
            "front_end": to_dict(self.front_end),
            "front_end_fingerprint": fingerprint(self.front_end),
        }

    def of_split(self, split: str) -> str:
        """The kind of a split, or of several, "a+b".

        Raises:
          RecordsError: some of them hold log-mels, others do not.
        """
        if self.kind != "mel":
            return self.kind
        found = {"mel" if part in self.mel_splits else "flac" for part in split.split("+")}
        if len(found) > 1:
            raise RecordsError(
                f"split {split}: some of it is log-mels, some FLAC; name one or other"
            )
        return found.pop()

    def sound(self, example, split: str) -> dict:
        """The features that hold the sound of an example, as TFDS serialises them.

        What a split holds as log-mels is PCM before, or a log-mel already.
        """
        kind, found = self.of_split(split), {}
        for prefix, samples in (("", example.audio), (NEGATIVE, example.negative_audio)):
            for name in features_of(self.kind):
                own = name == NAMES[kind] and samples is not None and samples.size
                found[prefix + name] = self._encoded(samples, name) if own else self._nothing(name)
        if self.kind == "mel":
            bins = self.front_end.mel_bins if kind == "mel" else 0
            samples = example.samples or example.audio.size
            found |= {"mel_bins": np.int32(bins), "samples": np.int32(samples)}
        return found

    def _encoded(self, samples: np.ndarray, name: str):
        if name == "flac":
            return encode_flac(samples)
        if name == "mel" and samples.ndim == 1:
            from clapjax.audio.host_mel import host_log_mel

            return host_log_mel(samples, self.front_end)
        return samples

    def _nothing(self, name: str):
        if name == "flac":
            return b""
        return np.zeros((0, self.front_end.mel_bins), np.float16) if name == "mel" else PCM_NONE


PCM = Form()
PCM_NONE = np.zeros(0, np.int16)


def features_of(kind: str) -> tuple[str, ...]:
    """Names of the features that hold sound in a data set of a kind, without the negative ones."""
    return ("flac", "mel") if kind == "mel" else (NAMES[kind],)


def form_of(build: Mapping) -> Form:
    """The form of a data set by its description."""
    data = build.get("data", {})
    if data.get("audio", "pcm") != "mel":
        return Form(data.get("audio", "pcm"))
    return Form("mel", from_dict(AudioConfig, data["front_end"]), tuple(data.get("mel_splits", ())))


def fingerprint(front_end: AudioConfig) -> str:
    """Tells a front end from others: all its settings, of the length and filling of a clip too."""
    text = json.dumps(to_dict(front_end), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def check_form(name: str, form: Form, split: str, asked: str, front_end: AudioConfig) -> str:
    """What a batch of a split holds, "pcm" or "mel".

    Args:
      name: of the data set, for messages.
      form: of the data set.
      split: that is trained on.
      asked: `DataConfig.audio`.
      front_end: the model's.

    Raises:
      RecordsError: the records are of another form than was asked for, or of another front end.
    """
    try:
        kind = form.of_split(split)
    except RecordsError as error:
        raise RecordsError(f"{name}: {error}") from None
    if asked not in ("auto", kind):
        raise RecordsError(
            f"{name}: the split {split} holds {kind}, and data.audio={asked} is asked for; set "
            f"--config.data.audio=auto, or build it with --config.data.audio={asked}"
        )
    if kind == "mel" and form.front_end != front_end:
        theirs, ours = to_dict(form.front_end), to_dict(front_end)
        differ = ", ".join(
            f"{key} {theirs[key]} and {ours[key]}" for key in ours if theirs[key] != ours[key]
        )
        raise RecordsError(
            f"{name}: its log-mels are of the front end {fingerprint(form.front_end)}, the model's "
            f"is {fingerprint(front_end)} ({differ}); build records for this model"
        )
    return "mel" if kind == "mel" else "pcm"


def encode_flac(samples: np.ndarray) -> bytes:
    """(T,) int16 as a FLAC file. The rate that it tells is not used: a record has its own."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, 48_000, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def decode_flac(data: bytes) -> np.ndarray:
    """The (T,) int16 samples of `encode_flac`.

    Raises:
      ValueError: it is damaged.
    """
    import soundfile

    try:
        return soundfile.read(io.BytesIO(data), dtype="int16")[0]
    except soundfile.LibsndfileError as error:
        raise ValueError(f"damaged FLAC ({error})") from error


def read_sound(record: Mapping, negative: bool = False) -> np.ndarray | None:
    """The sound of a record's features by name.

    Args:
      record: of `tf.train.Example`.
      negative: the one in a wrong order.

    Returns:
      (T,) int16 samples or a (F, mel_bins) float16 log-mel, empty where it is stored empty; None
      where the record has no such feature.

    Raises:
      ValueError: it is damaged.
    """
    prefix, empty = NEGATIVE if negative else "", None
    for kind, name in NAMES.items():
        value = record[prefix + name].bytes_list.value if prefix + name in record else ()
        if not value:
            continue
        if not value[0]:
            empty = PCM_NONE
        elif kind == "flac":
            return decode_flac(value[0])
        elif kind == "pcm":
            return np.frombuffer(value[0], np.int16)
        else:
            bins = record["mel_bins"].int64_list.value[0]
            return np.frombuffer(value[0], np.float16).reshape(-1, bins)
    return empty


def has_negative(record: Mapping) -> bool:
    """Whether a record has sound in a wrong order; nothing is decoded."""
    names = (NEGATIVE + name for name in NAMES.values())
    return any(any(record[name].bytes_list.value) for name in names if name in record)


def heard(samples: np.ndarray, what: str) -> np.ndarray:
    """Samples as they are.

    Raises:
      RecordsError: they are a log-mel, which cannot be heard; `what` names whose they are.
    """
    if samples.ndim != 1:
        raise RecordsError(
            f"{what}: is stored as a log-mel, from which a model can be trained; this needs PCM or "
            "FLAC: records built with --config.data.audio=flac"
        )
    return samples
