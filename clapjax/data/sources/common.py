"""What the sources share: tables with clear errors, audio found by name, rows turned into clips."""

import csv
import functools
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePath

import numpy as np

from clapjax.data import paths
from clapjax.data.sources.clip import Clip, Rejected, TimedEvent

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au")
SPLITS = {
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "eval": "test",
    "evaluation": "test",
}


class SourceError(ValueError):
    """A folder that is not laid out as its data set is published; the message says what lacks."""


def first_existing(root: Path, *names: str) -> Path:
    """The first of some files or folders that is there.

    Raises:
      SourceError: none is.
    """
    for name in names:
        if (root / name).exists():
            return root / name
    raise SourceError(f"{root}: no {' or '.join(names)} here; see docs/sources.md for the layout")


def read_rows(
    file: Path,
    columns: Sequence[str],
    *,
    header: bool = True,
    delimiter: str = ",",
    comment: str = "",
    encoding: str = "utf-8-sig",
) -> Iterator[dict[str, str]]:
    """Yields the rows of a CSV file; a cell that a row lacks is "".

    Args:
      file: the table.
      columns: those that must be there; the names of all columns where there is no header.
      header: whether the first row names the columns.
      delimiter: between the cells.
      comment: lines that begin with this are no rows; "" where all are.
      encoding: of the text.

    Raises:
      SourceError: no such file, no rows, a column lacks, or it is not CSV text.
    """
    try:
        with paths.open_text(file, encoding) as stream:
            lines = (line for line in stream if not (comment and line.startswith(comment)))
            reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
            first = next(reader, None)
            if first is None:
                raise SourceError(f"{file}: the table is empty")
            names = first if header else list(columns)
            if missing := [name for name in columns if name not in names]:
                raise SourceError(
                    f"{file}: without the columns {', '.join(missing)}; it has {', '.join(names)}"
                )
            if len(first) != len(names):
                raise SourceError(f"{file}: {len(first)} columns, not {', '.join(names)}")
            empty = header
            for row in reader if header else itertools.chain([first], reader):
                if row:
                    empty = False
                    yield dict(itertools.zip_longest(names, row[: len(names)], fillvalue=""))
            if empty:
                raise SourceError(f"{file}: the table has no rows")
    except OSError as error:
        raise SourceError(f"{file}: cannot be read ({error.strerror})") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise SourceError(f"{file}: is not a CSV table in {encoding} ({error})") from error


