"""What miniatures of published data sets are made of: short real sounds and small tables."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from clapjax.synthesis.sounds import SOUND_CLASSES, render

RATE = 16_000
SECONDS = 0.3


@dataclass(frozen=True)
class Expected:
    """One clip that a source must yield."""

    id: str
    sound: int  # which of `sound`
    group: str
    split: str = ""
    fold: int | None = None
    labels: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    provenance: str = "human"


@dataclass(frozen=True)
class Layout:
    """A miniature, and how to break it."""

    clips: tuple[Expected, ...]
    table: Path  # without which there is nothing
    audio: Path  # of the first clip
    column: tuple[str, str]  # a replacement in the table that takes a column away
    empty: tuple[str, str]  # one that takes the first clip's captions and labels away
    again: tuple[str, str] = ("", "")  # one that names the first clip twice; none: rows are merged
    extra: dict[str, Path] = field(default_factory=dict)


def sound(number: int) -> np.ndarray:
    """(T,) int16: a short sound, another for each number."""
    name = SOUND_CLASSES[number % len(SOUND_CLASSES)]
    return (render(name, (7, number), SECONDS, RATE) * 32767).astype(np.int16)


def write_audio(file: Path, number: int) -> Path:
    """Writes `sound(number)` in the format that the file's suffix names, without loss in WAV."""
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, sound(number), RATE)
    return file


def write_table(file: Path, rows: list[tuple], header: str = "", delimiter: str = ",") -> Path:
    """Writes a CSV table."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
        writer.writerows([header.split(","), *rows] if header else rows)
    return file
