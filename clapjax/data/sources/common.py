"""What the sources share: tables with clear errors, audio found by name, rows turned into clips."""

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePath, PurePosixPath

from clapjax.data import paths
from clapjax.data.schema import SEPARATOR
from clapjax.data.selection import join_provenance
from clapjax.data.sources.clip import Clip, Notice, Problem, Rejected, SourceError, TimedEvent
from clapjax.data.sources.readers import FileReader
from clapjax.data.tables import (
    TableError,
    caption_items,
    cell_items,
    listed,
    read_table,
    table_columns,
    text_key,
)

SPLITS = {
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "eval": "test",
    "evaluation": "test",
}
ROLES = ("train", "validation", "test")


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
    comment: str = "",
    encoding: str = "utf-8-sig",
) -> Iterator[dict]:
    """Yields the rows of a table, as `read_table` reads it.

    Args:
      file: the table.
      columns: those that must be there; the names of all columns where there is no header.
      header: whether the first row names the columns.
      comment, encoding: see `read_table`.

    Raises:
      TableError: as for `read_table`, or a column lacks.
    """
    there = table_columns(file, encoding) if header else columns
    if missing := [name for name in columns if name not in there]:
        raise TableError(
            f"{file}: without the columns {', '.join(missing)}; it has {listed(there)}"
        )
    names = () if header else columns
    for _, row in read_table(file, columns=names, comment=comment, encoding=encoding):
        yield row


def unread_columns(file: Path, rows: Iterable[dict], read: Iterable[str]) -> Iterator[Notice]:
    """Says which columns of a table nothing reads: a misspelt name is not lost in silence.

    Args:
      file: the table.
      rows: of the table.
      read: columns that are read, besides those of `texts_of`.
    """
    there = dict.fromkeys(str(name) for row in rows for name in row)  # YAML has numbers too
    if unread := [name for name in there if name not in read and not is_text_column(name)]:
        yield Notice(str(file), f"nothing reads the columns {listed(unread)}")


def count_files(root: Path, names: Iterable[str], what: str) -> Iterator[Notice]:
    """Says how many files are of no use, by suffix; nothing where there are none."""
    counts = Counter(PurePosixPath(name).suffix.lower() or "without a suffix" for name in names)
    if counts:
        said = ", ".join(f"{count} {suffix}" for suffix, count in sorted(counts.items()))
        yield Notice(str(root), f"{what}: {said}")


def read_json(file: Path):
    """The content of a JSON file.

    Raises:
      SourceError: no such file, or not JSON.
    """
    try:
        return json.loads(paths.read_text(file, "utf-8-sig"))
    except OSError as error:
        raise SourceError(f"{file}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{file}: is not JSON ({error})") from error


def free_name(taken: set[str], *names: str) -> str:
    """The first name that is not taken, else the last one with a number; takes it."""
    numbered = (f"{names[-1]}~{number}" for number in itertools.count(2))
    name = next(name for name in itertools.chain(names, numbered) if name not in taken)
    taken.add(name)
    return name


def make_clip(
    data_set: str,
    name: str,
    audio: Path | Callable | Problem | None,
    *,
    group: str = "",
    split: str = "",
    fold: int | None = None,
    labels: Iterable = (),
    captions: Iterable = (),
    negative_captions: Iterable = (),
    augmented: Iterable = (),
    events: Iterable[TimedEvent] = (),
    provenance: str | Sequence[str] = "human",
    problem: str = "",
) -> Clip | Rejected:
    """A clip, or the reason why there is none.

    Args:
      data_set: what the source is called.
      name: names the recording within it, without a suffix; unique in a split.
      audio: its file, or a reader (readers.py), or why there is none; None where it is missing.
      group: original recording, e.g. "freesound:1234"; its own name by default.
      labels, captions, negative_captions, augmented: cells as `cell_items` reads them.
      provenance: a word for all captions and negative captions, or one for each, in this order; a
        list, or joined by ";".
      split, fold, events: see `Clip`.
      problem: what is wrong with the clip's texts; "" where nothing is.
    """
    where = f"{split}/{name}" if split else name
    source = f"{data_set}:{where}"
    captions, negative_captions = list(captions), list(negative_captions)
    words = provenance.split(SEPARATOR) if isinstance(provenance, str) else list(provenance)
    texts = len(captions) + len(negative_captions)
    if len(words) == 1:
        words *= max(1, texts)
    if len(words) != texts and texts:
        problem = problem or _wrong_count(words, texts)
    try:
        positive = _kinds(captions, words)
        negative = _kinds(negative_captions, words[len(captions) :])
        augmented = tuple(dict.fromkeys(item for cell in augmented for item in caption_items(cell)))
        labels = tuple(dict.fromkeys(item for cell in labels for item in cell_items(cell)))
    except ValueError as error:
        problem = problem or str(error)
    if not problem and (same := set(map(text_key, positive)) & set(map(text_key, negative))):
        problem = f"a negative caption is a caption too: {min(same)!r}"
    if problem:
        return Rejected(source, problem)
    if audio is None or isinstance(audio, Problem):
        return Rejected(source, audio.reason if audio else "no audio file for it")
    if not (labels or positive or augmented):
        return Rejected(source, "neither a caption nor a label")
    return Clip(
        id=f"{data_set}-{where}",
        label=labels[0] if len(labels) == 1 else "",
        fold=fold,
        group=group or source,
        source=source,
        read=FileReader(audio) if isinstance(audio, PurePath) else audio,
        split=split,
        labels=labels,
        captions=tuple(positive),
        negative_captions=tuple(negative),
        augmented=augmented,
        events=tuple(sorted(events, key=lambda event: (event.start, event.end, event.label))),
        provenance=join_provenance([*positive.values(), *negative.values()] or words[:1]),
    )


