"""What a source lists, kept for a build that goes on, and compared with that of a finished one."""

import dataclasses
import hashlib
import io
import pickle
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from clapjax.data import paths
from clapjax.data.build.config import SourceConfig
from clapjax.data.sources import listing_key, read_source
from clapjax.data.sources.clip import Clip, Rejected
from clapjax.synthesis.embedded import list_sounds

CACHE = "listing.pickle"  # in the folder of an unfinished build, which alone writes and reads it
LISTED_FILE = "listed.npy"  # in a finished data set: what `hash_listing` made


def list_source(
    source: SourceConfig, seed: int, folder: Path
) -> tuple[list[Clip], list[Rejected], bytes]:
    """(Clips, what the source leaves out, what `folder` keeps so that this need not be done again).

    Args:
      source: what to list.
      seed: of the embedded sounds.
      folder: of the build; need not exist.
    """
    if source.kind == "sounds":
        folds = source.train_folds + source.test_folds
        return list_sounds(seed, folds, source.sounds_per_fold, source.sounds_seconds), [], b""
    key = f"{source.kind} {source.path} {listing_key(paths.as_path(source.path))}"
    data, known = b"", ""
    if (folder / CACHE).exists():
        data = (folder / CACHE).read_bytes()
        try:
            known, found = pickle.loads(data)
        except Exception:  # damaged, or of another version of clapjax: whatever pickle makes of it
            known = ""
    if known != key:
        found = read_source(source.kind, source.path)
        data = pickle.dumps((key, found))
    for notice in found.notices:
        warnings.warn(f"{notice.source}: {notice.text}", stacklevel=2)
    return found.clips, found.rejected, data


def describe(item: Clip | Rejected) -> str:
    """All that is published about a clip, the same wherever its audio lies."""
    said = {
        one.name: getattr(item, one.name)
        for one in dataclasses.fields(item)
        if one.name != "read" and getattr(item, one.name) != one.default
    }
    return f"{type(item).__name__} {said!r}"


def hash_listing(clips: list[Clip], rejected: list[Rejected]) -> np.ndarray:
    """(N, 2) uint64, sorted: of each item a hash of its name, and one of all that is said of it."""
    items = [*clips, *rejected]
    names = [_hash(item.source) for item in items]
    pairs = [(name, _hash(describe(item))) for name, item in zip(names, items, strict=True)]
    return np.array(sorted(pairs), np.uint64).reshape(-1, 2)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def digest(listed: np.ndarray) -> str:
    """A name of a listing."""
    return hashlib.sha256(listed.tobytes()).hexdigest()


def difference(folder: Path, listed: np.ndarray) -> str:
    """How a listing differs from that which a data set was made from, in words."""
    before = np.load(io.BytesIO((folder / LISTED_FILE).read_bytes()))
    then, now = ([tuple(row) for row in rows.tolist()] for rows in (before, listed))
    new = Counter(name for name, _ in now) - Counter(name for name, _ in then)
    gone = Counter(name for name, _ in then) - Counter(name for name, _ in now)
    changed = (Counter(now) - Counter(then)).total() - new.total()
    return f"{new.total()} new, {gone.total()} gone, {changed} changed"
