"""Sources of recordings: one module for each published layout.

A module here that has a function `clips(root: Path) -> Iterator[Clip | Rejected]` is a source, and
its name is what `source.kind` calls it. A new source is one new file; docs/sources.md lists ours.
"""

import hashlib
import importlib
import os
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path

from clapjax.data.paths import as_path, is_local, walk
from clapjax.data.sources.clip import Clip, Rejected


def source_names() -> list[str]:
    """The names of all sources, sorted."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [name for name in names if _lister(name)]


def find_source(kind: str) -> Callable[[Path], Iterator[Clip | Rejected]]:
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


def list_clips(kind: str, path: str | os.PathLike) -> tuple[list[Clip], list[Rejected]]:
    """Lists what a source holds, without decoding anything.

    Args:
      kind: name of the source.
      path: folder of the data set.

    Returns:
      (clips in the order of the data set's tables, with unique ids; what was left out and why).

    Raises:
      ValueError: no such source, or `path` is not laid out as it is published.
    """
    lister = find_source(kind)
    root = as_path(path)
    if not root.is_dir():
        raise ValueError(f"{path}: no such folder (source.path of {kind!r})")
    good, bad, ids = [], [], set()
    for item in lister(root):
        if isinstance(item, Rejected):
            bad.append(item)
        elif item.id in ids:
            bad.append(Rejected(item.source, f"the id {item.id!r} is taken by an earlier clip"))
        else:
            ids.add(item.id)
            good.append(item)
    return good, bad


def listing_key(root: Path) -> str:
    """A name of what a folder holds: it changes where a file comes, goes or is written again."""
    state = hashlib.sha256()
    for folder, _, names in walk(root):
        for name in sorted(names):
            stat = (folder / name).stat()
            written = (stat.st_size, stat.st_mtime_ns) if is_local(folder) else vars(stat)
            state.update(f"{folder / name} {written}\n".encode())
    return state.hexdigest()