def _kinds(cells: list, words: Sequence[str]) -> dict[str, str]:
    """Text to the word that says how it came to be, of cells with a word each."""
    kinds: dict[str, str] = {}
    for cell, word in zip(cells, words, strict=False):
        for text in caption_items(cell):
            kinds.setdefault(text, word.strip())
    return kinds


def _wrong_count(words: Sequence[str], texts: int) -> str:
    return f"provenance has {len(words)} words for {texts} captions and negative captions"


def parse_seconds(text: str) -> float:
    """A time in a cell.

    Raises:
      ValueError: it is none; neither is "nan" or "inf".
    """
    seconds = float(text)
    if not math.isfinite(seconds):
        raise ValueError(f"{text!r} is not a time")
    return seconds


def split_name(text: str) -> str:
    """A split as records call it: "val" is "validation", "dev" too, "eval" is "test".

    Of letters, digits, "_" and "-", as TFDS has them: "test.clean" is "test_clean".
    """
    text = re.sub(r"[^\w-]+", "_", text.strip().lower()).strip("_-")
    return SPLITS.get(text, text)


def split_in(name: str) -> str:
    """The split that the name of a file or folder tells: "test2" and "my_test" are of the test set.

    "" where no word in it does, or several.
    """
    if split_name(name) in ROLES:
        return split_name(name)
    told = {split_name(word) for word in re.findall(r"[a-z]+", name.lower())} & set(ROLES)
    return told.pop() if len(told) == 1 else ""


CAPTIONS = ("caption", "captions", "text")
NEGATIVES = ("negative_caption", "negative_captions")
LABELS = ("label", "labels", "tag", "tags")
AUGMENTED = ("text_augment_t5", "text_augment_all")


def is_text_column(name: str) -> bool:
    """Whether `texts_of` reads a column."""
    return name in (*CAPTIONS, *NEGATIVES, *LABELS, *AUGMENTED, "provenance") or bool(
        re.fullmatch(r"caption_\d+", name)
    )


def texts_of(row: dict, provenance: str = "human") -> dict:
    """Captions and labels of a row of a plain table or of LAION's JSON.

    Captions are in `caption`, `captions`, `caption_1`, `caption_2`, ... or `text`; those in a wrong
    order in `negative_captions`; how they came to be in `provenance`: a word, or one for each,
    captions first, a list or joined by ";". Labels are in `label`, `labels`, `tag` or `tags`;
    captions of a model in `text_augment_t5` and `text_augment_all` (which repeats `text`). What a
    cell holds is told by `cell_items`; a text of several labels has semicolons between them.

    Args:
      row: column to cell.
      provenance: where the row does not tell.

    Returns:
      Arguments of `make_clip`: captions, negative_captions, provenance, labels, augmented, problem.
    """
    numbered = [name for name in row if re.fullmatch(r"caption_\d+", name)]
    names = [*CAPTIONS[:2], *numbered, *CAPTIONS[2:]]
    try:
        captions = [text for name in names for text in caption_items(row.get(name))]
        negatives = [text for name in NEGATIVES for text in caption_items(row.get(name))]
        augmented = [text for name in AUGMENTED for text in caption_items(row.get(name))]
        cells = [text for name in LABELS for text in cell_items(row.get(name))]
        words = cell_items(row.get("provenance"))
    except ValueError as error:
        return {"problem": str(error)}
    words = [word for text in words for word in text.split(SEPARATOR)] or [provenance]
    texts = len(captions) + len(negatives)
    if len(words) not in (1, texts):
        return {"problem": _wrong_count(words, texts)}
    return {
        "captions": captions,
        "negative_captions": negatives,
        "provenance": words * max(1, texts) if len(words) == 1 else words,
        "labels": [part for text in cells for part in text.split(";")],
        "augmented": [text for text in dict.fromkeys(augmented) if text not in captions],
    }


def join_texts(parts: Iterable[dict]) -> dict:
    """The texts of several rows about one clip, each as `texts_of` gives them."""
    joined: dict = {"captions": [], "negative_captions": [], "labels": [], "augmented": []}
    kinds: list[str] = []
    negative_kinds: list[str] = []
    for part in parts:
        if "problem" in part:
            return part
        count = len(part["captions"])
        kinds += part["provenance"][:count]
        negative_kinds += part["provenance"][count:][: len(part["negative_captions"])]
        for name, texts in joined.items():
            texts += part[name]
    return joined | {"provenance": kinds + negative_kinds or ["human"]}
