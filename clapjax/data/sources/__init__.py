"""Sources of recordings: one module for each published layout.

A module here that has a function `clips(root: Path)`, an iterator of `Clip`, `Rejected` and
`Notice`, is a source, and its name is what `source.kind` calls it. A new source is one new file;
docs/sources.md lists ours.
"""

import dataclasses
import hashlib
import importlib
import os
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clapjax.data.paths import as_path, is_local, walk_files
from clapjax.data.sources.clip import Clip, Notice, Rejected
from clapjax.data.sources.finding import is_audio


@dataclass(frozen=True)
class Listing:
    """What a source holds; can be pickled."""

    clips: list[Clip]  # in the order of the data set's tables, with unique ids
    rejected: list[Rejected]  # what was left out and why
    notices: list[Notice]  # what should be said besides


def source_names() -> list[str]:
    """The names of all sources, sorted."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [name for name in names if _lister(name)]


def find_source(kind: str) -> Callable[[Path], Iterator[Clip | Rejected | Notice]]:
    """The `clips` function of a source.

    Raises:
      ValueError: there is none of that name.
    """
    known = {module.name for module in pkgutil.iter_modules(__path__)}
    lister = _lister(kind) if kind in known else None
    if lister is None:
        raise ValueError(f"no source {kind!r}; there are {', '.join(source_names())}")
    return lister


def _lister(name: str):
    return getattr(importlib.import_module(f"{__name__}.{name}"), "clips", None)


def read_source(kind: str, path: str | os.PathLike) -> Listing:
    """Lists what a source holds, without decoding anything.

    Args:
      kind: name of the source.
      path: folder of the data set.

    Raises:
      ValueError: no such source, or `path` is not laid out as it is published.
    """
    lister = find_source(kind)
    root = as_path(path)
    if not root.is_dir():
        raise ValueError(f"{path}: no such folder (source.path of {kind!r})")
    listing, ids = Listing([], [], []), set()
    for item in lister(root):
        item = _readable(item)
        if isinstance(item, Notice):
            listing.notices.append(item)
        elif isinstance(item, Rejected):
            listing.rejected.append(item)
        elif item.id in ids:
            reason = f"the id {item.id!r} is taken by an earlier clip"
            listing.rejected.append(Rejected(item.source, reason))
        else:
            ids.add(item.id)
            listing.clips.append(item)
    return listing


def _readable(item: Clip | Rejected | Notice) -> Clip | Rejected | Notice:
    """An item whose names can be written as UTF-8: those of files need not be that on the disk."""
    names = {one.name: getattr(item, one.name) for one in dataclasses.fields(item)}
    names = {name: text for name, text in names.items() if isinstance(text, str)}
    changed = {name: _escaped(text) for name, text in names.items() if text != _escaped(text)}
    return dataclasses.replace(item, **changed) if changed else item


def _escaped(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def list_clips(kind: str, path: str | os.PathLike) -> tuple[list[Clip], list[Rejected]]:
    """The clips of `read_source` and what was left out."""
    listing = read_source(kind, path)
    return listing.clips, listing.rejected


def listing_key(root: Path) -> str:
    """A name of what `read_source` would find in a folder: the same while nothing changes there.

    It tells the names of all files, and of those that are no audio the size and time of writing:
    what is inside of audio files is not listed.
    """
    state = hashlib.sha256()
    for place, file in walk_files(root):
        said = [place]
        if not is_audio(place) and file.exists():
            stat = file.stat()
            said += [stat.st_size, stat.st_mtime_ns] if is_local(root) else [vars(stat)]
        state.update(f"{said!r}\n".encode())
    return state.hexdigest()
