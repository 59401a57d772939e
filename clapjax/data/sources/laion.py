"""WebDataset tars: LAION-CLAP's (github.com/LAION-AI/audio-dataset, data_preprocess), open_clip's.

Layout: `*.tar` in the folder or below; the split is the folder that a tar is in. In each, audio
`N.flac` (any format) with its text in `N.json`, `N.txt` or both; a folder is part of N. The JSON
has `text` (a caption or a list), `tag` (a list), and where a T5 made captions of the tags,
`text_augment_t5` and `text_augment_all`, or other columns that `texts_of` of common.py reads; the
text is a caption. Uncompressed tars only: a clip is read where it lies.
"""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from clapjax.data import paths
from clapjax.data.bucket_errors import telling_of
from clapjax.data.sources.clip import Clip, Notice, Rejected, SourceError
from clapjax.data.sources.common import (
    count_files,
    free_name,
    join_texts,
    make_clip,
    split_name,
    texts_of,
    unread_columns,
)
from clapjax.data.sources.finding import is_audio, is_data, stem_of
from clapjax.data.sources.readers import MemberReader
from clapjax.data.tables import json_row

TEXT_SUFFIXES = (".json", ".txt")
UNREAD_KEYS = ("original_data",)  # of LAION's JSON
MAX_TEXT = 2**26  # bytes of a text; a header that says more is damaged


@dataclass(frozen=True)
class Sample:
    """The members of a tar that have one key."""

    audio: dict[str, tuple[int, int]] = field(default_factory=dict)  # name: (offset, size)
    texts: dict[str, bytes] = field(default_factory=dict)
    again: list[str] = field(default_factory=list)  # names that the tar has more than once
    odd: list[str] = field(default_factory=list)  # audio or text that does not lie there as a file


def clips(root: Path) -> Iterator[Clip | Rejected | Notice]:
    """Clips in the order of the tars, which are sorted by name with numbers as numbers."""
    files = [folder / name for folder, _, names in paths.walk(root) for name in names]
    tars = sorted((file for file in files if is_data(file, ".tar")), key=_numeric)
    if not tars:
        raise SourceError(f"{root}: no .tar files in it or below")
    taken: dict[str, set[str]] = {}
    keys: dict[str, None] = {}
    unread: list[str] = []
    for tar in tars:
        split = split_name(tar.parent.name) if tar.parent != root else ""
        names = taken.setdefault(split, set())
        samples, others, damage = _members(tar)
        unread += others
        for key, sample in samples.items():
            yield from _make(root, tar, split, key, sample, names, keys)
        if damage:
            found = sum(len(sample.audio) for sample in samples.values())
            reason = f"damaged after {found} clips ({damage})"
            yield Rejected(f"{root.name}:{tar.relative_to(root).as_posix()}", reason)
    yield from unread_columns(root, [keys], UNREAD_KEYS)
    yield from count_files(root, unread, "not read, in the tars")
    yield from count_files(root, (file.name for file in files if file not in tars), "not read")


def _numeric(tar: Path) -> tuple:
    number = int(tar.stem) if tar.stem.isdecimal() else -1
    return tar.parent, number, tar.name


def _members(tar: Path) -> tuple[dict[str, Sample], list[str], str]:
    """(Key to sample, other files, what is wrong): of a damaged tar, what is before the damage."""
    samples: dict[str, Sample] = {}
    others: list[str] = []
    try:
        with (
            telling_of([os.fspath(tar)]),
            tar.open("rb") as file,
            tarfile.open(fileobj=file, mode="r:") as archive,
        ):
            for member in archive:
                name = PurePosixPath(member.name).as_posix()
                suffix = PurePosixPath(name).suffix.lower()
                text = suffix in TEXT_SUFFIXES
                if member.isdir() or not (text or is_audio(name)):
                    others += [] if member.isdir() else [name]
                    continue
                key = name[: -len(suffix)] if text else stem_of(name)
                sample = samples.setdefault(key, Sample())
                if not member.isfile() or member.issparse() or text and member.size > MAX_TEXT:
                    sample.odd.append(name)
                elif name in sample.audio or name in sample.texts:
                    sample.again.append(name)
                elif text:
                    sample.texts[name] = archive.extractfile(member).read()
                else:
                    sample.audio[name] = (member.offset_data, member.size)
    except (tarfile.TarError, OSError) as error:
        if getattr(error, "passes", False):  # the rest of the tar is not lost
            raise
        return samples, others, str(error)
    return samples, others, ""


def _make(
    root: Path,
    tar: Path,
    split: str,
    key: str,
    sample: Sample,
    taken: set[str],
    keys: dict[str, None],
) -> Iterator[Clip | Rejected]:
    """The clips of a key: one for each audio file. Adds the names in the JSON to `keys`."""
    data_set = root.name
    place = tar.relative_to(root).with_suffix("").as_posix()
    texts = join_texts(_text(tar, name, data, keys) for name, data in sample.texts.items())
    if sample.again:
        texts = {"problem": f"{tar.name} has several {sample.again[0]}; whose is whose?"}
    elif texts_odd := [name for name in sample.odd if not is_audio(name)]:
        texts = {"problem": f"{texts_odd[0]} in {tar.name} is a link, sparse or too large"}
    elif not sample.texts:
        texts = {"problem": f"no {key}.json or {key}.txt in {tar.name}"}
    for number, (name, (offset, size)) in enumerate(sample.audio.items()):
        short = name if number else key  # two files with one text
        free = free_name(taken, short, f"{place}/{short}", f"{place}/{name}")
        reader = MemberReader(tar, name, offset, size)
        yield make_clip(data_set, free, reader, split=split, **texts)
    for name in filter(is_audio, sample.again):
        yield Rejected(f"{data_set}:{place}/{name}", texts["problem"])
    odd = [name for name in sample.odd if is_audio(name)]
    for name in odd:
        reason = "is a link or a sparse file in the tar; pack it again with the file itself"
        yield Rejected(f"{data_set}:{place}/{name}", reason)
    if not sample.audio and not odd:
        yield make_clip(data_set, free_name(taken, key, f"{place}/{key}"), None, split=split)


def _text(tar: Path, name: str, data: bytes, keys: dict[str, None]) -> dict:
    try:
        if name.lower().endswith(".txt"):
            return texts_of({"text": data.decode("utf-8-sig")})
        entry = json_row(data)
    except ValueError as error:
        return {"problem": f"{name} in {tar.name} cannot be read ({error})"}
    keys.update(dict.fromkeys(entry))
    return texts_of(entry)