def read_json(file: Path):
    """The content of a JSON file.

    Raises:
      SourceError: no such file, or not JSON.
    """
    try:
        return json.loads(paths.read_text(file, "utf-8-sig"))
    except OSError as error:
        raise SourceError(f"{file}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise SourceError(f"{file}: is not JSON ({error})") from error


def audio_files(root: Path, within: str = "") -> Iterator[Path]:
    """Yields the audio files below a folder, sorted; links are followed.

    Args:
      root: where to look.
      within: only files with a folder of this name above them.
    """
    for folder, _, names in paths.walk(root):
        if within and within not in folder.relative_to(root).parts:
            continue
        for name in sorted(names):
            if name.lower().endswith(AUDIO_SUFFIXES):
                yield folder / name


def index_by_stem(root: Path, within: str = "") -> dict[str, Path]:
    """File name without suffix to audio file, for what `audio_files` finds; the first one counts.

    Raises:
      SourceError: there is no audio.
    """
    index: dict[str, Path] = {}
    for file in audio_files(root, within):
        index.setdefault(file.stem, file)
    if not index:
        below = f"a folder {within} below it" if within else "it or a folder below it"
        raise SourceError(f"{root}: no audio files in {below}")
    return index


VIDEO_FILE = re.compile(r"(?:|Y)([A-Za-z0-9_-]{11})(?:_([\d.]+))?(?:_[\d.]+)?")


def index_by_video(root: Path) -> dict[str, list[tuple[float | None, Path]]]:
    """YouTube id to (start as the name gives it, audio file), from names such as these.

    `ID.wav`, `YID.wav`, `ID_30.flac`, `ID_000030.wav`, `ID_30000.wav`, `ID_30000_40000.wav`.

    Raises:
      SourceError: there is no audio.
    """
    index: dict[str, list[tuple[float | None, Path]]] = {}
    for stem, file in index_by_stem(root).items():
        if match := VIDEO_FILE.fullmatch(stem):
            start = float(match[2]) if match[2] and match[2].count(".") < 2 else None
            index.setdefault(match[1], []).append((start, file))
    return index


def find_video(index: dict, video: str, start: float | None) -> Path | None:
    """The file of a segment: named with its start in s or ms, or without a start."""
    for named, file in index.get(video, ()):
        if named is None or start is None or named in (start, 1000 * start):
            return file
    return None


def clean(texts: Iterable[str | None]) -> tuple[str, ...]:
    """Texts without the empty ones, without repetitions, white space made single."""
    return tuple(dict.fromkeys(" ".join(text.split()) for text in texts if text and text.strip()))


def make_clip(
    data_set: str,
    name: str,
    audio: Path | Callable[[int], np.ndarray] | None,
    *,
    group: str = "",
    split: str = "",
    fold: int | None = None,
    labels: Iterable[str] = (),
    captions: Iterable[str | None] = (),
    augmented: Iterable[str | None] = (),
    events: Iterable[TimedEvent] = (),
    provenance: str = "human",
) -> Clip | Rejected:
    """A clip, or the reason why there is none.

    Args:
      data_set: what the source is called.
      name: names the recording within it, without a suffix; unique in a split.
      audio: its file, or a function that reads it at a sample rate; None where it is missing.
      group: original recording, e.g. "freesound:1234"; its own file by default.
      split, fold, labels, captions, augmented, events, provenance: see `Clip`.
    """
    where = f"{split}/{name}" if split else name
    source = f"{data_set}:{where}"
    labels, captions, augmented = clean(labels), clean(captions), clean(augmented)
    if audio is None:
        return Rejected(source, "no audio file for it")
    if not (labels or captions or augmented):
        return Rejected(source, "neither a caption nor a label")
    return Clip(
        id=f"{data_set}-{where}",
        label=labels[0] if len(labels) == 1 else "",
        fold=fold,
        group=group or _own_origin(data_set, audio, source),
        source=source,
        read=functools.partial(paths.read_sound, audio) if isinstance(audio, PurePath) else audio,
        split=split,
        labels=labels,
        captions=captions,
        augmented=augmented,
        events=tuple(sorted(events, key=lambda event: (event.start, event.end, event.label))),
        provenance=provenance,
    )


def _own_origin(data_set: str, audio: Path | Callable, source: str) -> str:
    """A file is one recording, whichever splits name it."""
    file = isinstance(audio, PurePath)
    return f"{data_set}:{audio.parent.name}/{audio.name}" if file else source


def split_name(text: str) -> str:
    """A split as records call it: "val" is "validation", "dev" too, "eval" is "test"."""
    text = text.strip().lower()
    return SPLITS.get(text, text)


def texts_of(row: dict) -> dict[str, tuple[str, ...]]:
    """Captions and labels of a row of a plain table or of LAION's JSON.

    Captions are in `caption`, `captions`, `caption_1`, `caption_2`, ... or `text`; labels in
    `label`, `labels`, `tag` or `tags`; captions of a model in `text_augment_t5` and
    `text_augment_all` (which repeats `text`). A cell is a text or a list; a text of several labels
    has semicolons between them.

    Returns:
      Arguments of `make_clip`: captions, labels, augmented.
    """
    names = ["caption", "captions", *(name for name in row if re.fullmatch(r"caption_\d+", name))]
    captions = clean(text for name in [*names, "text"] for text in _texts(row.get(name)))
    labels = clean(
        part
        for name in ("label", "labels", "tag", "tags")
        for text in _texts(row.get(name))
        for part in text.split(";")
    )
    augmented = clean(
        text
        for name in ("text_augment_t5", "text_augment_all")
        for text in _texts(row.get(name))
        if " ".join(text.split()) not in captions
    )
    return {"captions": captions, "labels": labels, "augmented": augmented}


def _texts(value) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    return [str(item) for item in values if item is not None]
