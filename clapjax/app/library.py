"""The sounds of the page: a folder of files, the embedded ones, or an index of any size."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from clapjax.audio.files import AudioError, audio_seconds
from clapjax.data.paths import as_path, is_local
from clapjax.inference import Clap
from clapjax.inference.index import Hit, Index
from clapjax.inference.inputs import Fetched, at_hand
from clapjax.inference.store import Table, write_table
from clapjax.synthesis.sounds import SOUND_CLASSES, render

MOST_NAMES = 1000  # to choose from on the page; what a search finds may be chosen besides
RATE, SECONDS = 32_000, 4.0  # of an embedded sound
PAUSE = 0.3  # s between two of them
SEED = 2**31  # of none that `clapjax demo` trains on


@dataclass(frozen=True)
class Library:
    """What is searched, and where its sounds are."""

    index: Index
    names: Sequence[str]  # of its sounds, at most MOST_NAMES
    count: int  # of its sounds, or of an index rows
    paths: Mapping[str, str] = field(default_factory=dict)  # of names that are no path
    left_out: Sequence[str] = ()  # a line about each sound that cannot be heard

    @property
    def beginning(self) -> str:
        """What all names begin with: folders, up to the last slash."""
        return os.path.commonprefix(self.names).rpartition("/")[0] + "/"

    def title(self, name: str) -> str:
        """A name without the folders that all have."""
        return name.removeprefix(self.beginning)

    def missing(self) -> list[str]:
        """Of `names` those that are no file of this machine any more."""
        paths = ((name, as_path(self.path(name))) for name in self.names)
        return [name for name, path in paths if is_local(path) and not path.exists()]

    def path(self, name: str) -> str:
        """Where a sound is."""
        return self.paths.get(name, name)


def open_library(model: Clap, path: str | os.PathLike) -> Library:
    """What `clapjax index` made or `clapjax embed` wrote.

    Raises:
      ValueError: missing, damaged, of another model, or without sounds.
    """
    index = Index(path)
    index.check(model)
    if "audio" not in index.about:
        raise ValueError(f"{path}: has texts alone, and no sound to hear")
    return Library(index, index.names("audio", MOST_NAMES), index.about["audio"]["rows"])


def make_library(
    model: Clap, files: Sequence[str], folder: Path, step: Callable[[], None]
) -> Library:
    """Embeds files whole, a clip after the other, so that a hit tells where in a long one it is.

    Args:
      model: what embeds.
      files: paths.
      folder: of this machine, for the table.
      step: is called after each file.

    Raises:
      ValueError: none of them can be heard.
    """
    heard: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    left_out = {}
    for number, found in model.each_windows(files):
        step()
        if isinstance(found, AudioError):
            left_out[number] = str(found)
        else:
            heard[number] = found
    if not heard:
        raise ValueError(f"none of {len(files)} sounds can be heard; {left_out[min(left_out)]}")
    # A table holds Unicode; names of files need not be.
    named = {n: os.fsencode(files[n]).decode("utf-8", "backslashreplace") for n in sorted(heard)}
    names = [name for n, name in named.items() for _ in heard[n][0]]
    times, vectors = (np.concatenate([heard[n][i] for n in named]) for i in range(2))
    table = Table(vectors, names, ["audio"] * len(names), "this model", {}, times)
    write_table(folder / "library.parquet", table)
    index = Index(folder / "library.parquet")
    paths = {name: files[n] for n, name in named.items() if files[n] != name}
    told = [left_out[n] for n in sorted(left_out)]
    return Library(index, list(named.values())[:MOST_NAMES], len(named), paths, told)


def write_sounds(folder: Path) -> list[str]:
    """Writes the embedded sounds, pairs in both orders and one of each class: their paths."""
    single = {name: render(name, SEED, SECONDS, RATE) for name in SOUND_CLASSES}
    pause = np.zeros(round(PAUSE * RATE), np.float32)
    pairs = {}
    for one, other in zip(SOUND_CLASSES[::4], SOUND_CLASSES[2::4], strict=True):
        for first, second in ((one, other), (other, one)):
            parts = [single[first], pause, single[second]]
            pairs[f"{first} then {second}"] = np.concatenate(parts)
    paths = []
    for name, samples in (pairs | single).items():
        paths.append(str(folder / f"{name}.flac"))
        soundfile.write(paths[-1], samples, RATE)
    return paths


def find(library: Library, query: np.ndarray, top: int) -> list[Hit]:
    """The sounds nearest to a (D,) query, each at its nearest place, best first."""
    count = top
    while True:
        hits = library.index.search(query, count, "audio")[0]
        best = {hit.name: hit for hit in reversed(hits)}
        if len(best) >= top or len(hits) < count:
            return sorted(best.values(), key=lambda hit: -hit.score)[:top]
        count *= 4  # most are places in the same few sounds


def readable(path: str) -> tuple[str | bytes, str]:
    """(What the decoders open, its name) of a file here or in a bucket."""
    found = at_hand(path)
    return (found.data, found.name) if isinstance(found, Fetched) else (path, path)


def seconds_of(path: str) -> float | None:
    """How long a sound is; None where it does not say.

    Raises:
      AudioError: it cannot be read.
    """
    return audio_seconds(*readable(path))
