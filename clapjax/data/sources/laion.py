"""LAION-CLAP's WebDataset tars (github.com/LAION-AI/audio-dataset, data_preprocess).

Layout: `<split>/*.tar` (or `*.tar`, without splits), each with pairs `N.flac` and `N.json`, N
unique in the split. The JSON has `text` (a caption or a list), `tag` (a list), and where a T5 made
captions of the tags, `text_augment_t5` and `text_augment_all`. Uncompressed tars only: a clip is
read where it lies.
"""

import functools
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from clapjax.audio.files import AudioError, read_audio
from clapjax.data.paths import as_path
from clapjax.data.sources.clip import Clip, Rejected
from clapjax.data.sources.common import (
    AUDIO_SUFFIXES,
    SourceError,
    make_clip,
    split_name,
    texts_of,
)


def clips(root: Path) -> Iterator[Clip | Rejected]:
    """Clips in the order of the tars, which are sorted by name with numbers as numbers."""
    tars = sorted([*root.glob("*.tar"), *root.glob("*/*.tar")], key=_numeric)
    if not tars:
        raise SourceError(f"{root}: no .tar files in it or one folder below")
    for tar in tars:
        split = split_name(tar.parent.name) if tar.parent != root else ""
        yield from _clips_of(root.name, tar, split)


def _numeric(tar: Path) -> tuple:
    number = int(tar.stem) if tar.stem.isdecimal() else -1
    return tar.parent, number, tar.name


def _clips_of(data_set: str, tar: Path, split: str) -> Iterator[Clip | Rejected]:
    """The pairs of a tar; of a damaged one, those before the damage."""
    audio: dict[str, tuple[int, int]] = {}
    texts: dict[str, bytes] = {}
    damage = ""
    try:
        with tar.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                if member.isfile() and path.suffix.lower() in AUDIO_SUFFIXES:
                    audio[path.stem] = (member.offset_data, member.size)
                elif member.isfile() and path.suffix == ".json":
                    texts[path.stem] = archive.extractfile(member).read()
    except (tarfile.TarError, OSError) as error:
        damage = str(error)
    for key in dict.fromkeys([*audio, *texts]):
        yield _make(data_set, tar, split, key, audio.get(key), texts.get(key))
    if damage:
        yield Rejected(f"{data_set}:{tar.name}", f"damaged after {len(audio)} clips ({damage})")


def _make(
    data_set: str, tar: Path, split: str, key: str, place: tuple | None, text: bytes | None
) -> Clip | Rejected:
    source = f"{data_set}:{split}/{key}" if split else f"{data_set}:{key}"
    if text is None:
        return Rejected(source, f"no {key}.json in {tar.name}")
    try:
        entry = json.loads(text)
    except ValueError as error:
        return Rejected(source, f"{key}.json in {tar.name} is not JSON ({error})")
    if not isinstance(entry, dict):
        return Rejected(source, f"{key}.json in {tar.name} is not an object")
    read = functools.partial(read_member, tar, *place) if place else None
    return make_clip(data_set, key, read, split=split, **texts_of(entry))


def read_member(tar: str | os.PathLike, offset: int, size: int, sample_rate: int) -> np.ndarray:
    """Decodes the bytes of a tar from `offset` on; raises as `read_audio` does."""
    try:
        with as_path(tar).open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        raise AudioError(f"{tar}: cannot be read ({error.strerror})") from error
    if len(data) < size:
        raise AudioError(f"{tar}: ends {size - len(data)} bytes before the clip does")
    return read_audio(data, sample_rate)
